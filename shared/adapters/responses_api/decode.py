"""Provider JSON becomes a `Snapshot`, or is called unreadable: pure, and total over whatever a body holds."""

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
# Deeper than any output item, and far from where Python gives up.
MAX_NESTING = 100
# More than any response can use, and small enough for every reader of the sum.
MAX_TOKENS = 10**12

_RESPONSE_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
# Keys of OpenAI and of Azure, access tokens, and OpenAI's own half-masked rendering of a wrong key.
_SECRET = re.compile(
    r"\b(?:sk|rk|pk|sess)-[\w*.-]{4,}|\bBearer\s+\S+|\beyJ[\w-]{8,}[\w.-]*|\b[A-Za-z0-9]{32,128}\b"
)
_STATUSES = {status.value: status for status in ResponseStatus}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A body that is no response, or not the one asked for. `reason` repeats nothing of it."""

    reason: str


def is_response_id(value: object) -> bool:
    """Say whether this could be a response's id. It is then safe in an address as it stands."""
    return isinstance(value, str) and _RESPONSE_ID.fullmatch(value) is not None


def decode(
    body: bytes, expected: str | None, on_unknown_status: Callable[[str], None]
) -> Snapshot | Unreadable:
    """Return the response in `body`, which has to be `expected` unless that is None.

    An unknown status is reported and taken as `IN_PROGRESS`.
    """
    try:
        value = read_json(body)
    except RecursionError:
        return Unreadable("the body is nested too deeply")
    except ValueError:
        return Unreadable("the body is no JSON")
    return read_response(value, expected, on_unknown_status)


def read_response(
    value: object, expected: str | None, on_unknown_status: Callable[[str], None]
) -> Snapshot | Unreadable:
    """Return the response in a value of JSON, as `decode` does."""
    if not isinstance(value, dict):
        return Unreadable("the body is no JSON object")
    try:
        return _snapshot(value, expected, on_unknown_status)
    except RecursionError:
        return Unreadable("the body is nested too deeply")
    except ValueError:
        return Unreadable("the body holds what JSON has not")


def read_json(body: bytes) -> Any:
    """Return the value of a JSON text, its bad bytes as U+FFFD. Raises ValueError and RecursionError."""
    try:
        return json.loads(body)
    except UnicodeDecodeError:
        return json.loads(body.decode("utf-8", "replace"))


def _snapshot(
    value: dict[str, Any], expected: str | None, on_unknown_status: Callable[[str], None]
) -> Snapshot | Unreadable:
    response_id, word = value.get("id"), value.get("status")
    if not isinstance(response_id, str) or not is_response_id(response_id):
        return Unreadable("the body has no response id")
    if expected is not None and response_id != expected:
        return Unreadable("the body is another response")
    if not isinstance(word, str):
        return Unreadable("the response has no status")
    status = _STATUSES.get(word)
    if status is None:
        on_unknown_status(word)
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
    """Say whether lists and objects are nested deeper than `levels`: others read this deeper down the stack."""
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
    """Return the value with null for the numbers that JSON has not: NaN and the infinities."""
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
    given, written = _tokens(value.get("input_tokens")), _tokens(value.get("output_tokens"))
    return Usage(given, written, _tokens(value.get("total_tokens")) or given + written)


def _tokens(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(value, 0), MAX_TOKENS)


def read_error(value: object, secret: str | None = None) -> RunError | None:
    """Return what a provider says went wrong, fit to be shown; None if it says nothing of use.

    `value` is an `error` object, or a text alone. `secret` and what looks like one are struck out.
    """
    code, message = (value.get("code"), value.get("message")) if isinstance(value, dict) else (None, value)
    said = _shown(message, secret) if isinstance(message, str) else ""
    known = _code(code)
    if not said and not known:
        return None
    return RunError(known or "provider_error", said or "The provider gave no reason.")


def _code(value: object) -> str | None:
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def _shown(text: str, secret: str | None) -> str:
    # Far more than is kept, and little enough to search.
    text = representable(text[: 20 * MAX_MESSAGE_CHARACTERS])
    if secret:
        text = text.replace(secret, "[secret]")
    text = _CONTROL.sub(" ", _SECRET.sub("[secret]", text)).strip()
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 1] + "…"
