"""The purge step: remove what a deleted run left, here and at the provider."""

import logging
from datetime import timedelta

from shared.core.life import events
from shared.core.response import Absent, NotNow, Refused
from shared.core.run import Lease
from shared.log import say
from shared.steps.context import Context
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun

# How long a provider is asked to forget before what it keeps is left to its own retention.
PURGE_PATIENCE = timedelta(hours=1)
# When nothing that was at work on a deleted run can be so any more: host.json lets no function run for longer.
SECOND_PURGE = timedelta(minutes=10)


async def purge(context: Context, stored: StoredRun, lease: Lease) -> Applied:
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
