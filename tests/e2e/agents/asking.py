"""Agents that wait for people: calls that are approved, calls of the caller, and a hosted MCP server."""

import os
from datetime import timedelta
from pathlib import Path

from shared.agent import Agent, CallerTool, IdempotencyKey, tool

_TRACES = Path(os.environ["TRACES"])


def _leave_trace(kind: str, key: str, mark: str) -> None:
    with _TRACES.open("a") as traces:
        traces.write(f"{kind} {mark} {key}\n")


@tool(approval=lambda call: call["euros"] > 50)
def transfer(mark: str, euros: int, key: IdempotencyKey) -> str:
    """Have an effect that a person has to approve above 50 euros."""
    _leave_trace("transfer", key, f"{mark}:{euros}")
    return f"transferred {euros}"


@tool(approval=True, wait_for=timedelta(seconds=2))
def hurry(mark: str, key: IdempotencyKey) -> str:
    """Have an effect that a person has to approve soon."""
    _leave_trace("hurry", key, mark)
    return "hurried"


@tool
def note(mark: str, key: IdempotencyKey) -> str:
    """Have an effect that needs nobody."""
    _leave_trace("note", key, mark)
    return f"noted {mark}"


asking = Agent(
    name="asking",
    model="%WRITER_MODEL%",
    instructions="Follow the script.",
    tools=(
        transfer,
        hurry,
        note,
        CallerTool("read_meter", "Read a meter.", {"type": "object", "properties": {}}),
    ),
    deadline=timedelta(minutes=5),
)

hosted = Agent(
    name="hosted",
    model="%WRITER_MODEL%",
    instructions="Ask the server.",
    tools=(
        {
            "type": "mcp",
            "server_label": "wiki",
            "server_url": "https://wiki.example",
            "require_approval": "always",
        },
    ),
    deadline=timedelta(minutes=5),
)
