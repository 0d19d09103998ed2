"""The shell around the poll loop: how many runs are advanced side by side, and that none stops another."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from shared.core.ids import all_shards
from shared.log import say, say_fault
from shared.steps.context import Context
from shared.steps.poll import Due, claim_due, poll

_Result = TypeVar("_Result")


async def tick(context: Context, concurrency: int, shards: Sequence[str] = all_shards()) -> list[str]:
    """Poll every run that is due in `shards`, once each; return the runs of which workers are to be told."""
    dues = await asyncio.gather(
        *(_guarded("shard.failed", shard, claim_due(context, shard), Due()) for shard in shards)
    )
    polls = [one for due in dues for one in due.polls]
    woken = [False] * len(polls)
    numbers = iter(range(len(polls)))

    async def poll_one_after_another() -> None:
        for number in numbers:
            one = polls[number]
            woken[number] = await _guarded("poll.failed", one.run_id, poll(context, one), False)

    await asyncio.gather(*(poll_one_after_another() for _ in range(min(concurrency, len(polls)))))
    wakes = [run_id for due in dues for run_id in due.wakes]
    wakes += [one.run_id for one, wake in zip(polls, woken, strict=True) if wake]
    if polls or wakes:
        say("tick.done", polls=len(polls), wakes=len(wakes))
    return wakes


async def _guarded(event: str, name: str, work: Awaitable[_Result], otherwise: _Result) -> _Result:
    try:
        return await work
    except Exception as fault:  # noqa: BLE001  (one bad run or shard must never stop the others)
        say_fault(event, fault, of=name)
        return otherwise
