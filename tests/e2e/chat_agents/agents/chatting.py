"""Agents at the emulator's chat completions. One provider continues a text that it has begun, and one cannot."""

import os
from datetime import timedelta
from pathlib import Path

from shared.agent import Agent, IdempotencyKey, tool
from shared.provider import ChatCompletions

_TRACES = Path(os.environ["TRACES"])


@tool
def pay(mark: str, key: IdempotencyKey) -> str:
    """Have an effect that must not be repeated."""
    with _TRACES.open("a") as traces:
        traces.write(f"pay {mark} {key}\n")
    return f"paid {mark}"


continued = ChatCompletions("continued", base_url="%CHAT_URL%", api_key="%CHAT_KEY%", resume="prefix")
anew = ChatCompletions("anew", base_url="%CHAT_URL%", api_key="%CHAT_KEY%")

chatting = Agent(
    name="chatting",
    model="m",
    instructions="Follow the script.",
    tools=(pay,),
    provider=continued,
    deadline=timedelta(minutes=5),
)
restarting = Agent(
    name="restarting",
    model="m",
    instructions="Follow the script.",
    provider=anew,
    deadline=timedelta(minutes=5),
)
mover = Agent(
    name="mover",
    model="m",
    instructions="Follow the script.",
    tools=(pay,),
    provider=continued if os.environ.get("MOVED") else None,
    deadline=timedelta(minutes=5),
)
plain = Agent(
    name="plain",
    model="%WRITER_MODEL%",
    instructions="Follow the script.",
    tools=(pay,),
    deadline=timedelta(minutes=5),
)
