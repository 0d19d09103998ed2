"""Errors as RFC 9457 problem details."""

import json

from shared.errors import (
    BatonError,
    Conflict,
    InvalidInput,
    Malformed,
    NotFound,
    StorageUnavailable,
    TooLarge,
    Unidentified,
)
from shared.web.http import PROBLEM, Reply

_STATUSES: dict[type[BatonError], tuple[int, str]] = {
    Malformed: (400, "The request cannot be read"),
    Unidentified: (401, "The request does not say whose it is"),
    NotFound: (404, "Not found"),
    Conflict: (409, "Not possible now"),
    TooLarge: (413, "Too large"),
    InvalidInput: (422, "The request cannot be carried out"),
    StorageUnavailable: (503, "The storage does not answer"),
}
_RETRY_AFTER_SECONDS = 5


def problem(error: BatonError) -> Reply:
    """Return the answer for an error. Its `code` is stable; `field` names the offending part of the request."""
    status, title = _STATUSES[type(error)]
    # What the storage says is for the log; a client can do nothing with it.
    detail = "Try again in a few seconds." if status == 503 else str(error)
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": error.code}
    if error.field:
        body["field"] = error.field
    headers = {"Content-Type": PROBLEM, "Cache-Control": "no-store"}
    if status == 503:
        headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    return Reply(status, json.dumps(body).encode(), headers)
