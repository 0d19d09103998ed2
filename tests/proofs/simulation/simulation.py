"""One seed: first a time with faults, then one without, and the checks at the end."""

import random as randoms
import traceback
from dataclasses import dataclass
from datetime import timedelta

from shared.core.ids import all_shards
from shared.core.pace import Schedule
from shared.core.run import Chaining, Run, Step
from shared.ports.providers import DEFAULT_PROVIDER
from shared.ports.tables import Put, Row
from shared.steps.context import Context
from tests.proofs.simulation.answers import AnswerAuditor, ClientRequest
from tests.proofs.simulation.audit_logs import audit_logs
from tests.proofs.simulation.auditor import Auditor
from tests.proofs.simulation.clients import OWNERS, Clients
from tests.proofs.simulation.coverage import Coverage, transition
from tests.proofs.simulation.evidence import Breach
from tests.proofs.simulation.faults import Faults
from tests.proofs.simulation.late import LONGEST, LateClaim
from tests.proofs.simulation.ports import (
    PROVIDER_TIMEOUT,
    Gate,
    RowsOnly,
    SimulatedAgents,
    SimulatedClock,
    SimulatedRandomness,
    SimulatedTable,
)
from tests.proofs.simulation.provider import SimulatedProvider
from tests.proofs.simulation.scheduler import MAX_SKEW, Hold, Invocation, Scheduler
from tests.proofs.simulation.triggers import HOSTS, Triggers, seconds_of
from tests.support.world import stores

