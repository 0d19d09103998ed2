"""Timer schedules: NCRONTAB expressions in UTC, seconds first."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn, Protocol

from croniter import croniter

# croniter accepts more than NCRONTAB (L, #, R, @hourly), which the real host refuses.
FIELD = re.compile(
    r"(?:[\d*,/-]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat)+",
    re.IGNORECASE,
)
# A tick this late is past due: an earlier call was still running.
PAST_DUE_AFTER = timedelta(seconds=1)


@dataclass(frozen=True)
class Schedule:
    expression: str  # six fields

    @classmethod
    def parse(cls, expression: str) -> "Schedule":
        """Take six fields, or five without seconds. Raises ValueError."""
        fields = expression.split()
        if len(fields) == 5:
            fields.insert(0, "0")
        if len(fields) != 6 or not all(FIELD.fullmatch(field) for field in fields):
            raise ValueError(f"{expression!r} is not an NCRONTAB expression of six fields")
        schedule = cls(" ".join(fields))
        try:
            schedule.next_after(datetime.now(UTC))
        except ValueError as error:
            raise ValueError(f"{expression!r} is not an NCRONTAB expression: {error}") from error
        return schedule

    def next_after(self, moment: datetime) -> datetime:
        """Return the first tick strictly after `moment`.

        In NCRONTAB day and weekday must both match, in cron one of them is enough: hence `day_or=False`.
        """
        ticks = croniter(self.expression, moment, second_at_beginning=True, day_or=False)
        tick: datetime = ticks.get_next(datetime)
        return tick


class Clock(Protocol):
    def now(self) -> datetime: ...

    async def sleep(self, duration: timedelta) -> None: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())


async def run_timer(
    schedule: Schedule, fire: Callable[[bool], Awaitable[None]], clock: Clock, *, run_on_startup: bool = False
) -> NoReturn:
    """Call `fire(past_due)` at every tick, one call at a time.

    The next tick is the first one after the start of the last call. If a call ran over
    several ticks they collapse into one, which fires at once.
    """
    started = clock.now()
    if run_on_startup:
        await fire(False)
    while True:
        due = schedule.next_after(started)
        while (wait := due - clock.now()) > timedelta():  # a sleep may end a little early
            await clock.sleep(wait)
        started = clock.now()
        await fire(started - due > PAST_DUE_AFTER)
