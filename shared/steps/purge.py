"""The purge step: remove the remaining data of a deleted run, here and at the provider."""

import logging
from datetime import timedelta

from shared.core.ids import key_shard
from shared.core.life import events
from shared.core.response import Absent, NotNow, Refused
from shared.core.run import Run
from shared.log import log_event
from shared.steps.context import Context
from shared.steps.lease import Hold, may_begin
from shared.steps.transition import Applied
from shared.store.runs import StoredRun

# How long the deletion of responses is tried. After that they stay at the provider until its retention ends.
PURGE_PATIENCE = timedelta(hours=1)


async def purge(context: Context, stored: StoredRun, hold: Hold) -> Applied:
    """Delete the run's responses at the provider, then remove all rows except the tombstone."""
    run = stored.run
    since = run.completed_at or run.updated_at
    retrying = context.clock.now() - since < PURGE_PATIENCE
    for response_id in run.responses + run.abandoned:
        if not may_begin(hold, run):
            return Applied(stored)
        reply = await _delete_response(context, run, response_id)
        match reply:
            case Absent():
                continue
            case NotNow(retry_after=retry_after) if retrying:
                return await _defer(context, stored, hold, retry_after)
            case Refused() if retrying and _may_be_unfinished(run, response_id):
                # Perhaps the provider refuses only because the cancelled response has not stopped yet.
                return await _defer(context, stored, hold, None)
        log_event("response.kept", level=logging.WARNING, run_id=run.id, response_id=response_id)
    await context.content.purge(run.id)
    await context.runs.purge(run.id)
    if run.key:
        await context.keys.forget(key_shard(run.key), run.key, run.id)
    if context.clock.now() - since < context.function_timeout:
        # A process that was working on the run may still save content, and die before it removes it. After this time
        # there is none, because the host has ended its invocation.
        return await hold.apply(stored, events.PurgeDeferred(hold.lease_id, since + context.function_timeout))
    return await hold.apply(stored, events.Purged(hold.lease_id))


async def _delete_response(context: Context, run: Run, response_id: str) -> Absent | NotNow | Refused:
    provider = context.provider(run.provider)
    if _may_be_unfinished(run, response_id):
        await provider.cancel(response_id)
    return await provider.delete(response_id)


def _may_be_unfinished(run: Run, response_id: str) -> bool:
    return run.awaits(response_id) or response_id in run.abandoned


async def _defer(context: Context, stored: StoredRun, hold: Hold, retry_after: timedelta | None) -> Applied:
    until = context.retry_at(stored.run.completed_at or stored.run.updated_at, retry_after)
    return await hold.apply(stored, events.PurgeDeferred(hold.lease_id, until))
