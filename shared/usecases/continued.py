"""The session that a start continues."""

from collections.abc import Mapping

from shared.core import transcript
from shared.core.caller import Caller
from shared.core.input_items import open_calls
from shared.core.run import Session
from shared.errors import Conflict, InvalidInput, NotFound
from shared.steps.chain import runs_back
from shared.steps.context import Context
from shared.store.sessions import StoredSession
from shared.usecases.read import output_of

# How many runs without an outcome may come after the run whose call is answered.
_LOOK_BACK = 20


async def continued_session(
    context: Context, caller: Caller, session_id: str | None, *, agent: str, answers: Mapping[str, str]
) -> StoredSession | None:
    """Return the session that a start names. `answers` are the calls that its input answers: their ids, and the types of the answers.

    Raises NotFound, Conflict when it cannot hold a run now, and InvalidInput when it has not left these calls open.
    """
    if session_id is None:
        if answers:
            raise _not_open()
        return None
    stored = await context.sessions.read(session_id)
    if stored is None or stored.session.deleted or stored.session.owner != caller.owner:
        raise NotFound(f"There is no session {session_id}.", code="session_not_found", field="session_id")
    if stored.session.agent != agent:
        raise Conflict(
            f"Session {session_id} belongs to agent {stored.session.agent}.",
            code="session_of_another_agent",
            field="agent",
        )
    if stored.session.held_by:
        raise busy(session_id)
    if answers and not answers.items() <= (await _open_calls(context, stored.session)).items():
        raise _not_open()
    return stored


async def _open_calls(context: Context, session: Session) -> Mapping[str, str]:
    """Return the calls that the conversation of a session has left open: their ids, and the type of an answer to each."""
    read = 0
    async for stored in runs_back(context, session.last_run_id, session):
        if stored.run.in_conversation:
            return open_calls(transcript.parse(await output_of(context, stored.run) or "[]"))
        read += 1
        if read == _LOOK_BACK:
            break
    return {}


def _not_open() -> InvalidInput:
    return InvalidInput(
        "input answers a call that this session has not left open.", code="input_not_allowed", field="input"
    )


def busy(session_id: str) -> Conflict:
    return Conflict(
        f"Session {session_id} has a run that has not ended; wait for it or cancel it.",
        code="session_busy",
        field="session_id",
    )
