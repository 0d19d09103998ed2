"""One process of the app: Baton wired as in production, with crash points at its ports, and a host's loop."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from shared.adapters.agents.running import InstalledAgents
from shared.app import Baton
from shared.core import ids
from shared.core.response import ResponseStatus, Snapshot
from shared.ports.providers import DEFAULT_PROVIDER
from shared.settings import load
from shared.steps.context import Context
from shared.web.http import Reply, Request
from shared.web.runs_api.handlers import answer
from tests.proofs.crash.fuse import Fuse, FusedAgents, FusedProvider, FusedTable, StandStill
from tests.proofs.crash.ledger import Ledger
from tests.proofs.crash.payer import NAME, payer
from tests.proofs.crash.points import Point
from tests.support.world import stores

# How far the clock is moved between two ticks: past the next poll point of any schedule.
TICK = timedelta(seconds=60)
# How long a process stands still before it uses a reply: past the end of the lease.
STANDSTILL = timedelta(minutes=5)
# How much later the app is started again: past the end of any lease, and far from any deadline.
RESTART = timedelta(hours=2)
# How often a response is read until the provider has finished it, and the pause between two reads: one minute in
# all, which is enough also on a busy machine.
_MOST_READS, _PAUSE_SECONDS = 6000, 0.01


@dataclass(frozen=True, slots=True)
class Place:
    """The settings and files of one process of the app. `life` is 1 before the crash, 2 after it."""

    environment: Mapping[str, str]
    folder: Path
    began: datetime
    life: int
    armed: Point | None
    # Ordinals of the responses that never finish.
    endless: frozenset[int]
    # Ordinals of the responses whose create is answered after another worker has taken over.
    late: frozenset[int]


class AheadClock:
    """A clock that the test moves forward, so that nothing waits."""

    correction = timedelta()

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def forward(self, by: timedelta) -> None:
        self._now += by


class _FusedBaton(Baton):
    """Baton as the composition root wires it. Each port that reaches outside the process has crash points."""

    def __init__(self, place: Place, fuse: Fuse, effects: Ledger, stand_still: StandStill) -> None:
        super().__init__(load(place.environment), InstalledAgents({NAME: payer(fuse, effects)}, {}))
        self._fuse = fuse
        self._stand_still = stand_still
        self.clock = AheadClock(place.began + RESTART * (place.life - 1))

    @cached_property
    def provider(self) -> FusedProvider:
        return FusedProvider(self._fuse, self.unfused.provider(DEFAULT_PROVIDER), self._stand_still)

    @cached_property
    def unfused(self) -> Context:
        return replace(super().context, clock=self.clock)

    @cached_property
    def context(self) -> Context:
        real, storage = self.unfused, self.settings.storage
        runs = FusedTable(self._fuse, "runs", self._storage.table(storage.runs_table))
        content = FusedTable(self._fuse, "content", self._storage.table(storage.content_table))
        return replace(
            real,
            **stores(runs, content, real.randomness),
            providers={DEFAULT_PROVIDER: self.provider},
            agents=FusedAgents(self._fuse, real.agents),
        )


class Host:
    """Calls the app as its triggers do. Messages are kept in memory, so a crash loses them all."""

    def __init__(self, place: Place) -> None:
        self._place = place
        fuse = Fuse(Ledger(place.folder / "journal"), place.life, place.armed)
        effects = Ledger(place.folder / "effects", sync=True)
        self._baton = _FusedBaton(place, fuse, effects, self._stand_still)
        self._messages: deque[str] = deque()

    @property
    def unfused(self) -> Context:
        return self._baton.unfused

    async def handle(self, handler: Callable[..., Awaitable[Reply]], request: Request, *path: str) -> Reply:
        reply = await answer(handler, self._baton.api, request, *path)
        self._messages.extend(reply.messages)
        return reply

    async def round(self, shard: str, by: timedelta = TICK) -> None:
        """Let time pass, fire the timer, and work until the queue is empty.

        With fan-out the timer sends a message for each shard. Only this shard has runs, so only its message is used.
        """
        await self._provider_settles()
        self._baton.clock.forward(by)
        assert len(await self._baton.tick()) == ids.SHARDS
        self._messages.append(f"shard_{shard}")
        while self._messages:
            self._messages.extend(await self._baton.work(self._messages.popleft()))

    async def _stand_still(self, ordinal: int, run_id: str) -> None:
        """Let another worker take over while the reply to a create is late."""
        if self._place.life == 1 and ordinal in self._place.late:
            await self.round(ids.shard_of(run_id), STANDSTILL)

    async def close(self) -> None:
        await self._baton.close()

    async def _provider_settles(self) -> None:
        """Wait until the provider has finished all that it will finish, so that each run reaches the same points.

        After a restart this does not hold, because some responses are not known to this process.
        """
        provider = self.unfused.provider(DEFAULT_PROVIDER)
        for ordinal, response_id in enumerate(self._baton.provider.created, 1):
            endless = self._place.life == 1 and ordinal in self._place.endless
            for _ in range(_MOST_READS):
                reply: Any = await provider.read(response_id)
                if not isinstance(reply, Snapshot) or reply.status.finished:
                    break
                if reply.status is ResponseStatus.IN_PROGRESS and (endless or self._place.life > 1):
                    break
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                raise AssertionError(f"the provider has not finished response {ordinal}")
