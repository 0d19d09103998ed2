"""The session that a start continues."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.core import transcript
from shared.core.caller import Caller
from shared.core.input_items import open_calls
from shared.core.run import Session
from shared.errors import Conflict, InvalidInput, NotFound
from shared.steps.chain import last_in_conversation
from shared.steps.context import Context
from shared.store.sessions import StoredSession
from shared.usecases.read import output_of


@dataclass(frozen=True, slots=True)
class Answers:
    """The calls that an input answers: their ids, and the types of the answers."""

    given: Mapping[str, str] = field(default_factory=dict)
    # Whether the session must have left these calls open. An input that may hold anything brings its own calls.
    checked: bool = True


async def continued_session(
    context: Context, caller: Caller, session_id: str | None, *, agent: str, answers: Answers
) -> StoredSession | None:
    """Return the session that a start names. `answers` are the calls that its input answers.

    Raises NotFound, Conflict when it cannot hold a run now, and InvalidInput when it has not left these calls open, or has
    handed over further ones.
    """
    if session_id is None:
        if answers.given and answers.checked:
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
    await _check_answers(context, stored.session, answers)
    return stored


async def _check_answers(context: Context, session: Session, answers: Answers) -> None:
    if not session.awaits_outputs and not (answers.given and answers.checked):
        return
    found, handed_over = await _open_calls(context, session)
    if answers.checked and not answers.given.items() <= found.items():
        raise _not_open()
    if missing := sorted(handed_over - answers.given.keys()):
        raise InvalidInput(
            f"input has to hold an output, or an error as its text, of each call that the run before has handed over. "
            f"It has none of {len(missing)} of them.",
            code="output_missing",
            field="input",
        )


async def _open_calls(context: Context, session: Session) -> tuple[Mapping[str, str], frozenset[str]]:
    """Return the calls that the conversation of a session has left open: their ids, and the type of an answer to each.

    Returns also the ids of those that its last run has handed over.
    """
    run = await last_in_conversation(context, session.last_run_id, session)
    if run is None:
        return {}, frozenset()
    found = open_calls(transcript.parse(await output_of(context, run) or "[]"))
    handed_over = frozenset(call.call_id for call in run.handed_over)
    return found | dict.fromkeys(handed_over, "function_call_output"), handed_over


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
