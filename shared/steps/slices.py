"""Save a slice of a response's stream, and load the text of all slices of a turn."""

from shared.core.life import events
from shared.core.log import TextDelta, TextReplaced
from shared.core.response import Slice
from shared.core.run import Content, Continuation, Run
from shared.steps.context import Context
from shared.steps.transition import Applied, apply
from shared.store.runs import StoredRun


async def keep(context: Context, stored: StoredRun, received: Slice) -> Applied:
    """Save the text of a slice, then the pointer to it with the new continuation.

    When two pollers read the same slice, only the first one is added to the run. The text of the second one
    stays in the storage until the run is purged. It is not removed, because a lost reply can hide that its
    pointer was written.
    """
    run = stored.run
    if run.continuation != Continuation(received.response_id, received.after):
        return Applied(stored)
    content = None
    if text := received.text:
        # The names of a run's slices sort in the order of its text: `rev` grows with each slice.
        name = f"slice-{run.rev:08d}-{context.token()}"
        content = await context.content.save(run.id, name, text, apart=True)
    return await apply(context, stored, events.Sliced(received, content))


async def streamed_text(context: Context, run: Run) -> str:
    """Return the text of the turn that came in slices, without what was taken back.

    Raises LookupError when the run was deleted meanwhile.
    """
    if not run.written:
        return ""
    deltas: list[tuple[Content, TextDelta]] = []
    for line in await context.runs.log(run.id):
        match line.entry:
            case TextDelta(turn=run.turn, content=Content() as content) as delta:
                deltas.append((content, delta))
            case TextReplaced():
                # What came before was taken back.
                deltas.clear()
    # Several entries may point into the same text. `dict.fromkeys` removes duplicates and keeps the order.
    contents = list(dict.fromkeys(content for content, _ in deltas))
    texts = dict(zip(contents, await context.content.load_each(run.id, contents), strict=True))
    return "".join(texts[content][entry.start : entry.end] for content, entry in deltas)
