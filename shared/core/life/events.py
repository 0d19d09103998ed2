"""Events: what can happen to a run. Effects: what must be done because of an event."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from shared.core.calls import AnswerType, CallStatus, Wait
from shared.core.delivery import Deliverable
from shared.core.log import LogEntry
from shared.core.response import RunError, Slice, Snapshot, StreamChange, Usage
from shared.core.run import Content, Continuation, Lease, Step
from shared.core.transcript import ItemOutline


class Join(StrEnum):
    """How a text goes on after a part of it was stored."""

    # Where it stopped. A provider that repeats itself then sends what it would have sent.
    EXACT = "exact"
    # As well as its provider can. Nobody can know whether that is what it would have sent.
    BEST_EFFORT = "best_effort"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker takes the step that the run was owed when the worker read it."""

    lease: Lease
    step: Step
    turn: int
    # For the tools step: the queued calls that the worker has loaded, each with the wait that it needs, or for which it was
    # approved, if any. Calls that were approved since stay queued.
    calls: Mapping[str, Wait | None] = field(default_factory=dict)
    # Those of them of which nobody has decided whether they need an approval.
    unclear: frozenset[str] = frozenset()
    # For the generate step: how the turn is taken up again, if a part of it is stored. None: its text is written anew.
    join: Join | None = None
    # For the generate step: the model that is requested.
    model: str = ""
    # For the generate step: how many characters of the turn's text the worker has loaded.
    written: int = 0


@dataclass(frozen=True, slots=True)
class Renewed:
    """A worker is still at work. Clients do not see it, because nothing else of the run changes."""

    lease_id: str
    # When the work of the step has to be over. No lease lasts longer.
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Created:
    """The provider has created a response for the current turn."""

    lease_id: str
    snapshot: Snapshot
    # The model that was requested.
    model: str = ""
    # The stored reply, if the response has finished already.
    kept: Content | None = None


@dataclass(frozen=True, slots=True)
class CreateRefused:
    """The provider will never accept this request."""

    lease_id: str
    error: RunError


@dataclass(frozen=True, slots=True)
class CreateDeferred:
    """The provider did not accept the request now."""

    lease_id: str
    until: datetime
    error: RunError
    # Whether it may have accepted the request, with only its reply lost.
    unknown: bool = False
    # Whether it reported success, with a reply that cannot be used.
    unusable: bool = False
    # Whether there was no reply in time, from a provider of which no background mode is known.
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """The provider refused the Idempotency-Key, so the request is sent without it."""

    # Renewed for the second request.
    lease: Lease


@dataclass(frozen=True, slots=True)
class ChainRefused:
    """The provider cannot continue the previous response, so the conversation is replayed."""

    # Renewed for the second request.
    lease: Lease


@dataclass(frozen=True, slots=True)
class Generated:
    """A part of a turn's stream is stored, at a provider without background mode."""

    # Renewed for the rest of the stream.
    lease: Lease
    changes: tuple[StreamChange, ...]
    # Its stored text, if it has any.
    text: Content | None = None
    # Whether the stream has shown that its provider may not have continued the text exactly.
    loose: bool = False


@dataclass(frozen=True, slots=True)
class GenerateDeferred:
    """The stream of the turn did not begin, or broke. What is stored of it is kept."""

    lease_id: str
    until: datetime
    # None: nothing failed. The invocation has lasted long enough, and the next one goes on.
    error: RunError | None = None
    # Whether it ended in a call, which the next invocation begins anew, and no text is taken back with it, which counts too.
    in_call: bool = False


@dataclass(frozen=True, slots=True)
class GenerateRefused:
    """The provider will never accept the request of the turn."""

    lease_id: str
    error: RunError


