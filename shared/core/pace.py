"""When a pending run is polled: computed from its age, never stored.

Source: docs/decisions/0003-computed-schedule.md.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

# The longest deadline a run may have. The schedule is computed once, up to this age.
MAX_DEADLINE = timedelta(hours=24)
MIN_DEADLINE = timedelta(seconds=10)

_GROWTH = 0.1
# When a message is sent for a step that is due: at once, and again after gaps that double (exponential
# backoff). Messages are almost never lost. When workers cannot keep up, more messages only make their queue
# longer. The second message comes soon, because the clock of the worker that gets the first one may be behind that of the
# timer's host by some seconds, and then the step is not due yet.
_FIRST_REMINDER = 5.0
_LONGEST_REMINDER = 600.0


def _reminders() -> tuple[float, ...]:
    points, gap = [0.0], _FIRST_REMINDER
    while points[-1] < MAX_DEADLINE.total_seconds():
        points.append(points[-1] + gap)
        gap = min(2 * gap, _LONGEST_REMINDER)
    return tuple(points)


_REMINDERS = _reminders()


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
        """Return whether a poll point of the turn lies in (`after`, `now`].

        The start of the turn is not one.
        """
        reached = _count(self.points, now - turn_started_at)
        return reached > max(1, _count(self.points, after - turn_started_at))

    def polls(self, turn_started_at: datetime, after: datetime, now: datetime) -> int:
        """Return how many poll points of the turn lie in (`after`, `now`]."""
        return _count(self.points, now - turn_started_at) - _count(self.points, after - turn_started_at)

    def next_poll(self, turn_started_at: datetime, now: datetime) -> datetime:
        """Return the first poll point of the turn after `now`."""
        reached = max(1, _count(self.points, now - turn_started_at))
        return turn_started_at + timedelta(seconds=self.points[min(reached, len(self.points) - 1)])


def reminder_due(due: datetime, after: datetime, now: datetime) -> bool:
    """Return whether a message has to be sent at `now` for a step that is due at `due`."""
    return _reminded(now - due) > _reminded(after - due)


def _reminded(age: timedelta) -> int:
    """Return how many reminders there are up to this age. They never end: a purge has no deadline."""
    beyond = (age.total_seconds() - _REMINDERS[-1]) // _LONGEST_REMINDER
    return _count(_REMINDERS, age) + max(0, int(beyond))


def _count(points: tuple[float, ...], age: timedelta) -> int:
    return bisect_right(points, age.total_seconds())
