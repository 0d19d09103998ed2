"""How late the app noticed that a response had finished, and how late it would be by the schedule alone."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from dev.provider.plan import QUEUED_SECONDS
from shared.core.pace import Schedule


@dataclass(frozen=True)
class Lateness:
    """When one response was noticed, in seconds after it had finished."""

    noticed: float
    # When the schedule and the timer alone would have noticed it.
    scheduled: float

    @property
    def excess(self) -> float:
        return self.noticed - self.scheduled


@dataclass
class ProviderLog:
    """The emulator's log, collected in several reads because the emulator keeps only its last requests."""

    # When the create of each response was carried out, and when it was answered.
    created: dict[str, tuple[float, float]] = field(default_factory=dict)
    last_read: dict[str, float] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    def take(self, log: Mapping[str, Any]) -> None:
        self.counters = log["counters"]
        for one in log["requests"]:
            if one["seconds"] is None or one["request_id"] in self._seen:
                continue
            self._seen.add(one["request_id"])
            if one["status"] != 200:
                continue
            response, answered = one["response_id"], one["at"] + one["seconds"]
            if one["operation"] == "create":
                # A create that is answered late is also carried out late.
                self.created[response] = (answered if one["fault"] == "slow" else one["at"], answered)
            elif one["operation"] == "retrieve":
                self.last_read[response] = max(answered, self.last_read.get(response, 0))

    @property
    def missed(self) -> int:
        """How many requests were dropped from the log before it was read, or are not answered."""
        received = sum(self.counters.get(name, 0) for name in ("create", "retrieve", "cancel", "delete"))
        return received - len(self._seen)

    def lateness(self, response: str, seconds: float, schedule: Schedule, tick: timedelta) -> Lateness | None:
        """Return how late a response that takes this many seconds was noticed; None if it was never read."""
        if response not in self.last_read or response not in self.created:
            return None
        carried_out, answered = self.created[response]
        finished = carried_out + QUEUED_SECONDS + seconds
        noticed = self.last_read[response]
        if noticed < finished:
            # No run waited for it: its host died before it saved the response's id.
            return None
        return Lateness(noticed - finished, _first_tick(answered, finished, schedule, tick) - finished)


def _first_tick(started: float, finished: float, schedule: Schedule, tick: timedelta) -> float:
    """Return when the timer first fires after the first poll point at which the response is finished."""
    points: Sequence[float] = schedule.points
    point = started + points[max(1, bisect_right(points, finished - started))]
    every = tick.total_seconds()
    return math.ceil(point / every) * every
