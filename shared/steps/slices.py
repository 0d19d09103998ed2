"""Keep what a slice of a response's stream brought, and find again what all slices of a turn brought."""

from shared.core.life import events
from shared.core.response import Slice
from shared.core.run import Run
from shared.steps.context import Context
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun


async def keep(context: Context, stored: StoredRun, piece: Slice) -> Applied:
    """Bring a slice into the run: its text first, then the pointer and the place where the next one begins.

    Of two pollers that read the same stream one is kept. The other's text stays behind unseen until the run
    is purged: whether its pointer was ever written may not be known.
    """
    run = stored.run
    if run.token != piece.response_id or run.sequence != piece.after:
        return Applied(stored, changed=False, wake=False)
    text = None
    if piece.text:
        # The names of a run's pieces stand in the order of its text.
        name = f"slice-{run.rev:08d}-{context.token()}"
        text = await context.content.save(run.id, name, piece.text, apart=True)
    return await apply(context, stored, events.Sliced(piece, text))


async def told(context: Context, run: Run) -> str:
    """Return the text of the turn as its slices brought it. Raises LookupError when the run is deleted meanwhile."""
    if not run.written:
        return ""
    logged = await context.runs.log(run.id)
    pieces = [entry.piece for entry in logged if entry.piece and entry.data["turn"] == run.turn]
    return "".join(await context.content.load_each(run.id, pieces))
