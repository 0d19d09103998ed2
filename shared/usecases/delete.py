"""Delete runs and sessions on a client's request."""

from dataclasses import replace

from shared.core.caller import Caller
from shared.core.life.events import DeleteRequested
from shared.core.run import Lease, RunStatus
from shared.errors import Conflict, RowConflict
from shared.steps.context import Context
from shared.steps.transition import Applied, apply
from shared.steps.work import perform_now
from shared.store.sessions import StoredSession
from shared.usecases.read import owned_run, owned_session


async def delete_run(context: Context, caller: Caller, run_id: str) -> Applied:
    """Delete a run, here and at the provider. Raises NotFound, also when it is deleted already."""
    stored = await owned_run(context, caller, run_id)
    lease = context.lease()
    return await perform_now(context, await apply(context, stored, DeleteRequested(lease)), lease)


async def delete_session(context: Context, caller: Caller, session_id: str) -> list[str]:
    """Delete a session and all its runs; return the runs that workers have to purge.

    If it stops half way, doing it again goes on. Raises NotFound, and Conflict when a run is started meanwhile.
    """
    held = await owned_session(context, caller, session_id)
    purges = []
    at = held.session.last_run_id
    while at and (stored := await context.runs.read(at)):
        if stored.run.status is not RunStatus.DELETED:
            # Nobody holds this lease, so the purge is owed at once.
            await apply(context, stored, DeleteRequested(Lease(context.token(), context.clock.now())))
            purges.append(at)
        at = stored.run.previous_run_id
    await _bury(context, await owned_session(context, caller, session_id), held.session.last_run_id)
    return purges


async def _bury(context: Context, fresh: StoredSession, last_run_id: str | None) -> None:
    """Leave a tombstone of the session, unless it has got a run that was not deleted with the others."""
    busy = Conflict(
        "A run was started in this session meanwhile; delete the session again.", code="session_busy"
    )
    if fresh.session.last_run_id != last_run_id:
        raise busy
    try:
        await context.sessions.write(
            StoredSession(replace(fresh.session, deleted=True, owner=""), fresh.etag)
        )
    except RowConflict:
        raise busy from None
