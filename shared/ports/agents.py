"""The port to the agents of the app and their tools."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from shared.core.calls import ToolCall, ToolResult
from shared.ports.providers import DEFAULT_PROVIDER


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """What steps and use cases need of an agent. `tools` is the JSON text of its tool definitions."""

    name: str
    description: str
    model: str
    instructions: str
    tools: str
    tool_names: tuple[str, ...]
    # The names of its idempotent tools.
    repeatable: frozenset[str]
    # The longest timeout of its tools.
    longest_tool: timedelta
    max_turns: int
    deadline: timedelta
    options: Mapping[str, object]
    stream: bool = False
    # The name of the provider that runs its responses.
    provider: str = DEFAULT_PROVIDER


class Agents(Protocol):
    """The agents of this app and their tools."""

    def names(self) -> tuple[str, ...]: ...

    def spec(self, name: str) -> AgentSpec | None: ...

    def run_tools(self, agent: str, calls: Sequence[ToolCall]) -> AsyncIterator[ToolResult]:
        """Run the calls concurrently, and yield each result as soon as it exists.

        An error in a tool becomes a result.
        """
        ...
