"""Apply an event: advance the run, and commit it together with everything that must survive a crash."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.core.delivery import Delivery
from shared.core.life.advance import advance
from shared.core.life.events import Deliver, Effect, Event, Wake
from shared.core.log import LogEntry
from shared.core.run import Run
from shared.errors import RowConflict, StorageUnavailable
from shared.log import log_event
from shared.steps.context import Context
from shared.steps.messages import clock_message, step_message
from shared.store.answers import StoredAnswer
from shared.store.runs import RunStore, StoredResult, StoredRun

# Concurrent writers cause fewer conflicts in a row than this. After more, the storage is at fault.
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of an event: the run as it is now, and the effects that remain to be done."""

    stored: StoredRun
    changed: bool = False
    effects: tuple[Wake | Delivery, ...] = ()

    def after(self, earlier: "Applied") -> "Applied":
        """Return this result with the effects of an earlier one, which remain to be done as well."""
        return replace(self, effects=earlier.effects + self.effects) if earlier.effects else self

    @property
    def messages(self) -> tuple[str, ...]:
        """The messages for workers. When one is lost, the timer finds what is owed."""
        return tuple(
            clock_message(effect.clock) if isinstance(effect, Delivery) else step_message(self.stored.run)
            for effect in self.effects
        )


async def apply(
    context: Context,
    stored: StoredRun,
    event: Event,
    results: Sequence[StoredResult] = (),
    answers: Sequence[StoredAnswer] = (),
) -> Applied:
    """Advance a run by `event`, and commit it in one write, together with results and answers of its calls.

    After a conflict, the run is read and advanced again.
    Raises StorageUnavailable when the storage fails. It is then unknown whether the event took effect.
    """
    for _ in range(_ATTEMPTS):
        before = stored.run
        after, effects = advance(before, event, context.clock.now())
        if after is before:
            return Applied(stored)
        entries, remaining = _split(context, after, effects)
        deliveries = [each for each in remaining if isinstance(each, Delivery)]
        try:
            stored = await context.runs.commit(
                stored, after, entries, results=results, answers=answers, deliveries=deliveries
            )
        except RowConflict:
            stored = await reread(context.runs, stored.run.id)
            continue
        context.observer.stored(before, event, after, effects)
        context.background.note(before, after)
        log_event(
            "run.advanced",
            run_id=after.id,
            by=type(event).__name__,
            status=after.status,
            step=after.step,
            turn=after.turn,
        )
        if after.error and after.terminal and not before.terminal:
            log_event(f"run.{after.status}", level=logging.WARNING, run_id=after.id, code=after.error.code)
        return Applied(stored, changed=True, effects=remaining)
    raise StorageUnavailable(f"Run {stored.run.id} kept changing under {type(event).__name__}.")


def _split(
    context: Context, after: Run, effects: Sequence[Effect]
) -> tuple[list[LogEntry], tuple[Wake | Delivery, ...]]:
    """Return the log entries among the effects, and the effects that remain to be done."""
    entries: list[LogEntry] = []
    remaining: list[Wake | Delivery] = []
    now = context.clock.now()
    for number, effect in enumerate(effects):
        match effect:
            case Wake():
                remaining.append(effect)
            case Deliver(content):
                name = f"{after.rev:08d}-{number}"
                remaining.append(
                    Delivery(run_id=after.id, name=name, content=content, created_at=now, due=now)
                )
            case entry:
                entries.append(entry)
    return entries, tuple(remaining)


async def reread(runs: RunStore, run_id: str) -> StoredRun:
    fresh = await runs.read(run_id)
    if fresh is None:
        raise StorageUnavailable(
            f"The row of run {run_id} is missing, although rows of runs are never removed."
        )
    return fresh


def log_skip(run: Run, fault: LookupError) -> None:
    """Log that a step was skipped because content is missing. Most likely the run was deleted meanwhile."""
    log_event("step.skipped", level=logging.WARNING, run_id=run.id, step=run.step, reason=str(fault))
