"""The create step: send a turn to the provider, and save the id of its response."""

import logging
from dataclasses import replace

from shared.core.life import events
from shared.core.response import ChainBroken, NotNow, Refused, RunError, Snapshot
from shared.core.run import Chaining, Lease
from shared.errors import StorageUnavailable
from shared.log import say
from shared.ports.providers import CreateReply
from shared.steps.context import Context
from shared.steps.conversation import request_for
from shared.steps.lease import too_late
from shared.steps.transition import Applied, apply, reread
from shared.store.runs import StoredRun

# How often a new response's id is saved before it is given up.
_ADOPTIONS = 3


async def create(context: Context, stored: StoredRun, lease: Lease) -> Applied:
    run = stored.run
    unchanged = Applied(stored, changed=False, wake=False)
    spec = context.agents.spec(run.agent)
    if spec is None:
        error = RunError("unknown_agent", f"This app has no agent {run.agent!r} any more.")
        return await apply(context, stored, events.CreateRefused(lease.id, error))
    try:
        request = await request_for(context, run, spec)
    except LookupError as fault:
        # Most likely the run was deleted a moment ago.
        say("create.without_content", level=logging.WARNING, run_id=run.id, reason=str(fault))
        return replace(unchanged, stored=await reread(context, stored))
    if too_late(context, run):
        return unchanged
    return await _created(context, stored, lease, await context.provider.create(request))


async def _created(context: Context, stored: StoredRun, lease: Lease, reply: CreateReply) -> Applied:
    """Bring what the provider said to a create into the run."""
    run = stored.run
    match reply:
        case Snapshot() if reply.response_id in run.responses:
            return await _defer_create(
                context, stored, lease, NotNow("an earlier response came back", unknown=True)
            )
        case Snapshot():
            return await _adopt(context, stored, lease, reply)
        case ChainBroken() if run.chaining is Chaining.PREVIOUS_RESPONSE_ID:
            say("turn.replayed", level=logging.WARNING, run_id=run.id, turn=run.turn, reason=reply.reason)
            renewed = Lease(lease.id, context.lease_end())
            return await apply(context, stored, events.ChainRefused(renewed))
        case ChainBroken():
            error = RunError("provider_rejected", reply.reason)
            return await apply(context, stored, events.CreateRefused(lease.id, error))
        case Refused(error) if error.code == "provider_denied" and run.turn > 1:
            # It was let in before: the key is being changed.
            return await _defer_create(context, stored, lease, NotNow(error.message))
        case Refused(error):
            return await apply(context, stored, events.CreateRefused(lease.id, error))
        case NotNow():
            return await _defer_create(context, stored, lease, reply)


async def _adopt(context: Context, stored: StoredRun, lease: Lease, snapshot: Snapshot) -> Applied:
    """Save the id of a new response, more than once if need be: without it the response is lost."""
    for _ in range(_ADOPTIONS - 1):
        try:
            return await apply(context, stored, events.Created(lease.id, snapshot))
        except StorageUnavailable as fault:
            say("create.unsaved", level=logging.WARNING, run_id=stored.run.id, reason=str(fault))
    return await apply(context, stored, events.Created(lease.id, snapshot))


async def _defer_create(context: Context, stored: StoredRun, lease: Lease, reply: NotNow) -> Applied:
    run = stored.run
    say("create.deferred", level=logging.WARNING, run_id=run.id, turn=run.turn, reason=reply.reason)
    since = max((call.completed_at for call in run.calls if call.completed_at), default=run.created_at)
    until = context.retry_at(since, reply.retry_after)
    return await apply(context, stored, events.CreateDeferred(lease.id, until, reply.unknown))
