"""The ports as the simulation has them: real in what they do, and everything can happen around each call."""

import random as randoms
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from shared.core.run import CallStatus, Content
from shared.errors import RowConflict, StorageUnavailable
from shared.ports.agents import AgentSpec, ToolRequest, ToolResult
from shared.ports.tables import Delete, Insert, Put, Row, Write
from shared.store.content import ContentStore
from tests.proofs.simulation.auditor import Auditor
from tests.proofs.simulation.faults import Faults
from tests.proofs.simulation.scheduler import DEATH, Invocation, Scheduler, pause
from tests.support.memory_table import MemoryTable

START = datetime(2026, 1, 1, tzinfo=UTC)
# The most that a request or a tool takes, so that a lease covers it.
PROVIDER_TIMEOUT = timedelta(seconds=10)
LONGEST_TOOL = timedelta(seconds=20)

Trace = Callable[..., None]


class SimulatedClock:
    """The clock of one host."""

    def __init__(self, scheduler: Scheduler, skew: float = 0.0) -> None:
        self._scheduler = scheduler
        self._skew = skew

    def now(self) -> datetime:
        return START + timedelta(seconds=self._scheduler.now + self._skew)


class SimulatedRandomness:
    """Random ids of one seed. Few shards, so that few have to be polled."""

    def __init__(self, random: randoms.Random, shards: int) -> None:
        self._random = random
        self._shards = shards

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count) if count > 1 else bytes([self._random.randrange(self._shards)])

    def fraction(self) -> float:
        return self._random.random()


class Gate:
    """What every call of a port passes: on its way in, and on its way out."""

    def __init__(self, random: randoms.Random, scheduler: Scheduler, faults: Faults, trace: Trace) -> None:
        self.random, self.scheduler, self.faults, self.trace = random, scheduler, faults, trace
        # What others do when one who is at a run dies or stands still.
        self.stuck: Callable[[Invocation], None] | None = None

    @property
    def caller(self) -> Invocation:
        caller = self.scheduler.current
        assert caller is not None
        return caller

    def latency(self) -> float:
        # Mostly short, so that calls of several invocations often fall between each other.
        drawn = self.random.random()
        return 0.3 * drawn * drawn

    async def enter(self, call: str, occasion: str) -> tuple[str | None, str | None]:
        """Let time pass before a call takes effect; return its own fault, and what its process is to meet after it.

        A process that dies here never comes back.
        """
        own, fate = self.faults.draw(occasion), self.faults.draw("process")
        self.trace(call, own, fate)
        if fate in {"killed_before", "host_killed"}:
            await self._die(whole_host=fate == "host_killed")
        await pause(self.latency())
        if fate == "frozen_before":
            await self.freeze()
        if own in {"storage_slow", "tool_slow"}:
            await pause(self.random.uniform(1, 6))
        return own, fate

    async def leave(self, fate: str | None) -> None:
        """Let time pass after a call took effect, before the process learns of it."""
        if fate == "killed_after":
            await self._die(whole_host=False)
        await pause(self.latency())
        if fate == "frozen_after":
            await self.freeze()

    async def _die(self, *, whole_host: bool) -> None:
        self._tell()
        if whole_host:
            self.scheduler.kill_host(self.caller.host, but=self.caller)
        await pause(DEATH)

    async def freeze(self) -> None:
        """Let the caller stand still, mostly for longer than its lease lasts."""
        seconds = self.random.choice((15, 45, 70, 120))
        self.caller.stalled += seconds
        self._tell()
        await pause(seconds)

    def _tell(self) -> None:
        if self.stuck:
            self.stuck(self.caller)


