"""What can happen to a run, and what must be done about it."""

from dataclasses import dataclass, field
from datetime import datetime

from shared.core.delivery import Deliverable
from shared.core.log import LogEntry
from shared.core.response import RunError, Slice, Snapshot, Usage
from shared.core.run import CallStatus, Content, Continuation, Lease
from shared.core.transcript import ItemOutline


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker takes the step that the run is owed."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Created:
    """The provider has created a response for the current turn."""

    lease_id: str
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class CreateRefused:
    """The provider will never accept this request."""

    lease_id: str
    error: RunError


@dataclass(frozen=True, slots=True)
class CreateDeferred:
    """The provider did not accept the request now. `unknown`: perhaps it did, and only its reply was lost."""

    lease_id: str
    until: datetime
    unknown: bool


@dataclass(frozen=True, slots=True)
class ChainRefused:
    """The provider cannot continue the previous response: the conversation is replayed under the renewed `lease`."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Polled:
    """A read of the response came back.

    The other fields belong to a finished response. `output` is where its items are stored and `outline` what they are.
    `agrees` says whether its text begins with what slices brought up to `compared`. `repeatable` names the agent's
    idempotent tools.
    """

    snapshot: Snapshot
    output: Content | None = None
    outline: tuple[ItemOutline, ...] = ()
    compared: Continuation | None = None
    agrees: bool = True
    repeatable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sliced:
    """A slice of the response's stream came; `text` is where its text is stored, if it has any."""

    slice: Slice
    text: Content | None = None


@dataclass(frozen=True, slots=True)
class StreamLost:
    """The response can be read, and its stream cannot be resumed."""

    response_id: str


@dataclass(frozen=True, slots=True)
class PollDeferred:
    """The provider asked for a pause before this response is read again."""

    response_id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Missing:
    """The provider does not know the response."""

    response_id: str


@dataclass(frozen=True, slots=True)
class ToolDone:
    """A tool call has ended and its result is stored. `lease` is renewed for the step that may follow."""

    lease: Lease
    call_id: str
    status: CallStatus


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A client asked for the run to be cancelled; `lease` is for cancelling at the provider at once."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class CancelSent:
    """The provider accepted the cancellation; polls will show what came of it."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class CancelDeferred:
    """The provider could not cancel the response now."""

    lease_id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class PurgeDeferred:
    """Something of a deleted run could not be removed now, or has to be removed once more."""

    lease_id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The run's deadline has passed and the provider has no finished answer. `usage` is what the response has cost."""

    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class DeleteRequested:
    """A client asked for the run to be deleted; `lease` is for purging it at once."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Purged:
    """Nothing of a deleted run is left but its tombstone."""

    lease_id: str


Event = (
    Claimed
    | Created
    | CreateRefused
    | CreateDeferred
    | ChainRefused
    | Polled
    | Sliced
    | StreamLost
    | PollDeferred
    | Missing
    | ToolDone
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
    """A worker has to learn that the run is owed a step."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Something is owed to somebody else, and must not be lost when the process ends right after the commit."""

    content: Deliverable


Effect = LogEntry | Wake | Deliver
