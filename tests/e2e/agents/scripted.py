"""An agent whose model does what the request's script says, with tools that leave a trace outside the process."""

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
    """Do what must not be done twice."""
    _leave_trace("pay", key, mark)
    await asyncio.sleep(seconds)
    return f"paid {mark}"


@tool(timeout=timedelta(seconds=20), idempotent=True)
async def look_up(mark: str, seconds: float, key: IdempotencyKey) -> str:
    """Do what may be done again."""
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
