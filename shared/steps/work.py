"""Carry out the step that a run is owed: create a response, run tools, cancel, purge.

All of these have side effects, so they are done under a lease. The cancellation of an expired run needs none,
because it can be repeated without harm.
"""

import logging

from shared.core.life import events
from shared.core.life.rule import claimable
from shared.core.run import Lease, RunStatus, Step
from shared.errors import StorageUnavailable
from shared.log import log_event
from shared.steps.cancel import cancel, expire
from shared.steps.context import Context
from shared.steps.create import create
from shared.steps.lease import holding, leased
from shared.steps.messages import step_message
from shared.steps.purge import purge
from shared.steps.tools import run_tools
from shared.steps.transition import Applied, apply, log_skip
from shared.steps.waits import LoadedCalls, load_calls


async def work(context: Context, run_id: str, *, generates: bool = False) -> tuple[str, ...]:
    """Carry out the step that the run is owed now, if any, and return further messages for workers.

    `run_id` comes from a message, which is only a hint. What to do is read from the stored run, so a message
    may be lost, late or duplicated. `generates`: this worker may hold the stream of a turn.
    """
    stored = await context.runs.read(run_id)
    if stored is None or not claimable(stored.run, context.clock.now()):
        return ()
    if stored.run.status is not RunStatus.DELETED and context.clock.now() >= stored.run.expires_at:
        return (await expire(context, stored)).messages
    # The calls are loaded before they are marked as started, because a call that cannot be loaded cannot run.
    run = stored.run
    streams = run.step is Step.GENERATE and run.status is not RunStatus.CANCELLING
    if streams and not generates:
        return (step_message(run),)
    if streams:
        from shared.steps.generate import generate_turn  # noqa: PLC0415 - for apps that need it

        return (await generate_turn(context, stored)).messages
    try:
        calls = await load_calls(context, run) if run.step is Step.TOOLS else LoadedCalls()
    except LookupError as fault:
        log_skip(run, fault)
        return ()
    lease = context.lease()
    claimed = events.Claimed(lease, run.step, run.turn, calls.queued, calls.unclear)
    applied = await apply(context, stored, claimed)
    return (await perform(context, applied, lease, calls=calls)).messages


async def perform(
    context: Context,
    applied: Applied,
    lease: Lease,
    *,
    input_text: str | None = None,
    calls: LoadedCalls = LoadedCalls(),  # noqa: B008 - it is frozen
) -> Applied:
    """Carry out owed steps while `lease` is the lease of the run.

    `input_text` is the run's input, if it is already loaded. `calls` are those of its turn.
    """
    if not leased(applied.stored.run, lease.id):
        return applied
    with holding(context, applied.stored, lease) as hold:
        while leased(run := applied.stored.run, lease.id):
            hold.begin(run)
            match run.step:
                case Step.CREATE:
                    done = await create(context, applied.stored, hold, input_text)
                case Step.TOOLS:
                    done = await run_tools(context, applied.stored, hold, calls)
                case Step.PURGE:
                    done = await purge(context, applied.stored, hold)
                case Step.CANCEL:
                    done = await cancel(context, applied.stored, hold)
                case _:
                    break
            applied = done.after(applied)
            if applied.stored.run.rev == run.rev:
                break
    return applied


async def perform_now(
    context: Context, applied: Applied, lease: Lease, *, input_text: str | None = None
) -> Applied:
    """Carry out owed steps while a client waits. When the storage fails, the timer takes the step later."""
    try:
        return await perform(context, applied, lease, input_text=input_text)
    except StorageUnavailable as fault:
        log_event("step.deferred", level=logging.WARNING, run_id=applied.stored.run.id, reason=str(fault))
        return applied
