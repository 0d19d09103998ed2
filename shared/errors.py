"""The exceptions that Baton raises.

A `BatonError` means that a request failed. Only `shared.web.runs_api.problems` turns it into an HTTP reply.
`CannotStart` means that the app cannot start. The host shows its message.
`RowConflict` is caught in the stores, the steps and the use cases. It never reaches a client.
"""

from collections.abc import Sequence
from datetime import timedelta


class BatonError(Exception):
    """A request could not be carried out. The message is for people."""

    # For programs: the same in all versions.
    code = "error"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        # The part of the request that is wrong, if there is one.
        self.field = field


class Malformed(BatonError):
    """The request cannot be read."""

    code = "malformed"


class InvalidInput(BatonError):
    """The request can be read, but a value in it is not allowed."""

    code = "invalid_input"


class TooLarge(BatonError):
    """The request exceeds a limit. The message names the limit."""

    code = "too_large"


class LengthRequired(BatonError):
    """The body did not arrive, because the request does not state its length."""

    code = "length_required"


class UnsupportedEncoding(BatonError):
    """The body is encoded, for example compressed."""

    code = "unsupported_encoding"


class Unidentified(BatonError):
    """The request does not name its owner, and the settings of the app require it."""

    code = "owner_missing"


class Unauthenticated(BatonError):
    """The app recognises callers itself, and the request does not show who sends it."""

    code = "caller_missing"

    # Where a person can sign in with a browser, if the platform signs people in.
    sign_in: str | None = None


class Forbidden(BatonError):
    """The caller is known, and may not do this."""

    code = "forbidden"


class NotFound(BatonError):
    """The run or session does not exist, or it belongs to another owner."""

    code = "not_found"


class Conflict(BatonError):
    """The request cannot be carried out in the current state of the run or session."""

    code = "conflict"


class TooMany(BatonError):
    """The owner is over a quota. The message names the limit."""

    code = "too_many"

    def __init__(self, message: str, *, code: str, retry_after: timedelta) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class StorageUnavailable(BatonError):
    """The storage did not answer in time. It is unknown whether a write took effect."""

    code = "storage_unavailable"


class CannotStart(Exception):
    """The app cannot start. The message lists all faults."""

    def __init__(self, summary: str, faults: Sequence[str]) -> None:
        super().__init__(f"{summary}:\n" + "\n".join(f"  - {fault}" for fault in faults))
        self.faults = tuple(faults)


class InvalidSettings(CannotStart):
    """Settings are missing or wrong."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("Baton cannot start with these settings", faults)


class UnreadableRow(StorageUnavailable):
    """A stored row is broken, or only a later version of this app can read it."""

    def __init__(self, key: str) -> None:
        super().__init__("A stored row cannot be read by this version of the app.")
        self.key = key


class RowConflict(Exception):
    """A row did not meet the condition of a write, so nothing of the transaction was written."""
