"""Check that the timer works. A timer can stop without any error in the log."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.core.ids import all_shards
from shared.core.run import RunStatus, Step
from shared.steps.context import Context
from shared.usecases.overdue import LATE


@dataclass(frozen=True, slots=True)
class Health:
    """The state of all shards."""

    ok: bool
    pending: int
    # Runs whose deadline passed more than `LATE` ago and that have not ended.
    overdue: int
    # Runs whose response the provider did not create when it was last requested.
    creates_failing: int
    last_tick_at: datetime | None
    # What is added to the clock of the host that answers.
    clock_correction: timedelta


async def check(context: Context) -> Health:
    """Check what is owed in all shards, with one query for each."""
    now = context.clock.now()
    patience = LATE + 2 * context.schedule.longest
    pending, overdue, failing, late, last = 0, 0, 0, False, None
    for shard in all_shards():
        view = await context.shards.owed(shard, now)
        tick, runs = view.tick, view.runs
        pending += len(runs)
        overdue += sum(owed.status is not RunStatus.DELETED and owed.expires_at + LATE < now for owed in runs)
        failing += sum(owed.step is Step.CREATE and owed.waiting is not None for owed in runs)
        waiting = [owed for owed in runs if owed.due + patience < now]
        late = late or (bool(waiting) and (tick.at is None or tick.at + patience < now))
        last = max((at for at in (last, tick.at) if at), default=None)
    return Health(
        not late and not overdue, pending, overdue, failing, last, clock_correction=context.clock.correction
    )
