"""The agents of the app, and the running of their tools."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from shared.core.run import CallStatus


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
