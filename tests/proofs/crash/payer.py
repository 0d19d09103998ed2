"""The agent of the crash tests: its tools write their effects to a file, between two crash points."""

from datetime import timedelta

from shared.agent import Agent, CallerTool, IdempotencyKey, tool
from tests.proofs.crash.fuse import Fuse
from tests.proofs.crash.ledger import Ledger
from tests.proofs.crash.points import AFTER, BEFORE

NAME = "payer"
# How long a donation waits for a person.
WAIT = timedelta(minutes=5)


def payer(fuse: Fuse, effects: Ledger) -> Agent:
    """Return an agent with a tool that must not be repeated, one that may be, and tools whose calls wait."""

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
    return Agent(name=NAME, model="scripted", instructions="Follow the script.", tools=tools)
