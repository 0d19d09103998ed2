import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from dev.host.timers import Schedule, run_timer

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)  # a Thursday


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("*/5 * * * * *", NOON + seconds(5)),
        ("30 * * * * *", NOON + seconds(30)),
        ("*/2 * * * *", NOON + seconds(120)),
        ("0 0 9-17 * * MON-FRI", NOON + timedelta(hours=1)),
        # The 13th and a Friday, not either of them.
        ("0 0 0 13 * FRI", datetime(2026, 2, 13, tzinfo=UTC)),
    ],
)
def test_next_tick(expression: str, first: datetime) -> None:
    assert Schedule.parse(expression).next_after(NOON) == first


def test_the_next_tick_is_strictly_later_than_the_given_time() -> None:
    schedule = Schedule.parse("*/5 * * * * *")
    assert schedule.next_after(schedule.next_after(NOON)) == NOON + seconds(10)


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "61 * * * * *", "@hourly", "0 0 0 L * *", "0 0 0 31 2 *", "x"]
)
def test_a_bad_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="NCRONTAB"):
        Schedule.parse(expression)


class Enough(Exception):
    """Ends a timer under test."""


class VirtualClock:
    """Moves its time forward instead of sleeping, by `early` less than the requested duration."""

    def __init__(self, *, early: timedelta = timedelta()) -> None:
        self.moment = NOON
        self._early = early

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, duration: timedelta) -> None:
        self.moment += max(duration - self._early, timedelta(milliseconds=1))


def ticks(
    *lasting: float, clock: VirtualClock | None = None, run_on_startup: bool = False
) -> list[tuple[float, bool]]:
    """Run a timer of five seconds whose calls last this long; return when each began, and whether it was past due."""
    clock = clock or VirtualClock()
    calls: list[tuple[float, bool]] = []

    async def fire(past_due: bool) -> None:
        if len(calls) == len(lasting):
            raise Enough
        duration = lasting[len(calls)]
        calls.append(((clock.moment - NOON).total_seconds(), past_due))
        clock.moment += seconds(duration)

    with contextlib.suppress(Enough):
        asyncio.run(run_timer(Schedule.parse("*/5 * * * * *"), fire, clock, run_on_startup=run_on_startup))
    return calls


def test_it_fires_at_every_tick() -> None:
    assert ticks(1, 1, 1) == [(5, False), (10, False), (15, False)]


def test_it_fires_once_for_each_tick_although_sleeps_end_early() -> None:
    clock = VirtualClock(early=timedelta(milliseconds=3))
    assert ticks(0, 0, clock=clock) == [(5, False), (10, False)]


def test_missed_ticks_collapse_into_one_that_fires_at_once() -> None:
    assert ticks(17, 1, 1) == [(5, False), (22, True), (25, False)]


def test_it_can_fire_at_the_start() -> None:
    assert ticks(1, 1, run_on_startup=True) == [(0, False), (5, False)]
