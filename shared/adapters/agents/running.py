"""The agents of a package. Their tools run in this process."""

import asyncio
import contextvars
import inspect
import json
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from shared.adapters.agents.discover import AGENTS_PACKAGE, SETTING, InvalidAgents
from shared.adapters.agents.places import place_of_tool
from shared.adapters.agents.raised import log_call, log_raised, on_purpose, told, type_of
from shared.adapters.agents.results import MAX_MESSAGE_CHARACTERS, completed
from shared.adapters.agents.threads import NoThread, Share, Threads
from shared.adapters.agents.timeouts import fault_of_timeout
from shared.agent import MAX_TIMEOUT, Agent, Tool, ToolError
from shared.core.calls import CallStatus, ToolCall, ToolResult
from shared.core.text import clipped, representable
from shared.log import log_event
from shared.ports.agents import AgentSpec, Permit

if TYPE_CHECKING:
    from shared.adapters.agents.output import OutputType
    from shared.adapters.agents.schema import ToolSchema

# The longest list of tools that is sent to a model which called one that does not exist.
MAX_LISTED_CHARACTERS = 800
_NOT_RUN = "The tool did not run, because all threads of this app are busy. It had no effect. You may call it again later."
# How long a cancelled tool may take to clean up. After that its call fails without waiting for it.
CLEAN_UP = timedelta(milliseconds=100)
# What is raised inside a task to stop it.
_STOPS = (asyncio.CancelledError, GeneratorExit)


class _Failure(Exception):
    """A tool call has failed. The code and the message are sent to the model."""

    def __init__(self, code: str, message: str, *, declined: bool = False) -> None:
        super().__init__(message)
        self.code = code
        # Whether the tool's author decided that, with a ToolError.
        self.declined = declined


class _Raised(Exception):
    """A sync tool has raised `fault`. A future cannot hold every exception, but it can hold this one."""

    def __init__(self, fault: BaseException) -> None:
        # Without the fault as an argument, so that nothing can show its message.
        super().__init__()
        self.fault = fault


class _NotBegun(Exception):
    """There is no permit to run the tool, so it was not called."""


class InstalledAgents:
    """`Agents` that run in this process. `settings` holds the values for `%NAME%` in the models of agents."""

    def __init__(self, agents: Mapping[str, Agent], settings: Mapping[str, str]) -> None:
        self._agents = agents
        self._settings = settings
        self._specs: dict[str, AgentSpec] = {}
        self._schemas: dict[Tool[..., Any], ToolSchema] = {}
        self._outputs: dict[str, OutputType] = {}
        self._threads = Threads()
        # Checks of arguments take turns with everything else in the process.
        self._checking = asyncio.Lock()

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

    async def run_tools(
        self, agent: str, calls: Sequence[ToolCall], permit: Permit
    ) -> AsyncIterator[ToolResult]:
        """Run the calls concurrently, and yield each result as soon as it exists.

        Closing it cancels the rest, and so does a permit that is lost.
        """
        known = self._agents.get(agent)
        tools = {each.name: each for each in known.function_tools} if known else {}
        share = Share()
        running = {asyncio.create_task(self._result(tools, call, share, permit)) for call in calls}
        lost = asyncio.create_task(permit.lost())
        try:
            while running:
                done, _ = await asyncio.wait({*running, lost}, return_when=asyncio.FIRST_COMPLETED)
                for task in done & running:
                    running.discard(task)
                    if result := task.result():
                        yield result
                if lost in done:
                    break
        finally:
            for each in (*running, lost):
                each.cancel()
            await asyncio.gather(*running, lost, return_exceptions=True)

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

    async def _result(
        self, tools: Mapping[str, Tool[..., Any]], call: ToolCall, share: Share, permit: Permit
    ) -> ToolResult | None:
        """Return the result of a call. None when there was no permit to begin."""
        tool = tools.get(call.name)
        if tool is None:
            return _failed(call, _Failure("unknown_tool", _unknown_message(call.name, tools)))
        try:
            arguments = await self._arguments(tool, call)
            if inspect.iscoroutinefunction(tool.function):
                return await self._within_timeout(tool, call, _in_task(tool, call, arguments, permit))
            async with self._threads.free(share) as thread:
                work = thread.run(
                    contextvars.copy_context().run, _call_in_thread, tool, call, arguments, permit
                )
                return await self._within_timeout(tool, call, work)
        except NoThread:
            return _failed(call, _Failure("not_run", _NOT_RUN))
        except _NotBegun:
            log_event("tool.not_begun", level=logging.WARNING, call_id=call.call_id, tool=call.name)
            return None
        except _Failure as failure:
            return _failed(call, failure)

    async def _arguments(self, tool: Tool[..., Any], call: ToolCall) -> Mapping[str, Any]:
        """Return the arguments of a call. Raises _Failure."""
        schema = self._schema(tool)
        from shared.adapters.agents.schema import BadArguments  # noqa: PLC0415 - imports pydantic

        async with self._checking:
            await asyncio.sleep(0)
            try:
                return schema.arguments(call.arguments, call.idempotency_key)
            except BadArguments as error:
                failure = _Failure("invalid_arguments", str(error))
            except BaseException as error:  # noqa: BLE001 - a check of the author may raise anything
                failure = _raised(call, error)
        raise failure

    async def _within_timeout(
        self, tool: Tool[..., Any], call: ToolCall, work: Coroutine[Any, Any, ToolResult]
    ) -> ToolResult:
        """Run a call in its own task, so that its cancellation and its timeout do not affect this task."""
        task = asyncio.create_task(_guarded(work, call))
        task.add_done_callback(_retrieve)
        try:
            done, _ = await asyncio.wait({task}, timeout=tool.timeout.total_seconds())
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=CLEAN_UP.total_seconds())
        if not done:
            raise _Failure("timeout", _timeout_message(tool))
        try:
            return task.result()
        except _STOPS:
            raise _Failure("cancelled", "The tool cancelled itself.") from None


