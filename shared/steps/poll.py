"""The poll loop: find what is due in a shard, and poll each due run once."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.core.life import events
from shared.core.pace import reminder_due
from shared.core.response import Absent, NoStream, NotNow, ReadReply, ResponseStatus, Slice, Snapshot
from shared.core.run import Owed, RunStatus, Step
from shared.log import log_event
from shared.steps.cancel import expire
from shared.steps.context import Context
from shared.steps.messages import delivery_message
from shared.steps.settle import settle
from shared.steps.slices import keep
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun
from shared.store.shards import Tick

# Clocks of hosts differ by less than this. A tick further ahead comes from a broken clock and is ignored,
# because otherwise nothing would be polled until that time.
_CLOCK_DRIFT = timedelta(minutes=10)
_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Due:
    """What is due in one shard at a tick: runs to poll, and messages for workers."""

    polls: tuple[Owed, ...] = ()
    messages: tuple[str, ...] = ()


async def claim_due(context: Context, shard: str) -> Due:
    """Return what has become due in `shard` since its last tick.

    When several pollers call this at once, only one of them gets it.
    Costs one query, and one small write when something is due.
    """
    now = context.clock.now()
    view = await context.shards.owed(shard, now)
    after = _last_tick(view.tick, shard, now)
    polls = tuple(owed for owed in view.runs if _poll_due(context, owed, after, now))
    messages = [owed.run_id for owed in view.runs if _reminder_due(owed, after, now)]
    messages += [delivery_message(clock) for clock in view.clocks if reminder_due(clock.due, after, now)]
    # A host whose clock is behind must not move the tick back: the points in between were polled already.
    if not (polls or messages) or not await context.shards.claim(shard, view.tick, max(now, after)):
        return Due()
    return Due(polls, tuple(messages))


def _last_tick(tick: Tick, shard: str, now: datetime) -> datetime:
    if tick.at is None:
        return _NEVER
    if tick.at > now + _CLOCK_DRIFT:
        log_event("tick.ignored", level=logging.WARNING, shard=shard, at=tick.at)
        return _NEVER
    return tick.at


def _poll_due(context: Context, owed: Owed, after: datetime, now: datetime) -> bool:
    if owed.expired(now):
        return True
    if owed.step is not Step.POLL or owed.turn_started_at is None or now < owed.due:
        return False
    return context.schedule_for(owed.continuation).poll_due(owed.turn_started_at, after, now)


def _reminder_due(owed: Owed, after: datetime, now: datetime) -> bool:
    return owed.step.worked_on and not owed.expired(now) and reminder_due(owed.due, after, now)


async def poll(context: Context, owed: Owed) -> tuple[str, ...]:
    """Poll one run once, and return messages for workers. An unchanged response costs no storage request."""
    if owed.expired(context.clock.now()):
        return await _poll_expired(context, owed)
    if owed.step is not Step.POLL or owed.continuation is None:
        return ()
    response_id = owed.continuation.response_id
    reply, stream_lost = await _read(context, owed)
    change = _change(context, owed, response_id, reply)
    if change is None and not stream_lost:
        return ()
    stored = await _stored(context, owed)
    if stored is None:
        return ()
    applied = Applied(stored)
    if stream_lost:
        applied = await apply(context, stored, events.StreamLost(response_id))
    if change:
        applied = (await change(applied.stored)).after(applied)
    return applied.messages


async def _poll_expired(context: Context, owed: Owed) -> tuple[str, ...]:
    """End a run whose deadline has passed, unless its response has finished.

    The run is read before the provider is called, because every tick finds an expired run until it has ended.
    """
    stored = await _stored(context, owed)
    if stored is None:
        return ()
    reply: ReadReply | None = None
    if owed.step is Step.POLL and owed.continuation:
        reply = await context.provider(owed.provider).read(owed.continuation.response_id)
    if isinstance(reply, Snapshot) and reply.status.finished:
        return (await settle(context, stored, reply)).messages
    if context.clock.now() >= stored.run.expires_at:
        return (await expire(context, stored)).messages
    return ()


async def _read(context: Context, owed: Owed) -> tuple[ReadReply | Slice, bool]:
    """Return the provider's reply, and whether the stream of the response can no longer be resumed.

    When the stream brings nothing new, or is incomplete, the complete response is read.
    """
    assert owed.continuation is not None
    provider = context.provider(owed.provider)
    response_id, sequence = owed.continuation.response_id, owed.continuation.sequence
    if sequence is None or owed.status is RunStatus.CANCELLING:
        return await provider.read(response_id), False
    match await provider.slice(response_id, sequence):
        case Slice(final=Snapshot() as final):
            return final, False
        case Slice(changed=True) as received:
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
    read = await provider.read(response_id)
    return read, lost and isinstance(read, Snapshot) and not read.status.finished


async def _stored(context: Context, owed: Owed) -> StoredRun | None:
    stored = await context.runs.read(owed.run_id)
    if stored is None:
        log_event("owed.orphaned", level=logging.ERROR, run_id=owed.run_id)
    return stored


def _change(
    context: Context, owed: Owed, response_id: str, reply: ReadReply | Slice
) -> Callable[[StoredRun], Awaitable[Applied]] | None:
    """Return what to do with the stored run because of a reply. None when the reply cannot change the run."""
    match reply:
        case Slice():
            return lambda stored: keep(context, stored, reply)
        case Snapshot():
            started = owed.status is RunStatus.QUEUED and reply.status is ResponseStatus.IN_PROGRESS
            if reply.status.finished or started or owed.missing:
                return lambda stored: settle(context, stored, reply)
        case Absent():
            return lambda stored: apply(context, stored, events.Missing(response_id))
        case NotNow(reason, retry_after):
            log_event("poll.deferred", level=logging.WARNING, run_id=owed.run_id, reason=reason)
            if retry_after is not None:
                deferred = events.PollDeferred(response_id, context.clock.now() + retry_after)
                return lambda stored: apply(context, stored, deferred)
    return None
