"""Check that the timer works, which can stop without any error in the log, and look at what failed for good."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.core.ids import all_shards
from shared.core.run import RunStatus, Step
from shared.errors import StorageUnavailable
from shared.log import log_event
from shared.ports.queues import Queues
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
    # Messages that failed too often. None: the queues cannot be reached.
    poison_messages: int | None
    # Runs whose provider has ignored the background mode, as far as this process has noticed.
    background_ignored: int = 0


async def check(context: Context, queues: Queues) -> Health:
    """Check what is owed in all shards, with one query for each, and count poison messages."""
    now = context.clock.now()
    patience = LATE + 2 * context.schedule.longest
    pending, overdue, failing, late, last = 0, 0, 0, False, None
    for shard in all_shards():
        view = await context.shards.owed(shard, now)
        tick, runs = view.tick, view.runs
        pending += len(runs)
        overdue += sum(owed.status is not RunStatus.DELETED and owed.expires_at + LATE < now for owed in runs)
        failing += sum(
            owed.step in {Step.CREATE, Step.GENERATE} and owed.waiting is not None for owed in runs
        )
        waiting = [owed for owed in runs if owed.due + patience < now]
        late = late or (bool(waiting) and (tick.at is None or tick.at + patience < now))
        last = max((at for at in (last, tick.at) if at), default=None)
    poison = await _poison(queues)
    # Without queues no worker gets a message, so whatever workers do is late from now on.
    ok = not late and not overdue and poison is not None
    correction, ignored = context.clock.correction, context.background.ignored
    return Health(ok, pending, overdue, failing, last, correction, poison, ignored)


async def oldest_wait(context: Context) -> datetime | None:
    """Return since when a call has waited longest for an approval, with one small query for each shard."""
    oldest = await context.waits.approvals(None, limit=1)
    return oldest[0].since if oldest else None


async def _poison(queues: Queues) -> int | None:
    try:
        return sum((await queues.poison_counts()).values())
    except StorageUnavailable as fault:
        log_event("queues.unreachable", level=logging.WARNING, reason=str(fault))
        return None
