"""The port to what renews leases while their work goes on."""

from datetime import timedelta
from typing import Protocol

from shared.ports.tables import Table


class Renewal(Protocol):
    """How a lease is renewed. It is called in the keeper's thread."""

    def left(self) -> timedelta:
        """Return how long the lease still lasts. Nothing when it has ended."""
        ...

    async def renew(self, table: Table) -> timedelta | None:
        """Renew the lease if it is time, with the table of runs.

        Returns when to call this again; None when the lease is lost.
        """
        ...

    def failed(self, reason: str) -> timedelta | None:
        """Note that `renew` was given up or has raised. Returns what `renew` returns."""
        ...


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

    def keep(self, first: timedelta, renewal: Renewal) -> Kept:
        """Renew a lease first after `first`, and then as `renewal` says."""
        ...