async def _guarded(work: Coroutine[Any, Any, ToolResult], call: ToolCall) -> ToolResult:
    """Do the work of a call. Raises only _NotBegun, _Failure and what stops a task, whatever the tool raises."""
    try:
        return await work
    except (_NotBegun, _Failure, *_STOPS):
        raise
    except _Raised as raised:
        fault = raised.fault
    except BaseException as error:  # noqa: BLE001 - SystemExit and its like would end the worker process
        fault = error
    raise _raised(call, fault)


def _raised(call: ToolCall, fault: BaseException) -> _Failure:
    message = told(fault) or _raised_message(fault)
    if on_purpose(fault):
        log_raised("tool.declined", fault, call, level=logging.INFO)
        return _Failure("tool_error", message, declined=True)
    log_raised("tool.raised", fault, call)
    return _Failure("tool_error", message)


def _ask(permit: Permit) -> None:
    """Raise _NotBegun without a permit. The last thing before a tool is called: much time may have passed since the claim."""
    if not permit.given():
        raise _NotBegun


async def _in_task(
    tool: Tool[..., Any], call: ToolCall, arguments: Mapping[str, Any], permit: Permit
) -> ToolResult:
    _ask(permit)
    return completed(call, _carried_out(tool, await tool.function(**arguments)))


def _call_in_thread(
    tool: Tool[..., Any], call: ToolCall, arguments: Mapping[str, Any], permit: Permit
) -> ToolResult:
    _ask(permit)
    try:
        value = _carried_out(tool, tool.function(**arguments))
    except BaseException as error:  # noqa: BLE001 - tools may raise anything
        raise _Raised(error) from None
    return completed(call, value)


def _carried_out(tool: Tool[..., Any], value: Any) -> object:
    """Return what a tool returned, once all of the tool has run. Raises ToolError for a coroutine."""
    if inspect.isgeneratorfunction(tool.function):
        return list(value)
    # `isinstance` would call a method of the value, which may raise.
    if type(value) is CoroutineType:
        value.close()
        raise ToolError("The tool returned a coroutine, which did not run. Make the tool an async function.")
    return value


def _retrieve(task: asyncio.Task[ToolResult]) -> None:
    """Read how a task ended. Else asyncio logs the exception of a tool that raises after its timeout."""
    if not task.cancelled():
        task.exception()


def _failed(call: ToolCall, failure: _Failure) -> ToolResult:
    if not failure.declined:
        log_call("tool.failed", call, level=logging.WARNING, code=failure.code)
    message = representable(clipped(str(failure), MAX_MESSAGE_CHARACTERS))
    error = {"code": failure.code, "message": message}
    return ToolResult(call.call_id, CallStatus.FAILED, json.dumps({"error": error}, ensure_ascii=False))


def _unknown_message(name: str, tools: Iterable[str]) -> str:
    listed = ", ".join(tools)
    if len(listed) > MAX_LISTED_CHARACTERS:
        listed = listed[:MAX_LISTED_CHARACTERS].rpartition(", ")[0] + ", …"
    known = f"The tools are: {listed}." if listed else "There are no tools."
    return f"There is no tool called {name}. {known}"


def _raised_message(fault: BaseException) -> str:
    return f"The tool failed with {type_of(fault)}. It may have taken effect before it failed."


def _timeout_message(tool: Tool[..., Any]) -> str:
    message = f"The tool did not finish within {tool.timeout.total_seconds():g} seconds"
    if inspect.iscoroutinefunction(tool.function):
        return f"{message} and was stopped."
    return f"{message}. It cannot be stopped and may still take effect."
