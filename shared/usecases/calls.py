"""The tool calls of a run, each with its arguments and its answer, and the calls of all runs that wait for an approval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from shared.core import transcript
from shared.core.caller import Caller, Role
from shared.core.calls import CallStatus, ToolCall, WaitKind
from shared.core.ids import call_id
from shared.core.limits import MAX_CALLS_BYTES
from shared.core.run import Run, RunStatus
from shared.errors import NotFound, UnreadableRow
from shared.log import log_skipped
from shared.steps.context import Context
from shared.store.answers import StoredAnswer
from shared.store.runs import StoredRun
from shared.store.waits import PausedRun
from shared.usecases.read import no_run, unless_deleted


@dataclass(frozen=True, slots=True)
class CallView:
    """A call as clients see it."""

    run: Run
    # With its arguments.
    call: ToolCall
    answer: StoredAnswer | None = None
    # The JSON text of the arguments that the approver sent instead of the model's.
    changed: str | None = None

    @property
    def id(self) -> str:
        return call_id(self.call.turn, self.call.call_id)

    @property
    def size(self) -> int:
        return len(self.call.arguments.encode()) + len((self.changed or "").encode())


async def run_to_answer(context: Context, caller: Caller, run_id: str) -> StoredRun:
    """Return a run of the caller, or one with calls that the caller may approve. Raises NotFound."""
    stored = await context.runs.read(run_id)
    if stored is None or stored.run.status is RunStatus.DELETED:
        raise no_run(run_id)
    foreign = stored.run.owner != caller.owner
    if foreign and not any(sees(caller, stored.run, call) for call in stored.run.calls):
        raise no_run(run_id)
    return stored


def sees(caller: Caller, run: Run, call: ToolCall) -> bool:
    """Return whether the caller may see a call: one of an own run, or one that waits, or has waited, for an approval."""
    if run.owner == caller.owner and Role.READER in caller.roles:
        return True
    approval = call.wait is not None and call.wait.kind is WaitKind.APPROVAL
    return approval and caller.approves_for(run.owner)


async def view_call(context: Context, run: Run, call: ToolCall) -> CallView:
    """Return a call of a run with its arguments and its answer. Raises NotFound when the run was deleted meanwhile."""
    return (await _Reader(context, run).views([call]))[0]


async def list_calls(
    context: Context, caller: Caller, run_id: str, *, after: int, limit: int
) -> tuple[list[CallView], int | None]:
    """Return up to `limit` calls of a run after the first `after` ones, and the number after which the next page begins.

    Of another owner's run, these are the calls that wait for an approval. All calls are counted, because these become
    fewer while pages are read. Raises NotFound.
    """
    run = (await run_to_answer(context, caller, run_id)).run
    rest = enumerate(run.calls[after:], after + 1)
    shown = [(number, call) for number, call in rest if _listed(caller, run, call)]
    views = await _Reader(context, run).views([call for _, call in shown[:limit]])
    return views, shown[len(views) - 1][0] if len(views) < len(shown) else None


def _listed(caller: Caller, run: Run, call: ToolCall) -> bool:
    own = run.owner == caller.owner and Role.READER in caller.roles
    waiting = call.status is CallStatus.WAITING and run.status is not RunStatus.CANCELLING
    return own or (waiting and sees(caller, run, call))


async def waiting_calls(context: Context, run: Run) -> list[CallView]:
    """Return the calls that a run waits for, with their arguments. Costs nothing for a run that is not paused."""
    if run.status is not RunStatus.REQUIRES_ACTION:
        return []
    return await _Reader(context, run).views([call for call, _ in run.waits], most=None)


@dataclass
class _Reader:
    """Loads the arguments and the answers of a run's calls, each output and all answers once."""

    context: Context
    run: Run
    # The bytes of the outputs that were loaded.
    loaded: int = 0
    _answers: Mapping[tuple[int, str], StoredAnswer] | None = None
    # Calls come turn by turn, so the calls of one turn are kept.
    _turn: int = 0
    _requested: Mapping[str, ToolCall] = field(default_factory=dict)

    async def views(self, calls: Sequence[ToolCall], most: int | None = MAX_CALLS_BYTES) -> list[CallView]:
        """Return the first of these calls, at least one, and no more once `most` bytes were read or are shown.

        A call costs nothing to read when the output of its turn is loaded already.
        """
        found: list[CallView] = []
        shown = 0
        for call in calls:
            before = self.loaded
            view = await unless_deleted(self.context, self.run, self._view(call))
            shown += view.size
            read = self.loaded if self.loaded > before else 0
            if found and most is not None and max(shown, read) > most:
                break
            found.append(view)
        return found

    async def _view(self, call: ToolCall) -> CallView:
        if self._turn != call.turn:
            output = await self.context.content.load(self.run.id, self.run.turns[call.turn - 1])
            self._turn, self.loaded = call.turn, self.loaded + len(output.encode())
            self._requested = {each.call_id: each for each in transcript.calls(output)}
        requested = self._requested.get(call.call_id)
        known = replace(call, arguments=requested.arguments, server=requested.server) if requested else call
        if call.wait is None or call.status in {CallStatus.WAITING, CallStatus.TIMED_OUT}:
            return CallView(self.run, known)
        if self._answers is None:
            self._answers = await self.context.runs.answers(self.run.id)
        answer = self._answers.get((call.turn, call.call_id))
        changed = answer and answer.changed and await self.context.content.load(self.run.id, answer.changed)
        return CallView(self.run, known, answer, changed or None)


