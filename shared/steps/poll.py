"""The poll loop: find what is due in a shard, and carry each run one poll further."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.core.life import events
from shared.core.pace import reminder_due
from shared.core.response import Absent, NoStream, NotNow, ResponseStatus, Slice, Snapshot
from shared.core.run import Pending, RunStatus, Step
from shared.log import say
from shared.ports.providers import ReadReply
from shared.steps.cancel import expire
from shared.steps.context import Context
from shared.steps.settle import settle
from shared.steps.slices import keep
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun, Tick

# A tick from further ahead than clocks ever differ is some broken clock's; believing it would stop the polling.
_CLOCK_DRIFT = timedelta(minutes=10)


Reply = ReadReply | Slice


@dataclass(frozen=True, slots=True)
class Due:
    """What one shard owes at a tick: runs to poll, and runs of which a worker is to be told."""

    polls: tuple[Pending, ...] = ()
    wakes: tuple[str, ...] = ()


async def claim_due(context: Context, shard: str) -> Due:
    """Return what has fallen due in `shard` since its last tick, each thing to one caller only.

    Costs one query, and one small write when anything is due.
    """
    now = context.clock.now()
    tick, pending = await context.runs.pending(shard)
    after = _last_tick(tick, shard, now)
    polls = tuple(one for one in pending if _poll_due(context, one, after, now))
    wakes = tuple(one.run_id for one in pending if _wake_due(one, after, now))
    if not (polls or wakes) or not await context.runs.claim_tick(shard, tick, now):
        return Due()
    return Due(polls, wakes)


def _last_tick(tick: Tick, shard: str, now: datetime) -> datetime:
    if tick.at is None:
        return datetime.fromtimestamp(0, UTC)
    if tick.at > now + _CLOCK_DRIFT:
        say("tick.ahead", level=logging.WARNING, shard=shard, at=tick.at)
        return datetime.fromtimestamp(0, UTC)
    return tick.at


def _expired(one: Pending, now: datetime) -> bool:
    return one.status is not RunStatus.DELETED and now >= one.expires_at


def _poll_due(context: Context, one: Pending, after: datetime, now: datetime) -> bool:
    if _expired(one, now):
        return True
    if one.step is not Step.POLL or one.turn_started_at is None or now < one.due:
        return False
    return context.schedule_for(one.sequence).poll_due(one.turn_started_at, after, now)


def _wake_due(one: Pending, after: datetime, now: datetime) -> bool:
    owed = one.step in {Step.CREATE, Step.TOOLS, Step.CANCEL} and not _expired(one, now)
    return owed and reminder_due(one.due, after, now)


async def poll(context: Context, pending: Pending) -> bool:
    """Poll one run once, and return whether a worker is to be told of it. No news costs no storage."""
    expired = _expired(pending, context.clock.now())
    # An expired run is read first: it is looked at in every tick, which the provider is not to feel.
    stored = await _stored(context, pending) if expired else None
    reply: Reply | None = None
    lost = False
    if pending.step is Step.POLL and pending.token and (stored or not expired):
        reply, lost = await _ask(context, pending, pending.token, expired=expired)
    if not expired and (lost or _news(pending, reply)):
        stored = await _stored(context, pending)
    if stored is None:
        return False
    if lost:
        stored = (await apply(context, stored, events.StreamLost(pending.token or ""))).stored
    return (await _carry_on(context, stored, pending, reply)).wake


async def _ask(context: Context, pending: Pending, token: str, *, expired: bool) -> tuple[Reply, bool]:
    """Return what the provider says of the response, and whether its stream has been lost.

    Where its stream says nothing, or not everything, the response is read as a whole.
    """
    if pending.sequence is None or expired or pending.status is RunStatus.CANCELLING:
        return await context.provider.read(token), False
    match await context.provider.slice(token, pending.sequence):
        case Slice(final=Snapshot() as final):
            return final, False
        case Slice(news=True) as piece:
            return piece, False
        case Slice(whole=whole):
            lost = not whole
        case NoStream():
            lost = True
        case NotNow(retry_after=None):
            # Perhaps only the stream is out of order.
            lost = False
        case reply:
            return reply, False
    read = await context.provider.read(token)
    return read, lost and isinstance(read, Snapshot) and not read.status.finished


async def _stored(context: Context, pending: Pending) -> StoredRun | None:
    stored = await context.runs.read(pending.run_id)
    if stored is None:
        say("pending.orphan", level=logging.ERROR, run_id=pending.run_id)
    return stored


async def _carry_on(context: Context, stored: StoredRun, pending: Pending, reply: Reply | None) -> Applied:
    expired = _expired(pending, context.clock.now()) and context.clock.now() >= stored.run.expires_at
    token = pending.token or ""
    match reply:
        case Slice():
            return await keep(context, stored, reply)
        case Snapshot() if reply.status.finished or not expired:
            return await settle(context, stored, reply)
        case _ if expired:
            return await expire(context, stored)
        case Absent():
            return await apply(context, stored, events.Missing(token))
        case NotNow(retry_after=timedelta() as asked):
            return await apply(context, stored, events.PollDeferred(token, context.clock.now() + asked))
    return Applied(stored, changed=False, wake=False)


def _news(pending: Pending, reply: Reply | None) -> bool:
    """Say whether a reply could change the run."""
    match reply:
        case Slice():
            return True
        case Snapshot():
            first_sign = pending.status is RunStatus.QUEUED and reply.status is ResponseStatus.IN_PROGRESS
            return reply.status.finished or first_sign or pending.missing
        case Absent():
            return True
        case NotNow():
            say("poll.deferred", level=logging.WARNING, run_id=pending.run_id, reason=reply.reason)
            return reply.retry_after is not None
    return False
