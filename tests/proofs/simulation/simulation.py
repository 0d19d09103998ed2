"""One seed: first a time with faults, then one without, and the checks at the end."""

import random as randoms
import traceback
from dataclasses import dataclass
from datetime import timedelta
from math import inf

from shared.core.ids import all_shards
from shared.core.pace import Schedule
from shared.core.run import Chaining, Run, RunStatus, Step
from shared.ports.providers import DEFAULT_PROVIDER
from shared.ports.tables import Put, Row
from shared.steps.context import Context
from shared.steps.turns import MESSAGES_PER_OWNER
from tests.proofs.simulation.answers import AnswerAuditor, ClientRequest
from tests.proofs.simulation.audit_leftovers import audit_leftovers
from tests.proofs.simulation.audit_logs import audit_logs
from tests.proofs.simulation.auditor import Auditor
from tests.proofs.simulation.chats import SimulatedChat
from tests.proofs.simulation.chatting import CHAT, ChatPlan, Writer
from tests.proofs.simulation.clients import OWNERS, Clients
from tests.proofs.simulation.coverage import Coverage, transition
from tests.proofs.simulation.evidence import Breach, Seen, seconds_of
from tests.proofs.simulation.faults import Faults
from tests.proofs.simulation.interference import Interference
from tests.proofs.simulation.leases import SimulatedKeeper
from tests.proofs.simulation.limits import limit_owners
from tests.proofs.simulation.people import People
from tests.proofs.simulation.ports import (
    READ_TIMEOUT,
    Gate,
    RowsOnly,
    SimulatedAgents,
    SimulatedClock,
    SimulatedRandomness,
    SimulatedTable,
)
from tests.proofs.simulation.provider import SimulatedProvider
from tests.proofs.simulation.scheduler import MAX_SKEW, PROVIDER_TIMEOUT, WRONG, Invocation, Scheduler
from tests.proofs.simulation.triggers import HOSTS, Triggers
from tests.proofs.simulation.waiting import Plan
from tests.support.world import stores

