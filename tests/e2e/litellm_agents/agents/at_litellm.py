"""Agents at LiteLLM's proxy, in front of llama.cpp's own server (`small`, `bridged`) and the emulator (`emulated`)."""

import os
from datetime import timedelta
from pathlib import Path

from shared.agent import Agent, IdempotencyKey, tool
from shared.provider import ChatCompletions, Responses

_TRACES = Path(os.environ["TRACES"])
_INSTRUCTIONS = "You are a novelist. You write vivid prose and never ask questions."
# At this temperature the model writes the same again, and the penalty keeps it from writing one sentence for ever.
_STEADY = {"temperature": 0, "repeat_penalty": 1.1}
_DEADLINE = timedelta(minutes=10)


@tool
def pay(mark: str, key: IdempotencyKey) -> str:
    """Have an effect that must not be repeated."""
    with _TRACES.open("a") as traces:
        traces.write(f"pay {mark} {key}\n")
    return f"paid {mark}"


chats = ChatCompletions("chats", base_url="%LITELLM_URL%", api_key="%LITELLM_KEY%", resume="trailing")
responses = Responses("responses", base_url="%LITELLM_URL%", api_key="%LITELLM_KEY%")

chatting = Agent(
    name="chatting",
    model="small",
    instructions=_INSTRUCTIONS,
    provider=chats,
    options=_STEADY,
    deadline=_DEADLINE,
)
short = Agent(
    name="short",
    model="small",
    instructions=_INSTRUCTIONS,
    provider=responses,
    options={**_STEADY, "max_output_tokens": 24},
    deadline=_DEADLINE,
)
short_bridged = Agent(
    name="short_bridged",
    model="bridged",
    instructions=_INSTRUCTIONS,
    provider=responses,
    options={"temperature": 0, "max_output_tokens": 24},
    deadline=_DEADLINE,
)
long = Agent(
    name="long",
    model="small",
    instructions=_INSTRUCTIONS,
    provider=responses,
    options=_STEADY,
    deadline=_DEADLINE,
)
long_bridged = Agent(
    name="long_bridged",
    model="bridged",
    instructions=_INSTRUCTIONS,
    provider=responses,
    options={"temperature": 0},
    deadline=_DEADLINE,
)
calling = Agent(
    name="calling",
    model="emulated",
    instructions="Follow the script.",
    tools=(pay,),
    provider=chats,
    deadline=_DEADLINE,
)
polled = Agent(
    name="polled",
    model="emulated",
    instructions="Follow the script.",
    tools=(pay,),
    provider=responses,
    deadline=_DEADLINE,
)
