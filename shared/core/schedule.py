"""When a pending run is polled: computed from its age, never stored.

Source: docs/decisions/0003-computed-schedule.md.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

# The longest deadline a run may have; the schedule is laid out once up to this age.
MAX_DEADLINE = timedelta(hours=24)
MIN_DEADLINE = timedelta(seconds=10)

_GROWTH = 0.1


@dataclass(frozen=True)
class Schedule:
    """Poll points lie at fixed ages; each gap is a tenth of the age, from `shortest` to `longest`."""

    shortest: timedelta
    longest: timedelta

    def gap(self, age: timedelta) -> timedelta:
        """Return how long to wait at this age."""
        return max(self.shortest, min(self.longest, age * _GROWTH))

    @cached_property
    def points(self) -> tuple[float, ...]:
        """The ages in seconds, from 0 to past `MAX_DEADLINE`."""
        points = [0.0]
        shortest, longest = self.shortest.total_seconds(), self.longest.total_seconds()
        while points[-1] < MAX_DEADLINE.total_seconds():
            points.append(points[-1] + max(shortest, min(longest, points[-1] * _GROWTH)))
        return tuple(points)

    def poll_due(self, turn_started_at: datetime, after: datetime, now: datetime) -> bool:
        """Say whether a poll point of the turn, its start not among them, lies in (`after`, `now`]."""
        return self._count(now - turn_started_at) > max(1, self._count(after - turn_started_at))

    def reminder_due(self, due: datetime, after: datetime, now: datetime) -> bool:
        """Say whether a worker is to be reminded now of a step due at `due`: then, and ever more rarely."""
        return self._count(now - due) > self._count(after - due)

    def _count(self, age: timedelta) -> int:
        return bisect_right(self.points, age.total_seconds())
