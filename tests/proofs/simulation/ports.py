"""The ports of the simulation: each call has its real effect, with faults and delays before and after it."""

import random as randoms
import types
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from datetime import timedelta
from email.utils import format_datetime

from shared.adapters.system import SystemClock
from shared.core.calls import CallStatus, ToolCall, ToolResult
from shared.core.run import DEFAULT_PROVIDER, Content, Step
from shared.errors import RowConflict, StorageUnavailable
from shared.ports.agents import AgentSpec, Permit, WaitNeeded
from shared.ports.tables import Delete, Insert, Merge, Put, Row, Write
from shared.store.content import ContentStore
from tests.proofs.simulation.auditor import Auditor
from tests.proofs.simulation.evidence import START
from tests.proofs.simulation.faults import Faults
from tests.proofs.simulation.late import LONGEST, OVERTAKEN
from tests.proofs.simulation.responses import unfit
from tests.proofs.simulation.scheduler import DEATH, LONGEST_TOOL, Hold, Invocation, Scheduler
from tests.proofs.simulation.waiting import ALWAYS, BY_PREDICATE, OF_AGENT, RAISES, UNFIT, Plan, fits
from tests.support.memory_table import MemoryTable

# The usual time for reading a response. A large one needs more.
READ_TIMEOUT = timedelta(seconds=2)

# How long a call takes so that a late create ends during it; less than any time-out.
PROLONGED = 8.0

Trace = Callable[..., None]


class SimulatedClock(SystemClock):
    """The clock of one host, which its processes compare with that of the storage."""

    def __init__(self, scheduler: Scheduler, ahead: float) -> None:
        super().__init__(lambda: START + timedelta(seconds=scheduler.now + ahead))
        self._scheduler, self._ahead = scheduler, ahead

    @property
    def skew(self) -> float:
        """How many seconds the clock is ahead, as far as it is not corrected."""
        return self._ahead + self.correction.total_seconds()

    def compare_now(self) -> None:
        """Get a reply from the storage."""
        if self._ahead:
            true = START + timedelta(seconds=int(self._scheduler.now))
            local = self._local_time().timestamp()
            self.compare(format_datetime(true, usegmt=True), local, local)


class SimulatedRandomness:
    """The random ids of one seed. There are few shards, so that few have to be polled."""

    def __init__(self, random: randoms.Random, shards: int) -> None:
        self._random = random
        self._shards = shards

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count) if count > 1 else bytes([self._random.randrange(self._shards)])

    def fraction(self) -> float:
        return self._random.random()


class Gate:
    """Every call of a port passes it, before and after its effect. Faults and delays happen here."""

    def __init__(self, random: randoms.Random, scheduler: Scheduler, faults: Faults, trace: Trace) -> None:
        self.random, self.scheduler, self.faults, self.trace = random, scheduler, faults, trace
        # Returns until when an invocation stands still, if that is not decided by time alone.
        self.overtaken: Callable[[Invocation], Hold | None] = lambda _: None
        # Called when an invocation dies or stands still.
        self.stuck: Callable[[Invocation], None] | None = None
        # Called with an exception of an invocation that it must not raise.
        self.unexpected: Callable[[Invocation, Exception], None] = _raise

    @property
    def caller(self) -> Invocation:
        caller = self.scheduler.current
        assert caller is not None
        return caller

    def latency(self) -> float:
        # Mostly short, so that the calls of several invocations interleave often.
        drawn = self.random.random()
        return 0.3 * drawn * drawn

    @types.coroutine
    def enter(self, call: str, occasion: str) -> Generator[float, None, tuple[str | None, str | None]]:
        """Let time pass before a call takes effect; return the fault of the call, and the fault of its process.

        A process that dies here never goes on. The coroutine yields how long the caller waits.
        """
        own, fate = self.faults.draw(occasion), self.faults.draw("process")
        self.trace(call, own, fate)
        if fate in {"killed_before", "host_killed"}:
            yield self._die(whole_host=fate == "host_killed")
        yield self.latency()
        if fate == "frozen_before":
            yield from self.freeze()
        if own in {"storage_slow", "tool_slow"}:
            yield self.random.uniform(1, 6)
        return own, fate

    @types.coroutine
    def leave(self, fate: str | None) -> Generator[float | Hold, None, None]:
        """Let time pass after a call took effect, before its process gets the reply."""
        if fate == "killed_after":
            yield self._die(whole_host=False)
        yield self.latency()
        if fate == "frozen_after":
            yield from self.freeze()
        elif hold := self.overtaken(self.caller):
            yield from self.hold(hold, OVERTAKEN, LONGEST)

    def _die(self, *, whole_host: bool) -> float:
        self._report_stuck()
        if whole_host:
            self.scheduler.kill_host(self.caller.host, but=self.caller)
        return DEATH

    @types.coroutine
    def freeze(self) -> Generator[float, None, None]:
        """Let the caller stand still, mostly for longer than its lease lasts without renewals."""
        caller, seconds = self.caller, self.random.choice((15, 45, 70, 120))
        caller.stalled += seconds
        self._report_stuck()
        yield from self._still(caller, seconds)

    @types.coroutine
    def _still(self, caller: Invocation, wait: float | Hold) -> Generator[float | Hold, None, None]:
        """Let the caller wait, alone or with its whole process: then nothing renews its lease."""
        caller.still = self.faults.draw("still") is None
        yield wait
        caller.still = False

    @types.coroutine
    def wait(self, seconds: float) -> Generator[float, None, None]:
        yield seconds

    @types.coroutine
    def hold(self, hold: Hold, at_least: float, at_most: float) -> Generator[float | Hold, None, None]:
        """Let the caller stand still until `hold` is over, but at most for `at_most` seconds."""
        caller = self.caller
        caller.stalled += at_least
        self._report_stuck()
        self.scheduler.after(at_most, hold.end)
        yield from self._still(caller, hold)

    def _report_stuck(self) -> None:
        if self.stuck:
            self.stuck(self.caller)


