"""The agent of a case, and the functions that agents of cases may have. Each call is counted."""

import math
from collections import Counter
from datetime import timedelta
from typing import Any

from shared.agent import Agent, CallerTool, Tool, tool
from tests.proofs.cases.case import AgentTable

AGENT = "clerk"
# A picture of one pixel.
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="


def functions(calls: Counter[str]) -> dict[str, Tool[..., Any]]:
    """Return the functions by name. None of them is idempotent. `calls` counts how often each one ran."""

    @tool
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        calls["add"] += 1
        return a + b

    @tool
    async def ping() -> str:
        """Say whether the office is open."""
        calls["ping"] += 1
        return "open"

    @tool
    async def greet(name: str = "stranger") -> str:
        """Greet somebody."""
        calls["greet"] += 1
        return f"Good morning, {name}."

    @tool
    async def book_mean(column: str) -> dict[str, float]:
        """Book the mean of a column, and return it."""
        calls["book_mean"] += 1
        return {"mean": math.nan}

    @tool
    async def book_all() -> dict[str, Any]:
        """Book the figures of all columns, and return them."""
        calls["book_all"] += 1
        return {"rows": [{"column": "age", "mean": math.nan, "count": 3}, [math.inf, -math.inf, 0.5]]}

    @tool
    async def chart(topic: str) -> list[dict[str, str]]:
        """Draw a chart."""
        calls["chart"] += 1
        return [
            {"type": "input_text", "text": f"A chart of {topic}"},
            {"type": "input_image", "image_url": PIXEL},
        ]

    @tool(approval=lambda arguments: arguments["amount"] > 100)
    async def refund(amount: int) -> str:
        """Refund an amount. Above 100 a clerk has to approve it."""
        calls["refund"] += 1
        return f"{amount} refunded"

    return {each.name: each for each in (add, ping, greet, book_mean, book_all, chart, refund)}


def agent_of(table: AgentTable, calls: Counter[str]) -> Agent:
    """Return the agent that a case describes."""
    known = functions(calls)
    return Agent(
        name=AGENT,
        model="m-1",
        instructions="Answer what the visitors of the town hall ask.",
        tools=[
            *(known[name] for name in table.functions),
            *(CallerTool(**each) for each in table.caller_tools),
            *table.hosted,  # type: ignore[list-item]
        ],
        options=table.options,
        stream=table.stream,
        max_turns=table.max_turns,
        deadline=timedelta(seconds=table.deadline_seconds),
    )
