"""Keep what a slice of a response's stream brought, and find again what all slices of a turn brought."""

from shared.core.life import events
from shared.core.log import TextDelta
from shared.core.response import Slice
from shared.core.run import Continuation, Run
from shared.steps.context import Context
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun


async def keep(context: Context, stored: StoredRun, brought: Slice) -> Applied:
    """Bring a slice into the run: its text first, then the pointer and the place where the next one begins.

    Of two pollers that read the same stream the first counts. The other's text stays in the storage, unseen, until the
    run is purged: whether its pointer was ever written may not be known.
    """
    run = stored.run
    if run.continuation != Continuation(brought.response_id, brought.after):
        return Applied(stored)
    content = None
    if text := brought.text:
        # The names of a run's slices are in the order of its text.
        name = f"slice-{run.rev:08d}-{context.token()}"
        content = await context.content.save(run.id, name, text, apart=True)
    return await apply(context, stored, events.Sliced(brought, content))


async def streamed_text(context: Context, run: Run) -> str:
    """Return the text of the turn as its slices brought it. Raises LookupError when the run is deleted meanwhile."""
    if not run.written:
        return ""
    entries = [line.entry for line in await context.runs.log(run.id)]
    found = [
        entry.content
        for entry in entries
        if isinstance(entry, TextDelta) and entry.turn == run.turn and entry.content
    ]
    # Several entries may point to parts of one text.
    return "".join(await context.content.load_each(run.id, list(dict.fromkeys(found))))
