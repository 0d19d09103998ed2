"""Apply a snapshot of a response to its run."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from shared.core import transcript
from shared.core.answer import find_answer
from shared.core.life import events
from shared.core.response import Absent, NotNow, ReadReply, ResponseStatus, RunError, Slice, Snapshot
from shared.core.run import Content, Continuation, Run
from shared.core.streamed import Streamed, streamed_by
from shared.log import log_event
from shared.steps.context import Context
from shared.steps.reading import read
from shared.steps.slices import streamed_text
from shared.steps.transition import Applied, apply, log_skip, reread
from shared.store.runs import StoredRun


async def settle(
    context: Context,
    stored: StoredRun,
    snapshot: Snapshot,
    received: Slice | None = None,
    *,
    unread: bool = False,
) -> Applied:
    """Apply a snapshot of the run's response. `received` is the slice at whose end it came.

    `unread`: the response cannot be read, and the snapshot is the reply to its create.

    Of a finished response, the output is saved before the pointer to it.
    """
    if not snapshot.status.finished:
        return await apply(context, stored, events.Polled(snapshot))
    run = stored.run
    if not run.awaits(snapshot.response_id):
        return Applied(stored)
    if received is not None and _overlaps(run.continuation, received):
        # Another poller has stored a part of this slice. The next poll reads what follows that.
        return Applied(stored)
    try:
        streamed, text = await _streamed(context, run, received)
        final = await _confirmed(context, run, snapshot, streamed, received)
    except LookupError as fault:
        log_skip(run, fault)
        return Applied(await reread(context.runs, run.id))
    if isinstance(final, NotNow):
        until = context.clock.now() + final.retry_after if final.retry_after is not None else None
        return await apply(context, stored, events.PollDeferred(snapshot.response_id, final.error, until))
    if not final.status.finished:
        return await apply(context, stored, events.Polled(final))
    return await _finish(context, stored, final, text, unread=unread)


def _overlaps(stored: Continuation | None, received: Slice) -> bool:
    """Return whether a slice may begin before the end of the stored stream."""
    return stored is None or stored.sequence is None or stored.sequence > received.after


async def _streamed(context: Context, run: Run, received: Slice | None) -> tuple[Streamed, str]:
    """Return what the stream brought, and the part of its text that is stored."""
    text, begun = await streamed_text(context, run), run.turn_items > 0
    if received is None:
        return Streamed(text, begun=begun), text
    hidden = frozenset(item.index for item in run.open_items if item.commentary)
    streamed = streamed_by(received, text, hidden)
    return replace(streamed, begun=streamed.begun or begun), text


async def _confirmed(
    context: Context, run: Run, snapshot: Snapshot, streamed: Streamed, received: Slice | None
) -> Snapshot | NotNow:
    """Return the finished response. An end of a stream that denies what was streamed is read, and that counts.

    If it has nothing in the place of what was streamed, that is kept.
    """
    if not streamed.denied_by(snapshot):
        return snapshot
    log_event("stream.denied", level=logging.WARNING, run_id=run.id, turn=run.turn)
    if received is not None:
        reply: ReadReply = await read(context, run, snapshot.response_id)
        if isinstance(reply, NotNow) or (isinstance(reply, Snapshot) and not reply.status.finished):
            return reply
        if not isinstance(reply, Absent):
            snapshot = reply
    if received is not None and run.turn_items and not transcript.parse(snapshot.output):
        # Earlier slices did not keep their items, but the provider still has the stream.
        again = await context.provider(run.provider).slice(snapshot.response_id, 0)
        if isinstance(again, Slice) and (complete := streamed_by(again)).contains(streamed):
            streamed = complete
    return streamed.kept_in(snapshot)


async def _finish(
    context: Context, stored: StoredRun, snapshot: Snapshot, text: str, *, unread: bool
) -> Applied:
    """Save the output of a finished response, then the pointer to it. `text` is what was streamed of it."""
    run = stored.run
    items = transcript.parse(snapshot.output)
    complete = transcript.text_of(items)
    agrees = complete.startswith(text)
    if not agrees:
        log_event("text.replaced", level=logging.WARNING, run_id=run.id, turn=run.turn)
    output, answer = await save_output(context, run, snapshot.output, items)
    spec = context.agents.spec(run.agent)
    polled = events.Polled(
        snapshot,
        output,
        answer,
        fault_of_answer(context, run, snapshot, complete),
        outline=transcript.outline(items),
        compared=run.continuation,
        agrees=agrees,
        repeatable=spec.repeatable if spec else frozenset(),
        unread=unread,
    )
    applied = await apply(context, stored, polled)
    # `changed` is not enough: the write may have succeeded with its reply lost, and another process may have
    # written since.
    if output not in applied.stored.run.turns:
        for content in filter(None, (output, answer)):
            await context.content.drop(run.id, content)
    if run.kept and applied.stored.run.kept != run.kept:
        await context.content.drop(run.id, run.kept)
    return applied


def fault_of_answer(context: Context, run: Run, snapshot: Snapshot, text: str) -> RunError | None:
    """Return why the text of an answer does not fit the agent's output type.

    None when it does, or when there is no answer yet.
    """
    if not run.structured or snapshot.status is not ResponseStatus.COMPLETED or snapshot.calls:
        return None
    reason = context.agents.fault_of_output(run.agent, text)
    return RunError("output_invalid", reason) if reason else None


async def save_output(
    context: Context, run: Run, output: str, items: Sequence[transcript.Item]
) -> tuple[Content, Content | None]:
    """Save an output, and where the answer stands in it."""
    name = f"turn-{run.turn:02d}-{context.token()}"
    saved = await context.content.save(run.id, name, output)
    found = find_answer(output, items)
    return saved, await context.content.save(run.id, f"answer-{name}", str(found)) if found else None