def _raise(_invocation: Invocation, fault: Exception) -> None:
    raise fault


class SimulatedTable(MemoryTable):
    """A table. Each request can fail, before or after it takes effect."""

    def __init__(self, name: str, gate: Gate, auditor: Auditor) -> None:
        super().__init__()
        self._name, self._gate, self._auditor = name, gate, auditor
        # The longest additional time of a query, in seconds.
        self.lag = 0.0

    async def get(self, partition: str, key: str) -> Row | None:
        own, fate = await self._gate.enter(f"{self._name}.get {key}", "storage")
        self._fail_if_refused(own)
        row = await super().get(partition, key)
        self._auditor.looked(key, self._gate.caller)
        await self._gate.leave(fate)
        return row

    async def query(
        self,
        partition: str,
        first: str,
        end: str,
        *,
        where: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        own, fate = await self._gate.enter(f"{self._name}.query {first}", "storage")
        self._fail_if_refused(own)
        if self.lag:
            await self._gate.wait(self._gate.random.uniform(0, self.lag))
        found = await super().query(partition, first, end, where=where, limit=limit)
        await self._gate.leave(fate)
        return found

    async def query_each(
        self, bounds: Mapping[str, tuple[str, str]], *, where: Mapping[str, str], limit: int
    ) -> list[Row]:
        own, fate = await self._gate.enter(f"{self._name}.query_each", "storage")
        self._fail_if_refused(own)
        found = [
            row
            for shard, ends in bounds.items()
            for row in await super(SimulatedTable, self).query(shard, *ends, where=where, limit=limit)
        ]
        for row in found:
            self._auditor.looked(row.key, self._gate.caller)
        await self._gate.leave(fate)
        return found

    async def write(self, partition: str, writes: Sequence[Write]) -> str:
        keys = " ".join([f"{type(one).__name__} {_key(one)}" for one in writes])
        occasion = "checkpoint" if "Put tool|" in keys else "storage_write"
        own, fate = await self._gate.enter(f"{self._name}.write {keys}", occasion)
        self._fail_if_refused(own)
        try:
            etag = await super().write(partition, writes)
        except RowConflict as conflict:
            self._gate.trace(f"conflict {conflict}")
            await self._gate.leave(fate)
            raise
        if self._name == "runs":
            self._auditor.wrote(self._completed(partition, writes), self._gate.caller)
        await self._gate.leave(fate)
        met_itself = own == "conflict_with_itself" and any(_meets_itself(one) for one in writes)
        lost = own in {"reply_lost", "outage"}
        self._gate.caller.lost_replies += self._name == "runs" and (met_itself or lost)
        if own == "outage":
            self._gate.caller.cut_off_until = self._gate.scheduler.now + self._gate.random.uniform(0.2, 1)
        if lost:
            self._fail("its reply is lost")
        if met_itself:
            # The client library repeated the write because the reply was lost.
            self._gate.caller.storage_faults += 1
            raise RowConflict("itself")
        return etag

    def _completed(self, partition: str, writes: Sequence[Write]) -> list[Write]:
        """Return the writes, with the complete rows in the place of what was merged into them."""
        rows = self._partitions[partition]
        return [Put(rows[one.row.key]) if isinstance(one, Merge) else one for one in writes]

    def _fail_if_refused(self, fault: str | None) -> None:
        if fault == "storage_refused" or self._gate.scheduler.now < self._gate.caller.cut_off_until:
            self._fail("refused")

    def _fail(self, how: str) -> None:
        self._gate.caller.storage_faults += 1
        raise StorageUnavailable(f"a request to the table {self._name}: {how}")


def _key(write: Write) -> str:
    return write.key if isinstance(write, Delete) else write.row.key


def _meets_itself(write: Write) -> bool:
    """Return whether a write that took effect fails when it is repeated."""
    return isinstance(write, Insert | Delete) or (isinstance(write, Put) and bool(write.etag))


class RowsOnly(ContentStore):
    """Stores every text in rows of its own, as otherwise only long ones are. Such rows can be deleted meanwhile."""

    async def save(self, run_id: str, name: str, text: str, *, apart: bool = True) -> Content:
        return await super().save(run_id, name, text, apart=apart)


class SimulatedAgents:
    """One agent with two tools: `look_up` is declared idempotent, `pay` is not. In some seeds it has others, whose calls wait."""

    def __init__(
        self,
        gate: Gate,
        auditor: Auditor,
        plan: Plan | None,
        *,
        structured: bool,
        provider: str = DEFAULT_PROVIDER,
    ) -> None:
        self._gate, self._auditor, self._plan = gate, auditor, plan
        waiting = (ALWAYS, BY_PREDICATE, RAISES, OF_AGENT) if plan else ()
        self._spec = AgentSpec(
            structured=structured,
            provider=provider,
            name="writer",
            description="Writes.",
            model="m",
            instructions="Write.",
            tools="[]",
            tool_names=("look_up", "pay", *waiting),
            may_wait=frozenset(waiting),
            repeatable=frozenset({"look_up"}),
            longest_tool=LONGEST_TOOL,
            max_turns=3,
            deadline=timedelta(seconds=90),
            options={},
        )

    def names(self) -> tuple[str, ...]:
        return ("writer",)

    def spec(self, name: str) -> AgentSpec | None:
        return self._spec if name == "writer" else None

    def fault_of_output(self, _agent: str, text: str) -> str | None:
        return "It does not fit." if unfit(text) else None

    async def waits(self, _agent: str, calls: Sequence[ToolCall]) -> Mapping[str, WaitNeeded | None]:
        assert self._plan, "only tools that may wait are asked about"
        _, fate = await self._gate.enter(f"waits {' '.join(call.call_id for call in calls)}", "decision")
        for call in calls:
            self._auditor.waits.decides(call, self._gate.caller)
        found = {call.call_id: self._plan.needs(call) for call in calls if fits(call.arguments)}
        await self._gate.leave(fate)
        return found

    async def fault_of_arguments(self, _agent: str, _tool: str, arguments: str) -> str | None:
        return None if fits(arguments) else "The amount is negative."

    async def run_tools(
        self, _agent: str, requests: Sequence[ToolCall], permit: Permit
    ) -> AsyncGenerator[ToolResult, None]:
        """Run tools concurrently: some have their effect long before their result is yielded."""
        waiting = list(requests)
        self._gate.random.shuffle(waiting)
        early = self._gate.random.randrange(len(waiting) + 1)
        ahead = [await self._run(request) for request in waiting[:early] if permit.given()]
        for result, fate in ahead:
            await self._gate.leave(fate)
            yield result
        for request in waiting[early:]:
            if permit.given():
                result, fate = await self._run(request)
                await self._gate.leave(fate)
                yield result

    async def _run(self, request: ToolCall) -> tuple[ToolResult, str | None]:
        if not request.cleared:
            return ToolResult(request.call_id, CallStatus.FAILED, UNFIT), None
        self._auditor.tool_begins(request, self._gate.caller)
        own, fate = await self._gate.enter(f"tool {request.name} {request.idempotency_key}", "tool")
        late = self._auditor.evidence.late.get(request.idempotency_key.partition("-")[0])
        if late and late.prolongs(Step.TOOLS):
            await self._gate.wait(PROLONGED)
        output = self._auditor.tool_ran(request, self._gate.caller)
        status = CallStatus.FAILED if own == "tool_failed" else CallStatus.COMPLETED
        return ToolResult(request.call_id, status, output), fate
