"""The clock and the randomness of this machine."""

import random
import secrets
from datetime import UTC, datetime


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class SystemRandomness:
    def bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)

    def fraction(self) -> float:
        return random.random()  # noqa: S311  (jitter needs no secure randomness)
