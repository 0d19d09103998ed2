"""The tick: poll the due runs concurrently, so that a failure of one does not stop the others."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from shared.core.ids import all_shards
from shared.log import log_event, log_fault
from shared.steps.context import Context
from shared.steps.due import Due, claim_due
from shared.steps.poll import poll
from shared.steps.turns import MESSAGES_PER_OWNER, fair_messages, in_turns

_Result = TypeVar("_Result")


async def tick(context: Context, concurrency: int, shards: Sequence[str] = all_shards()) -> list[str]:
    """Poll every run that is due in `shards` once, and return messages for workers. Owners take turns in both.

    A tick that lasts almost as long as a function may begins no further polls. Those runs are polled at their next poll
    points.
    """
    until = context.clock.now() + context.longest_work
    dues = await asyncio.gather(
        *(_guarded("shard.failed", shard, claim_due(context, shard), Due()) for shard in shards)
    )
    polls = in_turns((owed.owner, owed) for due in dues for owed in due.polls)
    # Shared by all tasks below: each one takes the next run when it has finished a run.
    positions = iter(range(len(polls)))
    messages_of: list[tuple[str, ...]] = [()] * len(polls)
    begun = 0

    async def poll_one_after_another() -> None:
        nonlocal begun
        while context.clock.now() < until and (position := next(positions, None)) is not None:
            owed = polls[position]
            begun += 1
            messages_of[position] = await _guarded("poll.failed", owed.run_id, poll(context, owed), ())

    await asyncio.gather(*(poll_one_after_another() for _ in range(min(concurrency, len(polls)))))
    polled = zip(polls, messages_of, strict=True)
    messages = fair_messages(
        [
            *(message for due in dues for message in due.owned_messages),
            *((owed.owner, message) for owed, own in polled for message in own),
        ],
        # With fan-out, the ticks of all shards together send as many.
        most=max(1, MESSAGES_PER_OWNER * len(shards) // len(all_shards())),
    )
    if polls or messages:
        log_event("tick.completed", polls=begun, messages=len(messages))
    if begun < len(polls):
        log_event("tick.cut", level=logging.WARNING, polls_left=len(polls) - begun)
    return messages


async def _guarded(event: str, name: str, work: Awaitable[_Result], default: _Result) -> _Result:
    try:
        return await work
    except Exception as fault:  # noqa: BLE001  (a failure in one run or shard must not stop the others)
        log_fault(event, fault, id=name)
        return default
