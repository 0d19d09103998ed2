"""The cancel step, and the end of a run whose deadline has passed."""

from datetime import timedelta

from shared.core.life import events
from shared.core.response import Absent, CancelReply, NotNow, Refused, ResponseStatus, Snapshot, Usage
from shared.core.run import RunStatus
from shared.steps.context import Context
from shared.steps.lease import Hold
from shared.steps.missing import kept_reply, miss
from shared.steps.reading import read, send_cancel, time_limit
from shared.steps.settle import settle
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun


async def expire(context: Context, stored: StoredRun, within: timedelta | None = None) -> Applied:
    """End a run whose deadline has passed. An answer that has finished meanwhile still counts.

    `within` is the time limit for reading the response, when it is not the usual one.
    """
    run = stored.run
    if run.paused_at or context.clock.now() < run.expires_at:
        # Its clock stands still, or it stood still since the deadline was read.
        return Applied(stored)
    usage, response_id = Usage(), None
    if run.continuation:
        response_id = run.continuation.response_id
        reply: CancelReply = await read(context, run, response_id, within)
        if not _finished(reply) and (kept := await kept_reply(context, run)):
            return await settle(context, stored, kept, unread=True)
        if not _finished(reply):
            reply = await send_cancel(context, run.id, run.provider, response_id)
        if isinstance(reply, Refused):
            # It has finished since it was read.
            reply = await read(context, run, response_id, within)
        match reply:
            case Snapshot(status=ResponseStatus.CANCELLED) if run.status is not RunStatus.CANCELLING:
                usage = reply.usage or usage
            case Snapshot() if _finished(reply):
                return await settle(context, stored, reply)
    return await apply(context, stored, events.DeadlinePassed(usage, response_id))


async def cancel(context: Context, stored: StoredRun, hold: Hold) -> Applied:
    """Cancel the run's response at the provider."""
    run = stored.run
    if run.continuation is None:
        # A row may hold anything. The deadline ends such a run.
        return Applied(stored)
    response_id = run.continuation.response_id
    reply = await send_cancel(context, run.id, run.provider, response_id)
    if isinstance(reply, NotNow):
        # The response may have finished, so that there is nothing to cancel.
        found = await read(context, run, response_id, time_limit(context, run))
        reply = found if _finished(found) else reply
    match reply:
        case Snapshot() if _finished(reply):
            return await hold.follow(settle(context, hold.latest(stored), reply))
        case Snapshot() | Refused():
            return await hold.apply(stored, events.CancelSent(hold.lease_id))
        case Absent():
            return await hold.follow(miss(context, hold.latest(stored), response_id))
        case NotNow():
            until = context.retry_at(run.created_at, reply.retry_after)
            return await hold.apply(stored, events.CancelDeferred(hold.lease_id, until, reply.error))


def _finished(reply: CancelReply) -> bool:
    return isinstance(reply, Snapshot) and reply.status.finished
