"""The replies of a provider: a response as it was when it was read, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from shared.core.calls import ToolCall


class ResponseStatus(StrEnum):
    """The status of one response at the provider. An unknown status is read as `IN_PROGRESS`."""

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
    # The part of the input tokens that the provider had cached.
    cached_tokens: int = 0
    # The part of the output tokens that the model used for reasoning.
    reasoning_tokens: int = 0

    def __add__(self, other: "Usage | None") -> "Usage":
        """Return the sum. What was not reported adds nothing."""
        if other is None:
            return self
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed, or why it waits: a stable code and a sentence for people."""

    code: str
    message: str
    # The code that the provider sent, if any.
    provider_code: str | None = None


# The code of the error for a response that arrived too slowly to be read within the time limit.
RESPONSE_SLOW = "response_slow"


def unreadable(reason: str) -> RunError:
    """Return the error for a reply that reports success and cannot be used."""
    return RunError("unreadable_reply", f"The reply cannot be used: {reason}.")


def background_unsupported(reason: str) -> RunError:
    """Return the error for a provider that does not work in the background. `reason` is a sentence."""
    return RunError(
        "background_unsupported",
        f"{reason} It seems to have no background mode: declare it as ChatCompletions, and give that provider to the agent.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One provider response as it was when it was read."""

    response_id: str
    status: ResponseStatus
    # The JSON text of its output items: valid Unicode, and otherwise as the provider wrote it.
    output: str = "[]"
    calls: tuple[ToolCall, ...] = ()
    # Whether it ends with a call that nobody in this app can answer.
    unanswerable: bool = False
    # None when the provider did not send it.
    usage: Usage | None = Usage()
    error: RunError | None = None
    incomplete_reason: str | None = None
    # The stream can be resumed after the event with this number. None when it was created without a stream.
    sequence: int | None = None
    # The run in its metadata. None when the provider does not send it.
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class ItemStarted:
    """An output item has started.

    Here and below, `index` is the position of the item in the response. It is None when the provider does not
    send it. That means the next item when an item starts, and otherwise the last one that is open.
    """

    index: int | None
    kind: str
    # The name of the tool that it calls, if any.
    name: str = ""
    # Whether it is a message that says what the model does, and is not the answer.
    commentary: bool = False


@dataclass(frozen=True, slots=True)
class ItemCompleted:
    """An output item has ended."""

    index: int | None
    # The complete item as the provider wrote it, if it did.
    item: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


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
    """Text of a message, in the content part that is open in an output item."""

    index: int | None
    text: str


StreamChange = ItemStarted | ItemCompleted | PartStarted | PartCompleted | TextAdded


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What was read of a response's stream: the events after `after`, up to and including `sequence`."""

    response_id: str
    after: int
    sequence: int
    status: ResponseStatus = ResponseStatus.QUEUED
    # Their text is valid Unicode.
    changes: tuple[StreamChange, ...] = ()
    # The finished response, if it came at the end of the stream. Then `changes` may have gaps.
    final: Snapshot | None = None
    # False when an event is missing, or when an error cut off the rest.
    complete: bool = True

    @property
    def text(self) -> str:
        return "".join(change.text for change in self.changes if isinstance(change, TextAdded))

    @property
    def changed(self) -> bool:
        return self.sequence > self.after


@dataclass(frozen=True, slots=True)
class NotNow:
    """The request was not carried out now, and may succeed later."""

    error: RunError
    # The pause that the provider requested, if any.
    retry_after: timedelta | None = None
    # Whether the request may have been carried out, with only its reply lost.
    unknown: bool = False
    # Whether the provider reported success, with a reply that cannot be used.
    unusable: bool = False
    # Whether the time limit passed before there was a reply, and not while connecting.
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider does not know the response."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider refused the request, and would refuse it again."""

    error: RunError


@dataclass(frozen=True, slots=True)
class ChainBroken:
    """The provider refused a request that continues a response. It may accept the complete conversation."""

    error: RunError


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """The provider refused the Idempotency-Key of the request. It may accept the request without a key."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoStream:
    """The stream of the response cannot be resumed; the response itself may be fine."""


CreateReply = Snapshot | NotNow | Refused | ChainBroken | KeyRefused
ReadReply = Snapshot | NotNow | Absent
SliceReply = Slice | Snapshot | NotNow | NoStream
CancelReply = Snapshot | NotNow | Absent | Refused
DeleteReply = Absent | NotNow | Refused
