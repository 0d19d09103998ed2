"""An agent whose tools write their effects to a file, which stays when the process dies."""

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

from shared.agent import Agent, IdempotencyKey, tool

# The amount that the person of the soak approves.
APPROVED = 20
_EFFECTS = Path(os.environ["EFFECTS"])


def _take_effect(tool_name: str, mark: str, key: str) -> None:
    line = f"{tool_name} {mark} {key} {os.getpid()} {time.time():.3f}\n"
    # One write, so that lines of several processes do not mix. The line is on the disk before the tool continues.
    file = os.open(_EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)


@tool(timeout=timedelta(seconds=40))
async def charge(mark: str, seconds: float, key: IdempotencyKey) -> str:
    """Have an effect that must not be repeated."""
    await asyncio.sleep(seconds / 2)
    _take_effect("charge", mark, key)
    await asyncio.sleep(seconds / 2)
    return f"charged {mark}"


@tool(timeout=timedelta(seconds=40), idempotent=True)
async def look_up(mark: str, seconds: float, key: IdempotencyKey) -> str:
    """Have an effect that may be repeated with the same key."""
    _take_effect("look_up", mark, key)
    await asyncio.sleep(seconds)
    return f"found {mark}"


@tool(timeout=timedelta(seconds=40), approval=True)
async def refund(mark: str, amount: int, key: IdempotencyKey) -> str:
    """Have an effect that a person has to approve, with the amount that the person allows."""
    if amount != APPROVED:
        raise ValueError(f"nobody has approved {amount}")
    _take_effect("refund", mark, key)
    return f"refunded {amount}"


clerk = Agent(
    name="clerk",
    model="%WRITER_MODEL%",
    instructions="Follow the script.",
    tools=(charge, look_up, refund),
    max_turns=4,
    deadline=timedelta(minutes=30),
)