SCHEDULE = Schedule(timedelta(seconds=2), timedelta(seconds=30))
STREAMING = Schedule(timedelta(seconds=2), timedelta(seconds=5))
# Text that is too long for a run's row even when compressed: it is stored in rows of its own.
LONG_TEXT = "".join(
    randoms.Random(0).choices("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=23_000)
)
# The longest time of a poll, when nothing fails.
_LONGEST_POLL = 10.0
# No seed takes more steps than this.
_MOST_STEPS = 40_000
# Rare operations. By this factor, other operations meet them more often.
_RARE = {
    "work: create": 2.0,
    "work: tools": 2.0,
    "work: cancel": 16.0,
    "work: purge": 4.0,
    "read": 0.5,
    "poll": 0.5,
}
# In what share of the seeds every text is stored in rows of its own, and the longest time to read them, in seconds.
_TEXTS_APART, _LAG = 0.3, 5.0
# How often a client deletes the run while this operation reads its texts.
_DELETED_MEANWHILE = {"start": 0.03, "work: tools": 0.25, "session page": 0.7}
# How often a client intervenes when a run does not move.
_INTERVENED = 0.6
# Without faults, every delivery is made within this time: the pauses between two tries grow to a minute.
_DELIVERED_WITHIN = 900.0
# In what share of the seeds clients also read a list and a session in the end.
_READ_MORE = 0.25
# Deleted runs are purged a second time after ten minutes, and deletions at the provider are repeated for an hour.
_AFTERMATH = (660.0, 3700.0)


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
        self.auditor = Auditor(self.scheduler, (SCHEDULE, STREAMING), self.coverage)
        shards = self.random.choice((1, 1, 2))
        self.runs_table = SimulatedTable("runs", self.gate, self.auditor)
        self.content_table = SimulatedTable("content", self.gate, self.auditor)
        self.auditor.reads_content_of(self.content_table)
        self.provider = SimulatedProvider(self.gate, self.auditor, LONG_TEXT)
        self.triggers = self._wire(shards)
        answers = AnswerAuditor(self.auditor.evidence, self.coverage)
        self.clients = Clients(self.gate, self.triggers, answers, LONG_TEXT)
        self.gate.stuck = self._worker_is_stuck
        self.gate.overtaken = self._overtaken
        self.provider.prolong_faults = self._prolong_faults
        self.provider.cancel_run = lambda run_id: self.scheduler.after(
            0.0, lambda: self.clients.cancel(run_id)
        )
        self.faults_end = self.random.choice((20.0, 30.0, 60.0))
        self._period = self.random.choice((3.0, 5.0, 5.0, 8.0))
        self._interference = self.random.choice((0.0, 0.02, 0.06))

    def _wire(self, shards: int) -> Triggers:
        randomness = SimulatedRandomness(self.random, shards)
        tables = stores(self.runs_table, self.content_table, randomness)
        if self.random.random() < _TEXTS_APART:
            tables["content"], self.content_table.lag = RowsOnly(self.content_table), _LAG
        context = Context(
            **tables,
            observer=self,
            providers={DEFAULT_PROVIDER: self.provider},
            agents=SimulatedAgents(self.gate, self.auditor),
            clock=SimulatedClock(self.scheduler),
            randomness=randomness,
            schedule=SCHEDULE,
            streaming=STREAMING,
            chaining=self.random.choice(tuple(Chaining)),
            provider_timeout=PROVIDER_TIMEOUT,
        )
        skewed = self.faults.draw("seed") == "skewed_clocks"
        skews = tuple(self.random.uniform(-MAX_SKEW, MAX_SKEW) if skewed else 0.0 for _ in range(HOSTS))
        return Triggers(
            self.gate, context, self.auditor, all_shards()[:shards], skews, self._unexpected,
            fanout=self.random.random() < 0.2,
        )  # fmt: skip

    def run(self) -> Outcome:
        self._run_with_faults()
        if not self._over():
            self._run_without_faults()
        if not self._over():
            self._audit_the_end()
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
        if self.faults.draw("seed") == "broken_row":
            self._break_a_row()
        timers = 2 if self.faults.draw("seed") == "two_timers" else 1
        for _ in range(timers):
            self.scheduler.after(self.random.uniform(0, self._period), self._tick_again)
        while self.scheduler.now < self.faults_end and not self._over():
            self.scheduler.run(self.faults_end, self._over)

    def _prolong_faults(self, until: float) -> None:
        if self.faults.on:
            self.faults_end = max(self.faults_end, until)

    def _tick_again(self) -> None:
        if self._owed():
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
        self.content_table.lag = 0.0
        self._interference = 0.0
        # Fewer ticks show the same now, because nothing happens between them.
        self._period *= 4
        given_up = self.scheduler.now + _DELIVERED_WITHIN
        while not self._over() and (
            self._pending()
            or self.scheduler.busy
            or (self.auditor.evidence.deliveries and self.scheduler.now < given_up)
        ):
            if self._owed():
                self.triggers.tick()
            self.scheduler.run(self.scheduler.now + self._period, self._over)
            self._check_lateness()
        for seconds in _AFTERMATH:
            if self._over() or not self._purges():
                return
            self.scheduler.run(self.scheduler.now + seconds, self._over)
            for _ in range(4):
                self.triggers.tick()
                self.scheduler.run(self.scheduler.now + 70.0, self._over)

    def _check_lateness(self) -> None:
        """Without faults, every stored run ends by its deadline and two ticks."""
        allowed = MAX_SKEW + 2 * self._period + _LONGEST_POLL
        for seen in self.auditor.evidence.runs.values():
            due = max(seconds_of(seen.run.expires_at), seen.since, self.faults_end)
            if not seen.run.terminal and self.scheduler.now > due + allowed:
                late = f"still {seen.run.status}, {self.scheduler.now - due:.0f} s after its deadline"
                self.auditor.evidence.breach(2, seen.run.id, late)

    def _purges(self) -> bool:
        return any(
            key.startswith("pending|run") for there in self.runs_table._partitions.values() for key in there
        )

    def _audit_the_end(self) -> None:
        """Check what is left in the end, and let clients read everything once more, without faults."""
        self._check_leftovers()
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

    def _check_leftovers(self) -> None:
        evidence = self.auditor.evidence
        for there in self.runs_table._partitions.values():
            for key in there:
                kind, _, rest = key.partition("|")
                run_id = rest.partition("|")[0]
                seen = evidence.runs.get(run_id)
                gone = seen is not None and seen.deleted and kind in {"pending", "event", "tool"}
                stale = seen is not None and seen.run.terminal and kind == "pending"
                stale = stale or kind == "delivery" or kind.startswith("pending~")
                evidence.require(not (gone or stale), 8, run_id, f"the row {key} is left behind")
        for run_id, there in self.content_table._partitions.items():
            seen = evidence.runs.get(run_id)
            if seen and seen.deleted:
                evidence.require(not there, 8, run_id, f"{len(there)} rows of content are left behind")

    def stored(self, before: Run | None, event: object, after: Run, _effects: object) -> None:
        """Note a transition, as the observer of the app."""
        if before is not None:
            states = (before.status, before.step), (after.status, after.step)
            self.coverage.transitions[transition(type(event), *states)] += 1

    def _unexpected(self, invocation: Invocation, fault: Exception) -> None:
        where = " < ".join(
            f"{frame.name}:{frame.lineno}"
            for frame in reversed(traceback.extract_tb(fault.__traceback__)[-4:])
        )
        run_id = next(iter(sorted(invocation.touched)), "")
        self.auditor.evidence.breach(
            10, run_id, f"{invocation.name} raised {type(fault).__name__}: {str(fault)[:100]} at {where}"
        )

    def _note(self, call: str, own: str | None = None, fate: str | None = None) -> None:
        if self._trace is not None:
            who = self.scheduler.current.name if self.scheduler.current else "-"
            faults = " ".join(f"[{one}]" for one in (own, fate) if one)
            self._trace.append(f"{self.scheduler.now:8.2f}  {who:<22} {call} {faults}".rstrip())
        if self._interference and self.scheduler.current:
            urgent = _RARE.get(self.scheduler.current.operation, 1.0)
            if self.random.random() < self._interference * urgent:
                self._interfere(self.scheduler.current)
        if self.content_table.lag and self.scheduler.current and call.startswith("content.query"):
            self._delete_meanwhile(self.scheduler.current)

    def _overtaken(self, caller: Invocation) -> Hold | None:
        """Return when a worker goes on that has read the tools of a turn and has not claimed them."""
        evidence = self.auditor.evidence
        if caller.operation != "work: tools" or len(caller.touched) != 1:
            return None
        [run_id] = caller.touched
        run = evidence.runs[run_id].run
        if run.step is not Step.TOOLS or run.lease or run_id in evidence.late_claims:
            return None
        if self.faults.draw("claim") is None:
            return None
        evidence.late_claims[run_id] = LateClaim(run.turn, Hold())
        self._prolong_faults(self.scheduler.now + LONGEST)
        return evidence.late_claims[run_id].hold

    def _worker_is_stuck(self, caller: Invocation) -> None:
        """Let a client intervene in a run whose worker has died or stands still."""
        touched = self._touched(caller)
        if touched and self.random.random() < _INTERVENED:
            run_id = self.random.choice(touched)
            self.scheduler.after(self.random.uniform(0, 90), lambda: self.clients.intervene(run_id))

    def _delete_meanwhile(self, caller: Invocation) -> None:
        """Let a client delete a run whose texts another operation is reading."""
        touched = self._touched(caller)
        if touched and self.random.random() < _DELETED_MEANWHILE.get(caller.operation, 0.1):
            self.scheduler.after(0.3 * self.random.random(), lambda: self.clients.delete(touched[-1]))

    def _touched(self, caller: Invocation) -> list[str]:
        return sorted(run_id for run_id in caller.touched if run_id in self.auditor.evidence.runs)

    def _interfere(self, caller: Invocation) -> None:
        """Let a client or a second worker use a run at the same time as `caller`."""
        touched = self._touched(caller)
        if not touched:
            return
        run_id = touched[-1]
        come = self.clients.visit if self.random.random() < 0.6 else self.triggers.send
        # Sometimes several at once.
        for _ in range(self.random.choice((1, 1, 3))):
            self.scheduler.after(0.3 * self.random.random(), lambda: come(run_id))


def simulate(seed: int, trace: list[str] | None = None) -> Outcome:
    return Simulation(seed, trace).run()