@dataclass(frozen=True, slots=True)
class WaitsCursor:
    """After which call a page of waiting calls begins."""

    since: datetime
    run_id: str
    # Our id of the call.
    call_id: str


# No call has this id: there is no turn 0.
_NO_CALL = call_id(0, "")


async def list_waits(
    context: Context, caller: Caller, *, after: WaitsCursor | None, limit: int
) -> tuple[list[CallView], WaitsCursor | None]:
    """Return up to `limit` calls that wait for the caller's approval, and after which one the next page begins.

    The runs that have waited longest come first. No run is read that does not wait.
    """
    first = PausedRun(after.since, after.run_id) if after else None
    owner = None if caller.approves_for_all else caller.owner
    # One more than is shown, so that it is known whether there is a next page.
    paused = await context.waits.approvals(owner, first=first, limit=limit + 1)
    page: list[CallView] = []
    last, size = after, 0
    for each in paused:
        views, loaded, complete = await _views_of(context, each, after, limit + 1 - len(page))
        size += loaded
        if page and size > MAX_CALLS_BYTES:
            return page, last
        for view in views:
            if len(page) == limit:
                return page, last
            page.append(view)
            last = WaitsCursor(each.since, each.run_id, view.id)
        if not complete:
            return page, last
        if not views:
            last = WaitsCursor(each.since, each.run_id, _NO_CALL)
    return page, last if len(paused) > limit else None


async def _views_of(
    context: Context, paused: PausedRun, after: WaitsCursor | None, limit: int
) -> tuple[list[CallView], int, bool]:
    """Return the calls of a run that wait for an approval, how many bytes were loaded for them, and whether these are all.

    There are none when the run was deleted, cannot be read, or is not that of the owner whose wait was found.
    """
    try:
        stored = await context.runs.read(paused.run_id)
        if stored is None or stored.run.owner != paused.owner:
            return [], 0, True
        run = stored.run
        ids = [call_id(call.turn, call.call_id) for call in run.calls]
        shown = after is not None and after.run_id == run.id and after.call_id in ids
        seen = ids[: ids.index(after.call_id) + 1] if shown and after else []
        calls = [
            call
            for call, wait in run.waits
            if wait.kind is WaitKind.APPROVAL and call_id(call.turn, call.call_id) not in seen
        ]
        reader = _Reader(context, run)
        views = await reader.views(calls[:limit])
        return views, reader.loaded, len(views) == len(calls)
    except UnreadableRow as fault:
        # One broken run must not hide the others.
        log_skipped(fault)
        return [], 0, True
    except NotFound:
        return [], 0, True
