"""The agents of the app, and the running of their tools."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from shared.core.run import CallStatus
from shared.ports.providers import DEFAULT_PROVIDER


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A tool call to be carried out. `idempotency_key` is the same each time the same call is repeated."""

    call_id: str
    name: str
    arguments: str
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool call: `output` is the text that the model gets."""

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
    # The name of the provider that runs its responses.
    provider: str = DEFAULT_PROVIDER


class Agents(Protocol):
    """The agents of this app, and the running of their tools."""

    def names(self) -> tuple[str, ...]: ...

    def spec(self, name: str) -> AgentSpec | None: ...

    def run_tools(self, agent: str, requests: Sequence[ToolRequest]) -> AsyncIterator[ToolResult]:
        """Run the calls side by side and yield each result as it comes. Never raises for a tool's fault."""
        ...
