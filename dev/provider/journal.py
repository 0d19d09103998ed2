"""A record of every request to the emulator, so that a test can assert on it."""

import secrets
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from dev.provider.wire import Json

KEPT = 100_000
"""How many requests are kept; the counters count all."""


@dataclass
class Record:
    """One request. `status` stays None when no reply was sent."""

    operation: str
    response_id: str | None
    request_id: str = field(default_factory=lambda: "req_" + secrets.token_hex(16))
    at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.monotonic)
    status: int | None = None
    fault: str | None = None
    seconds: float | None = None
    """How long it took; None while it is being served."""

    def close(self) -> None:
        self.seconds = time.monotonic() - self.started

    def as_json(self) -> Json:
        names = ("operation", "response_id", "status", "fault", "at", "seconds", "request_id")
        return {name: getattr(self, name) for name in names}


class Journal:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.records: deque[Record] = deque(maxlen=KEPT)
        self.requests: Counter[str] = Counter()
        self.created = 0

    def open(self, operation: str, response_id: str | None) -> Record:
        record = Record(operation, response_id)
        self.records.append(record)
        self.requests[operation] += 1
        return record
