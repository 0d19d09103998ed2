"""What Baton raises on purpose.

A `BatonError` is about a request: `shared.web.runs_api.problems` turns it into an HTTP answer, and nothing else does.
`CannotStart` is about the app: the host shows it. `RowConflict` never leaves the steps and use cases.
"""

from collections.abc import Sequence


class BatonError(Exception):
    """A request could not be carried out.

    `code` is stable and for programs, the message is for people, `field` names the part of the request that is wrong.
    """

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.field = field


class Malformed(BatonError):
    """The request cannot be read."""

    code = "malformed"


class InvalidInput(BatonError):
    """The request can be read, and asks for something that is not allowed."""

    code = "invalid_input"


class TooLarge(BatonError):
    """The request is over a limit, which the message names."""

    code = "too_large"


class Unidentified(BatonError):
    """The request does not say which owner sends it, and the settings of the app require that."""

    code = "owner_missing"


class NotFound(BatonError):
    """There is no such thing, or it is not the caller's."""

    code = "not_found"


class Conflict(BatonError):
    """The run or session is in a state in which the request cannot be carried out."""

    code = "conflict"


class StorageUnavailable(BatonError):
    """The storage did not answer, or not in time. Whether a write took effect is unknown."""

    code = "storage_unavailable"


class CannotStart(Exception):
    """The app cannot start. The message lists all faults, each with what to do about it."""

    def __init__(self, what: str, faults: Sequence[str]) -> None:
        super().__init__(f"{what}:\n" + "\n".join(f"  - {fault}" for fault in faults))
        self.faults = tuple(faults)


class InvalidSettings(CannotStart):
    """Settings are missing or wrong."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("Baton cannot start with these settings", faults)


class RowConflict(Exception):
    """A row was not as a write demanded, and nothing of the transaction was written."""
