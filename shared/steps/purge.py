"""The purge step: remove what a deleted run left, here and at the provider."""

import logging
from datetime import timedelta

from shared.core.life import events
from shared.core.response import Absent, NotNow, Refused
from shared.core.run import Lease, Run
from shared.log import log_event
from shared.steps.context import Context
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun

# How long a provider is asked to forget before what it keeps is left to its own retention.
PURGE_PATIENCE = timedelta(hours=1)
# When nothing that was at work on a deleted run can be so any more: host.json lets no function run for longer.
SECOND_PURGE = timedelta(minutes=10)


async def purge(context: Context, stored: StoredRun, lease: Lease) -> Applied:
    """Make the provider forget the run's responses, then remove all rows but the tombstone."""
    run = stored.run
    since = run.completed_at or run.updated_at
    patient = context.clock.now() - since < PURGE_PATIENCE
    for response_id in run.responses + run.abandoned:
        reply = await _forget(context, run, response_id)
        match reply:
            case Absent():
                continue
            case NotNow(retry_after=asked) if patient:
                return await _later(context, stored, lease, asked)
            case Refused() if patient and _may_be_at_work(run, response_id):
                # It may refuse only because the cancelled response is still at work.
                return await _later(context, stored, lease, None)
        log_event("response.kept", level=logging.WARNING, run_id=run.id, response_id=response_id)
    await context.content.purge(run.id)
    await context.runs.purge(run.id)
    if context.clock.now() - since < SECOND_PURGE:
        # A process that was at work on the run may still save something, and die before it removes it again.
        return await apply(context, stored, events.PurgeDeferred(lease.id, since + SECOND_PURGE))
    return await apply(context, stored, events.Purged(lease.id))


async def _forget(context: Context, run: Run, response_id: str) -> Absent | NotNow | Refused:
    provider = context.provider(run.provider)
    if _may_be_at_work(run, response_id):
        await provider.cancel(response_id)
    return await provider.delete(response_id)


def _may_be_at_work(run: Run, response_id: str) -> bool:
    return run.awaits(response_id) or response_id in run.abandoned


async def _later(context: Context, stored: StoredRun, lease: Lease, asked: timedelta | None) -> Applied:
    until = context.retry_at(stored.run.completed_at or stored.run.updated_at, asked)
    return await apply(context, stored, events.PurgeDeferred(lease.id, until))
