"""A small fake for each port."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from shared.core.calls import CallStatus, ToolCall, ToolResult
from shared.core.response import (
    Absent,
    CancelReply,
    ChainBroken,
    CreateReply,
    DeleteReply,
    NotNow,
    ReadReply,
    ResponseStatus,
    RunError,
    Slice,
    SliceReply,
    Snapshot,
    Usage,
)
from shared.ports.agents import AgentSpec, Permit, WaitNeeded
from shared.ports.leases import Renewal
from shared.ports.providers import ResponseRequest
from shared.ports.tables import Table
from tests.support.memory_table import MemoryTable
from tests.support.runs import NOW


@dataclass
class FakeClock:
    at: datetime = NOW
    correction: timedelta = timedelta()

    def now(self) -> datetime:
        return self.at

    def pass_(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Permitted:
    """A permit that stays as a test sets it, and is lost when the test says so."""

    permitted: bool = True
    _lost: asyncio.Event = field(default_factory=asyncio.Event)

    def given(self) -> bool:
        return self.permitted

    async def lost(self) -> None:
        await self._lost.wait()

    def lose(self) -> None:
        self.permitted = False
        self._lost.set()


@dataclass
class FakeKept:
    """A lease that a test renews by calling `renew`."""

    first: timedelta
    renewal: Renewal
    over: bool = False

    async def renew(self, table: Table) -> timedelta | None:
        return await self.renewal.renew(table)

    def end(self) -> None:
        self.over = True

    async def lost(self) -> None:
        """Never return: a test looks at what `renew` returns."""
        await asyncio.Event().wait()


@dataclass
class FakeKeeper:
    """Renews nothing by itself."""

    kept: list[FakeKept] = field(default_factory=list)

    def keep(self, first: timedelta, renewal: Renewal) -> FakeKept:
        self.kept.append(FakeKept(first, renewal))
        return self.kept[-1]

    def __deepcopy__(self, _memo: object) -> "FakeKeeper":
        """Return a keeper without leases, because the work that holds them is not copied with a world."""
        return FakeKeeper()


class Seeded:
    def __init__(self, seed: int = 7) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def fraction(self) -> float:
        return self._random.random()


def message(text: str) -> list[dict[str, object]]:
    return [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]


def answer(response_id: str, text: str = "done", tokens: int = 10) -> Snapshot:
    """A response that is completed with a text."""
    usage = Usage(tokens, tokens, 2 * tokens)
    output = json.dumps(message(text), ensure_ascii=False)
    return Snapshot(response_id=response_id, status=ResponseStatus.COMPLETED, output=output, usage=usage)


def asks(response_id: str, *names: str, call_ids: Sequence[str] = ()) -> Snapshot:
    """A response that is completed with function calls."""
    ids = call_ids or [f"call_{response_id}_{n}" for n, _ in enumerate(names)]
    calls = tuple(ToolCall(call_id, name, "{}") for call_id, name in zip(ids, names, strict=True))
    output = json.dumps(
        [
            {"type": "function_call", "call_id": c.call_id, "name": c.name, "arguments": c.arguments}
            for c in calls
        ]
    )
    done = Snapshot(
        response_id=response_id, status=ResponseStatus.COMPLETED, output=output, usage=Usage(1, 1, 2)
    )
    return replace(done, calls=calls)


def later(reason: str, retry_after: timedelta | None = None, **changes: Any) -> NotNow:
    """The reply of a provider that cannot do it now."""
    error = RunError(changes.pop("code", "provider_unavailable"), reason, changes.pop("provider_code", None))
    return NotNow(error, retry_after, **changes)


def broken_chain(reason: str) -> ChainBroken:
    return ChainBroken(RunError("provider_rejected", reason))


@dataclass
class FakeProvider:
    """Gives the replies that a test has set. Without one, a response is in progress."""

    creates: list[ResponseRequest] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)
    create_replies: list[CreateReply | BaseException | Callable[[], CreateReply | None]] = field(
        default_factory=list
    )
    state: dict[str, ReadReply] = field(default_factory=dict)
    cancel_replies: dict[str, CancelReply] = field(default_factory=dict)
    delete_replies: list[DeleteReply] = field(default_factory=list)
    read_options: dict[str, object] = field(default_factory=dict)
    slices: list[tuple[str, int]] = field(default_factory=list)
    slice_replies: list[SliceReply] = field(default_factory=list)

    async def create(self, request: ResponseRequest) -> CreateReply:
        self.creates.append(request)
        reply = self.create_replies.pop(0) if self.create_replies else None
        if isinstance(reply, BaseException):
            raise reply
        if callable(reply):
            reply = reply()
        sequence = 0 if request.stream else None
        return reply or Snapshot(
            response_id=f"resp_{len(self.creates)}", status=ResponseStatus.QUEUED, sequence=sequence
        )

    async def read(self, response_id: str, **options: object) -> ReadReply:
        self.read_options = options
        self.reads.append(response_id)
        return self.state.get(response_id) or Snapshot(
            response_id=response_id, status=ResponseStatus.IN_PROGRESS
        )

    async def slice(self, response_id: str, after: int, **_options: object) -> SliceReply:
        self.slices.append((response_id, after))
        if self.slice_replies:
            return self.slice_replies.pop(0)
        return Slice(response_id=response_id, after=after, sequence=after)

    async def cancel(self, response_id: str) -> CancelReply:
        self.cancels.append(response_id)
        default = Snapshot(response_id=response_id, status=ResponseStatus.CANCELLED)
        return self.cancel_replies.get(response_id, default)

    async def delete(self, response_id: str) -> DeleteReply:
        self.deletes.append(response_id)
        return self.delete_replies.pop(0) if self.delete_replies else Absent()


@dataclass
class FakeAgents:
    """One agent with two tools: `look_up` is idempotent, `pay` is not."""

    runs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    during: Callable[[ToolCall], None] | None = None
    # The content parts that a tool returns, by its name. Without them it returns a text.
    parts: Mapping[str, list[dict[str, object]]] = field(default_factory=dict)
    # Which of its tools wait, by name, and why changed arguments do not fit, by their text.
    waiting: Mapping[str, WaitNeeded] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    # The tools whose arguments do not fit when it is decided whether they wait, by name.
    unclear: frozenset[str] = frozenset()
    # Further fields of the agent's spec.
    changes: Mapping[str, object] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return ("writer",)

    def spec(self, name: str) -> AgentSpec | None:
        if name != "writer":
            return None
        spec = AgentSpec(
            name="writer",
            description="",
            model="m",
            instructions="Write.",
            tools="[]",
            tool_names=("look_up", "pay"),
            repeatable=frozenset({"look_up"}),
            may_wait=frozenset(self.waiting),
            longest_tool=timedelta(seconds=60),
            max_turns=3,
            deadline=timedelta(minutes=30),
            options={},
        )
        return replace(spec, **self.changes)

    def fault_of_output(self, _agent: str, text: str) -> str | None:
        return None if text.startswith("{") else "The answer is not JSON."

    async def waits(self, _agent: str, calls: Sequence[ToolCall]) -> Mapping[str, WaitNeeded | None]:
        return {call.call_id: self.waiting.get(call.name) for call in calls if call.name not in self.unclear}

    async def fault_of_arguments(self, _agent: str, _tool: str, arguments: str) -> str | None:
        return self.unfit.get(arguments)

    async def run_tools(
        self, _agent: str, requests: Sequence[ToolCall], permit: Permit
    ) -> AsyncGenerator[ToolResult, None]:
        for request in requests:
            if not permit.given():
                return
            if not request.cleared:
                yield ToolResult(request.call_id, CallStatus.FAILED, "not cleared")
                continue
            self.runs[request.call_id] += 1
            if self.during:
                self.during(request)
            parts = self.parts.get(request.name)
            output = json.dumps(parts) if parts else f"result of {request.call_id}"
            yield ToolResult(request.call_id, CallStatus.COMPLETED, output, parts=bool(parts))


class CountingTable(MemoryTable):
    """A memory table that counts its operations, and the rows that its queries return."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = defaultdict(int)
        self.rows_read = 0

    async def get(self, *args, **kwargs):
        self.counts["get"] += 1
        return await super().get(*args, **kwargs)

    async def query(self, *args, **kwargs):
        self.counts["query"] += 1
        found = await super().query(*args, **kwargs)
        self.rows_read += len(found)
        return found

    async def write(self, *args, **kwargs):
        self.counts["write"] += 1
        return await super().write(*args, **kwargs)

    def taken(self) -> dict[str, int]:
        """Return the counts since the last call, and set them to zero."""
        counts, self.counts = dict(self.counts), defaultdict(int)
        return counts
