"""Poll one run once, in the poll loop or by a worker."""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from shared.core.life import events
from shared.core.life.polling import read_verdict
from shared.core.response import (
    RESPONSE_SLOW,
    Absent,
    NoStream,
    NotNow,
    ReadReply,
    ResponseStatus,
    Slice,
    Snapshot,
)
from shared.core.run import Owed, RunStatus, Step
from shared.log import log_event
from shared.steps.cancel import expire
from shared.steps.context import Context
from shared.steps.lease import holding
from shared.steps.messages import poll_message
from shared.steps.missing import miss
from shared.steps.reading import include_of, read, time_limit
from shared.steps.settle import settle
from shared.steps.slices import keep
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun

_Change = Callable[[StoredRun], Awaitable[Applied]]


async def poll(context: Context, owed: Owed) -> tuple[str, ...]:
    """Poll one run once, and return messages for workers. An unchanged response costs no storage request."""
    if owed.waiting == RESPONSE_SLOW and owed.step is Step.POLL:
        # The poll loop has no time for it, because the polls of other runs would have to wait.
        return (poll_message(owed.run_id),)
    if owed.expired(context.clock.now()):
        stored = await _stored(context, owed)
        return (await expire(context, stored)).messages if stored else ()
    if owed.step is not Step.POLL or owed.continuation is None:
        return ()
    reply, stream_lost = await _read(context, owed)
    change = _change(context, owed, owed.continuation.response_id, reply)
    if change is None and not stream_lost:
        return ()
    stored = await _stored(context, owed)
    if stored is None:
        return ()
    applied = Applied(stored)
    if stream_lost:
        applied = await apply(context, stored, events.StreamLost(owed.continuation.response_id))
    if change:
        applied = (await change(applied.stored)).after(applied)
    return applied.messages


async def poll_by_worker(context: Context, run_id: str) -> tuple[str, ...]:
    """Poll a run that the poll loop does not poll: it has stopped, or the response needs more time.

    A write claims the poll, so that no message makes polls more frequent.
    """
    now = context.clock.now()
    stored = await context.runs.read(run_id)
    owed = Owed.of(stored.run) if stored else None
    if stored is None or owed is None or owed.step is not Step.POLL or owed.continuation is None:
        return ()
    if now < owed.due:
        return ()
    lease = context.lease()
    claimed = await apply(
        context, stored, events.PollClaimed(owed.due, lease, _next_poll(context, owed, now))
    )
    if not claimed.changed:
        return ()
    within, response_id = time_limit(context, stored.run), owed.continuation.response_id
    with holding(context, claimed.stored, lease) as hold:
        hold.begin(claimed.stored.run)
        if owed.expired(now):
            return (await hold.follow(expire(context, claimed.stored, within))).messages
        reply = await read(context, owed, response_id, within)
        change = _change(context, owed, response_id, reply)
        if change is None:
            return ()
        return (await hold.follow(change(hold.latest(claimed.stored)))).messages


def _next_poll(context: Context, owed: Owed, now: datetime) -> datetime:
    """Return the next poll point of a turn."""
    if owed.turn_started_at is None:
        return now
    return context.schedule_for(owed.continuation).next_poll(owed.turn_started_at, now)


async def _read(context: Context, owed: Owed) -> tuple[ReadReply | Slice, bool]:
    """Return the provider's reply, and whether the stream of the response can no longer be resumed.

    When the stream brings nothing new, or is incomplete, the complete response is read.
    """
    assert owed.continuation is not None
    response_id, sequence = owed.continuation.response_id, owed.continuation.sequence
    if sequence is None or owed.status is RunStatus.CANCELLING:
        return await read(context, owed, response_id), False
    include = include_of(context, owed)
    match await context.provider(owed.provider).slice(response_id, sequence, include=include):
        case Slice(final=Snapshot() as final) as received:
            verdict = read_verdict(owed.run_id, final)
            return (received if verdict is final else verdict), False
        case Slice(changed=True) as received:
            context.background.works(owed.provider)
            return received, False
        case Slice(complete=complete):
            lost = not complete
        case NoStream():
            lost = True
        case NotNow(retry_after=None):
            # The failure may concern only the stream.
            lost = False
        case reply:
            return reply, False
    found = await read(context, owed, response_id)
    return found, lost and isinstance(found, Snapshot) and not found.status.finished


async def _stored(context: Context, owed: Owed) -> StoredRun | None:
    stored = await context.runs.read(owed.run_id)
    if stored is None:
        log_event("owed.orphaned", level=logging.ERROR, run_id=owed.run_id)
        if owed.expired(context.clock.now()):
            # Nobody else will remove it, and it would be late for ever.
            await context.shards.drop(owed.run_id)
    return stored


def _change(context: Context, owed: Owed, response_id: str, reply: ReadReply | Slice) -> _Change | None:
    """Return what to do with the stored run because of a reply. None when the reply cannot change the run."""
    match reply:
        case Slice(final=Snapshot() as final):
            return lambda stored: settle(context, stored, final, reply)
        case Slice():
            return lambda stored: keep(context, stored, reply)
        case Snapshot():
            started = owed.status is RunStatus.QUEUED and reply.status is ResponseStatus.IN_PROGRESS
            if reply.status.finished or started or owed.missing or owed.waiting:
                return lambda stored: settle(context, stored, reply)
        case Absent():
            return lambda stored: miss(context, stored, response_id)
        case NotNow(error, retry_after):
            log_event("poll.deferred", level=logging.WARNING, run_id=owed.run_id, reason=error.message)
            until = context.clock.now() + retry_after if retry_after is not None else None
            # The same reason is stored once. Attempts at a slow response are counted, because they get more time.
            if until or error.code == RESPONSE_SLOW or error.code != owed.waiting:
                deferred = events.PollDeferred(response_id, error, until)
                return lambda stored: apply(context, stored, deferred)
    return None
