"""What clients may see: runs, their outputs, sessions. No reader ever calls the provider."""

from dataclasses import dataclass

from shared.core import items
from shared.core.model import Run, RunStatus, Session
from shared.errors import NotFound
from shared.store.runs import StoredRun, StoredSession
from shared.usecases.context import Context
from shared.usecases.conversation import transcript


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
        raise NotFound(f"There is no run {run_id}.", code="run_not_found")
    return stored


async def owned_session(context: Context, owner: str, session_id: str) -> StoredSession:
    """Return a session. Raises NotFound when there is none or it is another owner's."""
    stored = await context.runs.read_session(session_id)
    if stored is None or stored.session.deleted or stored.session.owner != owner:
        raise NotFound(f"There is no session {session_id}.", code="session_not_found")
    return stored


async def output_of(context: Context, run: Run) -> str | None:
    """Return the JSON text of the run's last output items; None while it is pending."""
    if not run.terminal:
        return None
    return await context.content.load(run.id, run.turns[-1]) if run.turns else "[]"


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
            raise NotFound(f"Session {session_id} has no run {at}.", code="invalid_cursor")
        if stored.run.status is not RunStatus.DELETED:
            runs.append(stored.run)
        at = stored.run.previous_run_id
    found = [item for run in reversed(runs) for item in await transcript(context, run)]
    return SessionPage(session, runs, found, at)
