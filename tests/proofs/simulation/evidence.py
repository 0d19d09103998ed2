"""What the auditors know of a seed, and the promises that were broken."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.core.calls import ToolCall
from shared.core.run import Run, RunStatus
from shared.core.transcript import Item
from tests.proofs.simulation.scheduler import Hold, Invocation

if TYPE_CHECKING:
    from tests.proofs.simulation.late import LateClaim, LateCreate
    from tests.proofs.simulation.responses import Response

START = datetime(2026, 1, 1, tzinfo=UTC)


def seconds_of(time: datetime) -> float:
    """Return a time of the app in seconds of the simulation."""
    return (time - START).total_seconds()


@dataclass(frozen=True, slots=True)
class Breach:
    """A broken promise. `promise` is its number in docs/guarantees.md."""

    promise: int
    run_id: str
    what: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker has claimed a run."""

    by: Invocation
    # How long it had stood still before.
    stalled: float
    # Whether it stood still while it was claiming, so that not enough of its lease was left to begin.
    short: bool

    @property
    def failed(self) -> bool:
        """Whether a fault may have kept the worker from what it had claimed."""
        by = self.by
        return self.short or by.dead or by.stalled > self.stalled or by.storage_faults > 0 or by.renewed_late


@dataclass(eq=False, slots=True)
class Seen:
    """A run as a client could read it at each time, and the requests about it."""

    run: Run
    since: float
    # A tombstone names no owner any more.
    owner: str = ""
    # The invocation that wrote it last.
    writer: Invocation | None = None
    # Its statuses, each with the time of the change.
    statuses: list[tuple[float, RunStatus]] = field(default_factory=list)
    # When it was last written.
    changed_at: float = 0.0
    ended_at: float | None = None
    # When it last stopped waiting for people.
    went_on_at: float = 0.0
    cancel_requested: bool = False
    delete_requested: bool = False
    # The codes with which the provider refused one of its requests for good.
    refusals: set[str] = field(default_factory=set)
    # By turn, the invocations that got a success which cannot be used as the reply to a create.
    unusable: dict[int, list[Invocation]] = field(default_factory=lambda: defaultdict(list))
    # By turn, how many creates got no reply in time.
    timed_out: Counter[int] = field(default_factory=Counter)
    # When the reason for which it waits was last written.
    waits_since: float = 0.0
    # The workers that have claimed a poll of it.
    pollers: set[Invocation] = field(default_factory=set)
    # The items of each output that was stored and found right.
    outputs: list[list[Item]] = field(default_factory=list)
    # When the provider first answered, for each of its responses, that it does not exist.
    absences: dict[str, float] = field(default_factory=dict)
    # An invocation that worked on it had a fault.
    disturbed: bool = False
    claims: list[Claim] = field(default_factory=list)
    responses: list["Response"] = field(default_factory=list)
    # The calls of the streams that have ended as they should, at a provider without background mode.
    generated: list[ToolCall] = field(default_factory=list)
    # Whether the usage of a finished turn was not told by the provider.
    unmetered: bool = False
    # How often it was polled after its deadline.
    late_polls: int = 0

    @property
    def deleted(self) -> bool:
        return self.run.status is RunStatus.DELETED

    @property
    def requested(self) -> list[ToolCall]:
        """The calls that the model has requested completely."""
        return [*self.generated, *(call for one in self.responses for call in one.calls)]

    def status_at(self, time: float) -> RunStatus | None:
        """Return its status just before `time`, or None if it did not exist yet."""
        return next((status for at, status in reversed(self.statuses) if at <= time), None)


@dataclass(eq=False, slots=True)
class Evidence:
    """All that happened in one seed so far."""

    now: Callable[[], float]
    runs: dict[str, Seen] = field(default_factory=dict)
    # By owner and key: the run that was started, and the body of the request.
    keys: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    # Bodies that were ever sent with a key.
    bodies: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    sessions_delete_requested: set[str] = field(default_factory=set)
    sessions_deleted: dict[str, float] = field(default_factory=dict)
    effects: Counter[str] = field(default_factory=Counter)
    breaches: list[Breach] = field(default_factory=list)
    # By run, the create whose reply is late.
    late: dict[str, "LateCreate"] = field(default_factory=dict)
    # By run, the worker that claims late.
    late_claims: dict[str, "LateClaim"] = field(default_factory=dict)
    # By run, a slice that arrives when another poller has begun to settle the answer.
    late_slices: dict[str, Hold] = field(default_factory=dict)
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
