"""Timers and the queues: the parts of a Functions host that the simulation needs."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from shared.core.delivery import WAIT
from shared.errors import StorageUnavailable
from shared.steps.context import Context
from shared.steps.dispatch import carry_out
from shared.steps.due import Due, claim_due
from shared.steps.messages import (
    clock_of_message,
    generate_of_message,
    poll_of_message,
    queue_of,
    shard_message,
    shard_of_message,
)
from shared.steps.poll import poll
from shared.steps.turns import MESSAGES_PER_OWNER, fair_messages
from shared.usecases.overdue import Waker
from tests.proofs.simulation.auditor import Auditor
from tests.proofs.simulation.evidence import seconds_of
from tests.proofs.simulation.ports import Gate, SimulatedClock
from tests.proofs.simulation.scheduler import Invocation

HOSTS = 3
# How often a message is delivered whose function fails, and the time after which it comes back.
_DELIVERIES = 5
_VISIBILITY = 30.0

Unexpected = Callable[[Invocation, Exception], None]


@dataclass(eq=False)
class Triggers:
    """Starts invocations, and delivers messages."""

    gate: Gate
    context: Context
    auditor: Auditor
    shards: tuple[str, ...]
    # Those of the hosts.
    clocks: tuple[SimulatedClock, ...]
    unexpected: Unexpected
    # Whether the timer sends a message for each shard instead of polling itself.
    fanout: bool = False
    # How many messages of one owner a tick sends. Further ones are bundled.
    messages_per_owner: int = MESSAGES_PER_OWNER
    invocations: int = 0
    # What the process of each host remembers of the runs for which it has woken a worker.
    wakers: tuple[Waker, ...] = field(default_factory=lambda: tuple(Waker() for _ in range(HOSTS)))

    def invocation(self, operation: str) -> tuple[Invocation, Context]:
        """Return a new invocation on a random host, and the app with that host's clock."""
        self.invocations += 1
        scheduler = self.gate.scheduler
        host = self.gate.random.randrange(HOSTS)
        clock = self.clocks[host]
        clock.compare_now()
        name = f"{operation} #{self.invocations}"
        return Invocation(name, operation, host, scheduler.now, clock), replace(self.context, clock=clock)

    def begin(
        self,
        invocation: Invocation,
        coroutine: Coroutine[float, None, Any],
        then: Callable[[Any], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self.gate.scheduler.begin(
            invocation, coroutine, then, failed or (lambda fault: self.unexpected(invocation, fault))
        )

    def tick(self) -> None:
        """Fire a timer."""
        match self.gate.faults.draw("tick"):
            case "tick_missed":
                return
            case "tick_doubled":
                self._fire()
        self._fire()

    def _fire(self) -> None:
        if self.fanout:
            for shard in self.shards:
                self.send(shard_message(shard))
        else:
            self._poll_shards(self.shards)

    def _poll_shards(self, shards: tuple[str, ...]) -> None:
        invocation, context = self.invocation("poll")
        _Tick(self, invocation, context, len(shards)).begin(shards)

    def note_late_poll(self, run_id: str, by: Invocation) -> None:
        """Note a poll after the deadline. It reads the response again when it has finished meanwhile."""
        now = self.gate.scheduler.now + by.skew
        seen = self.auditor.evidence.runs.get(run_id)
        if seen and now >= seconds_of(seen.run.expires_at):
            seen.late_polls += 2

    def send(self, message: str, delivery: int = 1, delay: float | None = None) -> None:
        """Put a message on its queue."""
        soon = self.gate.random.random() if delay is None else delay
        match self.gate.faults.draw(f"message to {queue_of(message)}"):
            case "message_lost":
                return
            case "message_late":
                soon += self.gate.random.uniform(5, 60)
            case "message_doubled":
                self.gate.scheduler.after(
                    self.gate.random.uniform(0, 5), lambda: self._deliver(message, delivery)
                )
        self.gate.scheduler.after(soon, lambda: self._deliver(message, delivery))

    def _deliver(self, message: str, delivery: int) -> None:
        if shard := shard_of_message(message):
            self._poll_shards((shard,))
            return
        clock, polled = clock_of_message(message), poll_of_message(message)
        generated = generate_of_message(message)
        operation = "work: poll" if polled else self._owed(generated or message)
        if clock:
            operation = "work: wait" if clock.name == WAIT else "deliver"
        invocation, context = self.invocation(operation)
        invocation.generates = generated is not None
        if polled:
            self.note_late_poll(polled, invocation)

        def again() -> None:
            if delivery < _DELIVERIES:
                self.send(message, delivery + 1, _VISIBILITY)

        def done(messages: tuple[str, ...] | None) -> None:
            self.gate.scheduler.end(invocation)
            for further in messages or ():
                self.send(further)

        def failed(fault: Exception) -> None:
            self.gate.scheduler.end(invocation)
            if not isinstance(fault, StorageUnavailable):
                self.unexpected(invocation, fault)
            again()

        invocation.when_dead = again
        self.begin(invocation, carry_out(context, message), done, failed)

    def _owed(self, run_id: str) -> str:
        """Return the operation of a worker that takes the run's step now. A bundle takes none."""
        seen = self.auditor.evidence.runs.get(run_id)
        return f"work: {seen.run.step}" if seen and seen.run.step.worked_on else "work"


@dataclass(eq=False)
class _Tick:
    """Does what `shared.steps.tick.tick` does: claims what is due, polls it concurrently, sends the messages."""

    triggers: Triggers
    invocation: Invocation
    context: Context
    # Claims and polls that are not finished.
    left: int
    messages: list[tuple[str, str]] = field(default_factory=list)

    def begin(self, shards: tuple[str, ...]) -> None:
        for shard in shards:
            claim = claim_due(self.context, shard)
            self.triggers.begin(self.invocation, claim, self._claimed, self._failed)

    def _claimed(self, due: Due) -> None:
        self.messages.extend(due.owned_messages)
        self.left += len(due.polls)
        for one in due.polls:
            self.triggers.note_late_poll(one.run_id, self.invocation)
            polled = partial(self._polled, one.owner)
            self.triggers.begin(self.invocation, poll(self.context, one), polled, self._failed)
        self._one_less()

    def _polled(self, owner: str, messages: tuple[str, ...]) -> None:
        self.messages.extend((owner, message) for message in messages)
        self._one_less()

    def _failed(self, fault: Exception) -> None:
        # The app logs such an error and goes on. Only an unavailable storage may raise one.
        if not isinstance(fault, StorageUnavailable):
            self.triggers.unexpected(self.invocation, fault)
        self._one_less()

    def _one_less(self) -> None:
        self.left -= 1
        if not self.left:
            self.triggers.gate.scheduler.end(self.invocation)
            for message in fair_messages(self.messages, self.triggers.messages_per_owner):
                self.triggers.send(message)