@dataclass(frozen=True, slots=True)
class GenerateFinished:
    """The stream of the turn has ended as it should. The fields are those of `Polled`."""

    lease_id: str
    snapshot: Snapshot
    output: Content
    answer: Content | None = None
    invalid: RunError | None = None
    outline: tuple[ItemOutline, ...] = ()
    repeatable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Polled:
    """The response was read. All fields except `snapshot` are for a finished response."""

    snapshot: Snapshot
    # The stored output items, and a list of them without their contents.
    output: Content | None = None
    # Where the answer stands in the output, if it was found.
    answer: Content | None = None
    # Why the answer does not fit the agent's output type, if it does not.
    invalid: RunError | None = None
    outline: tuple[ItemOutline, ...] = ()
    # The text of slices up to here was compared with the answer.
    compared: Continuation | None = None
    # Whether the answer begins with that text.
    agrees: bool = True
    # The names of the agent's idempotent tools.
    repeatable: frozenset[str] = frozenset()
    # Whether the response cannot be read, so that the snapshot is the reply to its create.
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Sliced:
    """A slice of the response's stream was read."""

    slice: Slice
    # Its stored text, if it has any.
    text: Content | None = None


@dataclass(frozen=True, slots=True)
class StreamLost:
    """The stream of the response cannot be resumed. The response itself can be read."""

    response_id: str


@dataclass(frozen=True, slots=True)
class PollDeferred:
    """The response could not be read now."""

    response_id: str
    error: RunError
    # When the provider allows the next request, if it requested a pause.
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class PollClaimed:
    """A worker polls the response, because the poll loop does not."""

    # The due time of the run that the worker has read.
    due: datetime
    lease: Lease
    # The next poll point of the schedule. Nobody polls earlier.
    next_poll: datetime


@dataclass(frozen=True, slots=True)
class Missing:
    """The response cannot be found."""

    response_id: str
    # Why, unless its provider does not know it.
    error: RunError | None = None


@dataclass(frozen=True, slots=True)
class ToolDone:
    """A tool call has ended, and its result is stored."""

    # Renewed for the step that may follow.
    lease: Lease
    call_id: str
    status: CallStatus


@dataclass(frozen=True, slots=True)
class Answered:
    """A person, or the caller, has answered a call that waits. Its result, if it has one now, is stored."""

    turn: int
    call_id: str
    answer: AnswerType
    # Who: an owner, and the name of a person for display.
    by: str = ""
    by_name: str = ""
    # Why it was refused.
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WaitEnded:
    """The wait of at least one call has ended without an answer."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A client requested the cancellation of the run."""

    # For sending the cancellation to the provider at once.
    lease: Lease


@dataclass(frozen=True, slots=True)
class CancelSent:
    """The provider accepted the cancellation. Polls will show whether the response was cancelled."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class CancelDeferred:
    """The provider could not cancel the response now."""

    lease_id: str
    until: datetime
    error: RunError


@dataclass(frozen=True, slots=True)
class PurgeDeferred:
    """Some data of a deleted run could not be removed now, or has to be removed once more."""

    lease_id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The run's deadline has passed, and the provider has no finished answer."""

    # The usage of the unfinished response.
    usage: Usage = field(default_factory=Usage)
    # The response that was read and cancelled before. None when the run had none.
    response_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteRequested:
    """A client requested the deletion of the run."""

    # For purging it at once.
    lease: Lease


@dataclass(frozen=True, slots=True)
class Purged:
    """All data of a deleted run is removed. Only its tombstone is left."""

    lease_id: str


Event = (
    Claimed
    | Renewed
    | Created
    | CreateRefused
    | CreateDeferred
    | ChainRefused
    | KeyRefused
    | Polled
    | Sliced
    | StreamLost
    | PollDeferred
    | PollClaimed
    | Missing
    | Generated
    | GenerateDeferred
    | GenerateRefused
    | GenerateFinished
    | ToolDone
    | Answered
    | WaitEnded
    | CancelRequested
    | CancelSent
    | CancelDeferred
    | PurgeDeferred
    | DeadlinePassed
    | DeleteRequested
    | Purged
)


@dataclass(frozen=True, slots=True)
class Wake:
    """A message has to be sent to the workers, because the run is owed a step."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """A delivery has to be made. It must not be lost when the process ends right after the commit."""

    content: Deliverable


Effect = LogEntry | Wake | Deliver
