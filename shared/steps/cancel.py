"""The cancel step, and the end of a run whose deadline has passed."""

from shared.core.life import events
from shared.core.response import Absent, NotNow, Refused, ResponseStatus, Snapshot
from shared.core.run import Lease
from shared.steps.context import Context
from shared.steps.settle import settle
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun


async def expire(context: Context, stored: StoredRun) -> Applied:
    """End a run whose deadline has passed; an answer that is finished by now still counts."""
    if stored.run.token:
        match await context.provider.cancel(stored.run.token):
            case Snapshot(status=ResponseStatus.CANCELLED, usage=usage):
                return await apply(context, stored, events.DeadlinePassed(usage))
            case Snapshot() as reply if reply.status.finished:
                return await settle(context, stored, reply)
    return await apply(context, stored, events.DeadlinePassed())


async def cancel(context: Context, stored: StoredRun, lease: Lease) -> Applied:
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
