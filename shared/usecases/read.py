"""What clients may read: runs, their outputs, sessions. Reading never calls the provider."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from shared.core.caller import Caller
from shared.core.run import Run, RunStatus, Session
from shared.core.transcript import Item
from shared.errors import Malformed, NotFound
from shared.steps.context import Context
from shared.steps.conversation import items_of
from shared.store.runs import StoredRun
from shared.store.sessions import StoredSession

_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A session with some of its runs."""

    session: Session
    # Newest first.
    runs: list[Run]
    # The items of these runs, oldest first.
    transcript: list[Item]
    # The newest run of the next page, if there is one.
    next_run_id: str | None


async def owned_run(context: Context, caller: Caller, run_id: str) -> StoredRun:
    """Return a run, with one point read. Raises NotFound when there is none or it is another owner's."""
    stored = await context.runs.read(run_id)
    if stored is None or stored.run.status is RunStatus.DELETED or stored.run.owner != caller.owner:
        raise _no_run(run_id)
    return stored


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"There is no run {run_id}.", code="run_not_found", field="run_id")


async def owned_session(context: Context, caller: Caller, session_id: str) -> StoredSession:
    """Return a session. Raises NotFound when there is none or it is another owner's."""
    stored = await context.sessions.read(session_id)
    if stored is None or stored.session.deleted or stored.session.owner != caller.owner:
        raise NotFound(f"There is no session {session_id}.", code="session_not_found", field="session_id")
    return stored


async def output_of(context: Context, run: Run) -> str | None:
    """Return the JSON text of the run's last output items; None while it is pending.

    Raises NotFound when the run was deleted meanwhile.
    """
    # A use case that changed the run may have read a tombstone after a conflict.
    if run.status is RunStatus.DELETED:
        raise _no_run(run.id)
    if not run.terminal:
        return None
    if not run.turns:
        return "[]"
    return await unless_deleted(context, run, context.content.load(run.id, run.turns[-1]))


async def unless_deleted(context: Context, run: Run, load: Awaitable[_Loaded]) -> _Loaded:
    """Return what is loaded.

    Raises NotFound when it cannot be loaded because the run was deleted meanwhile.
    """
    try:
        return await load
    except LookupError:
        fresh = await context.runs.read(run.id)
        if fresh is None or fresh.run.status is RunStatus.DELETED:
            raise _no_run(run.id) from None
        raise


async def session_page(
    context: Context, caller: Caller, session_id: str, *, begin: str | None, limit: int
) -> SessionPage:
    """Return up to `limit` runs of a session, from the run `begin` to older ones."""
    session = (await owned_session(context, caller, session_id)).session
    runs: list[Run] = []
    run_id = begin or session.last_run_id
    while run_id and len(runs) < limit:
        stored = await context.runs.read(run_id)
        if stored is None or stored.run.session_id != session_id:
            raise Malformed(
                "cursor must come from a nextLink of this list.", code="invalid_cursor", field="cursor"
            )
        if stored.run.status is not RunStatus.DELETED:
            runs.append(stored.run)
        run_id = stored.run.previous_run_id
    items: list[Item] = []
    for run in runs[::-1]:
        try:
            items += await unless_deleted(context, run, items_of(context, run))
        except NotFound:
            # Deleted since it was read. It is left out like the deleted runs above.
            runs.remove(run)
    return SessionPage(session, runs, items, run_id)
