"""The runs of a session, each of which names the one before it. What a row names is not believed."""

from collections.abc import AsyncIterator

from shared.core.run import Run, RunStatus, Session
from shared.steps.context import Context
from shared.store.runs import StoredRun

# How many runs without an outcome may come after the run whose calls are answered.
_LOOK_BACK = 20


async def run_of_session(context: Context, run_id: str, session: Session | Run) -> StoredRun | None:
    """Return a run if it belongs to a session and its owner. Of a tombstone only the session is known."""
    stored = await context.runs.read(run_id)
    session_id = session.session_id if isinstance(session, Run) else session.id
    if stored is None or stored.run.session_id != session_id:
        return None
    foreign = stored.run.owner != session.owner and stored.run.status is not RunStatus.DELETED
    return None if foreign else stored


async def runs_back(context: Context, run_id: str | None, session: Session | Run) -> AsyncIterator[StoredRun]:
    """Yield the runs of a session from a run to older ones, each once. It ends at a run that does not belong to it."""
    seen: set[str] = set()
    while run_id and run_id not in seen and (stored := await run_of_session(context, run_id, session)):
        seen.add(run_id)
        yield stored
        run_id = stored.run.previous_run_id


async def last_in_conversation(context: Context, run_id: str | None, session: Session | Run) -> Run | None:
    """Return the run whose calls a later one may answer: the last one of the conversation, from a run to older ones."""
    read = 0
    async for stored in runs_back(context, run_id, session):
        if stored.run.in_conversation:
            return stored.run
        read += 1
        if read == _LOOK_BACK:
            break
    return None
