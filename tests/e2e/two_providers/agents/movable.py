"""One agent at each of two providers, and one whose provider is another one after the next deployment."""

import os

from agents.providers import far
from shared.agent import Agent

near_one = Agent(name="near", model="%WRITER_MODEL%", instructions="Follow the script.")
far_one = Agent(name="far", model="%WRITER_MODEL%", instructions="Follow the script.", provider=far)
mover = Agent(
    name="mover",
    model="%WRITER_MODEL%",
    instructions="Follow the script.",
    provider=far if os.environ.get("MOVED") else None,
)
