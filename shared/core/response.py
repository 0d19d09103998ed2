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


@dataclass(frozen=True, slots=True)
class ItemStarted:
    """An output item has started. `name` is that of the tool that it calls, if any.

    Here and below, `index` is the item's place in the response; None where the provider does not say it, which means the
    next item when one starts, and else the last that is open.
    """

    index: int | None
    kind: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class ItemCompleted:
    """An output item has ended."""

    index: int | None


@dataclass(frozen=True, slots=True)
class PartStarted:
    """A content part of an output item has started."""

    index: int | None
    kind: str


@dataclass(frozen=True, slots=True)
class PartCompleted:
    """The content part that is open in an output item has ended."""

    index: int | None


@dataclass(frozen=True, slots=True)
class TextAdded:
    """Text of the answer, in the content part that is open in an output item."""

    index: int | None
    text: str


StreamChange = ItemStarted | ItemCompleted | PartStarted | PartCompleted | TextAdded


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a response's stream brought after the event `after`, up to and including the event `sequence`.

    All text is valid Unicode. `final` is the response as its stream ended with it. `complete` is False when something
    is missing: an event, or all that follows an error.
    """

    response_id: str
    after: int
    sequence: int
    status: ResponseStatus = ResponseStatus.QUEUED
    changes: tuple[StreamChange, ...] = ()
    final: Snapshot | None = None
    complete: bool = True

    @property
    def text(self) -> str:
        return "".join(change.text for change in self.changes if isinstance(change, TextAdded))

    @property
    def changed(self) -> bool:
        return self.sequence > self.after


@dataclass(frozen=True, slots=True)
class NotNow:
    """The provider did not do it, and may do it later. `unknown`: perhaps it did it, and only its reply was lost."""

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
    """The stream of the response cannot be resumed; the response itself may be fine."""


CreateReply = Snapshot | NotNow | Refused | ChainBroken
ReadReply = Snapshot | NotNow | Absent
SliceReply = Slice | Snapshot | NotNow | NoStream
CancelReply = Snapshot | NotNow | Absent | Refused
DeleteReply = Absent | NotNow | Refused
