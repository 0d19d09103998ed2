"""The agents of a package: what they are, and which of their tools a call names. Their tools run in this process."""

import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.adapters.agents.calls import Calls
from shared.adapters.agents.discover import AGENTS_PACKAGE, SETTING, InvalidAgents
from shared.adapters.agents.places import place_of_tool
from shared.adapters.agents.timeouts import fault_of_timeout
from shared.agent import MAX_TIMEOUT, Agent, Tool
from shared.core.calls import ToolCall, ToolResult
from shared.log import log_event
from shared.ports.agents import AgentSpec, Permit

if TYPE_CHECKING:
    from shared.adapters.agents.output import OutputType
    from shared.adapters.agents.schema import ToolSchema


class InstalledAgents:
    """`Agents` that run in this process. `settings` holds the values for `%NAME%` in the models of agents."""

    def __init__(self, agents: Mapping[str, Agent], settings: Mapping[str, str]) -> None:
        self._agents = agents
        self._settings = settings
        self._specs: dict[str, AgentSpec] = {}
        self._schemas: dict[Tool[..., Any], ToolSchema] = {}
        self._outputs: dict[str, OutputType] = {}
        self._calls = Calls(self._schema)

    def names(self) -> tuple[str, ...]:
        return tuple(self._agents)

    def check(self, longest_tool: timedelta = MAX_TIMEOUT) -> None:
        """Make the schema of every tool, and log which agents lack a setting.

        Raises InvalidAgents, which lists every tool that cannot be described, or whose time-out is over `longest_tool`.
        """
        tools = {each: None for agent in self._agents.values() for each in agent.function_tools}
        faults = []
        for tool in tools:
            try:
                self._schema(tool)
            except TypeError as error:
                faults.append(f"{place_of_tool(tool)}: {error}")
            if fault := fault_of_timeout(tool, longest_tool):
                faults.append(f"{place_of_tool(tool)}: {fault}")
        for agent in self._agents.values():
            try:
                self._output(agent)
            except TypeError as error:
                faults.append(str(error))
        if faults:
            raise InvalidAgents(AGENTS_PACKAGE, faults)
        for name in self._agents:
            if (spec := self.spec(name)) and spec.missing_settings:
                log_event(
                    "agent.not_ready", level=logging.WARNING, agent=name, missing=list(spec.missing_settings)
                )

    def spec(self, name: str) -> AgentSpec | None:
        """Return the spec of an agent, or None."""
        if name in self._agents and name not in self._specs:
            self._specs[name] = self._describe(self._agents[name])
        return self._specs.get(name)

    def run_tools(
        self, agent: str, calls: Sequence[ToolCall], permit: Permit
    ) -> AsyncGenerator[ToolResult, None]:
        known = self._agents.get(agent)
        tools = {each.name: each for each in known.function_tools} if known else {}
        return self._calls.results(tools, calls, permit)

    def _describe(self, agent: Agent) -> AgentSpec:
        named = dict.fromkeys(SETTING.findall(agent.model))
        missing = tuple(name for name in named if not self._settings.get(name))
        tools, output = agent.function_tools, self._output(agent)
        definitions = [
            self._schema(each).definition if isinstance(each, Tool) else dict(each) for each in agent.tools
        ]
        return AgentSpec(
            name=agent.name,
            description=agent.description,
            model=SETTING.sub(lambda match: self._settings.get(match[1]) or match[0], agent.model),
            missing_settings=missing,
            instructions=agent.instructions,
            tools=json.dumps(definitions, ensure_ascii=False),
            tool_names=tuple(each.name for each in tools),
            repeatable=frozenset(each.name for each in tools if each.idempotent),
            longest_tool=max((each.timeout for each in tools), default=timedelta()),
            max_turns=agent.max_turns,
            deadline=agent.deadline,
            options=output.options(agent.options) if output else agent.options,
            structured=output is not None,
            stream=agent.stream,
            tool_choice_every_turn=agent.tool_choice_every_turn,
        )

    def fault_of_output(self, agent: str, text: str) -> str | None:
        known = self._agents.get(agent)
        output = self._output(known) if known else None
        return output.fault(text) if output else None

    def _output(self, agent: Agent) -> "OutputType | None":
        if agent.output_type is None:
            return None
        from shared.adapters.agents.output import OutputType  # noqa: PLC0415 - imports pydantic

        if agent.name not in self._outputs:
            self._outputs[agent.name] = OutputType(agent)
        return self._outputs[agent.name]

    def _schema(self, tool: Tool[..., Any]) -> "ToolSchema":
        from shared.adapters.agents.schema import ToolSchema  # noqa: PLC0415 - imports pydantic

        if tool not in self._schemas:
            self._schemas[tool] = ToolSchema(tool)
        return self._schemas[tool]
