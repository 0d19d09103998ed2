"""One process of the app: Baton wired as in production, with crash points at its ports, and a host's loop."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from shared.adapters.agents.running import InstalledAgents
from shared.app import Baton
from shared.core import ids
from shared.core.response import ResponseStatus, Snapshot
from shared.ports.chat import ChatService
from shared.ports.providers import DEFAULT_PROVIDER
from shared.settings import load
from shared.steps.context import Context
from shared.web.http import Reply, Request
from shared.web.runs_api.handlers import answer
from tests.proofs.crash.delays import Delays
from tests.proofs.crash.fuse import Fuse, FusedAgents, FusedChat, FusedProvider, FusedTable
from tests.proofs.crash.keeper import ManualKeeper
from tests.proofs.crash.ledger import Ledger
from tests.proofs.crash.payer import CONTINUING, RESTARTING, payers
from tests.proofs.crash.points import Point
from tests.support.world import stores

# How far the clock is moved between two ticks: past the next poll point of any schedule.
TICK = timedelta(seconds=60)
# How long a process stands still before it uses a reply: past the end of the lease.
STANDSTILL = timedelta(minutes=5)
# The steps in which time passes while something slow is under way. After each of them the lease is due for a renewal.
SLOW = tuple(timedelta(seconds=seconds) for seconds in (8, 4, 4))
# How long a provider without background mode writes one piece of a text. After it a worker stores what it has.
WRITING = timedelta(seconds=2)
# How often a response is read until the provider has finished it, and the pause between two reads: one minute in
# all, which is enough also on a busy machine.
_MOST_READS, _PAUSE_SECONDS = 6000, 0.01


@dataclass(frozen=True, slots=True)
class Place:
    """The settings and files of one process of the app. `life` is 1 before the crash, 2 after it.

    Its clock shows `began` when it starts.
    """

    environment: Mapping[str, str]
    folder: Path
    began: datetime
    life: int
    armed: Point | None
    delays: Delays


class AheadClock:
    """A clock that the test moves forward, so that nothing waits."""

    correction = timedelta()

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def forward(self, by: timedelta) -> None:
        self._now += by


class _Delay(Protocol):
    """What happens while something is under way."""

    async def after_create(self, ordinal: int, run_id: str) -> None: ...

    async def after_tool(self, call_id: str) -> None: ...


class _FusedBaton(Baton):
    """Baton as the composition root wires it. Each port that reaches outside the process has crash points."""

    def __init__(self, place: Place, fuse: Fuse, clock: AheadClock, delay: "_Delay") -> None:
        effects = Ledger(place.folder / "effects", sync=True)
        settings = load(place.environment, providers=(CONTINUING, RESTARTING))
        super().__init__(settings, InstalledAgents(payers(fuse, effects), {}))
        self._fuse = fuse
        self._delay = delay
        self.clock, self.keeper = clock, ManualKeeper(clock)

    @cached_property
    def provider(self) -> FusedProvider:
        return FusedProvider(self._fuse, self.unfused.provider(DEFAULT_PROVIDER), self._delay.after_create)

    @cached_property
    def unfused(self) -> Context:
        # `super().context` would also become the context of this object.
        return replace(Baton.context.func(self), clock=self.clock, keeper=self.keeper)

    @cached_property
    def runs_table(self) -> FusedTable:
        return FusedTable(self._fuse, "runs", self._storage.table(self.settings.storage.runs_table))

    @cached_property
    def context(self) -> Context:
        real, storage = self.unfused, self.settings.storage
        content = FusedTable(self._fuse, "content", self._storage.table(storage.content_table))
        return replace(
            real,
            **stores(self.runs_table, content, real.randomness),
            providers={DEFAULT_PROVIDER: self.provider},
            chats={name: self._fused(service) for name, service in real.chats.items()},
            agents=FusedAgents(self._fuse, real.agents, self._delay.after_tool),
        )

    def _fused(self, service: ChatService) -> ChatService:
        return replace(service, provider=FusedChat(self._fuse, service.provider, self._writing))

    def _writing(self) -> None:
        self.clock.forward(WRITING)

    async def time_passes_under_way(self) -> None:
        """Let time pass while something slow is under way, and renew the leases meanwhile."""
        for seconds in SLOW:
            self.clock.forward(seconds)
            await self.keeper.renew_due(self.runs_table)


class Host:
    """Calls the app as its triggers do. Messages are kept in memory, so a crash loses them all."""

    def __init__(self, place: Place) -> None:
        self._place = place
        # After the crash nothing is slow any more.
        self._delays = place.delays if place.life == 1 else Delays()
        clock = AheadClock(place.began)
        fuse = Fuse(Ledger(place.folder / "journal"), place.life, place.armed, clock)
        self._baton = _FusedBaton(place, fuse, clock, self)
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
        await self._work()

    async def tick_once(self) -> None:
        """Fire the timer once without letting time pass, and work until the queue is empty."""
        self._messages.extend(await self._baton.tick())
        await self._work()

    async def _work(self) -> None:
        while self._messages:
            self._messages.extend(await self._baton.work(self._messages.popleft()))

    async def after_create(self, ordinal: int, run_id: str) -> None:
        """Let time pass, or another worker take over, while the reply to a create is late."""
        if ordinal in self._delays.late:
            await self.round(ids.shard_of(run_id), STANDSTILL)
        elif ordinal in self._delays.slow:
            await self._baton.time_passes_under_way()

    async def after_tool(self, call_id: str) -> None:
        if call_id in self._delays.slow_calls:
            await self._baton.time_passes_under_way()

    async def close(self) -> None:
        await self._baton.close()

    async def _provider_settles(self) -> None:
        """Wait until the provider has finished all that it will finish, so that each run reaches the same points.

        After a restart this does not hold, because some responses are not known to this process.
        """
        provider = self.unfused.provider(DEFAULT_PROVIDER)
        for ordinal, response_id in enumerate(self._baton.provider.created, 1):
            endless = ordinal in self._delays.endless
            for _ in range(_MOST_READS):
                reply: Any = await provider.read(response_id)
                if not isinstance(reply, Snapshot) or reply.status.finished:
                    break
                if reply.status is ResponseStatus.IN_PROGRESS and (endless or self._place.life > 1):
                    break
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                raise AssertionError(f"the provider has not finished response {ordinal}")
