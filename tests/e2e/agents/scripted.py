"""An agent whose model follows the script in the input, with tools that write their effects to a file."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

from shared.agent import Agent, IdempotencyKey, tool

_TRACES = Path(os.environ["TRACES"])


def _leave_trace(kind: str, key: str, mark: str) -> None:
    with _TRACES.open("a") as traces:
        traces.write(f"{kind} {mark} {key}\n")


@tool(timeout=timedelta(seconds=20))
async def pay(mark: str, seconds: float, key: IdempotencyKey) -> str:
    """Have an effect that must not be repeated."""
    _leave_trace("pay", key, mark)
    await asyncio.sleep(seconds)
    return f"paid {mark}"


@tool(timeout=timedelta(seconds=20), idempotent=True)
async def look_up(mark: str, seconds: float, key: IdempotencyKey) -> str:
    """Have an effect that may be repeated."""
    _leave_trace("look_up", key, mark)
    await asyncio.sleep(seconds)
    return f"found {mark}"


scripted = Agent(
    name="scripted",
    model="%WRITER_MODEL%",
    instructions="Follow the script.",
    tools=(pay, look_up),
    max_turns=4,
    deadline=timedelta(minutes=5),
)
