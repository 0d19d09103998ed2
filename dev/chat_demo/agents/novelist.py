"""A novelist at llama.cpp's own server, which has Chat Completions and keeps nothing that could be polled."""

from datetime import timedelta

from shared.agent import Agent
from shared.provider import ChatCompletions

llamacpp = ChatCompletions("llamacpp", base_url="%LLAMACPP_URL%", resume="trailing")

novelist = Agent(
    name="novelist",
    model="small",
    instructions="You are a novelist. You write vivid prose and never ask questions.",
    provider=llamacpp,
    # At this temperature the model writes the same again. The penalty keeps it from writing one sentence for ever.
    options={"temperature": 0, "repeat_penalty": 1.1},
    deadline=timedelta(minutes=10),
)
