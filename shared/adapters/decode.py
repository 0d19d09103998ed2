"""What a provider sent, as a `Snapshot`: total, so that nothing a provider sends can do worse than be unreadable."""

import json
import logging
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from shared.core import items
from shared.core.model import ResponseStatus, RunError, Snapshot, Usage
from shared.core.text import representable
from shared.log import say

# An id stands in addresses and in rows.
_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_MAX_TOKENS = 2**53
_MAX_MESSAGE = 500
_MAX_WORD = 64
_MAX_RETRY_AFTER = timedelta(minutes=5)
_STATUSES = {status.value: status for status in ResponseStatus}


class Unreadable(Exception):
    """A reply that is no response. The text says what is wrong with it."""


def snapshot(body: bytes, expected_id: str | None = None) -> Snapshot:
    """Return the response in `body`. Raises Unreadable, also for another response than the expected one."""
    value = _parse(body)
    response_id = value.get("id")
    if not isinstance(response_id, str) or not _ID.fullmatch(response_id):
        raise Unreadable("it has no usable id")
    if expected_id is not None and response_id != expected_id:
        raise Unreadable("it is another response than the one asked for")
    status = _status(value)
    if not status.finished:
        return Snapshot(response_id=response_id, status=status)
    output = value.get("output")
    if not isinstance(output, list):
        raise Unreadable("it is finished and has no list of output items")
    text = json.dumps(output, ensure_ascii=False)
    clean = representable(text)
    return Snapshot(
        response_id=response_id,
        status=status,
        output=clean,
        calls=items.calls_of(items.parse(clean) if clean is not text else _objects(output)),
        usage=_usage(value.get("usage")),
        error=_error(value.get("error")) if status is ResponseStatus.FAILED else None,
        incomplete_reason=_reason(value.get("incomplete_details"))
        if status is ResponseStatus.INCOMPLETE
        else None,
    )


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as fault:
        raise Unreadable(f"it is not JSON ({type(fault).__name__})") from None
    if not isinstance(value, dict):
        raise Unreadable(f"it is a JSON {type(value).__name__}, not an object")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _objects(output: list[Any]) -> list[items.Item]:
    return [item for item in output if isinstance(item, dict)]


def _status(value: Mapping[str, Any]) -> ResponseStatus:
    word = value.get("status")
    if isinstance(word, str) and word in _STATUSES:
        return _STATUSES[word]
    if not isinstance(word, str):
        raise Unreadable("it has no status")
    say("response.unknown_status", level=logging.WARNING, status=_cleaned(word)[:_MAX_WORD])
    return ResponseStatus.IN_PROGRESS


def _usage(value: Any) -> Usage:
    if not isinstance(value, dict):
        return Usage()
    counts = [_count(value.get(name)) for name in ("input_tokens", "output_tokens", "total_tokens")]
    return Usage(*counts)


def _count(value: Any) -> int:
    return (
        min(value, _MAX_TOKENS) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
    )


def _error(value: Any) -> RunError:
    if not isinstance(value, dict):
        return RunError("provider_error", "The provider gave no reason.")
    code, message = value.get("code"), value.get("message")
    return RunError(
        _cleaned(code)[:_MAX_WORD] if isinstance(code, str) and code else "provider_error",
        _cleaned(message)[:_MAX_MESSAGE]
        if isinstance(message, str) and message
        else "The provider gave no reason.",
    )


def _reason(value: Any) -> str:
    reason = value.get("reason") if isinstance(value, dict) else None
    return _cleaned(reason)[:_MAX_WORD] if isinstance(reason, str) and reason else "unknown"


def error_of(body: bytes) -> RunError:
    """Return the code and the message of an error reply, as far as it has them."""
    try:
        value = _parse(body).get("error")
    except Unreadable:
        value = None
    return _error(value)


def _cleaned(text: str) -> str:
    return _CONTROL.sub(" ", representable(text))


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return how long a reply asks to wait, at most five minutes; None when it asks nothing sensible.

    Source: RFC 9110, section 10.2.3, and the `retry-after-ms` of Azure OpenAI.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return _clamped(milliseconds / 1000)
    text = headers.get("retry-after")
    if (seconds := _number(text)) is not None:
        return _clamped(seconds)
    try:
        at = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return _clamped((at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _clamped(seconds: float) -> timedelta | None:
    return timedelta(seconds=min(seconds, _MAX_RETRY_AFTER.total_seconds())) if seconds > 0 else None
