"""The port to what renews leases while their work goes on."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

from shared.ports.tables import Table

# Renews a lease, with the table of runs, if it is time. Returns when to call it again; None when the lease is lost.
Renew = Callable[[Table], Awaitable[timedelta | None]]


class Kept(Protocol):
    """A lease that is renewed until `end`."""

    def end(self) -> None:
        """Renew it no more: its work is over."""
        ...

    async def lost(self) -> None:
        """Return when the lease is lost. It is not lost while it is renewed, and not after `end`."""
        ...


class Keeper(Protocol):
    """Renews leases beside their work, also while this work keeps everything else in the process waiting.

    It reads and writes over a connection of its own. Keeping a lease costs nothing until it is renewed first.
    """

    def keep(self, first: timedelta, renew: Renew) -> Kept:
        """Call `renew` after `first`, and again as it says."""
        ...