class SimulatedTable(MemoryTable):
    """A table whose every request can fail, before or after it took effect."""

    def __init__(self, name: str, gate: Gate, auditor: Auditor) -> None:
        super().__init__()
        self._name, self._gate, self._auditor = name, gate, auditor
        # How many seconds a query takes at most on top of what every call takes.
        self.lag = 0.0

    async def get(self, partition: str, key: str) -> Row | None:
        fate = await self._enter(f"{self._name}.get {key}", "storage")
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
        fate = await self._enter(f"{self._name}.query {first}", "storage")
        if self.lag:
            await pause(self._gate.random.uniform(0, self.lag))
        found = await super().query(partition, first, end, where=where, limit=limit)
        await self._gate.leave(fate)
        return found

    async def query_each(
        self, bounds: Mapping[str, tuple[str, str]], *, where: Mapping[str, str], limit: int
    ) -> list[Row]:
        fate = await self._enter(f"{self._name}.query_each", "storage")
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
        own, fate = await self._gate.enter(f"{self._name}.write {keys}", "storage_write")
        self._fail_if_refused(own)
        try:
            etag = await super().write(partition, writes)
        except RowConflict as conflict:
            self._gate.trace(f"conflict {conflict}")
            await self._gate.leave(fate)
            raise
        self._auditor.wrote(self._name, writes, self._gate.caller)
        await self._gate.leave(fate)
        met_itself = own == "conflict_with_itself" and any(_meets_itself(one) for one in writes)
        lost = own in {"reply_lost", "outage"}
        self._gate.caller.lost_replies += self._name == "runs" and (met_itself or lost)
        if own == "outage":
            self._gate.caller.cut_off_until = self._gate.scheduler.now + self._gate.random.uniform(0.2, 2)
        if lost:
            self._fail("its reply is lost")
        if met_itself:
            # The client library sent it again because the reply was lost.
            self._gate.caller.storage_faults += 1
            raise RowConflict("itself")
        return etag

    async def _enter(self, call: str, occasion: str) -> str | None:
        own, fate = await self._gate.enter(call, occasion)
        self._fail_if_refused(own)
        return fate

    def _fail_if_refused(self, fault: str | None) -> None:
        if fault == "storage_refused" or self._gate.scheduler.now < self._gate.caller.cut_off_until:
            self._fail("refused")

    def _fail(self, how: str) -> None:
        self._gate.caller.storage_faults += 1
        raise StorageUnavailable(f"a request to the table {self._name}: {how}")


def _key(write: Write) -> str:
    return write.key if isinstance(write, Delete) else write.row.key


def _meets_itself(write: Write) -> bool:
    """Say whether a write that took effect fails when it is sent again."""
    return isinstance(write, Insert | Delete) or (isinstance(write, Put) and bool(write.etag))


class RowsOnly(ContentStore):
    """Keeps every text in rows of its own, as otherwise only long ones are: there it can be gone."""

    async def save(self, run_id: str, name: str, text: str, *, apart: bool = True) -> Content:
        return await super().save(run_id, name, text, apart=apart)


class SimulatedAgents:
    """One agent with two tools, of which `look_up` is declared idempotent and `pay` is not."""

    def __init__(self, gate: Gate, auditor: Auditor) -> None:
        self._gate, self._auditor = gate, auditor
        self._spec = AgentSpec(
            name="writer",
            description="Writes.",
            model="m",
            instructions="Write.",
            tools="[]",
            tool_names=("look_up", "pay"),
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

    async def run_tools(self, _agent: str, requests: Sequence[ToolRequest]) -> AsyncIterator[ToolResult]:
        """Run tools side by side: some have had their effect long before their result is in."""
        waiting = list(requests)
        self._gate.random.shuffle(waiting)
        early = self._gate.random.randrange(len(waiting) + 1)
        ahead = [await self._run(request) for request in waiting[:early]]
        for result, fate in ahead:
            await self._gate.leave(fate)
            yield result
        for request in waiting[early:]:
            result, fate = await self._run(request)
            await self._gate.leave(fate)
            yield result

    async def _run(self, request: ToolRequest) -> tuple[ToolResult, str | None]:
        own, fate = await self._gate.enter(f"tool {request.name} {request.idempotency_key}", "tool")
        output = self._auditor.tool_ran(request, self._gate.caller)
        status = CallStatus.FAILED if own == "tool_failed" else CallStatus.COMPLETED
        return ToolResult(request.call_id, status, output), fate
