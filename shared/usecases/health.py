"""Say whether the timer does its work: timers have died without a sign."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.core.ids import all_shards
from shared.core.run import RunStatus
from shared.steps.context import Context

# How far a tick may be behind before somebody should look.
LATE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Health:
    """What a look at all shards shows. `overdue` counts runs whose deadline passed more than `LATE` ago."""

    ok: bool
    pending: int
    overdue: int
    last_tick_at: datetime | None


async def check(context: Context) -> Health:
    """Look at every shard's pending runs: one query each."""
    now = context.clock.now()
    patience = LATE + 2 * context.schedule.longest
    pending, overdue, late, last = 0, 0, False, None
    for shard in all_shards():
        view = await context.shards.owed(shard, now)
        tick, runs = view.tick, view.runs
        pending += len(runs)
        overdue += sum(one.status is not RunStatus.DELETED and one.expires_at + LATE < now for one in runs)
        waiting = [one for one in runs if one.due + patience < now]
        late = late or (bool(waiting) and (tick.at is None or tick.at + patience < now))
        last = max((at for at in (last, tick.at) if at), default=None)
    return Health(not late and not overdue, pending, overdue, last)
