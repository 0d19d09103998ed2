"""Parse and render the calls of a run, and the answers to those that wait. Errors are as in `parse`."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.core import ids, input_items
from shared.core.calls import AnswerType, CallKind, CallStatus
from shared.core.input_items import InputRules
from shared.core.limits import MAX_REASON_CHARACTERS, MAX_TOOL_OUTPUT_BYTES
from shared.core.times import is_usable
from shared.errors import InvalidInput, Malformed, NotFound, TooLarge, UnreadableRow
from shared.store.rows import time_text
from shared.usecases.answer import Answer, Approve, Refuse, SendError, SendOutput
from shared.usecases.calls import CallView, WaitsCursor
from shared.web.bodies import read_object
from shared.web.http import Request
from shared.web.runs_api.parse import check_fields
from shared.web.runs_api.render import time

_SHAPES = (
    '{"approve": true}, {"approve": true, "arguments": {...}}, {"approve": false}, '
    '{"approve": false, "reason": "..."}, {"output": ...} or {"error": "..."}'
)
# What an answer is, by the field that it has, with the fields that it may have beside that one.
_BESIDE = {
    "approve": frozenset({"arguments", "reason"}),
    "output": frozenset[str](),
    "error": frozenset[str](),
}
_FIELDS = frozenset(_BESIDE).union(*_BESIDE.values())


def call_id(text: str) -> str:
    if not ids.is_call_id(text):
        raise NotFound("There is no such call.", code="call_not_found", field="call_id")
    return text


def answer(request: Request, rules: InputRules) -> Answer:
    """Return the answer in a body. `rules` say what an output may hold."""
    body = read_object(request)
    check_fields(body, _FIELDS)
    kinds = [name for name in _BESIDE if name in body]
    if len(kinds) != 1:
        raise _not_an_answer(kinds[1] if kinds else "approve")
    if excess := sorted(body.keys() - _BESIDE[kinds[0]] - set(kinds)):
        raise _not_an_answer(excess[0])
    if "output" in body:
        return _output(body["output"], rules)
    return SendError(_error(body["error"])) if "error" in body else _decision(body)


def _decision(body: Mapping[str, Any]) -> Approve | Refuse:
    approve, arguments, reason = (body.get(name) for name in ("approve", "arguments", "reason"))
    if not isinstance(approve, bool):
        raise InvalidInput("approve must be true or false.", code="invalid_answer", field="approve")
    if approve and reason is not None:
        raise _not_an_answer("reason")
    if not approve and arguments is not None:
        raise _not_an_answer("arguments")
    if arguments is not None and not isinstance(arguments, dict):
        raise InvalidInput("arguments must be an object.", code="invalid_arguments", field="arguments")
    return Approve(arguments) if approve else Refuse(_reason(reason))


def _not_an_answer(field: str) -> InvalidInput:
    return InvalidInput(f"An answer is one of: {_SHAPES}.", code="invalid_answer", field=field)


def _reason(given: Any) -> str:
    if given is not None and not isinstance(given, str):
        raise InvalidInput("reason must be a text.", code="invalid_answer", field="reason")
    if given and len(given) > MAX_REASON_CHARACTERS:
        raise InvalidInput(
            f"reason has more than {MAX_REASON_CHARACTERS} characters.",
            code="reason_too_long",
            field="reason",
        )
    return given or ""


def _error(given: Any) -> str:
    if not isinstance(given, str):
        raise InvalidInput("error must be a text.", code="invalid_answer", field="error")
    if len(given) > MAX_REASON_CHARACTERS:
        raise InvalidInput(
            f"error has more than {MAX_REASON_CHARACTERS} characters.", code="error_too_long", field="error"
        )
    return given


def _output(value: Any, rules: InputRules) -> SendOutput:
    try:
        text, parts = input_items.output_of_call(value, rules)
    except input_items.NotAllowed as fault:
        raise InvalidInput(str(fault), code="output_not_allowed", field="output") from None
    if len(text.encode()) > MAX_TOOL_OUTPUT_BYTES:
        raise TooLarge(
            f"output has more than {MAX_TOOL_OUTPUT_BYTES} bytes.", code="output_too_long", field="output"
        )
    return SendOutput(text, parts)


def calls_cursor(request: Request) -> int:
    """Return after how many calls of a run a page begins."""
    text = request.query.get("cursor", "0")
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise _bad_cursor()
    return int(text)


def waits_cursor(request: Request) -> WaitsCursor | None:
    """Return after which call a page of waiting calls begins. None for the first page."""
    text = request.query.get("cursor")
    if text is None:
        return None
    since, _, rest = text.partition("~")
    run_id, _, call = rest.partition("~")
    try:
        at = datetime.fromisoformat(since)
    except ValueError:
        raise _bad_cursor() from None
    if not is_usable(at) or not ids.is_id("run", run_id) or not ids.is_call_id(call):
        raise _bad_cursor()
    return WaitsCursor(at, run_id, call)


def waits_cursor_text(cursor: WaitsCursor) -> str:
    return f"{time_text(cursor.since)}~{cursor.run_id}~{cursor.call_id}"


def _bad_cursor() -> Malformed:
    return Malformed("cursor must come from a nextLink of this list.", code="invalid_cursor", field="cursor")


def call_view(view: CallView) -> dict[str, object]:
    """Return a call with its arguments, its wait and its answer."""
    call = view.call
    return {
        "object": "call",
        "id": view.id,
        "call_id": call.call_id,
        "run_id": view.run.id,
        "turn": call.turn,
        "name": call.name,
        "server_label": call.server or None,
        "status": call.status.value,
        "type": call.wait.kind.value if call.wait else None,
        "arguments": call.arguments,
        "arguments_fixed": call.kind is CallKind.MCP_APPROVAL,
        "waiting_since": time(call.wait.since) if call.wait else None,
        "expires_at": time(call.wait.expires_at) if call.wait else None,
        "started_at": time(call.started_at),
        "completed_at": time(call.completed_at),
        "answer": _answer(view),
    }


def wait_view(view: CallView) -> dict[str, object]:
    """Return a call as whoever may approve it sees it in the list of all that wait."""
    return call_view(view) | {"agent": view.run.agent, "owner": view.run.owner}


def _answer(view: CallView) -> Mapping[str, object] | None:
    call, answer = view.call, view.answer
    if answer is None:
        if call.status is not CallStatus.TIMED_OUT:
            return None
        nobody = {"by": None, "by_name": None, "reason": None, "arguments": None}
        return {"type": AnswerType.TIMED_OUT, "at": time(call.completed_at), **nobody}
    return {
        "type": answer.type,
        "at": time(answer.at),
        "by": answer.by,
        "by_name": answer.by_name or None,
        "reason": answer.reason or None,
        "arguments": _changed(view),
    }


def _changed(view: CallView) -> dict[str, Any] | None:
    """Return the arguments that the approver sent instead of the model's. Raises UnreadableRow."""
    if view.changed is None:
        return None
    try:
        arguments = json.loads(view.changed)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise UnreadableRow(f"the answer to {view.id} of {view.run.id}")
    return arguments
