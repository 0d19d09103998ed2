"""Whether calls need an approval, as the author of their tool declared it.

A function of the author may decide. Whatever it does, there is a decision, and without a clear "no" the approval is needed.
"""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from types import CoroutineType
from typing import Any

from shared.adapters.agents.bounded import STOPS, ended
from shared.adapters.agents.checking import CheckRaised, Checks, Unfit
from shared.adapters.agents.raised import log_call, log_raised
from shared.adapters.agents.threads import NoThread, Share, Threads
from shared.agent import Tool
from shared.core.calls import ToolCall
from shared.faults import class_name


class Approvals:
    """Decides which calls need an approval. A function has `timeout` to decide, with its wait for a thread."""

    def __init__(self, checks: Checks, timeout: timedelta) -> None:
        self._checks = checks
        self._timeout = timeout
        # Threads of its own, because a tool may keep its thread for half an hour.
        self._threads = Threads()

    async def decide(self, calls: Sequence[tuple[ToolCall, Tool[..., Any]]]) -> Mapping[str, bool]:
        """Return which calls need an approval, by call id. Those whose arguments do not fit are left out."""
        share = Share()
        decisions = await asyncio.gather(*(self._needed(tool, call, share) for call, tool in calls))
        decided = zip(calls, decisions, strict=True)
        return {call.call_id: needed for (call, _), needed in decided if needed is not None}

    async def _needed(self, tool: Tool[..., Any], call: ToolCall, share: Share) -> bool | None:
        match await self._checks.arguments(tool, lambda schema: schema.complete(call.arguments)):
            case Unfit():
                return None
            case CheckRaised(fault):
                log_raised("approval.raised", fault, call)
                return True
            case dict(arguments) if not isinstance(tool.approval, bool):
                return await self._decided(tool.approval, call, arguments, share)
        return tool.approval is not False

    async def _decided(self, approval: Any, call: ToolCall, arguments: dict[str, Any], share: Share) -> bool:
        """Return what a function decides."""
        work: Coroutine[Any, Any, bool]
        if inspect.iscoroutinefunction(approval) or inspect.iscoroutinefunction(type(approval).__call__):
            work = _in_task(approval, call, arguments)
        else:
            work = self._in_thread(approval, call, arguments, share)
        task = await ended(work, self._timeout)
        if task is None:
            return _undecided(call, "it took too long")
        try:
            return task.result()
        except NoThread:
            return _undecided(call, "no thread was free")
        except STOPS:
            return _undecided(call, "it cancelled itself")

    async def _in_thread(
        self, approval: Any, call: ToolCall, arguments: dict[str, Any], share: Share
    ) -> bool:
        async with self._threads.free(share) as thread:
            decision: bool = await thread.run(
                contextvars.copy_context().run, _call_in_thread, approval, call, arguments
            )
            return decision


async def _in_task(approval: Any, call: ToolCall, arguments: dict[str, Any]) -> bool:
    try:
        return _decision(call, await approval(arguments))
    except STOPS:
        raise
    except BaseException as fault:  # noqa: BLE001 - SystemExit and its like would end the worker process
        return _raised(call, fault)


def _call_in_thread(approval: Any, call: ToolCall, arguments: dict[str, Any]) -> bool:
    try:
        return _decision(call, approval(arguments))
    except BaseException as fault:  # noqa: BLE001 - it may raise anything
        return _raised(call, fault)


def _decision(call: ToolCall, value: object) -> bool:
    # Compared with `is`, because a value may define what it equals and whether it is true.
    if value is True or value is False:
        return value is True
    if type(value) is CoroutineType:
        value.close()
    return _undecided(call, f"it returned {class_name(type(value))}, which is no bool")


def _raised(call: ToolCall, fault: BaseException) -> bool:
    log_raised("approval.raised", fault, call)
    return True


def _undecided(call: ToolCall, reason: str) -> bool:
    log_call("approval.undecided", call, level=logging.WARNING, reason=reason)
    return True
