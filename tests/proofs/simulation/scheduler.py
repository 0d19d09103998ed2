"""Virtual time: one thread, and one queue of the actions to come."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Any

from shared.core.response import Slice, Snapshot

if TYPE_CHECKING:
    from tests.proofs.simulation.ports import SimulatedClock

# How far the clocks of hosts differ from that of the storage, in seconds, and how far wrong ones differ.
MAX_SKEW = 2.0
WRONG = (5.0, 900.0)

# The longest time of a request to the provider.
PROVIDER_TIMEOUT = timedelta(seconds=10)
# The longest time of a tool.
LONGEST_TOOL = timedelta(seconds=20)
# A call that takes no longer than this, in seconds, was not stalled; what is left of a lease lasts longer.
NORMAL = 10.0

# How long a lease lasts at most from its last write, and how much of it is left when a side effect begins, in seconds. The
# promise says so; the code must not change what is checked.
LEASE, ENOUGH = 15.0, 5.0

# A coroutine yields the seconds that it waits. It yields this when its process dies.
DEATH = -1.0


@dataclass(eq=False, slots=True)
class Invocation:
    """One call of a function of the app by a trigger, on one host. All of its coroutines die together."""

    name: str
    # What it does, for the pairs of operations that met: "read", "work: tools", ...
    operation: str
    host: int
    started_at: float
    clock: "SimulatedClock"
    dead: bool = False
    ended: bool = False
    # Whether it was woken by a message of the queue for generating turns.
    generates: bool = False
    # Seconds for which it stood still.
    stalled: float = 0.0
    # Whether its whole process stands still now, and with it what renews its leases.
    still: bool = False
    # By run, the id of its last lease; when its last renewal began; whether one came late, so that little of a lease was
    # left; whether a renewal has shown that the lease is lost.
    leases: dict[str, str] = field(default_factory=dict)
    renewing_since: float = 0.0
    renewed_late: bool = False
    lost: bool = False
    # Requests to the storage that failed, or whose reply was lost.
    storage_faults: int = 0
    # It does not reach the storage before this time.
    cut_off_until: float = 0.0
    # How many of its failed writes to the table of runs took effect: only their replies were lost.
    lost_replies: int = 0
    # The last response that the provider returned to it.
    last_reply: Snapshot | None = None
    # The responses that it has read, unless the provider showed since then that they have finished.
    read: set[str] = field(default_factory=set)
    # By response, the last slice that it got.
    slices: dict[str, Slice] = field(default_factory=dict)
    # The runs that it has read or worked on.
    touched: set[str] = field(default_factory=set)
    strands: list["Strand"] = field(default_factory=list)
    # The effect of its death on others: a client sees its connection end, a message comes back.
    when_dead: Callable[[], None] | None = None

    @property
    def skew(self) -> float:
        """How many seconds its host's clock is ahead."""
        return self.clock.skew

    @property
    def precision(self) -> float:
        """How exactly its clock can be compared with the simulation's.

        A correction begins with a jump of the clock, and becomes finer with each reply.
        """
        return 3.0 if self.clock.correction else 0.001

    @property
    def disturbed(self) -> bool:
        return self.dead or self.stalled > 0 or self.storage_faults > 0


class Hold:
    """A wait without a fixed time, which lasts until `end` is called. A coroutine yields it instead of seconds."""

    def __init__(self) -> None:
        self.over = False
        self._go_on: Callable[[], None] | None = None

    def begin(self, go_on: Callable[[], None]) -> None:
        self._go_on = go_on
        if self.over:
            go_on()

    def end(self) -> None:
        if not self.over:
            self.over = True
            if self._go_on:
                self._go_on()


@dataclass(eq=False, slots=True)
class Strand:
    """One coroutine of an invocation."""

    scheduler: "Scheduler"
    invocation: Invocation
    coroutine: Coroutine[float, None, Any]
    then: Callable[[Any], None]
    failed: Callable[[Exception], None]

    def step(self) -> None:
        """Run the coroutine until it waits again, ends, or dies."""
        invocation = self.invocation
        if invocation.dead:
            return
        self.scheduler.current = invocation
        try:
            delay = self.coroutine.send(None)
        except StopIteration as end:
            self.then(end.value)
        except Exception as fault:  # noqa: BLE001  (the auditor gets every exception)
            self.failed(fault)
        else:
            if isinstance(delay, Hold):
                delay.begin(lambda: self.scheduler.after(0.0, self.step))
            elif delay == DEATH:
                self.scheduler.kill(invocation)
            else:
                self.scheduler.after(delay, self.step)


class Scheduler:
    """Carries out actions in the order of their times; actions of one time in the order of their requests."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.current: Invocation | None = None
        self.alive: dict[Invocation, None] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether there is an action to come."""
        return bool(self._queue)

    @property
    def next_at(self) -> float:
        """When the next action comes; infinite if there is none."""
        return self._queue[0][0] if self._queue else inf

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._queue, (self.now + seconds, self._count, action))

    def run(self, until: float, on_step: Callable[[], bool]) -> None:
        """Carry out actions until the time `until`, or until `on_step` returns True."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, action = heappop(self._queue)
            self.steps += 1
            action()
            if on_step():
                return
        self.now = until

    def begin(
        self,
        invocation: Invocation,
        coroutine: Coroutine[float, None, Any],
        then: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Start a coroutine as part of an invocation."""
        strand = Strand(self, invocation, coroutine, then, failed)
        invocation.strands.append(strand)
        self.alive[invocation] = None
        self.after(0.0, strand.step)

    def end(self, invocation: Invocation) -> None:
        invocation.ended = True
        self.alive.pop(invocation, None)

    def kill(self, invocation: Invocation) -> None:
        """End an invocation at its present point; none of its coroutines runs again."""
        invocation.dead = True
        self.end(invocation)
        _close(invocation)
        if invocation.when_dead:
            invocation.when_dead()

    def close(self) -> None:
        """Drop what is still to come, at the end of a seed."""
        for invocation in self.alive:
            _close(invocation)

    def kill_host(self, host: int, but: Invocation) -> None:
        """End all invocations on a host except the one that is running now."""
        for invocation in [one for one in self.alive if one.host == host and one is not but]:
            self.kill(invocation)


def _close(invocation: Invocation) -> None:
    for strand in invocation.strands:
        # A generator that waits cannot be closed in this way. It is dead all the same.
        with suppress(RuntimeError):
            strand.coroutine.close()
