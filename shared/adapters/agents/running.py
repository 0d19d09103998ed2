"""The agents of a package. Their tools run in this process."""

import asyncio
import contextvars
import inspect
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.adapters.agents.discover import SETTING, brief
from shared.agent import Agent, Tool
from shared.core.calls import CallStatus, ToolCall, ToolResult
from shared.core.text import representable
from shared.errors import InvalidSettings
from shared.log import log_event, log_fault
from shared.ports.agents import AgentSpec

if TYPE_CHECKING:
    from shared.adapters.agents.schema import ToolSchema

MAX_TOOL_OUTPUT_BYTES = 1024 * 1024
# The longest error message that is sent to the model.
MAX_ERROR_CHARACTERS = 1000
# Sync tools have their own threads. Tools that never return would use up asyncio's, which resolve host names.
TOOL_THREADS = 32
# How long a cancelled tool may take to clean up. After that its call fails without waiting for it.
CLEAN_UP = timedelta(milliseconds=100)


class _Failure(Exception):
    """A tool call has failed. The code and the message are sent to the model."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class InstalledAgents:
    """`Agents` that run in this process. `settings` holds the values for `%NAME%` in the models of agents."""

    def __init__(self, agents: Mapping[str, Agent], settings: Mapping[str, str]) -> None:
        self._agents = agents
        self._settings = settings
        self._specs: dict[str, AgentSpec] = {}
        self._schemas: dict[Tool[..., Any], ToolSchema] = {}
        self._threads = ThreadPoolExecutor(TOOL_THREADS, thread_name_prefix="tool")

    def names(self) -> tuple[str, ...]:
        return tuple(self._agents)

    def unresolved(self) -> list[str]:
        """Return a message for each setting that an agent's model names and that is missing or empty."""
        return [fault for agent in self._agents.values() for fault in self._unresolved(agent)]

    def spec(self, name: str) -> AgentSpec | None:
        """Return the spec of an agent, or None.

        Raises InvalidSettings or TypeError when the agent is not usable.
        """
        if name in self._agents and name not in self._specs:
            self._specs[name] = self._describe(self._agents[name])
        return self._specs.get(name)

    async def run_tools(self, agent: str, calls: Sequence[ToolCall]) -> AsyncIterator[ToolResult]:
        """Run the calls concurrently, and yield each result as soon as it exists.

        Closing it cancels the rest.
        """
        known = self._agents.get(agent)
        tools = {each.name: each for each in known.function_tools} if known else {}
        tasks = {asyncio.create_task(self._result(tools.get(call.name), call)) for call in calls}
        try:
            while tasks:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _unresolved(self, agent: Agent) -> list[str]:
        return [
            f"{name} is missing: it names the model of the agent {agent.name}"
            for name in SETTING.findall(agent.model)
            if not self._settings.get(name)
        ]

    def _describe(self, agent: Agent) -> AgentSpec:
        if missing := self._unresolved(agent):
            raise InvalidSettings(missing)
        tools = agent.function_tools
        definitions = [
            self._schema(each).definition if isinstance(each, Tool) else dict(each) for each in agent.tools
        ]
        return AgentSpec(
            name=agent.name,
            description=agent.description,
            model=SETTING.sub(lambda match: self._settings[match[1]], agent.model),
            instructions=agent.instructions,
            tools=json.dumps(definitions, ensure_ascii=False),
            tool_names=tuple(each.name for each in tools),
            repeatable=frozenset(each.name for each in tools if each.idempotent),
            longest_tool=max((each.timeout for each in tools), default=timedelta()),
            max_turns=agent.max_turns,
            deadline=agent.deadline,
            options=agent.options,
            stream=agent.stream,
        )

    def _schema(self, tool: Tool[..., Any]) -> "ToolSchema":
        from shared.adapters.agents.schema import ToolSchema  # noqa: PLC0415 - imports pydantic

        if tool not in self._schemas:
            self._schemas[tool] = ToolSchema(tool)
        return self._schemas[tool]

    async def _result(self, tool: Tool[..., Any] | None, call: ToolCall) -> ToolResult:
        if tool is None:
            return _failed(call, _Failure("unknown_tool", f"There is no tool called {call.name}."))
        try:
            output = await self._within_timeout(tool, call)
        except _Failure as failure:
            return _failed(call, failure)
        return ToolResult(call.call_id, CallStatus.COMPLETED, output)

    async def _within_timeout(self, tool: Tool[..., Any], call: ToolCall) -> str:
        """Run a call in its own task, so that its cancellation and its timeout do not affect this task."""
        task = asyncio.create_task(self._run(tool, call))
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
        except _Failure:
            raise
        except asyncio.CancelledError:
            raise _Failure("cancelled", "The tool cancelled itself.") from None
        except BaseException as error:
            log_fault("tool.raised", error, call_id=call.call_id, tool=call.name)
            raise _Failure("tool_error", brief(error)) from error

    async def _run(self, tool: Tool[..., Any], call: ToolCall) -> str:
        schema = self._schema(tool)
        from shared.adapters.agents.schema import BadArguments  # noqa: PLC0415 - imports pydantic

        try:
            arguments = schema.arguments(call.arguments, call.idempotency_key)
        except BadArguments as error:
            raise _Failure("invalid_arguments", str(error)) from None
        if not inspect.iscoroutinefunction(tool.function):
            work = contextvars.copy_context().run
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, work, _call_in_thread, tool, arguments
            )
        try:
            return _output(await tool.function(**arguments))
        except SystemExit as error:
            # SystemExit would end the worker process, and with it the invocations of all other runs.
            raise RuntimeError(f"The tool tried to exit with {error.code}.") from error


def _call_in_thread(tool: Tool[..., Any], arguments: Mapping[str, Any]) -> str:
    try:
        return _output(tool.function(**arguments))
    except (SystemExit, StopIteration) as error:
        # SystemExit would end the worker process, and a future cannot hold a StopIteration.
        raise RuntimeError(brief(error)) from error


def _output(value: object) -> str:
    """Return the result of a tool as the text for the model."""
    if isinstance(value, str):
        text = str.__str__(value)
    else:
        from pydantic_core import to_jsonable_python  # noqa: PLC0415 - makes cold starts slow

        try:
            plain = to_jsonable_python(value)
            text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError as error:
            raise _Failure("invalid_result", f"The tool's result is not JSON: {error}") from error
    text = representable(text)
    if len(text.encode()) > MAX_TOOL_OUTPUT_BYTES:
        message = f"The tool's result is longer than {MAX_TOOL_OUTPUT_BYTES} bytes. Request less."
        raise _Failure("result_too_large", message)
    return text


def _failed(call: ToolCall, failure: _Failure) -> ToolResult:
    fields = {"call_id": call.call_id, "tool": call.name, "code": failure.code}
    log_event("tool.failed", level=logging.WARNING, **fields)
    error = {"code": failure.code, "message": representable(_clipped(str(failure)))}
    return ToolResult(call.call_id, CallStatus.FAILED, json.dumps({"error": error}, ensure_ascii=False))


def _timeout_message(tool: Tool[..., Any]) -> str:
    message = f"The tool did not finish within {tool.timeout.total_seconds():g} seconds"
    if inspect.iscoroutinefunction(tool.function):
        return f"{message} and was stopped."
    return f"{message}. It cannot be stopped and may still take effect."


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_ERROR_CHARACTERS else text[: MAX_ERROR_CHARACTERS - 1] + "…"
