"""Keeps a number of actions in flight."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator


async def drive(action: Callable[[int], Awaitable[object]], *, times: int, in_flight: int) -> None:
    """Await `action(0)` .. `action(times - 1)`, `in_flight` of them at a time; the first error ends it."""
    numbers = iter(range(times))

    async def worker(numbers: Iterator[int]) -> None:
        for number in numbers:
            await action(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, times)):
            group.create_task(worker(numbers))
