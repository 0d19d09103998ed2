"""Ports that count their calls, and end the process before or after a chosen one."""

import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from shared.core.calls import ToolCall, ToolResult
from shared.core.response import CancelReply, CreateReply, DeleteReply, ReadReply, SliceReply
from shared.ports.agents import Agents, AgentSpec, Permit, WaitNeeded
from shared.ports.chat import ChatEvent, ChatProvider, ChatRequest, ChatText
from shared.ports.providers import Provider, ResponseRequest
from shared.ports.system import Clock
from shared.ports.tables import Row, Table, Write
from tests.proofs.crash.ledger import Ledger
from tests.proofs.crash.points import AFTER, BEFORE, CRASHED, FAILED, Point

_T = TypeVar("_T")
# Gets the number of the response that this process has created, and its run.
AfterCreate = Callable[[int, str], Awaitable[None]]
# Gets the id of the call.
AfterTool = Callable[[str], Awaitable[None]]
AfterText = Callable[[], None]


class Fuse:
    """Writes each crash point that this process reaches to the journal, and ends the process at the point `armed`."""

    def __init__(self, journal: Ledger, life: int, armed: Point | None, clock: Clock) -> None:
        self._journal = journal
        self._life = life
        self._armed = armed
        self._clock = clock
        self._calls: Counter[str] = Counter()

    def count(self, method: str) -> int:
        self._calls[method] += 1
        return self._calls[method]

    def reach(self, method: str, ordinal: int, side: str, about: str = "") -> None:
        point = Point(method, ordinal, side)
        now = self._clock.now().isoformat()
        self._journal.add(life=self._life, point=str(point), about=about, now=now)
        if point == self._armed:
            os._exit(CRASHED)

    async def call(self, method: str, about: str, inner: Awaitable[_T]) -> _T:
        """Make one call of a port, between its two points."""
        ordinal = self.count(method)
        self.reach(method, ordinal, BEFORE, about)
        try:
            result = await inner
        except Exception as fault:
            self.reach(method, ordinal, AFTER, f"{about}{FAILED}{type(fault).__name__}")
            raise
        self.reach(method, ordinal, AFTER, about)
        return result


class FusedTable:
    """A `Table` with a crash point before and after each call."""

    def __init__(self, fuse: Fuse, name: str, inner: Table) -> None:
        self._fuse = fuse
        self._name = name
        self._inner = inner

    async def get(self, partition: str, key: str) -> Row | None:
        return await self._fuse.call(f"{self._name}.get", key, self._inner.get(partition, key))

    async def query(
        self,
        partition: str,
        first: str,
        end: str,
        *,
        where: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        inner = self._inner.query(partition, first, end, where=where, limit=limit)
        return await self._fuse.call(f"{self._name}.query", first, inner)

    async def query_each(
        self, bounds: Mapping[str, tuple[str, str]], *, where: Mapping[str, str], limit: int
    ) -> list[Row]:
        inner = self._inner.query_each(bounds, where=where, limit=limit)
        return await self._fuse.call(f"{self._name}.query_each", f"{len(bounds)} partitions", inner)

    async def write(self, partition: str, writes: Sequence[Write]) -> str:
        about = ", ".join(_described(write) for write in writes)
        return await self._fuse.call(f"{self._name}.write", about, self._inner.write(partition, writes))


class FusedProvider:
    """A `Provider` with a crash point before and after each call. `created` are the responses that this process created.

    `after_create` is awaited between the reply to a create and its use.
    """

    def __init__(self, fuse: Fuse, inner: Provider, after_create: AfterCreate) -> None:
        self._fuse = fuse
        self._inner = inner
        self._after_create = after_create
        self.created: list[str] = []

    async def create(self, request: ResponseRequest) -> CreateReply:
        reply = await self._fuse.call(
            "provider.create", f"turn {request.turn} of {request.run_id}", self._inner.create(request)
        )
        if response_id := getattr(reply, "response_id", None):
            self.created.append(response_id)
            await self._after_create(len(self.created), request.run_id)
        return reply

    async def read(self, response_id: str, **options: Any) -> ReadReply:
        reading = self._inner.read(response_id, **options)
        return await self._fuse.call("provider.read", response_id, reading)

    async def slice(self, response_id: str, after: int, **options: Any) -> SliceReply:
        about = f"{response_id} after {after}"
        return await self._fuse.call(
            "provider.slice", about, self._inner.slice(response_id, after, **options)
        )

    async def cancel(self, response_id: str) -> CancelReply:
        return await self._fuse.call("provider.cancel", response_id, self._inner.cancel(response_id))

    async def delete(self, response_id: str) -> DeleteReply:
        return await self._fuse.call("provider.delete", response_id, self._inner.delete(response_id))


class FusedChat:
    """A `ChatProvider` with crash points around each stream, and before and after the use of each of its events.

    `after_text` is called when a piece of the text has come.
    """

    def __init__(self, fuse: Fuse, inner: ChatProvider, after_text: AfterText) -> None:
        self._fuse = fuse
        self._inner = inner
        self._after_text = after_text

    async def generate(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        about = f"turn {request.turn} after {len(request.prefix)} characters"
        stream = self._fuse.count("chat.generate")
        self._fuse.reach("chat.generate", stream, BEFORE, about)
        async with aclosing(self._inner.generate(request)) as events:
            async for event in events:
                ordinal = self._fuse.count("chat.event")
                self._fuse.reach("chat.event", ordinal, BEFORE, type(event).__name__)
                if isinstance(event, ChatText):
                    self._after_text()
                yield event
                self._fuse.reach("chat.event", ordinal, AFTER, type(event).__name__)
        self._fuse.reach("chat.generate", stream, AFTER, about)


class FusedAgents:
    """`Agents` with crash points around the decision which calls wait, around the running of tools, and around each result.

    `after_tool` is awaited between the effect of a tool and its result, so for the app the tool is still at work.
    """

    def __init__(self, fuse: Fuse, inner: Agents, after_tool: AfterTool) -> None:
        self._fuse = fuse
        self._inner = inner
        self._after_tool = after_tool

    def names(self) -> tuple[str, ...]:
        return self._inner.names()

    def spec(self, name: str) -> AgentSpec | None:
        return self._inner.spec(name)

    async def waits(self, agent: str, calls: Sequence[ToolCall]) -> Mapping[str, WaitNeeded | None]:
        about = ", ".join(call.name for call in calls)
        return await self._fuse.call("tools.waits", about, self._inner.waits(agent, calls))

    async def fault_of_arguments(self, agent: str, tool: str, arguments: str) -> str | None:
        return await self._inner.fault_of_arguments(agent, tool, arguments)

    async def run_tools(
        self, agent: str, requests: Sequence[ToolCall], permit: Permit
    ) -> AsyncGenerator[ToolResult, None]:
        about = ", ".join(request.name for request in requests)
        run = self._fuse.count("tools.run")
        self._fuse.reach("tools.run", run, BEFORE, about)
        async for result in self._inner.run_tools(agent, requests, permit):
            ordinal = self._fuse.count("tools.result")
            self._fuse.reach("tools.result", ordinal, BEFORE, result.call_id)
            await self._after_tool(result.call_id)
            yield result
            self._fuse.reach("tools.result", ordinal, AFTER, result.call_id)
        self._fuse.reach("tools.run", run, AFTER, about)


def _described(write: Write) -> str:
    key = getattr(write, "key", None) or write.row.key  # type: ignore[union-attr]
    return f"{type(write).__name__} {key.partition('|')[0]}"
