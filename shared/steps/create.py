"""The create step: create the response of a turn at the provider, and save its id."""

import logging

from shared.core.kept import kept_text
from shared.core.life import events
from shared.core.life.creating import verdict
from shared.core.response import (
    ChainBroken,
    KeyRefused,
    NotNow,
    Refused,
    RunError,
    Snapshot,
)
from shared.core.text import clipped
from shared.errors import StorageUnavailable
from shared.log import log_event
from shared.steps.context import Context
from shared.steps.conversation import ConversationTooLong, request_for
from shared.steps.lease import Hold, may_begin
from shared.steps.transition import Applied, log_skip, reread
from shared.store.runs import StoredRun

# The longest name of a model that is shown.
MAX_MODEL = 128
# How many times saving the id of a new response is tried.
_SAVE_ATTEMPTS = 3


async def create(context: Context, stored: StoredRun, hold: Hold, input_text: str | None) -> Applied:
    """Create the response of the run's turn. `input_text` is the run's input, if it is already loaded."""
    run = stored.run
    spec = context.agents.spec(run.agent)
    if spec is None:
        error = RunError("unknown_agent", f"This app has no agent {run.agent!r} any more.")
        return await hold.apply(stored, events.CreateRefused(hold.lease_id, error))
    if gone := context.gone(run.provider):
        return await hold.apply(stored, events.CreateRefused(hold.lease_id, gone))
    if reason := spec.not_ready:
        error = RunError("agent_not_ready", reason)
        return await hold.apply(stored, events.CreateRefused(hold.lease_id, error))
    try:
        request = await request_for(context, run, spec, input_text)
    except LookupError as fault:
        log_skip(run, fault)
        return Applied(await reread(context.runs, run.id))
    except ConversationTooLong as fault:
        error = RunError("conversation_too_long", str(fault))
        return await hold.apply(stored, events.CreateRefused(hold.lease_id, error))
    if not may_begin(hold, run):
        return Applied(stored)
    reply = verdict(run, await context.provider(run.provider).create(request))
    if isinstance(reply, Snapshot):
        return await _adopt(context, stored, hold, reply, clipped(spec.model, MAX_MODEL))
    return await _apply_reply(context, stored, hold, reply)


async def _apply_reply(
    context: Context, stored: StoredRun, hold: Hold, reply: NotNow | Refused | ChainBroken | KeyRefused
) -> Applied:
    run = stored.run
    match reply:
        case ChainBroken(error):
            log_event(
                "turn.replayed", level=logging.WARNING, run_id=run.id, turn=run.turn, reason=error.message
            )
            return await hold.apply(stored, events.ChainRefused(hold.prolonged()))
        case KeyRefused(reason):
            log_event("create.keyless", level=logging.WARNING, run_id=run.id, turn=run.turn, reason=reason)
            return await hold.apply(stored, events.KeyRefused(hold.prolonged()))
        case Refused(error):
            return await hold.apply(stored, events.CreateRefused(hold.lease_id, error))
        case NotNow():
            return await _defer(context, stored, hold, reply)


async def _adopt(context: Context, stored: StoredRun, hold: Hold, reply: Snapshot, model: str) -> Applied:
    """Save the id of a new response, and all of one that has finished already, because it may not be there to be read.

    Saving is tried again when it fails, because without its id the response is lost.
    """
    run, kept = stored.run, None
    for attempt in range(1, _SAVE_ATTEMPTS + 1):
        try:
            if reply.status.finished and kept is None:
                name = f"kept-{run.turn:02d}-{context.token()}"
                kept = await context.content.save(run.id, name, kept_text(reply))
            applied = await hold.apply(stored, events.Created(hold.lease_id, reply, model, kept))
        except StorageUnavailable as fault:
            if attempt == _SAVE_ATTEMPTS:
                raise
            log_event("create.save_failed", level=logging.WARNING, run_id=run.id, reason=str(fault))
            continue
        if kept and applied.stored.run.kept != kept:
            await context.content.drop(run.id, kept)
        return applied
    raise AssertionError


async def _defer(context: Context, stored: StoredRun, hold: Hold, reply: NotNow) -> Applied:
    run = stored.run
    reason = reply.error.message
    log_event("create.deferred", level=logging.WARNING, run_id=run.id, turn=run.turn, reason=reason)
    since = max((call.completed_at for call in run.calls if call.completed_at), default=run.created_at)
    until = context.retry_at(since, reply.retry_after)
    # A provider with background mode is overloaded, or cannot be reached.
    timed_out = reply.timed_out and not context.background.working(run.provider)
    deferred = events.CreateDeferred(
        hold.lease_id, until, reply.error, reply.unknown, reply.unusable, timed_out
    )
    return await hold.apply(stored, deferred)
