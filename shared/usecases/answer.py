"""Answer a call that waits: approve or refuse it, or send what it returned."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, assert_never

from shared.core import ids
from shared.core.caller import Caller, Role
from shared.core.calls import AnswerType, CallKind, CallStatus, ToolCall, WaitKind
from shared.core.life.events import Answered
from shared.core.run import Content, Run, RunStatus
from shared.core.times import spoken
from shared.errors import BatonError, Conflict, Forbidden, InvalidInput, NotFound, StorageUnavailable
from shared.steps.context import Context
from shared.steps.transition import Applied, apply
from shared.steps.waits import arguments_hash
from shared.store import rows
from shared.store.answers import StoredAnswer
from shared.store.runs import StoredResult, StoredRun
from shared.usecases.calls import CallView, run_to_answer, sees, view_call

# How many times an answer is decided when the run changes meanwhile.
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Approve:
    """The call may run, with the model's arguments or with others."""

    arguments: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """The call must not run. The model is told the reason."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class SendOutput:
    """The caller has run the call. `parts`: the text is the JSON text of content parts."""

    text: str
    parts: bool = False


@dataclass(frozen=True, slots=True)
class SendError:
    """The caller has run the call, and it failed."""

    message: str


Answer = Approve | Refuse | SendOutput | SendError


async def answer_call(
    context: Context, caller: Caller, run_id: str, call_id: str, answer: Answer
) -> tuple[CallView, Applied]:
    """Store an answer to a call that waits, and return the call as it is then. The same answer again changes nothing.

    Raises NotFound, Forbidden, InvalidInput, and Conflict when the call cannot be answered any more.
    """
    for _ in range(_ATTEMPTS):
        stored = await run_to_answer(context, caller, run_id)
        call = _call_of(caller, stored.run, call_id)
        _check_kind(caller, stored.run, call, answer)
        view = await view_call(context, stored.run, call)
        changed = _changed(view, answer)
        fingerprint = _fingerprint(answer, changed)
        if call.status is not CallStatus.WAITING:
            if view.answer and view.answer.fingerprint == fingerprint:
                return view, Applied(stored)
            raise _closed(view)
        if refused := _too_late(context, stored.run, call):
            raise refused
        await _check_fit(context, view, changed)
        given = await _stored_answer(context, caller, view, answer, changed, fingerprint)
        applied = await _store(context, stored, given, _result(call, answer))
        if applied.changed:
            # From what is known: a deletion that follows may have taken the stored answer already.
            fresh = _call_of(caller, applied.stored.run, call_id)
            known = replace(fresh, arguments=view.call.arguments, server=view.call.server)
            return CallView(applied.stored.run, known, given, changed), applied
    raise StorageUnavailable(f"Run {run_id} kept changing while a call was answered.")


def _call_of(caller: Caller, run: Run, call_id: str) -> ToolCall:
    for call in run.calls:
        if ids.call_id(call.turn, call.call_id) == call_id and sees(caller, run, call):
            return call
    raise NotFound(f"Run {run.id} has no call {call_id}.", code="call_not_found", field="call_id")


def _check_kind(caller: Caller, run: Run, call: ToolCall, answer: Answer) -> None:
    """Check that the call waits for such an answer, and that the caller may give it."""
    if call.wait is None:
        raise Conflict(
            "This call waits for nobody: the app, or the caller after the end of the run, carries it out.",
            code="call_not_waiting",
        )
    if call.wait.kind is WaitKind.APPROVAL:
        if not caller.approves_for(run.owner):
            raise Forbidden(
                f"To approve or refuse a call, the role {Role.APPROVER} is needed.", code="role_missing"
            )
        if isinstance(answer, SendOutput | SendError):
            field = "output" if isinstance(answer, SendOutput) else "error"
            raise InvalidInput(
                "This call waits for an approval: send approve.", code="answer_does_not_fit", field=field
            )
        if (
            isinstance(answer, Approve)
            and answer.arguments is not None
            and call.kind is CallKind.MCP_APPROVAL
        ):
            raise InvalidInput(
                "The arguments of a hosted MCP call cannot be changed. Approve it as it is, or refuse it.",
                code="arguments_fixed",
                field="arguments",
            )
        return
    if Role.CALLER not in caller.roles:
        raise Forbidden(
            f"To send the output of a call, the role {Role.CALLER} is needed.", code="role_missing"
        )
    if isinstance(answer, Approve | Refuse):
        raise InvalidInput(
            "This call is carried out by the caller: send output or error.",
            code="answer_does_not_fit",
            field="approve",
        )


def _changed(view: CallView, answer: Answer) -> str | None:
    """Return the JSON text of changed arguments; None when they are the model's."""
    if not isinstance(answer, Approve) or answer.arguments is None:
        return None
    if _canonical(answer.arguments) == _canonical(_read(view.call.arguments)):
        return None
    return json.dumps(answer.arguments, ensure_ascii=False, separators=(",", ":"))


