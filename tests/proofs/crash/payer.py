"""The agent of the crash tests: its tools write their effects to a file, between two crash points."""

from datetime import timedelta

from shared.agent import Agent, IdempotencyKey, tool
from tests.proofs.crash.fuse import Fuse
from tests.proofs.crash.ledger import Ledger
from tests.proofs.crash.points import AFTER, BEFORE

NAME = "payer"


def payer(fuse: Fuse, effects: Ledger) -> Agent:
    """Return an agent with a tool that must not be repeated and one that may be."""

    def carry_out(name: str, mark: str, key: str) -> None:
        ordinal = fuse.count(f"tool.{name}")
        fuse.reach(f"tool.{name}", ordinal, BEFORE, mark)
        effects.add(tool=name, mark=mark, key=key)
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

    return Agent(name=NAME, model="scripted", instructions="Follow the script.", tools=(pay, look_up))
