"""The responses of the simulated provider."""

from dataclasses import dataclass, field, replace

from shared.core.calls import ToolCall
from shared.core.response import ResponseStatus, Snapshot, StreamChange
from shared.ports.providers import ResponseRequest
from tests.proofs.simulation.scheduler import Invocation


@dataclass(frozen=True, slots=True)
class Ending:
    """How a response ends."""

    # What the model wrote.
    full: Snapshot
    # The finished state that reads return, and the one at the end of the stream. They may have less.
    final: Snapshot
    last_event: Snapshot
    # The state that it shows after its finished state was read once.
    later: Snapshot | None = None
    # What its stream brings, one change in each event.
    changes: tuple[StreamChange, ...] = ()
    # How many seconds it takes to read its finished state.
    slow: float = 0.0
    # Whether it has no output once it is cancelled.
    emptied: bool = False

    @property
    def cancelled(self) -> Snapshot:
        output = "[]" if self.emptied else self.final.output
        return replace(
            self.final, status=ResponseStatus.CANCELLED, output=output, calls=(), unanswerable=False
        )


@dataclass(eq=False, slots=True)
class Response:
    """One response at the provider."""

    id: str
    request: ResponseRequest
    # Its number among the responses of its run, from 0.
    number: int
    creator: Invocation
    created_at: float
    working_at: float
    finishes_at: float
    ending: Ending
    cancelled: bool = False
    # The provider received a request to cancel it.
    cancel_received: bool = False
    # The invocation that the provider last refused its cancellation.
    cancel_refused_to: Invocation | None = None
    # When its run noted that it came too late.
    abandoned_at: float | None = None
    forgotten: bool = False
    # Whether the reply to its creation was lost.
    unknown: bool = False
    reads: int = 0
    deletion_refused: bool = False
    # For each reply to a create that named it, whether it had the finished response.
    at_once: list[bool] = field(default_factory=list)
    # Every finished state that was sent to a client and counts.
    reported: list[Snapshot] = field(default_factory=list)
    # Finished states that came as the reply to its create. One is the answer if the response cannot be read.
    kept: list[Snapshot] = field(default_factory=list)
    # Finished states at the end of its stream that a read of it denies.
    denied: list[Snapshot] = field(default_factory=list)
    # The calls in its stored output, once that is stored.
    stored_calls: tuple[ToolCall, ...] | None = None
    # The invocations that have read a slice of it, and may still read the response in the same poll. Two pollers can
    # do so at the same time.
    sliced_by: set[Invocation] = field(default_factory=set)
    # The invocations that have read the end of its stream, and may read all of the stream in the same poll.
    ended_for: set[Invocation] = field(default_factory=set)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls that the model requested, also when reads lack them."""
        return self.ending.full.calls

    @property
    def answers(self) -> list[Snapshot]:
        """Every finished state that may be its answer."""
        return self.reported + self.kept

    @property
    def denies(self) -> bool:
        """Whether reads of it deny what its stream brings."""
        return any(self.denied_by(state) for state in (self.ending.final, self.ending.later) if state)

    def denied_by(self, state: Snapshot) -> bool:
        """Return whether a finished state lacks what the stream brings."""
        return bool(self.ending.changes) and state.output != self.ending.full.output


def unfit(text: str) -> bool:
    """Return whether a text does not fit the output type of the agent, if it has one."""
    return sum(map(ord, text)) % 3 == 0


def is_answer(snapshot: Snapshot) -> bool:
    """Return whether this ends a run as completed."""
    return snapshot.status is ResponseStatus.COMPLETED and not snapshot.calls and not snapshot.unanswerable
