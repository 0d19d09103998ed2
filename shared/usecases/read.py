"""What clients may see: runs, their outputs, sessions. No reader ever calls the provider."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from shared.core import items
from shared.core.model import Run, RunStatus, Session
from shared.errors import Malformed, NotFound
from shared.store.runs import StoredRun, StoredSession
from shared.usecases.context import Context
from shared.usecases.conversation import transcript

_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A session with some of its runs, newest first, and their items, oldest first.

    `next_run_id` is the run at which an older page begins.
    """

    session: Session
    runs: list[Run]
    transcript: list[items.Item]
    next_run_id: str | None


async def owned_run(context: Context, owner: str, run_id: str) -> StoredRun:
    """Return a run in one point read. Raises NotFound when there is none or it is another owner's."""
    stored = await context.runs.read(run_id)
    if stored is None or stored.run.status is RunStatus.DELETED or stored.run.owner != owner:
        raise _no_run(run_id)
    return stored


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"There is no run {run_id}.", code="run_not_found", field="run_id")


async def owned_session(context: Context, owner: str, session_id: str) -> StoredSession:
    """Return a session. Raises NotFound when there is none or it is another owner's."""
    stored = await context.runs.read_session(session_id)
    if stored is None or stored.session.deleted or stored.session.owner != owner:
        raise NotFound(f"There is no session {session_id}.", code="session_not_found", field="session_id")
    return stored


async def output_of(context: Context, run: Run) -> str | None:
    """Return the JSON text of the run's last output items; None while it is pending.

    Raises NotFound when the run is deleted meanwhile, also when `run` is its tombstone already.
    """
    if run.status is RunStatus.DELETED:
        raise _no_run(run.id)
    if not run.terminal:
        return None
    if not run.turns:
        return "[]"
    return await unless_deleted(context, run, context.content.load(run.id, run.turns[-1]))


async def unless_deleted(context: Context, run: Run, load: Awaitable[_Loaded]) -> _Loaded:
    """Return what is loaded, or say that the run is gone when its content has gone with it."""
    try:
        return await load
    except LookupError:
        fresh = await context.runs.read(run.id)
        if fresh is None or fresh.run.status is RunStatus.DELETED:
            raise _no_run(run.id) from None
        raise


async def session_page(
    context: Context, owner: str, session_id: str, *, begin: str | None, limit: int
) -> SessionPage:
    """Return up to `limit` runs of a session, from `begin` backwards."""
    session = (await owned_session(context, owner, session_id)).session
    runs: list[Run] = []
    at = begin or session.last_run_id
    while at and len(runs) < limit:
        stored = await context.runs.read(at)
        if stored is None or stored.run.session_id != session_id:
            raise Malformed(
                "cursor has to come from a nextLink of this list.", code="invalid_cursor", field="cursor"
            )
        if stored.run.status is not RunStatus.DELETED:
            runs.append(stored.run)
        at = stored.run.previous_run_id
    found: list[items.Item] = []
    for run in runs[::-1]:
        try:
            found += await unless_deleted(context, run, transcript(context, run))
        except NotFound:
            # Deleted since it was read, like those that the page leaves out above.
            runs.remove(run)
    return SessionPage(session, runs, found, at)
