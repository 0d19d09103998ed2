"""Carry out the step that a run is owed: create a response, run tools, cancel, purge.

Each of these has side effects, so each is done under a lease; only the cancellation of an expired run is
not, because doing it twice does no harm.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from shared.core import events, items
from shared.core.advance import claimable
from shared.core.model import (
    CallStatus,
    Chaining,
    FunctionCall,
    Lease,
    ResponseStatus,
    Run,
    RunError,
    RunStatus,
    Snapshot,
    Step,
)
from shared.errors import StorageUnavailable
from shared.log import say
from shared.ports import Absent, ChainBroken, CreateReply, NotNow, Refused, ToolRequest, ToolResult
from shared.store import rows
from shared.store.runs import CallResult, StoredRun
from shared.usecases.context import Context
from shared.usecases.conversation import request_for
from shared.usecases.slices import told
from shared.usecases.transition import Applied, apply, reread

# How long a provider is asked to forget before what it keeps is left to its own retention.
PURGE_PATIENCE = timedelta(hours=1)
# When nothing that was at work on a deleted run can be so any more: host.json lets no function run for longer.
SECOND_PURGE = timedelta(minutes=10)
# How often a new response's id is saved before it is given up.
_ADOPTIONS = 3


async def work(context: Context, run_id: str) -> bool:
    """Carry out what the run is owed now, if anything; return whether a worker is owed another word.

    The call is a hint: what to do is read from the stored run, so a lost, late or doubled one is harmless.
    """
    stored = await context.runs.read(run_id)
    if stored is None or not claimable(stored.run, context.clock.now()):
        return False
    if stored.run.status is not RunStatus.DELETED and context.clock.now() >= stored.run.expires_at:
        return (await expire(context, stored)).wake
    # That the calls are there to read has to show before any of them is marked as started.
    if stored.run.step is Step.TOOLS and await _asked(context, stored.run) is None:
        return False
    lease = context.lease(_duration(context, stored.run))
    applied = await apply(context, stored, events.Claimed(lease))
    return (await perform(context, applied, lease)).wake


def _duration(context: Context, run: Run) -> timedelta:
    """Return how long the owed step may take."""
    spec = context.agents.spec(run.agent)
    if run.step is Step.TOOLS and spec is not None:
        return spec.longest_tool + context.provider_timeout
    return context.provider_timeout


async def perform(context: Context, applied: Applied, lease: Lease) -> Applied:
    """Carry out owed steps for as long as the run's lease is `lease`."""
    while (held := applied.stored.run.lease) is not None and held.id == lease.id:
        run = applied.stored.run
        match run.step:
            case Step.CREATE:
                applied = await _create(context, applied.stored, lease)
            case Step.TOOLS:
                applied = await _run_tools(context, applied.stored, lease)
            case Step.CANCEL if run.status is RunStatus.DELETED:
                applied = await _purge(context, applied.stored, lease)
            case Step.CANCEL:
                applied = await _cancel(context, applied.stored, lease)
            case _:
                break
        if applied.stored.run == run:
            break
    return applied


def _too_late(context: Context, run: Run) -> bool:
    """Say, right before something happens that must not happen twice, whether the lease is too old for it.

    A process that stood still meanwhile leaves the step to whoever takes it next.
    """
    late = run.lease is None or context.clock.now() + _duration(context, run) > run.lease.expires_at
    if late:
        say("lease.too_old", level=logging.WARNING, run_id=run.id, step=run.step)
    return late


async def perform_now(context: Context, applied: Applied, lease: Lease) -> Applied:
    """Carry out owed steps for a client who waits; what the storage prevents is left to the timer."""
    try:
        return await perform(context, applied, lease)
    except StorageUnavailable as fault:
        say("run.left_to_timer", level=logging.WARNING, run_id=applied.stored.run.id, reason=str(fault))
        return applied


async def expire(context: Context, stored: StoredRun) -> Applied:
    """End a run whose deadline has passed; an answer that is finished by now still counts."""
    if stored.run.token:
        match await context.provider.cancel(stored.run.token):
            case Snapshot(status=ResponseStatus.CANCELLED, usage=usage):
                return await apply(context, stored, events.DeadlinePassed(usage))
            case Snapshot() as reply if reply.status.finished:
                return await settle(context, stored, reply)
    return await apply(context, stored, events.DeadlinePassed())


