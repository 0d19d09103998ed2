"""Run code of an author for a bounded time."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

# How long what was cancelled may take to clean up. After that it is not waited for.
CLEAN_UP = timedelta(milliseconds=100)
# What is raised inside a task to stop it.
STOPS = (asyncio.CancelledError, GeneratorExit)

T = TypeVar("T")


async def ended(work: Coroutine[Any, Any, T], limit: timedelta) -> asyncio.Task[T] | None:
    """Return the task of the work once it has ended. None when it was cancelled at its time limit.

    It is a task of its own, so that its cancellation and its time limit do not affect the task of the caller.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_retrieve)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit.total_seconds())
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CLEAN_UP.total_seconds())
    return task if done else None


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Read how a task ended. Else asyncio logs the exception of what raises after its time."""
    if not task.cancelled():
        task.exception()
