"""Creates and claims whose process stands still until the run is in a chosen state.

By chance alone, the rarest of these states would need millions of seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from shared.core.calls import CallStatus
from shared.core.life import events
from shared.core.life.advance import MOVES, State
from shared.core.run import Run, RunStatus, Step
from tests.proofs.simulation.scheduler import Hold

# A lease lasts at least this long. Before its end no other worker can have taken the step.
OVERTAKEN = 40.0
# The run has reached its deadline by then.
LONGEST = 200.0

_TARGETS = tuple(sorted(before for before, afters in MOVES[events.Created].items() if before in afters))
# Unfinished states are chosen more often, because most attempts to meet them fail.
_RARE = {
    (RunStatus.CANCELLING, Step.TOOLS): 40,
    (RunStatus.CANCELLING, Step.CANCEL): 10,
    (RunStatus.IN_PROGRESS, Step.CREATE): 10,
    (RunStatus.IN_PROGRESS, Step.TOOLS): 30,
}
_WEIGHTS = tuple(1 if target[0].terminal else _RARE.get(target, 3) for target in _TARGETS)
# By the step that a cancelling run is owed: the steps that it could be owed before the cancellation.
_BEFORE_CANCEL = {
    Step.CREATE: {Step.CREATE},
    Step.TOOLS: {Step.TOOLS},
    Step.CANCEL: {Step.POLL},
    Step.POLL: {Step.POLL},
}


@dataclass(eq=False, slots=True)
class LateCreate:
    """Waits until the run is in the state `target`, under the lease of another worker, and cancels it if needed."""

    target: State
    lease_id: str
    hold: Hold
    cancel: Callable[[], None]
    cancelled: bool = False

    @classmethod
    def of(cls, run: Run, random: Random, cancel: Callable[[], None]) -> "LateCreate":
        lease_id = run.lease.id if run.lease else ""
        return cls(random.choices(_TARGETS, _WEIGHTS)[0], lease_id, Hold(), cancel)

    def saw(self, run: Run) -> None:
        """Note a new state of the run."""
        status, step = self.target
        if run.lease is not None and run.lease.id == self.lease_id:
            return
        if (run.status, run.step) == self.target:
            self.hold.end()
        elif status is RunStatus.CANCELLING and not self.cancelled and run.step in _BEFORE_CANCEL[step]:
            worked_on = run.lease is not None or run.step is Step.POLL
            if worked_on and not run.terminal:
                self.cancelled = True
                self.cancel()

    def prolongs(self, step: Step) -> bool:
        """Return whether calls for this step take longer than usual, so that the create can end during them."""
        return not self.hold.over and self.target[1] is step


@dataclass(frozen=True, slots=True)
class LateClaim:
    """Waits until the run is owed the tools of another turn than the worker has read, or those that were approved since."""

    turn: int
    hold: Hold
    # Whether it goes on already when a call of this turn was approved.
    until_approved: bool = False
    # For a turn that is generated: how much text the worker has read. It goes on when more is stored, and the turn is free again.
    written: int | None = None

    def saw(self, run: Run) -> None:
        """Note a new state of the run."""
        approved = any(
            call.wait and call.wait.approved and call.status is CallStatus.QUEUED for call in run.calls
        )
        if self.until_approved and approved:
            self.hold.end()
        if self.written is not None and run.lease is None and run.written != self.written:
            self.hold.end()
        if run.terminal or (run.turn != self.turn and run.step is Step.TOOLS):
            self.hold.end()


@dataclass(frozen=True, slots=True)
class LateStream:
    """Lets a worker stand still in its stream until another one has taken the turn, and perhaps stored text of it."""

    lease_id: str
    hold: Hold
    until_stored: bool

    def saw(self, before: Run, run: Run) -> None:
        """Note a new state of the run."""
        taken = run.lease is not None and run.lease.id != self.lease_id
        if run.terminal or (taken and (not self.until_stored or run.written > before.written)):
            self.hold.end()