SCHEDULE = Schedule(timedelta(seconds=2), timedelta(seconds=30))
STREAMING = Schedule(timedelta(seconds=2), timedelta(seconds=5))
# Text that is too long for a run's row even when compressed: it is stored in rows of its own.
LONG_TEXT = "".join(
    randoms.Random(0).choices("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=23_000)
)
# The longest time of a poll, when nothing fails: a large response is read twice.
_LONGEST_POLL = 25.0
# No seed takes more steps than this.
_MOST_STEPS = 40_000
# In what share of the seeds every text is stored in rows of its own, and the longest time to read them, in seconds.
_TEXTS_APART, _LAG = 0.3, 5.0
# Without faults, every delivery is made within this time: the pauses between two tries grow to a minute. A provider
# may refuse to cancel what has finished; then the delivery is given up after an hour. A late one begins minutes later.
_DELIVERED_WITHIN, _GIVEN_UP_WITHIN = 900.0, 4500.0
# How long the timer stands still in the end, and how long a run may be late then. A worker is woken a minute after the
# deadline, and again after a minute; a lease ends within a minute.
_NO_TIMER, _LATE_WITHOUT_TIMER = 600.0, 200.0
# The timer sends its reminders at growing intervals, from the first of these to the second.
_FIRST_REMINDER, _LONGEST_REMINDER = 5.0, 600.0
# How long after the faults a worker that stands still may keep the lease of a poll.
_STILL_KEPT = 60.0
# A worker has a message this long after the tick that found its step due.
_TAKEN_WITHIN = 5.0 + MAX_SKEW
# How often clients read the status of each run while the timer stands still.
_READ_AGAIN = 15.0
# In what share of the seeds the agent has an output type.
_STRUCTURED = 0.2
# In what share of the seeds a client converses: it starts one run of a session after another.
_CONVERSES = 0.1
# In what share of the seeds clients also read a list and a session in the end.
_READ_MORE = 0.25
# The time-out of functions, and how long after it a deleted run is purged again at the latest. Deletions at the provider are
# repeated for an hour.
_FUNCTION_TIMEOUT = timedelta(minutes=10)
_AFTERMATH = (_FUNCTION_TIMEOUT.total_seconds() + 60.0, 3700.0)


@dataclass(frozen=True)
class Outcome:
    """The result of a seed."""

    seed: int
    runs: int
    steps: int
    breach: Breach | None
    coverage: Coverage


class Simulation:
    """The complete app with its clients, provider and storage, in one thread and in virtual time."""

    def __init__(self, seed: int, trace: list[str] | None = None) -> None:
        self.seed, self._trace = seed, trace
        self.random = randoms.Random(seed)
        self.coverage = Coverage()
        self.scheduler = Scheduler()
        self.faults = Faults(self.random)
        self.coverage.faults = self.faults.counts
        self.gate = Gate(self.random, self.scheduler, self.faults, self._note)
        self.gate.unexpected = self._unexpected
        self.auditor = Auditor(self.scheduler, (SCHEDULE, STREAMING), self.coverage)
        shards = self.random.choice((1, 1, 2))
        self.runs_table = SimulatedTable("runs", self.gate, self.auditor)
        self.content_table = SimulatedTable("content", self.gate, self.auditor)
        self.auditor.reads_content_of(self.content_table)
        self.provider = SimulatedProvider(self.gate, self.auditor, LONG_TEXT)
        self.plan = self.provider.creates.endings.plan = Plan.of(seed)
        self.chat_plan = self.auditor.generated.plan = ChatPlan.of(seed)
        self.chat = self._chat(seed)
        self.triggers = self._wire(shards)
        if self.chat_plan and self.chat_plan.function_timeout < _FUNCTION_TIMEOUT:
            self.triggers.ended_after = self.chat_plan.function_timeout.total_seconds()
        limit_owners(seed, self.triggers, self.runs_table)
        answers = AnswerAuditor(self.auditor.evidence, self.coverage, self.auditor.quotas, self.auditor.waits)
        self.clients = Clients(self.gate, self.triggers, answers, LONG_TEXT)
        if self.plan:
            self._let_people_answer()
        self.interference = Interference(self.gate, self.auditor.evidence, self.clients, self.triggers)
        self.interference.prolong_faults = self._prolong_faults
        self.provider.creates.prolong_faults = self._prolong_faults
        self.provider.creates.cancel_run = self._cancel_soon
        if self.chat:
            self.chat.cancel_run = self._cancel_soon
        self.faults_end = self.random.choice((20.0, 30.0, 60.0))
        self._timer_dead = self.faults.draw("seed") == "timer_dead"
        self._timer_stops = self.random.uniform(0, self.faults_end) if self._timer_dead else inf
        self._period = self.random.choice((3.0, 5.0, 5.0, 8.0))
        self.interference.deletes = self.content_table.lag > 0
        self.interference.rate = self.random.choice((0.0, 0.02, 0.06))

    def _chat(self, seed: int) -> SimulatedChat | None:
        if self.chat_plan is None:
            return None
        writer = Writer(self.random, self.plan)
        return SimulatedChat(seed, self.chat_plan, self.gate, self.auditor.generated, writer)

    def _wire(self, shards: int) -> Triggers:
        randomness = SimulatedRandomness(self.random, shards)
        tables = stores(self.runs_table, self.content_table, randomness)
        if self.random.random() < _TEXTS_APART:
            tables["content"], self.content_table.lag = RowsOnly(self.content_table), _LAG
        chat_plan = self.chat_plan
        context = Context(
            **tables,
            observer=self,
            providers={DEFAULT_PROVIDER: self.provider},
            agents=SimulatedAgents(
                self.gate,
                self.auditor,
                self.plan,
                structured=self.random.random() < _STRUCTURED,
                provider=CHAT if chat_plan else DEFAULT_PROVIDER,
            ),
            clock=SimulatedClock(self.scheduler, 0.0),
            keeper=SimulatedKeeper(self.gate, self.runs_table),
            randomness=randomness,
            schedule=SCHEDULE,
            streaming=STREAMING,
            chaining=self.random.choice(tuple(Chaining)),
            provider_timeout=PROVIDER_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            function_timeout=chat_plan.function_timeout if chat_plan else _FUNCTION_TIMEOUT,
            chats={CHAT: self.chat.service} if self.chat else {},
            generate_for=chat_plan.generate_for if chat_plan else _FUNCTION_TIMEOUT,
        )
        skewed, wrong = self.faults.draw("seed") == "skewed_clocks", self.faults.draw("seed") == "wrong_clock"
        ahead = [self.random.uniform(-MAX_SKEW, MAX_SKEW) if skewed else 0.0 for _ in range(HOSTS)]
        if wrong:
            ahead[0] = self.random.uniform(*WRONG) * self.random.choice((-1, 1))
        clocks = tuple(SimulatedClock(self.scheduler, one) for one in ahead)
        return Triggers(
            self.gate, context, self.auditor, all_shards()[:shards], clocks, self._unexpected,
            fanout=self.random.random() < 0.2,
            messages_per_owner=self.random.choice((1, MESSAGES_PER_OWNER)),
        )  # fmt: skip

    def _let_people_answer(self) -> None:
        people = People(self.gate, self.clients, self.auditor.evidence, self.auditor.waits)
        self.auditor.waits.on_wait = people.called
        self.clients.plan, self.clients.answer = self.plan, people.visit

    def run(self) -> Outcome:
        self._run_with_faults()
        if not self._over():
            self._run_without_faults()
        if not self._over():
            self._audit_the_end()
        self.scheduler.close()
        breaches = self.auditor.evidence.breaches
        return Outcome(
            self.seed,
            len(self.auditor.evidence.runs),
            self.scheduler.steps,
            breaches[0] if breaches else None,
            self.coverage,
        )

    def _over(self) -> bool:
        return bool(self.auditor.evidence.breaches) or self.scheduler.steps > _MOST_STEPS

    def _run_with_faults(self) -> None:
        """Let clients send requests, while the faults of this seed happen."""
        for _ in range(self.random.choice((1, 1, 2, 3))):
            self.scheduler.after(self.random.uniform(0, self.faults_end * 0.7), self.clients.send_any)
        if self.random.random() < _CONVERSES:
            self.scheduler.after(self.random.uniform(0, 5), self.clients.converse)
        if self.faults.draw("seed") == "broken_row":
            self._break_a_row()
        timers = 2 if self.faults.draw("seed") == "two_timers" else 1
        for _ in range(timers):
            self.scheduler.after(self.random.uniform(0, self._period), self._tick_again)
        while self.scheduler.now < self.faults_end and not self._over():
            self.scheduler.run(self.faults_end, self._over)

    def _cancel_soon(self, run_id: str) -> None:
        self.scheduler.after(0.0, lambda: self.clients.cancel(run_id))

    def _prolong_faults(self, until: float) -> None:
        if self.faults.on:
            self.faults_end = max(self.faults_end, until)

    def _tick_again(self) -> None:
        if self.scheduler.now > self._timer_stops:
            self._read_pending()
        elif self._owed():
            self.triggers.tick()
        if self.faults.on:
            self.scheduler.after(self._period, self._tick_again)

    def _break_a_row(self) -> None:
        """Write an invalid row where the poll loop finds it."""
        name = self.random.choice(("run_00zzz", "")) if self.random.random() < 0.7 else "run_00000"
        row = Row(f"pending|{name}", {"at": "yesterday", "step": "dance", "due": "never"})
        coroutine = super(SimulatedTable, self.runs_table).write("00", [Put(row)])
        try:
            coroutine.send(None)
        except StopIteration:
            self._note(f"broken row {row.key}")

    def _owed(self) -> bool:
        """Return whether a tick would find anything. A tick that finds nothing only costs time."""
        evidence = self.auditor.evidence
        return bool(evidence.deliveries) or any(
            seen.run.step is not Step.NOTHING for seen in evidence.runs.values()
        )

    def _pending(self) -> bool:
        return any(not seen.run.terminal for seen in self.auditor.evidence.runs.values())

    def _run_without_faults(self) -> None:
        """Without faults, every run ends by its deadline and two ticks, and deleted runs are purged."""
        self.faults.on = False
        if self.chat:
            self.chat.faults.on = False
        self.content_table.lag, self.interference.deletes = 0.0, False
        self.interference.rate = 0.0
        # Fewer ticks show the same now, because nothing happens between them.
        self._period *= 4
        if self._timer_dead:
            self._run_without_a_timer()
        longest = _GIVEN_UP_WITHIN if self.provider.refuses_finished else _DELIVERED_WITHIN
        given_up, since = self.scheduler.now + longest, self.scheduler.now
        while not self._over() and (
            self._pending()
            or self.scheduler.busy
            or (self.auditor.evidence.deliveries and self.scheduler.now < given_up)
        ):
            self._let_people_sleep()
            if self._owed():
                self.triggers.tick()
            self.scheduler.run(self.scheduler.now + self._period, self._over)
            self._check_lateness(2 * self._period + _LONGEST_POLL)
            self._check_taken_up(since)
        for seconds in _AFTERMATH:
            if self._over() or not self._purges():
                return
            self.scheduler.run(self.scheduler.now + seconds, self._over)
            for _ in range(4):
                self.triggers.tick()
                self.scheduler.run(self.scheduler.now + 70.0, self._over)

    def _let_people_sleep(self) -> None:
        """Let time pass until something happens. When only people can move runs, that may take days."""
        evidence = self.auditor.evidence
        steps = {seen.run.step for seen in evidence.runs.values()}
        if self.plan is None or evidence.deliveries or steps - {Step.NOTHING, Step.ANSWER}:
            return
        ends = [seen.run.wait_ends_at for seen in evidence.runs.values()]
        first = min([self.scheduler.next_at, *(seconds_of(at) for at in ends if at)])
        if self.scheduler.now < first < inf:
            self.scheduler.run(first, lambda: True)

    def _run_without_a_timer(self) -> None:
        """Without faults and without ticks, reads of the status move the runs."""
        until = self.scheduler.now + _NO_TIMER
        while not self._over() and self._pending() and self.scheduler.now < until:
            self._read_pending()
            self.scheduler.run(self.scheduler.now + _READ_AGAIN, self._over)
            self._check_lateness(_LATE_WITHOUT_TIMER)

    def _read_pending(self) -> None:
        for run_id, seen in list(self.auditor.evidence.runs.items()):
            if not seen.run.terminal:
                self.clients.read(run_id)

    def _check_lateness(self, allowed: float) -> None:
        """Without faults, every stored run ends by its deadline and two ticks."""
        for seen in self.auditor.evidence.runs.values():
            due = max(self._due(seen), seen.since, self.faults_end)
            if not seen.run.terminal and self.scheduler.now > due + allowed + MAX_SKEW:
                late = f"still {seen.run.status}, {self.scheduler.now - due:.0f} s after its deadline"
                self.auditor.evidence.breach(2, seen.run.id, late)

    def _due(self, seen: Seen) -> float:
        """Return when a run has to go on, or to end: its deadline, or the first end of its waits."""
        if seen.run.status is RunStatus.REQUIRES_ACTION and seen.run.wait_ends_at:
            ended = max(seconds_of(seen.run.wait_ends_at), seen.changed_at)
            # Messages that were lost until the faults ended have made the timer's reminders rare.
            over = max(0.0, self.faults_end - ended)
            return ended + min(2 * over + _FIRST_REMINDER, over + _LONGEST_REMINDER) if over else ended
        # A run whose clock went on only now may have its deadline behind it.
        due = max(seconds_of(seen.run.expires_at), seen.went_on_at)
        if seen.run.lease and seen.run.step is Step.POLL:
            # A worker that has stood still since a fault may keep its lease for some time.
            due = max(due, min(seconds_of(seen.run.lease.expires_at), self.faults_end + _STILL_KEPT))
        return due

    def _check_taken_up(self, since: float) -> None:
        """With a timer and without faults, a worker takes each step that has become due since then.

        A process that stood still may have written one that was due long ago: its reminders have become rare.
        """
        for seen in self.auditor.evidence.runs.values():
            run, due = seen.run, seconds_of(seen.run.due)
            waits, fresh = self.scheduler.now - due, due > max(since, seen.changed_at) - MAX_SKEW
            owed = run.step.worked_on and fresh and self.scheduler.now < seconds_of(run.expires_at)
            if owed and waits > self._period + _TAKEN_WITHIN:
                what = f"nobody has taken its step {run.step} for {waits:.0f} s"
                self.auditor.evidence.breach(17, run.id, what)

    def _purges(self) -> bool:
        return any(
            key.startswith("pending|run") for there in self.runs_table._partitions.values() for key in there
        )

    def _audit_the_end(self) -> None:
        """Check what is left in the end, and let clients read everything once more, without faults."""
        audit_leftovers(self.auditor.evidence, self.runs_table, self.content_table)
        audit_logs(self.auditor.evidence, self.runs_table._partitions.values())
        self.auditor.effects.reported_rightly()
        self.auditor.effects.stopped_and_forgotten()
        self.auditor.effects.abandoned_are_stopped()
        self.auditor.effects.extra_responses_are_counted()
        now = self.scheduler.now
        for run_id, seen in list(self.auditor.evidence.runs.items()):
            self.clients.send(ClientRequest("read", seen.owner, run_id=run_id, at=now))
            everything = {"after": "0", "limit": "1000"}
            self.clients.send(ClientRequest("events", seen.owner, run_id=run_id, query=everything, at=now))
        if self.random.random() < _READ_MORE:
            self._read_more(now)
        self.scheduler.run(self.scheduler.now + 30.0, self._over)

    def _read_more(self, now: float) -> None:
        """List the runs, read a session and start one more run in it: no run holds a session in the end."""
        sessions = {seen.run.session_id: seen.owner for seen in self.auditor.evidence.runs.values()}
        if sessions:
            session_id, owner = self.random.choice(list(sessions.items()))
            self.clients.send(ClientRequest("session page", owner, session_id=session_id, at=now))
            body = {"agent": "writer", "input": "more", "session_id": session_id}
            self.clients.send(ClientRequest("start", owner, session_id=session_id, body=body, at=now))
        self.clients.send(ClientRequest("list", self.random.choice(OWNERS), query={"limit": "100"}, at=now))

    def stored(self, before: Run | None, event: object, after: Run, _effects: object) -> None:
        """Note a transition, as the observer of the app."""
        if before is not None:
            states = (before.status, before.step), (after.status, after.step)
            self.coverage.transitions[transition(type(event), *states)] += 1

    def _unexpected(self, invocation: Invocation, fault: Exception) -> None:
        frames = traceback.extract_tb(fault.__traceback__)[-4:]
        where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
        run_id = next(iter(sorted(invocation.touched)), "")
        what = f"{invocation.name} raised {type(fault).__name__}: {str(fault)[:100]} at {where}"
        self.auditor.evidence.breach(10, run_id, what)

    def _note(self, call: str, own: str | None = None, fate: str | None = None) -> None:
        if self._trace is not None:
            who = self.scheduler.current.name if self.scheduler.current else "-"
            faults = " ".join(f"[{one}]" for one in (own, fate) if one)
            self._trace.append(f"{self.scheduler.now:8.2f}  {who:<22} {call} {faults}".rstrip())
        if self.scheduler.current:
            self.interference.called(call, self.scheduler.current)


def simulate(seed: int, trace: list[str] | None = None) -> Outcome:
    return Simulation(seed, trace).run()
