"""Why a run waits, as far as its status can say."""

from dataclasses import dataclass
from datetime import datetime

from shared.core.response import RESPONSE_SLOW, RunError
from shared.core.run import Run, Step
from shared.steps.context import Context
from shared.usecases.overdue import past_deadline

_TIMER_LATE = RunError(
    "timer_late",
    "The timer of this app has not ended the run at its deadline. A read of the run wakes a worker.",
)


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """What a run waits for."""

    error: RunError
    # The time of the first failure.
    since: datetime
    # How many requests failed in a row.
    attempt: int
    next_try_at: datetime


def waiting_for(context: Context, run: Run) -> WaitingFor | None:
    """Return why a pending run waits; None when nothing failed."""
    now = context.clock.now()
    if past_deadline(run, now):
        return WaitingFor(_TIMER_LATE, run.expires_at, 0, now)
    waiting = run.waiting
    if waiting is None:
        return None
    attempt, next_try_at = waiting.attempts, run.due
    if run.step is Step.POLL and run.turn_started_at and waiting.error.code != RESPONSE_SLOW:
        # Failed polls are not stored one by one. They follow the schedule.
        schedule = context.schedule_for(run.continuation)
        attempt += schedule.polls(run.turn_started_at, max(waiting.since, run.due), max(now, run.due))
        next_try_at = max(run.due, schedule.next_poll(run.turn_started_at, now))
    return WaitingFor(waiting.error, waiting.since, attempt, next_try_at)
