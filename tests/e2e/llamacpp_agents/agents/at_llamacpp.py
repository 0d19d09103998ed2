"""Agents at llama.cpp's own server: by Chat Completions, and by its Responses API, which has no background mode."""

from datetime import timedelta

from shared.agent import Agent
from shared.provider import ChatCompletions, Responses

_INSTRUCTIONS = "You are a novelist. You write vivid prose and never ask questions."
# At this temperature the model writes the same again, and the penalty keeps it from writing one sentence for ever.
_STEADY = {"temperature": 0, "repeat_penalty": 1.1}

chats = ChatCompletions("chats", base_url="%LLAMACPP_URL%", resume="trailing")
responses = Responses("responses", base_url="%LLAMACPP_URL%")

chatting = Agent(
    name="chatting",
    model="small",
    instructions=_INSTRUCTIONS,
    provider=chats,
    options=_STEADY,
    deadline=timedelta(minutes=10),
)
short = Agent(
    name="short",
    model="small",
    instructions=_INSTRUCTIONS,
    provider=responses,
    options={**_STEADY, "max_output_tokens": 24},
    deadline=timedelta(minutes=10),
)
long = Agent(
    name="long",
    model="small",
    instructions=_INSTRUCTIONS,
    provider=responses,
    options=_STEADY,
    deadline=timedelta(minutes=10),
)
