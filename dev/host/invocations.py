"""Calls functions: time limit, output bindings, and the calls that still run when the host stops."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from time import perf_counter
from typing import Any

from dev.host import worker
from dev.host.datums import queue_messages
from dev.host.definitions import Function, QueueOutput
from dev.host.queue_service import QueueServiceError
from dev.host.worker import Completed, Datum, FunctionFailed

logger = logging.getLogger(__name__)


class Running:
    """Background tasks that a stop waits for."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def drain(self, grace: timedelta) -> None:
        """Wait for the running tasks; cancel those that take longer than `grace`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace.total_seconds())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("the host failed", exc_info=error)


class Invoker:
    """Calls functions, and writes their output bindings after success only."""

    def __init__(
        self, timeout: timedelta | None, outputs: Mapping[QueueOutput, Callable[[bytes], Awaitable[None]]]
    ) -> None:
        self._timeout = timeout
        self._outputs = outputs

    async def invoke(
        self, function: Function, trigger: Datum, metadata: Mapping[str, Datum] | None = None
    ) -> Datum | None:
        """Return the function's result. Raises FunctionFailed, after logging it."""
        started = perf_counter()
        try:
            completed = await self._call(function, trigger, metadata)
            await self._write_outputs(function, completed)
        except FunctionFailed as error:
            after = (perf_counter() - started) * 1000
            trace = f"\n{error.trace.rstrip()}" if error.trace else ""
            logger.error("%s failed after %.0f ms: %s%s", function.name, after, error, trace)  # noqa: TRY400
            raise
        logger.debug("%s took %.0f ms", function.name, (perf_counter() - started) * 1000)
        return completed.returned

    async def fire(self, function: Function, trigger: Datum) -> None:
        """Invoke a function; a failure is logged and not raised."""
        with contextlib.suppress(FunctionFailed):
            await self.invoke(function, trigger)

    async def _call(
        self, function: Function, trigger: Datum, metadata: Mapping[str, Datum] | None
    ) -> Completed:
        limit = self._timeout.total_seconds() if self._timeout else None
        try:
            async with asyncio.timeout(limit):
                return await worker.invoke(
                    function.function_id, function.trigger.parameter, trigger, metadata
                )
        except TimeoutError as error:
            raise FunctionFailed(f"it ran longer than functionTimeout ({self._timeout})") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            raise FunctionFailed("it raised CancelledError") from error

    async def _write_outputs(self, function: Function, completed: Completed) -> None:
        values = dict(completed.outputs)
        if completed.returned is not None:
            values["$return"] = completed.returned
        try:
            pending = [
                (output, body)
                for output in function.outputs
                if output.parameter in values
                for body in queue_messages(values[output.parameter])
            ]
            for output, body in pending:
                await self._outputs[output](body)
        except (QueueServiceError, ValueError) as error:
            raise FunctionFailed(f"its output was not written: {error}") from error
