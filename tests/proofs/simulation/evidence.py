"""What clients, tools and the provider saw, and what of it breaks a promise."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.core.run import Run, RunStatus
from tests.proofs.simulation.scheduler import Invocation

if TYPE_CHECKING:
    from tests.proofs.simulation.responses import Response


@dataclass(frozen=True, slots=True)
class Breach:
    """A promise that did not hold. `promise` is its number in docs/guarantees.md."""

    promise: int
    run_id: str
    what: str


class Broken(Exception):
    """A promise was found broken: there is no use in going on."""


@dataclass(eq=False, slots=True)
class Seen:
    """A run as a client would have read it at each moment, and what was asked of it."""

    run: Run
    since: float
    # A tombstone names no owner any more.
    owner: str = ""
    # Who wrote it last.
    writer: Invocation | None = None
    # Its statuses, each with when it took it.
    statuses: list[tuple[float, RunStatus]] = field(default_factory=list)
    ended_at: float | None = None
    cancel_asked: bool = False
    delete_asked: bool = False
    # The provider said that it would never take a request of it.
    refused: bool = False
    # When the provider first denied knowing each of its responses.
    absences: dict[str, float] = field(default_factory=dict)
    # Every kind of trouble that befell whoever worked on it.
    disturbed: bool = False
    responses: list["Response"] = field(default_factory=list)
    # How often a poller looked at it after its deadline.
    late_polls: int = 0

    @property
    def deleted(self) -> bool:
        return self.run.status is RunStatus.DELETED

    def status_at(self, time: float) -> RunStatus | None:
        """Return its status just before `time`, None if it was not there yet."""
        return next((status for at, status in reversed(self.statuses) if at <= time), None)


@dataclass(eq=False, slots=True)
class Evidence:
    """All that was seen in one seed so far."""

    now: Callable[[], float]
    runs: dict[str, Seen] = field(default_factory=dict)
    # Runs by the owner and key that asked for them, and the body of that request.
    keys: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    # Bodies that were ever sent with a key.
    bodies: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    sessions_delete_asked: set[str] = field(default_factory=set)
    sessions_deleted: dict[str, float] = field(default_factory=dict)
    effects: Counter[str] = field(default_factory=Counter)
    breaches: list[Breach] = field(default_factory=list)
    # The deliveries that are stored.
    deliveries: set[str] = field(default_factory=set)

    def breach(self, promise: int, run_id: str, what: str) -> None:
        self.breaches.append(Breach(promise, run_id, what))

    def deliver(self, key: str, *, stays: bool) -> None:
        """Note that a delivery was stored, or removed."""
        self.deliveries.discard(key)
        if stays:
            self.deliveries.add(key)

    def require(self, holds: bool, promise: int, run_id: str, what: str) -> None:
        if not holds:
            self.breach(promise, run_id, what)

    def of_session(self, session_id: str) -> list[Seen]:
        return [seen for seen in self.runs.values() if seen.run.session_id == session_id]
