"""The outcome of a request over HTTP: an answer, or none."""

from collections.abc import Mapping
from dataclasses import dataclass

# Three times the longest output that is kept: escaped text is twice as long, and a response repeats its instructions.
MAX_REPLY_BYTES = 24 * 1024 * 1024
# An error may repeat a long value of the request.
MAX_ERROR_BYTES = 1024 * 1024

DENIED = frozenset({401, 403})
_GONE = frozenset({404, 410})
_TRANSIENT = frozenset({408, 409, 425, 429})


def is_transient(status: int) -> bool:
    """Return whether a request with this answer may succeed later."""
    return status in _TRANSIENT or status >= 500


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `headers` ignore the case of names. `body` is None when it is longer than its limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def denied(self) -> bool:
        return self.status in DENIED

    @property
    def gone(self) -> bool:
        return self.status in _GONE

    @property
    def transient(self) -> bool:
        return is_transient(self.status)

    @property
    def may_be_done(self) -> bool:
        """Whether the request may have been carried out although it failed."""
        return self.status == 408 or self.status >= 500


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """There is no answer, or only a part of one. `may_be_done` unless the request cannot have reached the provider.

    `denied` when no credentials were available.
    """

    reason: str
    may_be_done: bool
    denied: bool = False
    # Whether a part of the answer had come when the time was over.
    slow: bool = False
    # Whether the time was over before the answer was complete. Perhaps the request waited for a connection.
    timed_out: bool = False
