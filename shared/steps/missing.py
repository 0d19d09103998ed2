"""A response that cannot be read back: the reply to its create may have had the answer already."""

from shared.core.kept import kept_snapshot
from shared.core.life import events
from shared.core.response import Snapshot
from shared.core.run import Run
from shared.steps.context import Context
from shared.steps.settle import settle
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun


async def miss(context: Context, stored: StoredRun, response_id: str) -> Applied:
    """Apply that a response cannot be read back. What its create has brought is its answer."""
    if stored.run.awaits(response_id) and (kept := await kept_reply(context, stored.run)):
        return await settle(context, stored, kept, unread=True)
    return await apply(context, stored, events.Missing(response_id, context.gone(stored.run.provider)))


async def kept_reply(context: Context, run: Run) -> Snapshot | None:
    """Return the finished reply to the create of the run's turn, if it is kept."""
    if run.kept is None:
        return None
    try:
        kept = kept_snapshot(await context.content.load(run.id, run.kept))
    except LookupError:
        # The run was deleted meanwhile.
        return None
    return kept if kept and run.awaits(kept.response_id) else None
