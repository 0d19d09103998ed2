"""What the provider knows of each response it was asked for."""

from dataclasses import dataclass, field

from shared.core.response import FunctionCall, ResponseStatus, Snapshot
from shared.ports.providers import ResponseRequest
from tests.proofs.simulation.scheduler import Invocation


@dataclass(eq=False, slots=True)
class Response:
    """One response, as the provider knows it."""

    id: str
    request: ResponseRequest
    # Its number among the responses of its run, from 0.
    number: int
    creator: Invocation
    created_at: float
    working_at: float
    finishes_at: float
    final: Snapshot
    # What it says of itself later, once it has said that it is finished.
    later: Snapshot | None = None
    cancelled: bool = False
    # It was asked to stop, and the provider heard it.
    stop_asked: bool = False
    forgotten: bool = False
    # Whether the reply to its creation was lost.
    unknown: bool = False
    reads: int = 0
    deletion_refused: bool = False
    # Every finished state that it was ever told in.
    told: list[Snapshot] = field(default_factory=list)

    # After so many characters its stream brings text that is not in the finished response.
    stray: int | None = None
    # Who has read a slice of it, and may still read the whole in the same poll. Two pollers can be at it at once.
    sliced_by: set[Invocation] = field(default_factory=set)

    @property
    def calls(self) -> tuple[FunctionCall, ...]:
        return self.final.calls


def is_answer(snapshot: Snapshot) -> bool:
    """Say whether this ends a run as completed."""
    return snapshot.status is ResponseStatus.COMPLETED and not snapshot.calls
