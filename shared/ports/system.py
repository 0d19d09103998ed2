"""The ports to time and randomness, and to an observer of transitions."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from shared.core.life.birth import Accepted
from shared.core.life.events import Effect, Event
from shared.core.run import Run


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the time in UTC."""
        ...

    @property
    def correction(self) -> timedelta:
        """What is added to the clock of this host, which differs from that of the storage."""
        ...


class Randomness(Protocol):
    def bytes(self, count: int) -> bytes: ...

    def fraction(self) -> float:
        """Return a number from 0 up to 1, for jitter."""
        ...


class Observer(Protocol):
    """Is called after each transition was stored. It must not change anything."""

    def stored(
        self, before: Run | None, event: Event | Accepted, after: Run, effects: Sequence[Effect]
    ) -> None: ...


class NoObserver:
    def stored(
        self, before: Run | None, event: Event | Accepted, after: Run, effects: Sequence[Effect]
    ) -> None:
        """Do nothing."""
