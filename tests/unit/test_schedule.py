from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from shared.core.pace import Schedule, reminder_due

SCHEDULE = Schedule(timedelta(seconds=2), timedelta(seconds=30))
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_gaps_grow_with_age_between_the_limits():
    gaps = [later - earlier for earlier, later in pairwise(SCHEDULE.points)]
    assert gaps[0] == 2
    assert gaps == pytest.approx(sorted(gaps))
    assert max(gaps) == pytest.approx(30)
    assert SCHEDULE.points[-1] >= 24 * 3600


@pytest.mark.parametrize("interval", [0.3, 1, 5, 17])
def test_each_poll_point_is_due_in_exactly_one_tick(interval):
    ticks = [at(n * interval) for n in range(int(1000 / interval) + 1)]
    due = sum(SCHEDULE.poll_due(START, before, now) for before, now in pairwise(ticks))
    points = [point for point in SCHEDULE.points if 0 < point <= (ticks[-1] - START).total_seconds()]
    windows = {int(-(-point // interval)) for point in points}
    assert due == len(windows)


def test_a_turn_is_not_polled_at_its_start():
    assert not SCHEDULE.poll_due(START, at(-10), at(1.9))
    assert SCHEDULE.poll_due(START, at(-10), at(2))


def test_a_reminder_is_due_at_its_points_and_not_between():
    assert reminder_due(START, at(-10), at(0))
    assert not reminder_due(START, at(-10), at(-1))
    assert not reminder_due(START, at(0), at(4))
    assert reminder_due(START, at(0), at(5))
    assert not reminder_due(START, at(5), at(14))
    assert reminder_due(START, at(5), at(15))


def test_reminders_become_rarer_while_workers_are_behind():
    ticks = [at(2 * n) for n in range(600 // 2)]
    reminded = [now for before, now in pairwise(ticks) if reminder_due(START, before, now)]
    assert [(now - START).total_seconds() for now in reminded] == [6, 16, 36, 76, 156, 316]


def test_reminders_never_end():
    ticks = [at(days * 86_400 + seconds) for days in (1, 2, 30) for seconds in (0, 600)]
    assert all(reminder_due(START, before, now) for before, now in pairwise(ticks))
    assert not reminder_due(START, at(30 * 86_400), at(30 * 86_400))
