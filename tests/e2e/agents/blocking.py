"""An agent whose tools do not yield to others, as code that knows nothing of asyncio."""

import os
import time
from datetime import timedelta
from pathlib import Path

from shared.agent import Agent, IdempotencyKey, tool

_TRACES = Path(os.environ["TRACES"])


def _leave_trace(kind: str, key: str, mark: str) -> None:
    with _TRACES.open("a") as traces:
        traces.write(f"{kind} {mark} {key}\n")


@tool(timeout=timedelta(seconds=60))
async def block(mark: str, seconds: float, key: IdempotencyKey) -> str:
    """Block the event loop of the host."""
    _leave_trace("block", key, mark)
    time.sleep(seconds)  # noqa: ASYNC251 - the mistake that is tested
    return f"blocked {mark}"


@tool(timeout=timedelta(seconds=60))
def occupy(mark: str, seconds: float, key: IdempotencyKey) -> str:
    """Occupy a thread."""
    _leave_trace("occupy", key, mark)
    time.sleep(seconds)
    return f"occupied {mark}"


blocking = Agent(
    name="blocking",
    model="%WRITER_MODEL%",
    instructions="Follow the script.",
    tools=(block, occupy),
    deadline=timedelta(minutes=5),
)
