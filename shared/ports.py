"""What the use cases need from outside, as protocols. Adapters implement them; simulations replace them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from shared.core.model import CallStatus, RunError, Slice, Snapshot

Value = str | int | bool | bytes


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table. `etag` is empty until it has been read."""

    key: str
    values: Mapping[str, Value]
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row that must not exist."""

    row: Row


@dataclass(frozen=True, slots=True)
class Put:
    """Write a whole row: over any other when `etag` is empty, else only over the one read."""

    row: Row
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Merge:
    """Change the given values of a row that must exist, and leave its others."""

    row: Row


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a row that must exist."""

    key: str


Write = Insert | Put | Merge | Delete


class Table(Protocol):
    """Rows in partitions, in key order: the little of Azure Table Storage that Baton stands on.

    Every method raises StorageUnavailable when the storage does not answer; whether a write took
    effect is then unknown. A table that does not exist is read as an empty one, and a write to it
    raises StorageUnavailable.
    """

    async def get(self, partition: str, key: str) -> Row | None:
        """Return one row, or None: a point read."""
        ...

    async def query(
        self,
        partition: str,
        first: str,
        end: str,
        *,
        where: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        """Return rows with `first` <= key < `end` in key order, those that equal `where`, at most `limit`."""
        ...

    async def query_each(
        self, bounds: Mapping[str, tuple[str, str]], *, where: Mapping[str, str], limit: int
    ) -> list[Row]:
        """Query several partitions side by side, each within its own bounds and limit."""
        ...

    async def write(self, partition: str, writes: Sequence[Write]) -> str:
        """Carry out all writes or none, and return the new etag of the first (empty after a delete).

        Raises RowConflict when a row was not as a write demands.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """What a provider needs to create one response in background mode.

    `input` and `tools` are JSON texts: input items and tool definitions of the Responses API.
    """

    run_id: str
    turn: int
    model: str
    instructions: str
    input: str
    tools: str
    previous_response_id: str | None
    # Whether its stream is to be read by slices.
    stream: bool = False
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotNow:
    """The provider did not do it, and may later. `unknown` when it may have done it all the same."""

    reason: str
    retry_after: timedelta | None = None
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider does not know the response."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider will not do it, however often it is asked."""

    error: RunError


@dataclass(frozen=True, slots=True)
class ChainBroken:
    """The provider cannot continue the previous response."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoStream:
    """The provider will not go on with the response's stream, which says nothing of the response."""


CreateReply = Snapshot | NotNow | Refused | ChainBroken
ReadReply = Snapshot | NotNow | Absent
SliceReply = Slice | Snapshot | NotNow | NoStream
CancelReply = Snapshot | NotNow | Absent | Refused
DeleteReply = Absent | NotNow | Refused


class Provider(Protocol):
    """A service that runs responses in the background. Answers are values; no method raises for them."""

    async def create(self, request: ResponseRequest) -> CreateReply: ...

    async def read(self, response_id: str) -> ReadReply: ...

    async def slice(self, response_id: str, after: int) -> SliceReply:
        """Read the response's stream on from the event `after`, for a moment.

        A provider that does not stream may answer with the response itself.
        """
        ...

    async def cancel(self, response_id: str) -> CancelReply: ...

    async def delete(self, response_id: str) -> DeleteReply:
        """Make the provider forget a response. `Absent` means that it has."""
        ...


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A tool call to be carried out. `idempotency_key` is the same each time the same call is repeated."""

    call_id: str
    name: str
    arguments: str
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call came to: `output` is what the model is told."""

    call_id: str
    status: CallStatus
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """What the use cases know of an agent; `tools` is the JSON text of its tool definitions."""

    name: str
    description: str
    model: str
    instructions: str
    tools: str
    tool_names: tuple[str, ...]
    repeatable: frozenset[str]
    longest_tool: timedelta
    max_turns: int
    deadline: timedelta
    options: Mapping[str, object]
    stream: bool = False


class Agents(Protocol):
    """The agents of this app, and the running of their tools."""

    def names(self) -> tuple[str, ...]: ...

    def spec(self, name: str) -> AgentSpec | None: ...

    def run_tools(self, agent: str, requests: Sequence[ToolRequest]) -> AsyncIterator[ToolResult]:
        """Run the calls side by side and yield each result as it comes. Never raises for a tool's fault."""
        ...


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the time in UTC."""
        ...


class Randomness(Protocol):
    def bytes(self, count: int) -> bytes: ...

    def fraction(self) -> float:
        """Return a number from 0 up to 1, for jitter."""
        ...
