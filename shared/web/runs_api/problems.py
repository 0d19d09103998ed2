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
    Malformed: (400, "Bad Request"),
    Unidentified: (401, "Unauthorized"),
    NotFound: (404, "Not Found"),
    Conflict: (409, "Conflict"),
    TooLarge: (413, "Content Too Large"),
    InvalidInput: (422, "Unprocessable Content"),
    StorageUnavailable: (503, "Service Unavailable"),
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
