"""Renews leases by the clock of the trial, when the host says so, and not in a thread by real time."""

import asyncio
from datetime import timedelta

from shared.ports.leases import Renewal
from shared.ports.system import Clock
from shared.ports.tables import Table


class _Kept:
    """A lease that is renewed until its work is over."""

    def __init__(self, clock: Clock, first: timedelta, renewal: Renewal) -> None:
        self._clock, self._renewal = clock, renewal
        self._due = clock.now() + first
        self._lost = asyncio.Event()
        self.over = False

    def end(self) -> None:
        self.over = True

    async def lost(self) -> None:
        await self._lost.wait()

    async def renew_if_due(self, table: Table) -> None:
        if self._clock.now() < self._due:
            return
        pause = await self._renewal.renew(table)
        if pause is None:
            self._lost.set()
            self.over = True
        else:
            self._due = self._clock.now() + pause


class ManualKeeper:
    """A `Keeper` that renews what is due when `renew_due` is called."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: list[_Kept] = []

    def keep(self, first: timedelta, renewal: Renewal) -> _Kept:
        self._kept = [each for each in self._kept if not each.over]
        self._kept.append(_Kept(self._clock, first, renewal))
        return self._kept[-1]

    async def renew_due(self, table: Table) -> None:
        """Renew the leases that are due, one after another, so that the order of calls is always the same."""
        for each in self._kept:
            if not each.over:
                await each.renew_if_due(table)
