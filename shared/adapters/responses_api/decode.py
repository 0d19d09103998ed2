"""Turns a provider's JSON into a `Snapshot`, or into `Unreadable`. Pure. No body raises an exception."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.core import transcript
from shared.core.response import ResponseStatus, RunError, Snapshot, Usage
from shared.core.text import representable

MAX_MESSAGE_CHARACTERS = 500
# Deeper than any output item, and far from Python's recursion limit.
MAX_NESTING = 100
# More than any response can use, and small enough that sums of it are exact in every client.
MAX_TOKENS = 10**12

_RESPONSE_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
# Keys of OpenAI and of Azure, access tokens, and a wrong key as OpenAI repeats it, with a part of it masked.
_SECRET = re.compile(
    r"\b(?:sk|rk|pk|sess)-[\w*.-]{4,}|\bBearer\s+\S+|\beyJ[\w-]{8,}[\w.-]*|\b[A-Za-z0-9]{32,128}\b"
)
_STATUSES = {status.value: status for status in ResponseStatus}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A body that is not a response, or not the requested one. `reason` quotes nothing of the body."""

    reason: str


def is_response_id(value: object) -> bool:
    """Return whether this could be the id of a response. Such an id is safe in an address without encoding."""
    return isinstance(value, str) and _RESPONSE_ID.fullmatch(value) is not None


def decode(
    body: bytes, expected: str | None, on_unknown_status: Callable[[str], None]
) -> Snapshot | Unreadable:
    """Return the response in `body`. Its id must be `expected`, unless that is None.

    An unknown status is reported and read as `IN_PROGRESS`.
    """
    try:
        value = read_json(body)
    except RecursionError:
        return Unreadable("the body is nested too deeply")
    except ValueError:
        return Unreadable("the body is not JSON")
    return read_response(value, expected, on_unknown_status)


def read_response(
    value: object, expected: str | None, on_unknown_status: Callable[[str], None]
) -> Snapshot | Unreadable:
    """Return the response in a JSON value, as `decode` does."""
    if not isinstance(value, dict):
        return Unreadable("the body is not a JSON object")
    try:
        return _snapshot(value, expected, on_unknown_status)
    except RecursionError:
        return Unreadable("the body is nested too deeply")
    except ValueError:
        return Unreadable("the body has a value that JSON does not allow")


def read_json(body: bytes) -> Any:
    """Return the value of a JSON text. Invalid bytes become U+FFFD. Raises ValueError and RecursionError."""
    try:
        return json.loads(body)
    except UnicodeDecodeError:
        return json.loads(body.decode("utf-8", "replace"))


def _snapshot(
    value: dict[str, Any], expected: str | None, on_unknown_status: Callable[[str], None]
) -> Snapshot | Unreadable:
    response_id, status_name = value.get("id"), value.get("status")
    if not isinstance(response_id, str) or not is_response_id(response_id):
        return Unreadable("the body has no response id")
    if expected is not None and response_id != expected:
        return Unreadable("the body is another response")
    if not isinstance(status_name, str):
        return Unreadable("the response has no status")
    status = _STATUSES.get(status_name)
    if status is None:
        on_unknown_status(status_name)
        status = ResponseStatus.IN_PROGRESS
    if not status.finished:
        return Snapshot(response_id=response_id, status=status)
    return _finished(value, response_id, status)


def _finished(value: dict[str, Any], response_id: str, status: ResponseStatus) -> Snapshot | Unreadable:
    output = value.get("output")
    if not isinstance(output, list):
        return Unreadable(f"the response is {status} and has no list of output items")
    if _deeper_than(MAX_NESTING, output):
        return Unreadable("the output is nested too deeply")
    may_call = status in {ResponseStatus.COMPLETED, ResponseStatus.INCOMPLETE}
    details = value.get("incomplete_details")
    return Snapshot(
        response_id=response_id,
        status=status,
        output=_json_text(output),
        calls=transcript.calls_among(output) if may_call else (),
        usage=_usage(value.get("usage")),
        error=read_error(value.get("error")),
        incomplete_reason=_code(details.get("reason")) if isinstance(details, dict) else None,
    )


def _deeper_than(levels: int, value: Any) -> bool:
    """Return whether lists and objects are nested deeper than `levels`.

    The output is read again later, with more frames on the stack, so the limit is lower than that of Python.
    """
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not layer:
            return False
    return True


def _json_text(output: list[Any]) -> str:
    try:
        text = json.dumps(output, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_without_nan(output), ensure_ascii=False)
    return representable(text)


def _without_nan(value: Any) -> Any:
    """Return the value with null for the numbers that JSON does not allow: NaN and the infinities."""
    match value:
        case dict():
            return {name: _without_nan(inner) for name, inner in value.items()}
        case list():
            return [_without_nan(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
    return value


def _usage(value: object) -> Usage:
    if not isinstance(value, dict):
        return Usage()
    read, written = _tokens(value.get("input_tokens")), _tokens(value.get("output_tokens"))
    return Usage(read, written, _tokens(value.get("total_tokens")) or read + written)


def _tokens(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(value, 0), MAX_TOKENS)


def read_error(value: object, secret: str | None = None) -> RunError | None:
    """Return the error that a provider reports, safe to show to clients; None without a code and a message.

    `value` is an `error` object, or a text alone. `secret` and text that looks like a key are replaced.
    """
    code, message = (value.get("code"), value.get("message")) if isinstance(value, dict) else (None, value)
    shown = _shown(message, secret) if isinstance(message, str) else ""
    known = _code(code)
    if not shown and not known:
        return None
    return RunError(known or "provider_error", shown or "The provider gave no reason.")


def _code(value: object) -> str | None:
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def _shown(text: str, secret: str | None) -> str:
    # Searching a longer text would take too long, and less than this is kept.
    text = representable(text[: 20 * MAX_MESSAGE_CHARACTERS])
    if secret:
        text = text.replace(secret, "[secret]")
    text = _CONTROL.sub(" ", _SECRET.sub("[secret]", text)).strip()
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 1] + "…"
