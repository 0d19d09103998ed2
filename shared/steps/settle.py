"""Apply a snapshot of a response to its run."""

import logging

from shared.core import transcript
from shared.core.life import events
from shared.core.response import Snapshot
from shared.log import log_event
from shared.steps.context import Context
from shared.steps.slices import streamed_text
from shared.steps.transition import Applied, apply, log_skip, reread
from shared.store.runs import StoredRun


async def settle(context: Context, stored: StoredRun, snapshot: Snapshot) -> Applied:
    """Apply a snapshot of the run's response.

    Of a finished response, the output is saved before the pointer to it.
    """
    if not snapshot.status.finished:
        return await apply(context, stored, events.Polled(snapshot))
    run = stored.run
    if not run.awaits(snapshot.response_id):
        return Applied(stored)
    items = transcript.parse(snapshot.output)
    try:
        agrees = transcript.text_of(items).startswith(await streamed_text(context, run))
    except LookupError as fault:
        log_skip(run, fault)
        return Applied(await reread(context, stored))
    if not agrees:
        log_event("text.replaced", level=logging.WARNING, run_id=run.id, turn=run.turn)
    output = await context.content.save(run.id, f"turn-{run.turn:02d}-{context.token()}", snapshot.output)
    spec = context.agents.spec(run.agent)
    polled = events.Polled(
        snapshot,
        output,
        outline=transcript.outline(items),
        compared=run.continuation,
        agrees=agrees,
        repeatable=spec.repeatable if spec else frozenset(),
    )
    applied = await apply(context, stored, polled)
    # `changed` is not enough: the write may have succeeded with its reply lost, and another process may have
    # written since.
    if output not in applied.stored.run.turns:
        await context.content.drop(run.id, output)
    return applied