async def _check_fit(context: Context, view: CallView, changed: str | None) -> None:
    """Raise InvalidInput unless changed arguments fit the tool."""
    if changed is None:
        return
    if fault := await context.agents.fault_of_arguments(view.run.agent, view.call.name, changed):
        raise InvalidInput(fault, code="invalid_arguments", field="arguments")


def _read(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return None


def _canonical(value: object) -> str:
    """Return the same text for equal JSON values; an empty text for one that is nested too deep. In Python true equals 1."""
    try:
        return json.dumps(value, sort_keys=True)
    except RecursionError:
        return ""


def _fingerprint(answer: Answer, changed: str | None) -> str:
    match answer:
        case Approve():
            given: list[object] = ["approve", json.loads(changed) if changed is not None else None]
        case Refuse(reason):
            given = ["refuse", reason]
        case SendOutput(text, parts):
            given = ["output", text, parts]
        case SendError(message):
            given = ["error", message]
        case _:
            assert_never(answer)
    return hashlib.sha256(_canonical(given).encode()).hexdigest()


def _closed(view: CallView) -> Conflict:
    """Return why a call that does not wait any more cannot be answered."""
    call, answer = view.call, view.answer
    if answer:
        who = answer.by_name or answer.by
        return Conflict(
            f"This call was answered before: {answer.type} by {who or 'the caller'}, {rows.time_text(answer.at)}.",
            code="call_answered",
        )
    if call.status is CallStatus.TIMED_OUT and call.wait:
        span = spoken(call.wait.expires_at - call.wait.since)
        return Conflict(
            f"Nobody answered this call within {span}, so the run has gone on.", code="wait_ended"
        )
    return _ended(view.run)


def _too_late(context: Context, run: Run, call: ToolCall) -> BatonError | None:
    if run.terminal:
        return _ended(run)
    if run.status is RunStatus.CANCELLING:
        return Conflict(f"Run {run.id} is being cancelled.", code="run_cancelling")
    if call.wait and context.clock.now() >= call.wait.expires_at:
        return Conflict("The time for an answer to this call is over.", code="wait_ended")
    return None


def _ended(run: Run) -> Conflict:
    return Conflict(f"Run {run.id} is {run.status}, so its calls need no answer.", code="run_ended")


async def _stored_answer(
    context: Context, caller: Caller, view: CallView, answer: Answer, changed: str | None, fingerprint: str
) -> StoredAnswer:
    call, content = view.call, None
    if changed is not None:
        name = f"changed-{call.turn:02d}-{rows.name_hash(call.call_id)}-{context.token()}"
        content = await context.content.save(view.run.id, name, changed)
    approves = isinstance(answer, Approve)
    return StoredAnswer(
        turn=call.turn,
        call_id=call.call_id,
        type=_type(answer),
        at=context.clock.now(),
        by=caller.owner,
        by_name=caller.name or "",
        reason=answer.reason if isinstance(answer, Refuse) else "",
        changed=content,
        approved=arguments_hash(call.arguments if changed is None else changed) if approves else "",
        fingerprint=fingerprint,
    )


def _type(answer: Answer) -> AnswerType:
    match answer:
        case Approve():
            return AnswerType.APPROVED
        case Refuse():
            return AnswerType.REFUSED
        case SendOutput():
            return AnswerType.OUTPUT
        case SendError():
            return AnswerType.ERROR


def _result(call: ToolCall, answer: Answer) -> tuple[str, bool] | None:
    """Return what the model is told of the call, and whether it is content parts. None while that is not known."""
    match answer:
        case Refuse(reason) if call.kind is CallKind.MCP_APPROVAL:
            return reason or "A person refused this call.", False
        case Refuse(reason):
            message = "A person refused this call, so it did not run."
            return _error("refused", f"{message} The reason: {reason}" if reason else message), False
        case SendOutput(text, parts):
            return text, parts
        case SendError(message):
            return _error("tool_error", message), False
    return None


def _error(code: str, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False)


async def _store(
    context: Context, stored: StoredRun, given: StoredAnswer, told: tuple[str, bool] | None
) -> Applied:
    """Store the answer together with what follows from it. Texts that nobody points to are removed."""
    run, results, saved = stored.run, list[StoredResult](), list[Content]()
    if told:
        name = f"tool-{given.turn:02d}-{rows.name_hash(given.call_id)}-{context.token()}"
        output = await context.content.save(run.id, name, told[0])
        saved.append(output)
        results.append(StoredResult(given.turn, given.call_id, output, parts=told[1]))
    event = Answered(given.turn, given.call_id, given.type, given.by, given.by_name, given.reason)
    applied = await apply(context, stored, event, results, [given])
    # `changed` is not enough: the write may have succeeded with its reply lost, and another process may have written since.
    if not applied.changed and (await context.runs.answers(run.id)).get((given.turn, given.call_id)) != given:
        for content in (*saved, *([given.changed] if given.changed else [])):
            await context.content.drop(run.id, content)
    return applied
