"""The log of a run: one typed entry for each thing that happened to it.

The same entry is made by a rule, stored, read back and rendered for clients. Entries point to texts; they
hold none.

`stream_events` is the number of events that an entry has in a stream of the Responses API. The number is
fixed for each type, so that all readers number the events of that stream in the same way. Stored rows count
with it, so it must never change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from shared.core.run import Content


@dataclass(frozen=True, slots=True)
class RunQueued:
    """The run was accepted."""

    type: ClassVar[str] = "run.queued"
    stream_events: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class RunInProgress:
    """The provider has started to work on the run."""

    type: ClassVar[str] = "run.in_progress"
    stream_events: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class RunCancelling:
    """A client requested the cancellation of the run, and work on it has not stopped yet."""

    type: ClassVar[str] = "run.cancelling"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class RunWaiting:
    """The provider cannot do now what the run is owed, for a reason that was not logged last."""

    code: str
    message: str
    provider_code: str = ""

    type: ClassVar[str] = "run.waiting"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run has its outcome."""

    # The terminal status.
    status: str

    stream_events: ClassVar[int] = 1

    @property
    def type(self) -> str:
        return f"run.{self.status}"


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """The provider has created the response of a turn."""

    turn: int
    response_id: str
    # The model that was requested.
    model: str = ""

    type: ClassVar[str] = "turn.started"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class TurnCreateRepeated:
    """A worker stopped while it created the response of a turn, so another worker creates one."""

    turn: int

    type: ClassVar[str] = "turn.create_repeated"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class TurnReplayed:
    """The provider could not continue the previous response, so the complete conversation is sent."""

    turn: int

    type: ClassVar[str] = "turn.replayed"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class TurnJoined:
    """A worker stopped while it held the stream of a turn, and another one continues its text."""

    turn: int
    # How many characters were stored.
    characters: int
    # Whether the text goes on `exact`, or by `best_effort`.
    join: str

    type: ClassVar[str] = "turn.joined"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class TurnCompleted:
    """The response of a turn requests tool calls. Their outputs start the next turn."""

    turn: int
    tool_calls: int
    # The tokens of its response.
    total_tokens: int | None = None

    type: ClassVar[str] = "turn.completed"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool call was marked as started. Its arguments are in the output of the turn."""

    turn: int
    call_id: str
    name: str

    type: ClassVar[str] = "tool.started"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class ToolCompleted:
    """A tool call has ended with a `CallStatus`. Its result is stored beside the run."""

    turn: int
    call_id: str
    name: str
    status: str

    type: ClassVar[str] = "tool.completed"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class RunRequiresAction:
    """Only people, or the caller, can move the run now. Its clock stands still."""

    type: ClassVar[str] = "run.requires_action"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class CallWaiting:
    """A call waits for an answer. Its arguments are in the output of the turn."""

    turn: int
    call_id: str
    name: str
    # The `WaitKind`.
    wait: str
    expires_at: datetime

    type: ClassVar[str] = "call.waiting"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """A call that waited has its answer, or its wait has ended."""

    turn: int
    call_id: str
    name: str
    # The `AnswerType`.
    answer: str
    # Who answered: an owner, and the name of a person for display.
    by: str = ""
    by_name: str = ""
    reason: str = ""

    type: ClassVar[str] = "call.answered"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class ItemStarted:
    """An output item has started."""

    turn: int
    # Counts the items of the run from 0.
    item: int
    # The type of the item at the provider.
    kind: str
    # The name of the tool that it calls, if any.
    name: str = ""
    # Whether it is a message that says what the model does, and is not the answer.
    commentary: bool = False

    type: ClassVar[str] = "item.started"
    stream_events: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class ItemCompleted:
    """An output item has ended."""

    turn: int
    item: int

    type: ClassVar[str] = "item.completed"
    stream_events: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class PartStarted:
    """A content part of an item has started."""

    turn: int
    item: int
    # Counts the parts of the item from 0.
    part: int
    kind: str

    type: ClassVar[str] = "part.started"
    stream_events: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class PartCompleted:
    """A content part has ended. Its two stream events are the end of its text and the end of the part."""

    turn: int
    item: int
    part: int

    type: ClassVar[str] = "part.completed"
    stream_events: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text of the answer: the characters from `start` to before `end` of a stored text."""

    turn: int
    item: int
    part: int
    start: int
    end: int
    # The text of the slice that brought it; None for the text of the finished turn.
    content: Content | None = None

    type: ClassVar[str] = "text.delta"
    stream_events: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Commentary:
    """Text of a message that is not the answer. Its fields are those of `TextDelta`."""

    turn: int
    item: int
    part: int
    start: int
    end: int
    content: Content | None = None

    type: ClassVar[str] = "commentary.delta"
    stream_events: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """The model refused to answer. Its fields are those of `TextDelta`; the text is that of the refusals."""

    turn: int
    item: int
    part: int
    start: int
    end: int
    content: Content | None = None

    type: ClassVar[str] = "refusal"
    stream_events: ClassVar[int] = 1


Delta = TextDelta | Commentary | Refusal


@dataclass(frozen=True, slots=True)
class TextReplaced:
    """The deltas so far are not valid. The text is now that of the finished turn, or empty for turn 0."""

    turn: int

    type: ClassVar[str] = "text.replaced"
    stream_events: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class UnknownEntry:
    """An entry that a later version of this app has written. It is sent to clients unchanged."""

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)

    stream_events: ClassVar[int] = 0


LogEntry = (
    RunQueued
    | RunInProgress
    | RunCancelling
    | RunWaiting
    | RunRequiresAction
    | RunEnded
    | TurnStarted
    | TurnCreateRepeated
    | TurnReplayed
    | TurnJoined
    | TurnCompleted
    | ToolStarted
    | ToolCompleted
    | CallWaiting
    | CallAnswered
    | ItemStarted
    | ItemCompleted
    | PartStarted
    | PartCompleted
    | TextDelta
    | Commentary
    | Refusal
    | TextReplaced
    | UnknownEntry
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """An entry with its number and time."""

    # Counts the entries of a run from 1 without a gap.
    number: int
    at: datetime
    entry: LogEntry
    # What the entry points to, once a reader has loaded it.
    text: str = ""
