"""The clients of a soak: they keep runs pending, read them, and keep the answers."""

import asyncio
import heapq
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.proofs.soak.orders import APPROVED, Ending, Order
from tests.support.oracle import TERMINAL

# With more clients at once, the latencies would show the queue of requests and not the time for one.
_STARTERS, _READERS = 16, 4
_STARTS_A_SECOND = 25
_READ_AGAIN_SECONDS = 3.0
_REQUEST_SECONDS = 30
_IDLE_READS = 200
# The status under which a deleted run is kept. No client sees it.
DELETED = "deleted"


@dataclass
class Load:
    """All clients. `bases` are the addresses of the hosts, which change when hosts are started again; `key` opens all."""

    bases: Sequence[str]
    key: str
    pending: int
    run_seconds: float
    orders: dict[str, Order] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    idle_latencies: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    unanswered: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    # The answers that people gave to calls that waited.
    answers: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._turns = itertools.count()
        self._starting = 0
        self._due: list[tuple[float, str]] = []
        # How long a client waits before it reads a run again that was answered.
        self._pauses: dict[str, float] = {}
        # The runs that have been cancelled or deleted.
        self._ended: set[str] = set()
        self._enough = False
        self._given_up = False

    @property
    def open(self) -> int:
        """How many runs were accepted and have not been read as ended."""
        return len(self.orders) - len(self.runs)

    def drain(self) -> None:
        """Start no more runs; those that are open go on to their ends."""
        self._enough = True

    def give_up(self) -> None:
        """Stop although runs are open."""
        self._enough = self._given_up = True

    async def idle(self) -> None:
        """Measure how long a read of a run takes when there is no load."""
        async with self._session() as session:
            await self._start(session, Order(next(self._numbers), 1.0))
            [run_id] = self.orders
            while run_id not in self.runs:
                await self._read(session, run_id, [])
                await asyncio.sleep(0.2)
            for _ in range(_IDLE_READS):
                await self._read(session, run_id, self.idle_latencies)
                await asyncio.sleep(0.02)

    async def go(self) -> None:
        """Keep runs pending until `drain`, then go on reading until all have ended, or until `give_up`."""
        async with self._session() as session, asyncio.TaskGroup() as tasks:
            for number in range(_STARTERS):
                tasks.create_task(self._keep_starting(session, number / _STARTS_A_SECOND))
            for _ in range(_READERS):
                tasks.create_task(self._keep_reading(session))

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={"x-functions-key": self.key}, timeout=aiohttp.ClientTimeout(_REQUEST_SECONDS)
        )

    async def _keep_starting(self, session: aiohttp.ClientSession, offset: float) -> None:
        await asyncio.sleep(offset)
        while not self._enough:
            began = time.monotonic()
            if self.open + self._starting < self.pending:
                self._starting += 1
                await self._start(session, Order(next(self._numbers), self.run_seconds))
                self._starting -= 1
            await asyncio.sleep(max(0.0, began + _STARTERS / _STARTS_A_SECOND - time.monotonic()))

    async def _keep_reading(self, session: aiohttp.ClientSession) -> None:
        while not self._given_up and not (self._enough and not self._starting and not self.open):
            if not self._due or self._due[0][0] > time.monotonic():
                await asyncio.sleep(0.05)
                continue
            _, run_id = heapq.heappop(self._due)
            await self._end(session, run_id)
            await self._read(session, run_id, self.latencies)
            if run_id not in self.runs:
                pause = self._pauses.pop(run_id, _READ_AGAIN_SECONDS)
                heapq.heappush(self._due, (time.monotonic() + pause, run_id))

    async def _start(self, session: aiohttp.ClientSession, order: Order) -> None:
        """Start a run, on any host that answers. A start without an answer is repeated with the same key."""
        body = {"agent": "clerk", "input": order.input, "metadata": {"mark": order.mark}}
        headers = {"Idempotency-Key": order.mark}
        while not self._given_up:
            answer = await self._send(session, "POST", "runs", json=body, headers=headers)
            if answer is None:
                continue
            status, run, _ = answer
            if status not in {200, 202}:
                self.refused.append(f"start of {order.mark}: {status} {run}")
                return
            self.orders[run["id"]] = order
            heapq.heappush(self._due, (time.monotonic() + order.first_read_after, run["id"]))
            return

    async def _end(self, session: aiohttp.ClientSession, run_id: str) -> None:
        """Cancel or delete a run that has to end so. Without an answer this is repeated before the next read."""
        ending = self.orders[run_id].ending
        if ending is Ending.ANSWERED or run_id in self._ended:
            return
        deletes = ending is Ending.DELETED
        path = f"runs/{run_id}" if deletes else f"runs/{run_id}/cancel"
        answer = await self._send(session, "DELETE" if deletes else "POST", path)
        if answer is None:
            return
        self._ended.add(run_id)
        # A repeated deletion finds nothing.
        if answer[0] not in ({204, 404} if deletes else {200, 202}):
            self.refused.append(f"end of {run_id}: {answer[0]} {answer[1]}")

    async def _read(self, session: aiohttp.ClientSession, run_id: str, latencies: list[float]) -> None:
        answer = await self._send(session, "GET", f"runs/{run_id}")
        if answer is None:
            return
        status, run, seconds = answer
        latencies.append(seconds)
        if status == 404 and self.orders[run_id].ending is Ending.DELETED:
            self.runs[run_id] = {"status": DELETED, "turn": 1}
        elif status != 200:
            self.refused.append(f"read of {run_id}: {status} {run}")
        elif run["status"] in TERMINAL:
            self.runs[run_id] = run
        elif run["status"] == "requires_action":
            await self._answer(session, run)

    async def _answer(self, session: aiohttp.ClientSession, run: Any) -> None:
        """Approve or refuse the calls that wait. Without a reply this is repeated after the next read."""
        order = self.orders[run["id"]]
        for call in run["required_action"]:
            arguments = json.loads(call["arguments"]) | {"amount": APPROVED}
            given = {"approve": True, "arguments": arguments}
            if order.refused:
                given = {"approve": False, "reason": "Not this one."}
            answer = await self._send(session, "POST", f"runs/{run['id']}/calls/{call['id']}", json=given)
            if answer is None:
                continue
            if answer[0] != 200:
                self.refused.append(f"answer to {call['id']} of {run['id']}: {answer[0]} {answer[1]}")
                continue
            self.answers["refused" if order.refused else "approved"] += 1
            # The next turn takes its time.
            self._pauses[run["id"]] = order.tool_turns * order.turn_seconds

    async def _send(
        self, session: aiohttp.ClientSession, method: str, path: str, **request: Any
    ) -> tuple[int, Any, float] | None:
        """Return status, body and seconds; None when the host does not answer or answers 503."""
        base = self.bases[next(self._turns) % len(self.bases)]
        began = time.perf_counter()
        try:
            async with session.request(method, f"{base}/api/{path}", **request) as reply:
                body = await reply.json(content_type=None)
                seconds = time.perf_counter() - began
        except (aiohttp.ClientError, TimeoutError) as error:
            self.unanswered[type(error).__name__] += 1
            await asyncio.sleep(0.1)
            return None
        if reply.status == 503:
            self.unanswered["503"] += 1
            await asyncio.sleep(1)
            return None
        return reply.status, body, seconds
