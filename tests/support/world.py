"""A wired application for tests, and the part of the Functions host that drives it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from shared.core.caller import Caller
from shared.core.ids import all_shards
from shared.core.pace import Schedule
from shared.core.quota import Limits
from shared.core.response import (
    Slice,
    Snapshot,
    StreamChange,
)
from shared.core.run import Chaining, Owed, Run
from shared.ports.providers import DEFAULT_PROVIDER, Provider
from shared.ports.system import Randomness
from shared.ports.tables import Table
from shared.steps.context import Context
from shared.steps.dispatch import carry_out
from shared.steps.due import claim_due
from shared.steps.poll import poll
from shared.store.content import ContentStore
from shared.store.keys import KeyStore
from shared.store.outbox import Outbox
from shared.store.quotas import QuotaStore
from shared.store.runs import RunStore
from shared.store.sessions import SessionStore
from shared.store.shards import ShardStore
from shared.store.waits import WaitStore
from shared.usecases.start import StartRequest, start
from tests.support.fakes import CountingTable, FakeAgents, FakeClock, FakeKeeper, FakeProvider, Seeded
from tests.support.runs import OWNER

CALLER = Caller(OWNER)


def stores(runs: Table, content: Table, randomness: Randomness) -> dict[str, Any]:
    """Return the stores of a context over two tables."""
    return {
        "runs": RunStore(runs, randomness),
        "sessions": SessionStore(runs, randomness),
        "keys": KeyStore(runs),
        "shards": ShardStore(runs, randomness),
        "outbox": Outbox(runs, randomness),
        "waits": WaitStore(runs),
        "content": ContentStore(content),
    }


def a_context(runs: Table, content: Table, provider: Provider, **changes: Any) -> Context:
    """Return a wired application over two tables and a provider; `changes` are further fields of the context."""
    randomness = changes.get("randomness") or Seeded()
    fields = {
        **stores(runs, content, randomness),
        "providers": {DEFAULT_PROVIDER: provider},
        "agents": FakeAgents(),
        "clock": FakeClock(),
        "keeper": FakeKeeper(),
        "randomness": randomness,
        "schedule": Schedule(timedelta(seconds=2), timedelta(seconds=30)),
        "streaming": Schedule(timedelta(seconds=2), timedelta(seconds=5)),
        "chaining": Chaining.PREVIOUS_RESPONSE_ID,
        "provider_timeout": timedelta(seconds=30),
        # As on the plan with the shortest one, so that the second purge of a test comes soon.
        "function_timeout": timedelta(minutes=10),
    }
    return Context(**fields | changes)


class World:
    """A wired application without IO, and the shell's part of driving it."""

    def __init__(
        self, provider: Any = None, agents: Any = None, limits: Limits | None = None, **changes: Any
    ) -> None:
        self.table, self.content_table = CountingTable(), CountingTable()
        self.clock, self.keeper = FakeClock(), FakeKeeper()
        self.provider, self.agents = provider or FakeProvider(), agents or FakeAgents()
        fields = {"agents": self.agents, "clock": self.clock, "keeper": self.keeper} | changes
        if limits:
            fields["quotas"] = QuotaStore(self.table, Seeded(), limits)
        self.context = a_context(self.table, self.content_table, self.provider, **fields)

    async def start(self, *, caller: Caller = CALLER, **changes: object) -> Run:
        request = StartRequest(agent="writer", input='[{"role": "user", "content": "hi"}]')
        return (await start(self.context, caller, replace(request, **changes))).stored.run

    async def run(self, run_id: str) -> Run:
        stored = await self.context.runs.read(run_id)
        assert stored is not None
        return stored.run

    async def owed(self) -> list[Owed]:
        """Return every run that is owed a step, as the poll loop knows it."""
        views = [await self.context.shards.owed(shard, self.clock.now()) for shard in all_shards()]
        return [owed for view in views for owed in view.runs]

    async def tick(self, seconds: float = 5) -> list[str]:
        """Let time pass and tick every shard once; return messages for workers."""
        self.clock.pass_(seconds)
        messages: list[str] = []
        for shard in all_shards():
            due = await claim_due(self.context, shard)
            messages += due.messages
            for owed in due.polls:
                messages += await poll(self.context, owed)
        return messages

    async def drive(self, ticks: int = 1, seconds: float = 5) -> None:
        """Tick, and let workers do what messages ask for."""
        for _ in range(ticks):
            for message in await self.tick(seconds):
                await self.work(message)

    async def work(self, message: str) -> tuple[str, ...]:
        return await carry_out(self.context, message)

    async def until_terminal(self, run_id: str, ticks: int = 1000, seconds: float = 5) -> Run:
        for _ in range(ticks):
            if (run := await self.run(run_id)).terminal:
                return run
            await self.drive(1, seconds)
        raise AssertionError(f"still {run.status} after {ticks} ticks")


async def brings(world: World, *changes: StreamChange, final: Snapshot | None = None) -> None:
    """Poll the only run that is owed a poll, with a slice of these changes."""
    [owed] = await world.owed()
    response_id, after = owed.continuation.response_id, owed.continuation.sequence
    sequence = after + bool(changes)
    world.provider.slice_replies = [
        Slice(response_id=response_id, after=after, sequence=sequence, changes=changes, final=final)
    ]
    for one in await poll(world.context, owed):
        await world.work(one)
