"""What Baton raises. `shared.web.runs_api.problems` turns each into an HTTP answer; nothing else does."""


class BatonError(Exception):
    """Base of all errors that Baton raises on purpose.

    `code` is stable and for programs, the message is for people, `field` names the offending input.
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
    """The request can be read, and asks for what cannot be."""

    code = "invalid_input"


class TooLarge(BatonError):
    """The request is over a limit, which the message names."""

    code = "too_large"


class Unidentified(BatonError):
    """The request does not say whose it is, and the app is set to require it."""

    code = "owner_missing"


class NotFound(BatonError):
    """There is no such thing, or it is not the caller's."""

    code = "not_found"


class Conflict(BatonError):
    """The request cannot be carried out in the present state of what it is about."""

    code = "conflict"


class StorageUnavailable(BatonError):
    """The storage did not answer, or not in time. Whether a write took effect is unknown."""

    code = "storage_unavailable"


class InvalidSettings(BatonError):
    """The app cannot start. The message lists every setting that is missing or wrong."""

    code = "invalid_settings"

    def __init__(self, faults: list[str]) -> None:
        super().__init__(
            "Baton cannot start with these settings:\n" + "\n".join(f"  - {fault}" for fault in faults)
        )
        self.faults = faults


class RowConflict(Exception):
    """A row of a transaction was not as the writer believed, and nothing was written."""
