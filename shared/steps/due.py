"""Find what is due in a shard at a tick."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.core.delivery import ClockRow
from shared.core.pace import reminder_due
from shared.core.run import Owed, Step
from shared.log import log_event
from shared.steps.context import Context
from shared.steps.messages import clock_message, step_message
from shared.store.shards import Tick

# Clocks of hosts differ by less than this. A tick further ahead comes from a broken clock and is ignored,
# because otherwise nothing would be polled until that time.
_CLOCK_DRIFT = timedelta(minutes=10)
_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Due:
    """What is due in one shard at a tick: runs to poll, and messages for workers."""

    polls: tuple[Owed, ...] = ()
    # Runs whose step a worker takes.
    reminders: tuple[Owed, ...] = ()
    # Deliveries, and waits that have ended.
    clocks: tuple[ClockRow, ...] = ()

    @property
    def owned_messages(self) -> list[tuple[str, str]]:
        """The messages for workers, each with the owner of its run as far as that is known."""
        reminders = [(owed.owner, step_message(owed)) for owed in self.reminders]
        return reminders + [("", clock_message(clock)) for clock in self.clocks]

    @property
    def messages(self) -> tuple[str, ...]:
        return tuple(message for _, message in self.owned_messages)


async def claim_due(context: Context, shard: str) -> Due:
    """Return what has become due in `shard` since its last tick.

    When several pollers call this at once, only one of them gets it.
    Costs one query, and one small write when something is due.
    """
    now = context.clock.now()
    view = await context.shards.owed(shard, now)
    after = _last_tick(view.tick, shard, now)
    polls = tuple(owed for owed in view.runs if _poll_due(context, owed, after, now))
    reminders = tuple(owed for owed in view.runs if _reminder_due(owed, after, now))
    clocks = tuple(clock for clock in view.clocks if reminder_due(clock.due, after, now))
    due = Due(polls, reminders, clocks)
    # A host whose clock is behind must not move the tick back: the points in between were polled already.
    if due == Due() or not await context.shards.claim(shard, view.tick, max(now, after)):
        return Due()
    return due


def _last_tick(tick: Tick, shard: str, now: datetime) -> datetime:
    if tick.at is None:
        return _NEVER
    if tick.at > now + _CLOCK_DRIFT:
        log_event("tick.ignored", level=logging.WARNING, shard=shard, at=tick.at)
        return _NEVER
    return tick.at


def _poll_due(context: Context, owed: Owed, after: datetime, now: datetime) -> bool:
    if owed.expired(now):
        return True
    if owed.step is not Step.POLL or owed.turn_started_at is None or now < owed.due:
        return False
    return context.schedule_for(owed.continuation).poll_due(owed.turn_started_at, after, now)


def _reminder_due(owed: Owed, after: datetime, now: datetime) -> bool:
    return owed.step.worked_on and not owed.expired(now) and reminder_due(owed.due, after, now)
