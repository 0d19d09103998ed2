"""What can happen to a run, and what must be done about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from shared.core.response import RunError, Slice, Snapshot, Usage
from shared.core.run import CallStatus, Content, Lease


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
    """The provider did not take the request now; `unknown` when it may have, and the reply was lost."""

    lease_id: str
    until: datetime
    unknown: bool


@dataclass(frozen=True, slots=True)
class ChainRefused:
    """The provider cannot continue the previous response, so all is replayed under the renewed `lease`."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Polled:
    """The provider's response as a read showed it.

    `output` is where the items of a finished response are stored, and `characters` the length of their text;
    `as_told` says whether that text begins with the `written` characters that came by slices. `repeatable`
    names the agent's idempotent tools.
    """

    snapshot: Snapshot
    output: Content | None = None
    repeatable: frozenset[str] = frozenset()
    characters: int = 0
    written: int = 0
    as_told: bool = True


@dataclass(frozen=True, slots=True)
class Sliced:
    """A slice of the response's stream came; `text` is where its text is stored, if it has any."""

    slice: Slice
    text: Content | None = None


@dataclass(frozen=True, slots=True)
class StreamLost:
    """The response can be read, and its stream cannot be taken up again."""

    token: str


@dataclass(frozen=True, slots=True)
class PollDeferred:
    """The provider asked for patience with this response."""

    token: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Missing:
    """The provider does not know the response."""

    token: str


@dataclass(frozen=True, slots=True)
class ToolDone:
    """A tool call has ended and its result is stored. `lease` is renewed for the step that may follow."""

    lease: Lease
    call_id: str
    status: CallStatus


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """A client wants the run to stop; `lease` is for cancelling at the provider at once."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class CancelSent:
    """The provider took note of the cancellation; polls will show what came of it."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class CancelDeferred:
    """The provider could not be asked to cancel, or to forget, now."""

    lease_id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The run's time is over, and the provider has no finished answer; `usage` is what it cost all the same."""

    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class DeleteAsked:
    """A client wants the run gone; `lease` is for purging it at once."""

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
    | CancelAsked
    | CancelSent
    | CancelDeferred
    | DeadlinePassed
    | DeleteAsked
    | Purged
)


@dataclass(frozen=True, slots=True)
class Record:
    """An entry for the run's log."""

    type: str
    data: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wake:
    """A worker is to be told that the run is owed a step."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """A response that nobody will adopt is to be stopped at the provider."""

    response_id: str


Effect = Record | Wake | Abandon