async def settle(context: Context, stored: StoredRun, snapshot: Snapshot) -> Applied:
    """Bring what the provider says of a response into the run, its output first and the pointer last."""
    if not snapshot.status.finished:
        return await apply(context, stored, events.Polled(snapshot))
    run = stored.run
    if run.token != snapshot.response_id:
        return Applied(stored, changed=False, wake=False)
    text = items.output_text(snapshot.output)
    try:
        as_told = text.startswith(await told(context, run))
    except LookupError as fault:
        # Most likely the run was deleted a moment ago.
        say("slices.without_content", level=logging.WARNING, run_id=run.id, reason=str(fault))
        return Applied(await reread(context, stored), changed=False, wake=False)
    if not as_told:
        say("text.mended", level=logging.WARNING, run_id=run.id, turn=run.turn)
    output = await context.content.save(run.id, f"turn-{run.turn:02d}-{context.token()}", snapshot.output)
    spec = context.agents.spec(run.agent)
    repeatable = spec.repeatable if spec else frozenset()
    polled = events.Polled(snapshot, output, repeatable, len(text), run.written, as_told)
    applied = await apply(context, stored, polled)
    # Not by `changed`: the write may have taken effect, its reply lost, and somebody else written since.
    if output not in applied.stored.run.turns:
        await context.content.drop(run.id, output)
    return applied


async def _create(context: Context, stored: StoredRun, lease: Lease) -> Applied:
    run = stored.run
    unchanged = Applied(stored, changed=False, wake=False)
    spec = context.agents.spec(run.agent)
    if spec is None:
        error = RunError("unknown_agent", f"This app has no agent {run.agent!r} any more.")
        return await apply(context, stored, events.CreateRefused(lease.id, error))
    try:
        request = await request_for(context, run, spec)
    except LookupError as fault:
        # Most likely the run was deleted a moment ago.
        say("create.without_content", level=logging.WARNING, run_id=run.id, reason=str(fault))
        return replace(unchanged, stored=await reread(context, stored))
    if _too_late(context, run):
        return unchanged
    return await _created(context, stored, lease, await context.provider.create(request))


async def _created(context: Context, stored: StoredRun, lease: Lease, reply: CreateReply) -> Applied:
    """Bring what the provider said to a create into the run."""
    run = stored.run
    match reply:
        case Snapshot() if reply.response_id in run.responses:
            return await _defer_create(
                context, stored, lease, NotNow("an earlier response came back", unknown=True)
            )
        case Snapshot():
            return await _adopt(context, stored, lease, reply)
        case ChainBroken() if run.chaining is Chaining.PREVIOUS_RESPONSE_ID:
            say("turn.replayed", level=logging.WARNING, run_id=run.id, turn=run.turn, reason=reply.reason)
            renewed = Lease(lease.id, context.lease_end())
            return await apply(context, stored, events.ChainRefused(renewed))
        case ChainBroken():
            error = RunError("provider_rejected", reply.reason)
            return await apply(context, stored, events.CreateRefused(lease.id, error))
        case Refused(error) if error.code == "provider_denied" and run.turn > 1:
            # It was let in before: the key is being changed.
            return await _defer_create(context, stored, lease, NotNow(error.message))
        case Refused(error):
            return await apply(context, stored, events.CreateRefused(lease.id, error))
        case NotNow():
            return await _defer_create(context, stored, lease, reply)


async def _adopt(context: Context, stored: StoredRun, lease: Lease, snapshot: Snapshot) -> Applied:
    """Save the id of a new response, more than once if need be: without it the response is lost."""
    for _ in range(_ADOPTIONS - 1):
        try:
            return await apply(context, stored, events.Created(lease.id, snapshot))
        except StorageUnavailable as fault:
            say("create.unsaved", level=logging.WARNING, run_id=stored.run.id, reason=str(fault))
    return await apply(context, stored, events.Created(lease.id, snapshot))


async def _defer_create(context: Context, stored: StoredRun, lease: Lease, reply: NotNow) -> Applied:
    run = stored.run
    say("create.deferred", level=logging.WARNING, run_id=run.id, turn=run.turn, reason=reply.reason)
    since = max((call.completed_at for call in run.calls if call.completed_at), default=run.created_at)
    until = context.retry_at(since, reply.retry_after)
    return await apply(context, stored, events.CreateDeferred(lease.id, until, reply.unknown))


