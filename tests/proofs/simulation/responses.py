"""The responses of the simulated provider."""

from dataclasses import dataclass, field

from shared.core.calls import ToolCall
from shared.core.response import ResponseStatus, Snapshot
from shared.ports.providers import ResponseRequest
from tests.proofs.simulation.scheduler import Invocation


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
    final: Snapshot
    # The state that it shows after its finished state was read once.
    later: Snapshot | None = None
    cancelled: bool = False
    # The provider received a request to cancel it.
    cancel_received: bool = False
    # When its run noted that it came too late.
    abandoned_at: float | None = None
    forgotten: bool = False
    # Whether the reply to its creation was lost.
    unknown: bool = False
    reads: int = 0
    deletion_refused: bool = False
    # Every finished state that was sent to a client.
    reported: list[Snapshot] = field(default_factory=list)

    # After this many characters its stream brings text that is not in the finished response.
    stray: int | None = None
    # The invocations that have read a slice of it, and may still read the response in the same poll. Two pollers can
    # do so at the same time.
    sliced_by: set[Invocation] = field(default_factory=set)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return self.final.calls


def is_answer(snapshot: Snapshot) -> bool:
    """Return whether this ends a run as completed."""
    return snapshot.status is ResponseStatus.COMPLETED and not snapshot.calls
