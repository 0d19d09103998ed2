"""Time and randomness."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the time in UTC."""
        ...


class Randomness(Protocol):
    def bytes(self, count: int) -> bytes: ...

    def fraction(self) -> float:
        """Return a number from 0 up to 1, for jitter."""
        ...
