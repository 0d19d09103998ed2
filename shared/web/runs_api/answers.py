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
from shared.errors import InvalidInput, Malformed, NotFound, TooLarge
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
_FIELDS = frozenset({"approve", "arguments", "reason", "output", "error"})


def call_id(text: str) -> str:
    if not ids.is_call_id(text):
        raise NotFound("There is no such call.", code="call_not_found", field="call_id")
    return text


def answer(request: Request, rules: InputRules) -> Answer:
    """Return the answer in a body. `rules` say what an output may hold."""
    body = read_object(request)
    check_fields(body, _FIELDS)
    match body:
        case {"approve": True, **rest} if not rest.keys() - {"arguments"}:
            return Approve(_arguments(rest.get("arguments")))
        case {"approve": False, **rest} if not rest.keys() - {"reason"}:
            return Refuse(_text(rest.get("reason") or "", "reason"))
        case {"output": value, **rest} if not rest:
            return _output(value, rules)
        case {"error": message, **rest} if not rest:
            return SendError(_text(message, "error"))
    field = next(
        (name for name in ("approve", "output", "error", "arguments", "reason") if name in body), None
    )
    raise InvalidInput(f"An answer is one of: {_SHAPES}.", code="invalid_answer", field=field or "approve")


def _arguments(given: Any) -> dict[str, Any] | None:
    if given is not None and not isinstance(given, dict):
        raise InvalidInput("arguments must be an object.", code="invalid_arguments", field="arguments")
    return given


def _text(given: Any, field: str) -> str:
    if not isinstance(given, str):
        raise InvalidInput(f"{field} must be a text.", code="invalid_answer", field=field)
    if len(given) > MAX_REASON_CHARACTERS:
        raise InvalidInput(
            f"{field} has more than {MAX_REASON_CHARACTERS} characters.",
            code=f"{field}_too_long",
            field=field,
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
    at = cursor.since.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return f"{at}~{cursor.run_id}~{cursor.call_id}"


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
        "arguments": json.loads(view.changed) if view.changed else None,
    }
