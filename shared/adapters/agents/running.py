"""The agents of a package: what they are, and which of their tools a call names. Their tools run in this process."""

import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from shared.adapters.agents.calls import Calls, Tools
from shared.adapters.agents.checking import CheckRaised, Checks, Unfit
from shared.adapters.agents.discover import AGENTS_PACKAGE, SETTING, InvalidAgents
from shared.adapters.agents.places import place_of_tool
from shared.adapters.agents.raised import type_of
from shared.adapters.agents.results import MAX_MESSAGE_CHARACTERS
from shared.adapters.agents.timeouts import APPROVAL_TIMEOUT, fault_of_timeout
from shared.agent import MAX_TIMEOUT, Agent, CallerTool, Tool
from shared.core.calls import CallKind, ToolCall, ToolResult, WaitKind
from shared.core.text import clipped, representable
from shared.faults import described
from shared.log import log_event
from shared.ports.agents import AgentSpec, Permit, WaitNeeded
from shared.ports.providers import DEFAULT_PROVIDER

if TYPE_CHECKING:
    from openai.types.responses import ToolParam

    from shared.adapters.agents.approvals import Approvals
    from shared.adapters.agents.output import OutputType
    from shared.adapters.agents.schema import ToolSchema


class InstalledAgents:
    """`Agents` that run in this process. `settings` holds the values for `%NAME%` in the models of agents.

    `missing_for` holds the settings that are missing for declared providers, by the name of the provider.
    """

    def __init__(
        self,
        agents: Mapping[str, Agent],
        settings: Mapping[str, str],
        *,
        approval_timeout: timedelta = APPROVAL_TIMEOUT,
        missing_for: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._agents = agents
        self._missing_for = missing_for
        self._approval_timeout = approval_timeout
        self._settings = settings
        self._specs: dict[str, AgentSpec] = {}
        self._schemas: dict[Tool[..., Any], ToolSchema] = {}
        self._outputs: dict[str, OutputType] = {}
        self._checks = Checks(self._schema)
        self._calls = Calls(self._checks)
        self._approvals: Approvals | None = None

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

    async def waits(self, agent: str, calls: Sequence[ToolCall]) -> Mapping[str, WaitNeeded | None]:
        tools, found = self._tools(agent), dict[str, WaitNeeded | None]()
        asked: list[tuple[ToolCall, Tool[..., Any]]] = []
        for call in calls:
            tool = tools.get(call.name) if call.kind is CallKind.FUNCTION else None
            match tool:
                case CallerTool(wait_for=wait_for):
                    found[call.call_id] = WaitNeeded(WaitKind.OUTPUT, wait_for)
                case Tool(approval=approval) if approval is not False:
                    asked.append((call, tool))
                case _:
                    found[call.call_id] = None
        if asked:
            decisions = await self._approver().decide(asked)
            found |= {
                call.call_id: WaitNeeded(WaitKind.APPROVAL, tool.wait_for)
                if decisions[call.call_id]
                else None
                for call, tool in asked
                if call.call_id in decisions
            }
        return found

    async def fault_of_arguments(self, agent: str, tool: str, arguments: str) -> str | None:
        made = self._tools(agent).get(tool)
        if not isinstance(made, Tool):
            return _sentence(f"There is no tool called {tool} that runs here.")
        match await self._checks.arguments(made, lambda schema: schema.arguments(arguments, "")):
            case Unfit(reason):
                return _sentence(f"The arguments do not fit the tool {tool}: {reason.removesuffix('.')}.")
            case CheckRaised(fault):
                log_event(
                    "tool.raised",
                    level=logging.ERROR,
                    agent=agent,
                    tool=tool,
                    **described(fault, messages=False),
                )
                return f"A check of the arguments of {tool} failed with {type_of(fault)}."
        return None

    def run_tools(
        self, agent: str, calls: Sequence[ToolCall], permit: Permit
    ) -> AsyncGenerator[ToolResult, None]:
        return self._calls.results(self._tools(agent), calls, permit)

    def _tools(self, agent: str) -> Tools:
        known = self._agents.get(agent)
        return {each.name: each for each in known.named_tools} if known else {}

    def _approver(self) -> "Approvals":
        from shared.adapters.agents.approvals import Approvals  # noqa: PLC0415 - only for agents that need it

        if self._approvals is None:
            self._approvals = Approvals(self._checks, self._approval_timeout)
        return self._approvals

    def _describe(self, agent: Agent) -> AgentSpec:
        named = dict.fromkeys(SETTING.findall(agent.model))
        provider = agent.provider.name if agent.provider else DEFAULT_PROVIDER
        missing = [name for name in named if not self._settings.get(name)]
        missing_for_provider = tuple(self._missing_for.get(provider, ()))
        tools, output = agent.function_tools, self._output(agent)
        return AgentSpec(
            name=agent.name,
            description=agent.description,
            model=SETTING.sub(lambda match: self._settings.get(match[1]) or match[0], agent.model),
            provider=provider,
            missing_settings=tuple(dict.fromkeys((*missing, *missing_for_provider))),
            missing_for_provider=missing_for_provider,
            instructions=agent.instructions,
            tools=json.dumps([self._definition(each) for each in agent.tools], ensure_ascii=False),
            tool_names=tuple(each.name for each in agent.named_tools),
            repeatable=frozenset(each.name for each in tools if each.idempotent),
            may_wait=frozenset(
                each.name
                for each in agent.named_tools
                if isinstance(each, CallerTool) or each.approval is not False
            ),
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

    def _definition(self, tool: "Tool[..., Any] | CallerTool | ToolParam") -> dict[str, Any]:
        """Return the definition of a tool for the provider."""
        match tool:
            case Tool():
                return self._schema(tool).definition
            case CallerTool():
                return {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                    # The author's schema is sent as it is, and the strict dialect may not be able to express it.
                    "strict": False,
                }
        return dict(tool)

    def _schema(self, tool: Tool[..., Any]) -> "ToolSchema":
        from shared.adapters.agents.schema import ToolSchema  # noqa: PLC0415 - imports pydantic

        if tool not in self._schemas:
            self._schemas[tool] = ToolSchema(tool)
        return self._schemas[tool]


def _sentence(text: str) -> str:
    """Return a text with names that the model wrote, short enough to be shown."""
    return representable(clipped(text, MAX_MESSAGE_CHARACTERS))
