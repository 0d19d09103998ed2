"""What a provider answers: a response as it stood when it was read, or why there is none."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class ResponseStatus(StrEnum):
    """What the provider says of one response. Unknown words decode as `IN_PROGRESS`."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INCOMPLETE = "incomplete"

    @property
    def finished(self) -> bool:
        return self not in {ResponseStatus.QUEUED, ResponseStatus.IN_PROGRESS}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, summed over the provider responses of a run."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.total_tokens + other.total_tokens,
        )


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed: a stable code and a sentence for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """The model's request to run a tool. `arguments` is the model's own text: often JSON, never trusted."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One provider response as it stood when it was read.

    `output` is the JSON text of its output items, valid Unicode, kept as the provider wrote it.
    """

    response_id: str
    status: ResponseStatus
    output: str = "[]"
    calls: tuple[FunctionCall, ...] = ()
    usage: Usage = Usage()
    error: RunError | None = None
    incomplete_reason: str | None = None
    # Where its stream can be taken up, when it was created as one.
    sequence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a response's stream brought after the event `after`, up to and with the event `sequence`.

    `text` is valid Unicode. `final` is the response as its stream ended with it. `whole` is False when the
    stream cannot have told everything: an event is missing, or it broke off with an error.
    """

    response_id: str
    after: int
    sequence: int
    status: ResponseStatus = ResponseStatus.QUEUED
    text: str = ""
    # How many output items were begun.
    items: int = 0
    # What the model is at now, in a few words; empty if that is as before.
    activity: str = ""
    final: Snapshot | None = None
    whole: bool = True

    @property
    def news(self) -> bool:
        return self.sequence > self.after


@dataclass(frozen=True, slots=True)
class NotNow:
    """The provider did not do it, and may later. `unknown` when it may have done it all the same."""

    reason: str
    retry_after: timedelta | None = None
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider does not know the response."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider will not do it, however often it is asked."""

    error: RunError


@dataclass(frozen=True, slots=True)
class ChainBroken:
    """The provider cannot continue the previous response."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoStream:
    """The provider will not go on with the response's stream, which says nothing of the response."""
