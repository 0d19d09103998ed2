"""The port to the agents of the app and their tools."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from shared.core.calls import ToolCall, ToolResult, WaitKind
from shared.ports.providers import DEFAULT_PROVIDER

_ENCRYPTED_REASONING = "reasoning.encrypted_content"


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
    # The names of the tools whose calls may have to wait for an answer.
    may_wait: frozenset[str] = frozenset()
    # The longest timeout of its tools.
    longest_tool: timedelta
    max_turns: int
    deadline: timedelta
    options: Mapping[str, object]
    # Whether a choice of tools that is forced by `options` applies to every turn, and not to the first one only.
    tool_choice_every_turn: bool = False
    stream: bool = False
    # The name of the provider that runs its responses.
    provider: str = DEFAULT_PROVIDER
    # The settings that its model and its provider name and that are missing. Without them it cannot run.
    missing_settings: tuple[str, ...] = ()
    # Those among them that its provider names.
    missing_for_provider: tuple[str, ...] = ()
    # Whether its answers are JSON of an output type.
    structured: bool = False

    @property
    def not_ready(self) -> str | None:
        """Why the agent cannot run: a sentence for people. None when it can."""
        if not self.missing_settings:
            return None
        names = " and ".join(self.missing_settings)
        why = ": the name of a model, or of a deployment on Azure"
        if self.missing_for_provider:
            why = f", because its provider {self.provider} names {' and '.join(self.missing_for_provider)}"
        return (
            f"The agent {self.name} needs the setting {names}{why}. Put it into Values of local.settings.json, or into the "
            "app settings of the Function App."
        )

    @property
    def include(self) -> tuple[str, ...]:
        """The further fields that reads of its responses request.

        Encrypted reasoning is left out: providers refuse it in a read of a stored response.
        """
        given = self.options.get("include")
        if not isinstance(given, list | tuple):
            return ()
        return tuple(each for each in given if isinstance(each, str) and each != _ENCRYPTED_REASONING)


@dataclass(frozen=True, slots=True)
class WaitNeeded:
    """That a call has to wait for an answer, and for how long at most."""

    kind: WaitKind
    wait_for: timedelta


class Permit(Protocol):
    """Says whether tools may begin, and when they have to stop. Tools in threads ask too."""

    def given(self) -> bool: ...

    async def lost(self) -> None:
        """Return when the permit is lost."""
        ...


class Agents(Protocol):
    """The agents of this app and their tools."""

    def names(self) -> tuple[str, ...]: ...

    def spec(self, name: str) -> AgentSpec | None: ...

    def fault_of_output(self, agent: str, text: str) -> str | None:
        """Return why the text of an answer does not fit the agent's output type: a sentence. None when it fits."""
        ...

    async def waits(self, agent: str, calls: Sequence[ToolCall]) -> Mapping[str, WaitNeeded | None]:
        """Return which of the calls have to wait, by call id: for an approval, or for the caller, who runs them.

        None: the call may run at once. A call whose arguments do not fit its tool is left out: it must not run.
        The author's functions decide. Whatever they do, there is a result.
        """
        ...

    async def fault_of_arguments(self, agent: str, tool: str, arguments: str) -> str | None:
        """Return why the JSON text of arguments does not fit a tool: a sentence. None when it fits."""
        ...

    def run_tools(
        self, agent: str, calls: Sequence[ToolCall], permit: Permit
    ) -> AsyncGenerator[ToolResult, None]:
        """Run the calls concurrently, and yield each result as soon as it exists.

        A call for which there is no permit when its tool could begin has no result. When the permit is lost, or the
        generator is closed, tools that can be stopped are stopped. After a loss, calls whose tools have returned still
        have their results.
        An error in a tool becomes a result. A tool that returned has taken effect, so its result is completed.
        """
        ...
