"""Delete runs and sessions when a client requests it."""

from dataclasses import replace

from shared.core.caller import Caller
from shared.core.life.events import DeleteRequested
from shared.core.run import Lease, RunStatus
from shared.errors import Conflict, RowConflict
from shared.steps.chain import runs_back
from shared.steps.context import Context
from shared.steps.transition import Applied, apply
from shared.steps.work import perform_now
from shared.store.sessions import StoredSession
from shared.usecases.read import owned_run, owned_session


async def delete_run(context: Context, caller: Caller, run_id: str) -> Applied:
    """Delete a run, here and at the provider. Raises NotFound, also when it was deleted before."""
    stored = await owned_run(context, caller, run_id)
    lease = context.lease()
    return await perform_now(context, await apply(context, stored, DeleteRequested(lease)), lease)


async def delete_session(context: Context, caller: Caller, session_id: str) -> list[str]:
    """Delete a session and all its runs, and return the runs that workers have to purge.

    When it fails half way, a repeated request continues it.
    Raises NotFound, and Conflict when a run is started meanwhile.
    """
    session = (await owned_session(context, caller, session_id)).session
    purges = []
    async for stored in runs_back(context, session.last_run_id, session):
        if stored.run.status is not RunStatus.DELETED:
            # This lease has expired already, so the purge is owed at once.
            await apply(context, stored, DeleteRequested(Lease(context.token(), context.clock.now())))
            purges.append(stored.run.id)
    await _leave_tombstone(context, await owned_session(context, caller, session_id), session.last_run_id)
    return purges


async def _leave_tombstone(context: Context, fresh: StoredSession, last_run_id: str | None) -> None:
    """Replace the session by a tombstone.

    Raises Conflict when a run was started in it after `last_run_id`.
    """
    busy = Conflict(
        "A run was started in this session meanwhile; delete the session again.", code="session_busy"
    )
    if fresh.session.last_run_id != last_run_id:
        raise busy
    try:
        await context.sessions.write(
            replace(fresh, session=replace(fresh.session, deleted=True, owner=""), unknown={})
        )
    except RowConflict:
        raise busy from None
