"""An agent that asks a person: it refunds up to 50 euros by itself, and more when somebody has approved it."""

from datetime import timedelta
from typing import Any

from agents import shop
from shared.agent import Agent, IdempotencyKey, tool


@tool(idempotent=True)
def lookup_order(order: str) -> dict[str, Any]:
    """Return what was ordered, what it cost in euros, and what of it was paid back."""
    return shop.order(order)


@tool(idempotent=True, approval=lambda call: call["euros"] > 50, wait_for=timedelta(days=3))
def refund(order: str, euros: float, key: IdempotencyKey) -> str:
    """Pay back a part of an order's price, or all of it."""
    return shop.refund(order, euros, key)  # pays once for each key


refund_clerk = Agent(
    name="refund_clerk",
    model="%CLERK_MODEL%",
    instructions="Look the order up, refund what is due, and say what was done, and what was not and why.",
    tools=[lookup_order, refund],
)
