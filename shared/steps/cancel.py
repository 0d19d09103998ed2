"""The cancel step, and the end of a run whose deadline has passed."""

from shared.core.life import events
from shared.core.response import Absent, NotNow, Refused, ResponseStatus, Snapshot
from shared.core.run import Lease
from shared.steps.context import Context
from shared.steps.settle import settle
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun


async def expire(context: Context, stored: StoredRun) -> Applied:
    """End a run whose deadline has passed. An answer that has finished meanwhile still counts."""
    run = stored.run
    if run.continuation:
        match await context.provider(run.provider).cancel(run.continuation.response_id):
            case Snapshot(status=ResponseStatus.CANCELLED, usage=usage):
                return await apply(context, stored, events.DeadlinePassed(usage))
            case Snapshot() as reply if reply.status.finished:
                return await settle(context, stored, reply)
    return await apply(context, stored, events.DeadlinePassed())


async def cancel(context: Context, stored: StoredRun, lease: Lease) -> Applied:
    """Cancel the run's response at the provider."""
    run = stored.run
    assert run.continuation is not None, "only a run with a response is owed a cancellation"
    response_id = run.continuation.response_id
    reply = await context.provider(run.provider).cancel(response_id)
    match reply:
        case Snapshot() if reply.status.finished:
            return await settle(context, stored, reply)
        case Snapshot() | Refused():
            return await apply(context, stored, events.CancelSent(lease.id))
        case Absent():
            return await apply(context, stored, events.Missing(response_id))
        case NotNow():
            until = context.retry_at(run.created_at, reply.retry_after)
            return await apply(context, stored, events.CancelDeferred(lease.id, until))
