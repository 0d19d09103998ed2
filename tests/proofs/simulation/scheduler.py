"""Virtual time and everything that happens in it: one thread, one queue of what happens next."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from shared.core.response import Snapshot

# How far the clocks of hosts differ, in seconds.
MAX_SKEW = 2.0

# A coroutine yields the seconds that it waits. This is what it yields when its process is never to go on.
DEATH = -1.0


@dataclass(eq=False, slots=True)
class Invocation:
    """One call of a function of the app by a trigger, on one host. It dies as a whole."""

    name: str
    # What it is at, for the pairs of operations that met: "read", "work:tools", ...
    operation: str
    host: int
    started_at: float
    # How far its host's clock is ahead.
    skew: float = 0.0
    dead: bool = False
    # Seconds for which it stood still.
    stalled: float = 0.0
    # Requests to the storage that failed, or whose reply was lost.
    storage_faults: int = 0
    # Until when it does not reach the storage.
    cut_off_until: float = 0.0
    # Those of its faults that took effect in the table of runs all the same.
    lost_replies: int = 0
    # What the provider told it last.
    last_word: Snapshot | None = None
    # The runs that it has looked at or worked on.
    touched: set[str] = field(default_factory=set)
    strands: list["Strand"] = field(default_factory=list)
    # What happens elsewhere when it dies: a client sees its connection end, a message comes back.
    when_dead: Callable[[], None] | None = None

    @property
    def disturbed(self) -> bool:
        return self.dead or self.stalled > 0 or self.storage_faults > 0


class Hold:
    """A wait without a time: it is over when somebody ends it. A coroutine yields it instead of seconds."""

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
        """Let the coroutine go on until it waits again, ends, or meets its death."""
        invocation = self.invocation
        if invocation.dead:
            return
        self.scheduler.current = invocation
        try:
            delay = self.coroutine.send(None)
        except StopIteration as end:
            self.then(end.value)
        except Exception as fault:  # noqa: BLE001  (whatever escapes is for the auditor)
            self.failed(fault)
        else:
            if isinstance(delay, Hold):
                delay.begin(lambda: self.scheduler.after(0.0, self.step))
            elif delay == DEATH:
                self.scheduler.kill(invocation)
            else:
                self.scheduler.after(delay, self.step)


class Scheduler:
    """Carries out what was asked for, in the order of time; what falls together, in the order of asking."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.current: Invocation | None = None
        self.alive: dict[Invocation, None] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether anything is still to happen."""
        return bool(self._queue)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._queue, (self.now + seconds, self._count, action))

    def run(self, until: float, on_step: Callable[[], bool]) -> None:
        """Go on until `until`, as long as `on_step` does not say to stop."""
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
        self.alive.pop(invocation, None)

    def kill(self, invocation: Invocation) -> None:
        """End an invocation where it stands; nothing of it runs ever again."""
        invocation.dead = True
        self.end(invocation)
        for strand in invocation.strands:
            strand.coroutine.close()
        if invocation.when_dead:
            invocation.when_dead()

    def kill_host(self, host: int, but: Invocation) -> None:
        """End everything on a host except the one that is running now."""
        for invocation in [one for one in self.alive if one.host == host and one is not but]:
            self.kill(invocation)
