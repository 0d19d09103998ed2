"""Turns a provider's JSON into a `Snapshot`, or into `Unreadable`. Pure. No body raises an exception."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from shared.adapters.http.json_body import TooManyMarks, read_json
from shared.adapters.http.shown_error import code_of, read_error, shown
from shared.adapters.http.tokens import tokens, tokens_in
from shared.core import transcript
from shared.core.limits import MAX_OUTPUT_BYTES
from shared.core.response import ResponseStatus, RunError, Snapshot, Usage
from shared.core.text import json_text

# Deeper than any output item, and far from Python's recursion limit.
MAX_NESTING = 100
# An unknown status is shown cut to this length.
MAX_STATUS_CHARACTERS = 64
# Gateways put a route, or all of their state, into the id.
MAX_RESPONSE_ID = 1024
# Some compatible services have other words for the same.
_STATUSES = {status.value: status for status in ResponseStatus} | {
    "pending": ResponseStatus.QUEUED,
    "running": ResponseStatus.IN_PROGRESS,
}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A body that is not a response, or not the requested one. `reason` quotes nothing of the body."""

    reason: str
    # Whether it may be the response, and is too large to be read.
    too_large: bool = False


def too_large(reason: str) -> RunError:
    """Return the error for a response that no later read could make smaller."""
    return RunError("output_too_large", f"The response cannot be kept: {reason}.")


def is_response_id(value: object) -> bool:
    """Return whether this could be the id of a response. It must be encoded in an address."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_RESPONSE_ID
        and value.isprintable()
        # An encoded dot is a dot: these would change the path of an address.
        and value not in {".", ".."}
    )


def decode(
    body: bytes,
    expected: str | None,
    on_unknown_status: Callable[[str], None],
    secret: str | re.Pattern[str] | None = None,
) -> Snapshot | Unreadable:
    """Return the response in `body`, under the id `expected` with which it was requested, if there is one.

    An unknown status is reported and read as `IN_PROGRESS`. `secret` is removed from the error.
    """
    try:
        value = read_json(body)
    except RecursionError:
        return Unreadable("the body is nested too deeply")
    except TooManyMarks as fault:
        return Unreadable(str(fault), too_large=True)
    except ValueError:
        return Unreadable("the body is not JSON")
    return read_response(value, expected, on_unknown_status, secret)


def read_response(
    value: object,
    expected: str | None,
    on_unknown_status: Callable[[str], None],
    secret: str | re.Pattern[str] | None = None,
) -> Snapshot | Unreadable:
    """Return the response in a JSON value, as `decode` does."""
    if not isinstance(value, dict):
        return Unreadable("the body is not a JSON object")
    try:
        return _snapshot(value, expected, on_unknown_status, secret)
    except RecursionError:
        return Unreadable("the body is nested too deeply")
    except ValueError:
        return Unreadable("the body has a value that JSON does not allow")


def _snapshot(
    value: dict[str, Any],
    expected: str | None,
    on_unknown_status: Callable[[str], None],
    secret: str | re.Pattern[str] | None,
) -> Snapshot | Unreadable:
    response_id, status_name = value.get("id"), value.get("status")
    if expected is not None:
        # Some gateways send another id each time. The request has named the response.
        response_id = expected
    if not isinstance(response_id, str) or not is_response_id(response_id):
        return Unreadable("the body has no response id")
    if not isinstance(status_name, str) and expected is None and not value.get("error"):
        # Of a new response only the id matters. A read shows its status.
        status_name = ResponseStatus.QUEUED.value
    if not isinstance(status_name, str):
        return Unreadable("the response has no status")
    status = _STATUSES.get(status_name)
    if status is None:
        on_unknown_status(shown(status_name, secret)[:MAX_STATUS_CHARACTERS])
        status = ResponseStatus.IN_PROGRESS
    run_id = _run_of(value.get("metadata"))
    if not status.finished:
        return Snapshot(response_id=response_id, status=status, run_id=run_id)
    found = _finished(value, response_id, status, secret)
    if isinstance(found, Unreadable) and expected is None:
        return Snapshot(response_id=response_id, status=ResponseStatus.IN_PROGRESS, run_id=run_id)
    return replace(found, run_id=run_id) if isinstance(found, Snapshot) and run_id else found


def _run_of(metadata: object) -> str | None:
    run_id = metadata.get("baton_run") if isinstance(metadata, dict) else None
    return run_id if isinstance(run_id, str) and run_id else None


def _finished(
    value: dict[str, Any], response_id: str, status: ResponseStatus, secret: str | re.Pattern[str] | None
) -> Snapshot | Unreadable:
    output = value.get("output")
    if output is None and status in {ResponseStatus.FAILED, ResponseStatus.CANCELLED}:
        # It has none, and there will be none.
        output = []
    if not isinstance(output, list):
        return Unreadable(f"the response is {status} and has no list of output items")
    if _deeper_than(MAX_NESTING, output):
        return Unreadable("the output is nested too deeply")
    # Clients rely on it that items are objects.
    output = [item for item in output if isinstance(item, dict)]
    text = json_text(output)
    if len(text.encode()) > MAX_OUTPUT_BYTES:
        return Snapshot(
            response_id=response_id,
            status=ResponseStatus.FAILED,
            usage=_usage(value.get("usage")),
            error=too_large(f"its output is larger than {MAX_OUTPUT_BYTES // 2**20} MiB"),
        )
    may_call = status in {ResponseStatus.COMPLETED, ResponseStatus.INCOMPLETE}
    details = value.get("incomplete_details")
    return Snapshot(
        response_id=response_id,
        status=status,
        output=text,
        calls=transcript.calls_among(output) if may_call else (),
        unanswerable=may_call and transcript.ends_unanswered(output),
        usage=_usage(value.get("usage")),
        error=read_error(value.get("error"), secret),
        incomplete_reason=code_of(details.get("reason"), secret) if isinstance(details, dict) else None,
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


def _usage(value: object) -> Usage:
    if not isinstance(value, dict):
        return Usage()
    read, written = tokens(value.get("input_tokens")), tokens(value.get("output_tokens"))
    return Usage(
        read,
        written,
        tokens(value.get("total_tokens")) or read + written,
        cached_tokens=tokens_in(value.get("input_tokens_details"), "cached_tokens"),
        reasoning_tokens=tokens_in(value.get("output_tokens_details"), "reasoning_tokens"),
    )
