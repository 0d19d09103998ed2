"""Carry an event through: advance the run, commit it, and see to what must be done then."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from shared.core.life.advance import advance
from shared.core.life.events import Abandon, Event, Record, Wake
from shared.core.response import NotNow
from shared.errors import RowConflict, StorageUnavailable
from shared.log import say
from shared.steps.context import Context
from shared.store.runs import CallResult, StoredRun

# Nobody competes for a run this often; more means that something is wrong with the storage.
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of an event: the run as it now is, and whether a worker is to be told of it."""

    stored: StoredRun
    changed: bool
    wake: bool


async def apply(
    context: Context, stored: StoredRun, event: Event, results: Sequence[CallResult] = ()
) -> Applied:
    """Advance a run by `event` and commit it in one write, on the newest version of the run.

    Raises StorageUnavailable when the storage fails; the event may then have taken effect or not.
    """
    for _ in range(_ATTEMPTS):
        run = stored.run
        after, effects = advance(run, event, context.clock.now())
        records = [effect for effect in effects if isinstance(effect, Record)]
        if after is not run:
            try:
                stored = await context.runs.commit(stored, after, records, results)
            except RowConflict:
                stored = await reread(context, stored)
                continue
            say(
                "run.advanced",
                run_id=run.id,
                by=type(event).__name__,
                status=after.status,
                step=after.step,
                turn=after.turn,
            )
        for effect in effects:
            if isinstance(effect, Abandon):
                await _abandon(context, run.id, effect.response_id)
        return Applied(stored, after is not run, any(isinstance(effect, Wake) for effect in effects))
    raise StorageUnavailable(f"Run {stored.run.id} kept changing under {type(event).__name__}.")


async def reread(context: Context, stored: StoredRun) -> StoredRun:
    fresh = await context.runs.read(stored.run.id)
    if fresh is None:
        raise StorageUnavailable(f"The row of run {stored.run.id} is gone; rows of runs are never removed.")
    return fresh


async def _abandon(context: Context, run_id: str, response_id: str) -> None:
    """Stop a response that nobody adopted. If that fails it runs to its end unread."""
    reply = await context.provider.cancel(response_id)
    stopped = not isinstance(reply, NotNow)
    say("response.abandoned", level=logging.WARNING, run_id=run_id, response_id=response_id, stopped=stopped)
