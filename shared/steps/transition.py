"""Carry an event through: advance the run, and commit it with all that must survive a crash."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.core.delivery import Delivery
from shared.core.life.advance import advance
from shared.core.life.events import Deliver, Effect, Event, Wake
from shared.core.log import LogEntry
from shared.core.run import Run
from shared.errors import RowConflict, StorageUnavailable
from shared.log import log_event
from shared.steps.context import Context
from shared.steps.messages import delivery_message
from shared.store.runs import CallOutput, StoredRun

# Nobody competes for a run this often; more means that something is wrong with the storage.
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Applied:
    """What an event led to: the run as it now is, and what is to be done because of it."""

    stored: StoredRun
    changed: bool = False
    effects: tuple[Wake | Delivery, ...] = ()

    @property
    def messages(self) -> tuple[str, ...]:
        """What workers have to learn through the queue. What gets lost on the way is found by the timer."""
        return tuple(
            delivery_message(effect.clock) if isinstance(effect, Delivery) else self.stored.run.id
            for effect in self.effects
        )


async def apply(
    context: Context, stored: StoredRun, event: Event, outputs: Sequence[CallOutput] = ()
) -> Applied:
    """Advance a run by `event` and commit it in one write, on the newest version of the run.

    Raises StorageUnavailable when the storage fails; the event may then have taken effect or not.
    """
    for _ in range(_ATTEMPTS):
        before = stored.run
        after, effects = advance(before, event, context.clock.now())
        if after is before:
            return Applied(stored)
        entries, owed = _sorted(context, after, effects)
        deliveries = [each for each in owed if isinstance(each, Delivery)]
        try:
            stored = await context.runs.commit(stored, after, entries, outputs=outputs, deliveries=deliveries)
        except RowConflict:
            stored = await reread(context, stored)
            continue
        context.observer.stored(before, event, after, effects)
        log_event(
            "run.advanced",
            run_id=after.id,
            by=type(event).__name__,
            status=after.status,
            step=after.step,
            turn=after.turn,
        )
        return Applied(stored, changed=True, effects=owed)
    raise StorageUnavailable(f"Run {stored.run.id} kept changing under {type(event).__name__}.")


def _sorted(
    context: Context, after: Run, effects: Sequence[Effect]
) -> tuple[list[LogEntry], tuple[Wake | Delivery, ...]]:
    """Return what goes into the log, and what is to be done."""
    entries: list[LogEntry] = []
    owed: list[Wake | Delivery] = []
    now = context.clock.now()
    for number, effect in enumerate(effects):
        match effect:
            case Wake():
                owed.append(effect)
            case Deliver(content):
                name = f"{after.rev:08d}-{number}"
                owed.append(Delivery(run_id=after.id, name=name, content=content, created_at=now, due=now))
            case entry:
                entries.append(entry)
    return entries, tuple(owed)


async def reread(context: Context, stored: StoredRun) -> StoredRun:
    fresh = await context.runs.read(stored.run.id)
    if fresh is None:
        raise StorageUnavailable(f"The row of run {stored.run.id} is gone; rows of runs are never removed.")
    return fresh
