"""One process of the app: Baton wired as in production, its ports fused, and what a Functions host does for it."""

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

# How far the clock is moved between two ticks: past the next point of any schedule.
TICK = timedelta(seconds=60)
# How long a process stands still with a reply in its hands: past the end of the lease.
STANDSTILL = timedelta(minutes=5)
# How much later the app is started again: past the end of any lease, and far from any deadline.
RESTART = timedelta(hours=2)
# How often a provider that answers at once is asked whether it has, and how long it is waited for in between.
_LOOKS, _PAUSE_SECONDS = 400, 0.01


@dataclass(frozen=True, slots=True)
class Place:
    """Where one life of the app takes place."""

    environment: Mapping[str, str]
    folder: Path
    began: datetime
    life: int
    armed: Point | None
    # Ordinals of the responses that the provider works on for ever.
    endless: frozenset[int]
    # Ordinals of the responses whose reply comes when another worker has taken over.
    late: frozenset[int]


class AheadClock:
    """A clock that is moved on instead of waited for."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def forward(self, by: timedelta) -> None:
        self._now += by


class _FusedBaton(Baton):
    """Baton as the composition root wires it, each port that reaches outside replaced by its fused one."""

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
    """Calls the app as its triggers would. Messages are kept in memory, so a crash loses them all."""

    def __init__(self, place: Place) -> None:
        self._place = place
        fuse = Fuse(Ledger(place.folder / "journal"), place.life, place.armed)
        effects = Ledger(place.folder / "effects", sync=True)
        self._baton = _FusedBaton(place, fuse, effects, self._stand_still)
        self._messages: deque[str] = deque()

    @property
    def unfused(self) -> Context:
        return self._baton.unfused

    async def ask(self, handler: Callable[..., Awaitable[Reply]], request: Request, *path: str) -> Reply:
        reply = await answer(handler, self._baton.api, request, *path)
        self._messages.extend(reply.messages)
        return reply

    async def round(self, shard: str, by: timedelta = TICK) -> None:
        """Let time pass, fire the timer, and work the queue off.

        The timer of a fanned out app puts a message for each shard on the queue; nothing lies in the others.
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
        """Wait until the provider has done what it will do: then each life passes the same points in turn.

        Which it need not after a restart, when some of its responses are not known here.
        """
        provider = self.unfused.provider(DEFAULT_PROVIDER)
        for ordinal, response_id in enumerate(self._baton.provider.created, 1):
            endless = self._place.life == 1 and ordinal in self._place.endless
            for _ in range(_LOOKS):
                reply: Any = await provider.read(response_id)
                if not isinstance(reply, Snapshot) or reply.status.finished:
                    break
                if reply.status is ResponseStatus.IN_PROGRESS and (endless or self._place.life > 1):
                    break
                await asyncio.sleep(_PAUSE_SECONDS)
