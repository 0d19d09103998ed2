"""The agents of the crash tests: their tools write their effects to a file, between two crash points."""

from datetime import timedelta
from typing import Any

from shared.agent import Agent, CallerTool, IdempotencyKey, tool
from shared.provider import ChatCompletions
from tests.proofs.crash.fuse import Fuse
from tests.proofs.crash.ledger import Ledger
from tests.proofs.crash.points import AFTER, BEFORE

NAME = "payer"
# The emulator's chat completions: as a provider that continues a text that it has begun, and as one that cannot.
_PLACE = {"base_url": "%OPENAI_BASE_URL%", "api_key": "%OPENAI_API_KEY%"}
CONTINUING = ChatCompletions("continuing", resume="prefix", **_PLACE)
RESTARTING = ChatCompletions("restarting", **_PLACE)
# How long a donation waits for a person.
WAIT = timedelta(minutes=5)


def payers(fuse: Fuse, effects: Ledger) -> dict[str, Agent]:
    """Return one agent for each provider, by name.

    It has a tool that must not be repeated, one that may be, and tools whose calls wait.
    """

    def carry_out(name: str, mark: str, key: str, **arguments: int) -> None:
        ordinal = fuse.count(f"tool.{name}")
        fuse.reach(f"tool.{name}", ordinal, BEFORE, mark)
        effects.add(tool=name, mark=mark, key=key, **arguments)
        fuse.reach(f"tool.{name}", ordinal, AFTER, mark)

    @tool(timeout=timedelta(seconds=20))
    async def pay(mark: str, key: IdempotencyKey) -> str:
        """Have an effect that must not be repeated."""
        carry_out("pay", mark, key)
        return f"paid {mark}"

    @tool(timeout=timedelta(seconds=20), idempotent=True)
    async def look_up(mark: str, key: IdempotencyKey) -> str:
        """Have an effect that may be repeated."""
        carry_out("look_up", mark, key)
        return f"found {mark}"

    @tool(timeout=timedelta(seconds=20), approval=True)
    async def transfer(mark: str, amount: int, key: IdempotencyKey) -> str:
        """Have an effect that a person has to approve."""
        carry_out("transfer", mark, key, amount=amount)
        return f"transferred {amount} for {mark}"

    @tool(timeout=timedelta(seconds=20), approval=lambda arguments: arguments["amount"] > 1, wait_for=WAIT)
    async def donate(mark: str, amount: int, key: IdempotencyKey) -> str:
        """Have an effect that a person has to approve soon."""
        carry_out("donate", mark, key, amount=amount)
        return f"donated {amount} for {mark}"

    schema = {"type": "object", "properties": {"mark": {"type": "string"}}, "required": ["mark"]}
    ask = CallerTool("ask", "Ask the user.", schema)
    tools = (pay, look_up, transfer, donate, ask)
    fields: dict[str, Any] = {"model": "scripted", "instructions": "Follow the script.", "tools": tools}
    generating = [Agent(name=each.name, provider=each, **fields) for each in (CONTINUING, RESTARTING)]
    return {agent.name: agent for agent in (Agent(name=NAME, **fields), *generating)}
