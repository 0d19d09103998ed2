"""Carry out the tool calls of a turn, side by side. Each ends in a result, whatever its tool does."""

import asyncio
import contextvars
import inspect
import json
import logging
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from types import CoroutineType
from typing import Any

from shared.adapters.agents.bounded import STOPS, ended
from shared.adapters.agents.checking import CheckRaised, Checks, Unfit
from shared.adapters.agents.raised import log_call, log_raised, on_purpose, told, type_of
from shared.adapters.agents.results import MAX_MESSAGE_CHARACTERS, completed
from shared.adapters.agents.threads import NoThread, Share, Threads
from shared.agent import CallerTool, Tool, ToolError
from shared.core.calls import CallStatus, ToolCall, ToolResult
from shared.core.text import clipped, representable
from shared.log import log_event
from shared.ports.agents import Permit

# The longest list of tools that is sent to a model which called one that does not exist.
MAX_LISTED_CHARACTERS = 800
_NOT_RUN = "The tool did not run, because all threads of this app are busy. It had no effect. You may call it again later."
# The arguments did not fit when it was decided about an approval, and they do now: a check of the author has changed its mind.
_NOT_CLEARED = "The tool did not run, because it is not known whether it needs an approval. It had no effect. You may call it again."
_CALLERS = "The tool did not run, because whoever started the run carries it out. It had no effect."


# The tools of an agent, by name.
Tools = Mapping[str, Tool[..., Any] | CallerTool]


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


class Calls:
    """Carries out calls, once `checks` has checked their arguments."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._threads = Threads()

    async def results(
        self, tools: Tools, calls: Sequence[ToolCall], permit: Permit
    ) -> AsyncGenerator[ToolResult, None]:
        """Carry out the calls, and yield each result as soon as it exists.

        Closing it cancels the rest. When the permit is lost, the rest is cancelled too, but what has a result by then
        still yields it.
        """
        share = Share()
        running = {asyncio.create_task(self._result(tools, call, share, permit)) for call in calls}
        lost, stopped = asyncio.create_task(permit.lost()), False
        try:
            while running:
                watched = running if stopped else {*running, lost}
                done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                if lost in done:
                    stopped = True
                    for each in running - done:
                        each.cancel()
                for task in done & running:
                    running.discard(task)
                    if not task.cancelled() and (result := task.result()):
                        yield result
        finally:
            for each in (*running, lost):
                each.cancel()
            await asyncio.gather(*running, lost, return_exceptions=True)

    async def _result(self, tools: Tools, call: ToolCall, share: Share, permit: Permit) -> ToolResult | None:
        """Return the result of a call. None when there was no permit to begin."""
        tool = tools.get(call.name)
        if tool is None:
            return _failed(call, _Failure("unknown_tool", _unknown_message(call.name, tools)))
        if isinstance(tool, CallerTool):
            return _failed(call, _Failure("not_run", _CALLERS))
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
        found = await self._checks.arguments(
            tool, lambda schema: schema.arguments(call.arguments, call.idempotency_key)
        )
        match found:
            case Unfit(reason):
                raise _Failure("invalid_arguments", reason)
            case CheckRaised(fault):
                raise _raised(call, fault)
        if not call.cleared:
            raise _Failure("not_run", _NOT_CLEARED)
        return found

    async def _within_timeout(
        self, tool: Tool[..., Any], call: ToolCall, work: Coroutine[Any, Any, ToolResult]
    ) -> ToolResult:
        """Return the result of a call. Raises _Failure after its time-out."""
        task = await ended(_guarded(work, call), tool.timeout)
        if task is None:
            raise _Failure("timeout", _timeout_message(tool))
        try:
            return task.result()
        except STOPS:
            raise _Failure("cancelled", "The tool cancelled itself.") from None


async def _guarded(work: Coroutine[Any, Any, ToolResult], call: ToolCall) -> ToolResult:
    """Do the work of a call. Raises only _NotBegun, _Failure and what stops a task, whatever the tool raises."""
    try:
        return await work
    except (_NotBegun, _Failure, *STOPS):
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
