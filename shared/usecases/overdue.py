"""Runs that the timer should have taken further. The platform's timer can stop without any error.

Whoever reads the status of such a run wakes a worker for it.
"""

from datetime import datetime, timedelta

from shared.core.delivery import WAIT, ClockRow
from shared.core.ids import shard_of
from shared.core.run import Run, RunStatus, Step
from shared.steps.context import Context
from shared.steps.messages import clock_message, poll_message

# What is owed for longer than this is overdue.
LATE = timedelta(seconds=60)
# How often one process wakes a worker for the same run, at most.
_AGAIN = timedelta(seconds=60)
# How many runs a process remembers. The memory of 1,000 runs is about 100 KiB.
_MAX_REMEMBERED = 1_000


class Waker:
    """Remembers for which runs this process has woken a worker lately."""

    def __init__(self) -> None:
        self._woken: dict[str, datetime] = {}

    async def messages(self, context: Context, run: Run) -> tuple[str, ...]:
        """Return a message for the workers when the run is overdue.

        Costs nothing for a run that cannot be overdue. Otherwise it costs one point read a minute at most.
        """
        now = context.clock.now()
        if not _may_be_overdue(context, run, now) or not self._allow(run.id, now):
            return ()
        if run.wait_ends_at and run.step is Step.ANSWER:
            return (clock_message(ClockRow(run.wait_ends_at, run.id, WAIT)),)
        if run.step is not Step.POLL:
            return (run.id,)
        if past_deadline(run, now) or await _timer_stopped(context, run, now):
            return (poll_message(run.id),)
        return ()

    def _allow(self, run_id: str, now: datetime) -> bool:
        if (at := self._woken.pop(run_id, None)) and now - at < _AGAIN:
            self._woken[run_id] = at
            return False
        if len(self._woken) >= _MAX_REMEMBERED:
            # A dict keeps the order, so this is the one that was woken first.
            first = next(iter(self._woken))
            if now - self._woken[first] < _AGAIN:
                # Enough messages were sent lately. A later read of the run sends one.
                return False
            del self._woken[first]
        self._woken[run_id] = now
        return True


def past_deadline(run: Run, now: datetime) -> bool:
    """Return whether the run should have ended by its deadline."""
    return not run.terminal and run.paused_at is None and now > run.expires_at + LATE


def _may_be_overdue(context: Context, run: Run, now: datetime) -> bool:
    if run.step is Step.NOTHING or run.status is RunStatus.DELETED:
        return False
    if past_deadline(run, now):
        return True
    if run.step is Step.ANSWER:
        return run.wait_ends_at is not None and now > run.wait_ends_at + LATE
    if run.step is not Step.POLL:
        return now > run.due + LATE
    # Polls that change nothing are not stored, so whether the timer works is seen at its last tick.
    longest = context.schedule_for(run.continuation).longest
    return now > max(run.due, run.updated_at) + longest + LATE


async def _timer_stopped(context: Context, run: Run, now: datetime) -> bool:
    tick = await context.shards.last_tick(shard_of(run.id))
    return tick is None or now > tick + context.schedule_for(run.continuation).longest + LATE
