"""What clients may read: runs, their outputs, sessions. Reading never calls the provider."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from shared.core.answer import Answer
from shared.core.caller import Caller
from shared.core.limits import MAX_TRANSCRIPT_BYTES
from shared.core.run import Run, RunStatus, Session
from shared.errors import Malformed, NotFound, UnreadableRow
from shared.log import log_skipped
from shared.steps.chain import run_of_session
from shared.steps.context import Context
from shared.steps.conversation import texts_of
from shared.store.runs import StoredRun
from shared.store.sessions import StoredSession

_Loaded = TypeVar("_Loaded")


# A longer input is read on request only.
MAX_INPUT_BYTES = 64 * 1024
# A page of a session reads at most this many runs. The next page continues after them.
LOOK_BACK = 200


@dataclass(slots=True)
class SessionPage:
    """A session with some of its runs."""

    session: Session
    # Newest first.
    runs: list[Run] = field(default_factory=list)
    # The JSON texts of lists with the items of these runs, oldest first.
    transcript: list[str] = field(default_factory=list)
    # Whether something of the runs is missing in the transcript: what is too long, or cannot be read.
    cut: bool = False
    # The newest run of the next page, if there is one.
    next_run_id: str | None = None
    # How many bytes the transcript may still grow.
    left: int = 0


async def owned_run(context: Context, caller: Caller, run_id: str) -> StoredRun:
    """Return a run, with one point read. Raises NotFound when there is none or it is another owner's."""
    stored = await context.runs.read(run_id)
    if stored is None or stored.run.status is RunStatus.DELETED or stored.run.owner != caller.owner:
        raise no_run(run_id)
    return stored


def no_run(run_id: str) -> NotFound:
    return NotFound(f"There is no run {run_id}.", code="run_not_found", field="run_id")


async def owned_session(context: Context, caller: Caller, session_id: str) -> StoredSession:
    """Return a session. Raises NotFound when there is none or it is another owner's."""
    stored = await context.sessions.read(session_id)
    if stored is None or stored.session.deleted or stored.session.owner != caller.owner:
        raise NotFound(f"There is no session {session_id}.", code="session_not_found", field="session_id")
    return stored


async def output_of(context: Context, run: Run) -> str | None:
    """Return the JSON text of the run's last output items; None while it is pending.

    Raises NotFound when the run was deleted meanwhile.
    """
    # A use case that changed the run may have read a tombstone after a conflict.
    if run.status is RunStatus.DELETED:
        raise no_run(run.id)
    if not run.terminal:
        return None
    if not run.turns:
        return "[]"
    return await unless_deleted(context, run, context.content.load(run.id, run.turns[-1]))


async def answer_of(context: Context, run: Run, output: str) -> Answer | None:
    """Return where the answer stands in the run's output; None when it is not known.

    Raises NotFound when the run was deleted meanwhile.
    """
    if run.answer is None:
        return None
    stored = await unless_deleted(context, run, context.content.load(run.id, run.answer))
    return Answer.parse(stored, output)


async def input_of(context: Context, run: Run, *, complete: bool) -> str | None:
    """Return the JSON text of the run's input items. None when it is long, unless `complete`.

    Costs nothing for an input that is stored in the run's row.
    """
    if run.input.inline is None and not complete:
        return None
    text = await unless_deleted(context, run, context.content.load(run.id, run.input))
    return text if complete or len(text.encode()) <= MAX_INPUT_BYTES else None


async def unless_deleted(context: Context, run: Run, load: Awaitable[_Loaded]) -> _Loaded:
    """Return what is loaded.

    Raises NotFound when it cannot be loaded because the run was deleted meanwhile, and UnreadableRow when what is
    stored of the run does not fit together.
    """
    try:
        return await load
    except LookupError as fault:
        fresh = await context.runs.read(run.id)
        if fresh is None or fresh.run.status is RunStatus.DELETED:
            raise no_run(run.id) from None
        raise UnreadableRow(f"a content of {run.id}") from fault


async def session_page(
    context: Context, caller: Caller, session_id: str, *, begin: str | None, limit: int
) -> SessionPage:
    """Return up to `limit` runs of a session, from the run `begin` to older ones.

    The page ends earlier when the transcript of more runs would be too long.
    """
    session = (await owned_session(context, caller, session_id)).session
    page = SessionPage(session, left=MAX_TRANSCRIPT_BYTES)
    run_id = begin or session.last_run_id
    for _ in range(LOOK_BACK):
        if not run_id or len(page.runs) == limit:
            break
        stored = await _of_page(context, page, run_id)
        if stored is None and run_id == begin:
            raise Malformed(
                "cursor must come from a nextLink of this list.", code="invalid_cursor", field="cursor"
            )
        if stored is None:
            # Nothing leads to the runs before this one any more.
            page.cut, run_id = True, None
            break
        if stored.run.status is not RunStatus.DELETED and not await _add(context, page, stored.run):
            break
        run_id = stored.run.previous_run_id
    page.next_run_id = run_id
    return page


async def _of_page(context: Context, page: SessionPage, run_id: str) -> StoredRun | None:
    """Return a run of the page's session. None when its row is broken, or of another session."""
    try:
        return await run_of_session(context, run_id, page.session)
    except UnreadableRow as fault:
        log_skipped(fault)
        return None


async def _add(context: Context, page: SessionPage, run: Run) -> bool:
    """Add a run to a page. Returns False when its transcript does not fit. The first run is cut instead."""
    try:
        texts, complete = await unless_deleted(context, run, _first_texts(context, run, page.left))
    except NotFound:
        # Deleted since it was read. It is left out like the deleted runs before.
        return True
    except UnreadableRow as fault:
        # The run is shown without its texts.
        log_skipped(fault)
        page.runs.append(run)
        page.cut = True
        return True
    if page.runs and not complete:
        return False
    page.runs.append(run)
    page.transcript[:0] = texts
    page.cut = page.cut or not complete
    page.left -= sum(len(text.encode()) for text in texts)
    return True


async def _first_texts(context: Context, run: Run, most: int) -> tuple[list[str], bool]:
    """Return the first texts of a run, up to `most` bytes, and whether these are all."""
    texts: list[str] = []
    async for text in texts_of(context, run):
        most -= len(text.encode())
        if most < 0:
            return texts, False
        texts.append(text)
    return texts, True