async def _run_tools(context: Context, stored: StoredRun, lease: Lease) -> Applied:
    """Run the turn's started calls side by side and checkpoint each one as it ends."""
    run = stored.run
    asked = await _asked(context, run)
    if asked is None:
        return Applied(await reread(context, stored), changed=False, wake=False)
    started = {call.call_id for call in run.calls_of_turn() if call.status is CallStatus.IN_PROGRESS}
    requests = [
        ToolRequest(call.call_id, call.name, call.arguments, f"{run.id}-{run.turn}-{call.call_id}")
        for call in asked
        if call.call_id in started
    ]
    applied = Applied(stored, changed=False, wake=False)
    if _too_late(context, run):
        return applied
    unsaved: list[ToolResult] = []
    async for result in context.agents.run_tools(run.agent, requests):
        try:
            applied = await _checkpoint(context, applied.stored, lease, result)
        except StorageUnavailable as fault:
            say(
                "tool.unsaved",
                level=logging.WARNING,
                run_id=run.id,
                call_id=result.call_id,
                reason=str(fault),
            )
            unsaved.append(result)
    return await _save_again(context, applied, lease, unsaved)


async def _save_again(
    context: Context, applied: Applied, lease: Lease, unsaved: Sequence[ToolResult]
) -> Applied:
    """Save what could not be saved at first. Raises StorageUnavailable when any of it still cannot."""
    fault: StorageUnavailable | None = None
    for result in unsaved:
        try:
            applied = await _checkpoint(context, applied.stored, lease, result)
        except StorageUnavailable as again:
            fault = again
    if fault:
        raise fault
    return applied


async def _asked(context: Context, run: Run) -> tuple[FunctionCall, ...] | None:
    """Return the calls of the turn as the model wrote them, None when they are gone."""
    try:
        return items.calls(await context.content.load(run.id, run.turns[-1]))
    except LookupError as fault:
        # Most likely the run was deleted a moment ago.
        say("tools.without_content", level=logging.WARNING, run_id=run.id, reason=str(fault))
        return None


async def _checkpoint(context: Context, stored: StoredRun, lease: Lease, result: ToolResult) -> Applied:
    run = stored.run
    name = f"tool-{run.turn:02d}-{rows.name_hash(result.call_id)}-{context.token()}"
    output = await context.content.save(run.id, name, result.output)
    renewed = Lease(lease.id, context.lease_end())
    done = events.ToolDone(renewed, result.call_id, result.status)
    applied = await apply(context, stored, done, [CallResult(run.turn, result.call_id, output)])
    if output.name and (await context.runs.results(run.id, run.turn)).get(result.call_id) != output:
        await context.content.drop(run.id, output)
    return applied


async def _cancel(context: Context, stored: StoredRun, lease: Lease) -> Applied:
    token = stored.run.token
    assert token is not None, "only a run with a token is owed a cancellation"
    reply = await context.provider.cancel(token)
    match reply:
        case Snapshot() if reply.status.finished:
            return await settle(context, stored, reply)
        case Snapshot() | Refused():
            return await apply(context, stored, events.CancelSent(lease.id))
        case Absent():
            return await apply(context, stored, events.Missing(token))
        case NotNow():
            until = context.retry_at(stored.run.created_at, reply.retry_after)
            return await apply(context, stored, events.CancelDeferred(lease.id, until))


async def _purge(context: Context, stored: StoredRun, lease: Lease) -> Applied:
    """Remove what a deleted run left, here and at the provider."""
    run = stored.run
    since = run.completed_at or run.updated_at
    for response_id in run.responses + run.abandoned:
        working = response_id == run.token
        if working:
            await context.provider.cancel(response_id)
        match await context.provider.delete(response_id):
            case Absent():
                continue
            case NotNow(retry_after=asked) if context.clock.now() - since < PURGE_PATIENCE:
                return await _purge_later(context, stored, lease, asked)
            case Refused() if working and context.clock.now() - since < PURGE_PATIENCE:
                # It may refuse only because the cancelled response is still at work.
                return await _purge_later(context, stored, lease, None)
        say("response.kept", level=logging.WARNING, run_id=run.id, response_id=response_id)
    await context.content.purge(run.id)
    await context.runs.purge(run.id)
    if context.clock.now() - since < SECOND_PURGE:
        # Whoever was at work on the run may still save something, and die before it removes it again.
        return await apply(context, stored, events.CancelDeferred(lease.id, since + SECOND_PURGE))
    return await apply(context, stored, events.Purged(lease.id))


async def _purge_later(context: Context, stored: StoredRun, lease: Lease, asked: timedelta | None) -> Applied:
    until = context.retry_at(stored.run.completed_at or stored.run.updated_at, asked)
    return await apply(context, stored, events.CancelDeferred(lease.id, until))
