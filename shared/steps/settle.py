"""Bring what the provider says of a response into its run."""

import logging

from shared.core import transcript as items
from shared.core.life import events
from shared.core.response import Snapshot
from shared.log import say
from shared.steps.context import Context
from shared.steps.slices import told
from shared.steps.transition import Applied, apply, reread
from shared.store.runs import StoredRun


async def settle(context: Context, stored: StoredRun, snapshot: Snapshot) -> Applied:
    """Bring what the provider says of a response into the run, its output first and the pointer last."""
    if not snapshot.status.finished:
        return await apply(context, stored, events.Polled(snapshot))
    run = stored.run
    if run.token != snapshot.response_id:
        return Applied(stored, changed=False, wake=False)
    text = items.output_text(snapshot.output)
    try:
        as_told = text.startswith(await told(context, run))
    except LookupError as fault:
        # Most likely the run was deleted a moment ago.
        say("slices.without_content", level=logging.WARNING, run_id=run.id, reason=str(fault))
        return Applied(await reread(context, stored), changed=False, wake=False)
    if not as_told:
        say("text.mended", level=logging.WARNING, run_id=run.id, turn=run.turn)
    output = await context.content.save(run.id, f"turn-{run.turn:02d}-{context.token()}", snapshot.output)
    spec = context.agents.spec(run.agent)
    repeatable = spec.repeatable if spec else frozenset()
    polled = events.Polled(snapshot, output, repeatable, len(text), run.written, as_told)
    applied = await apply(context, stored, polled)
    # Not by `changed`: the write may have taken effect, its reply lost, and somebody else written since.
    if output not in applied.stored.run.turns:
        await context.content.drop(run.id, output)
    return applied
