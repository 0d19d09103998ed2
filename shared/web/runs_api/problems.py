"""Errors as problem details (RFC 9457)."""

import json
import math

from shared.errors import (
    BatonError,
    Conflict,
    Forbidden,
    InvalidInput,
    LengthRequired,
    Malformed,
    NotFound,
    StorageUnavailable,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unidentified,
    UnreadableRow,
    UnsupportedEncoding,
)
from shared.web.http import PROBLEM, Reply

_STATUSES: dict[type[BatonError], tuple[int, str]] = {
    Malformed: (400, "Bad Request"),
    Unauthenticated: (401, "Unauthorized"),
    Unidentified: (401, "Unauthorized"),
    Forbidden: (403, "Forbidden"),
    NotFound: (404, "Not Found"),
    Conflict: (409, "Conflict"),
    LengthRequired: (411, "Length Required"),
    TooLarge: (413, "Content Too Large"),
    UnsupportedEncoding: (415, "Unsupported Media Type"),
    InvalidInput: (422, "Unprocessable Content"),
    # RFC 6585, 4.
    TooMany: (429, "Too Many Requests"),
    StorageUnavailable: (503, "Service Unavailable"),
    UnreadableRow: (503, "Service Unavailable"),
}
_RETRY_AFTER_SECONDS = 5


def problem(error: BatonError) -> Reply:
    """Return the reply for an error. `code` and `field` are those of the error."""
    status, title = _STATUSES[type(error)]
    # The message of the storage is of no use to a client.
    detail = "Try again in a few seconds." if status == 503 else str(error)
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": error.code}
    if error.field:
        body["field"] = error.field
    if isinstance(error, Unauthenticated) and error.sign_in:
        body["sign_in"] = error.sign_in
    headers = {"Content-Type": PROBLEM, "Cache-Control": "no-store"}
    if status == 503:
        headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(math.ceil(error.retry_after.total_seconds()))
    if isinstance(error, Unauthenticated):
        # RFC 6750, 3: how the next request may show who sends it.
        headers["WWW-Authenticate"] = "Bearer"
    if status == 415:
        # RFC 9110, 12.5.3: the encodings that the next request may use.
        headers["Accept-Encoding"] = "identity"
    return Reply(status, json.dumps(body).encode(), headers)
