"""The poll phase: the response is read until it has finished."""

from dataclasses import replace
from datetime import datetime, timedelta

from shared.core.life import events
from shared.core.life.calling import queue_calls
from shared.core.life.events import Wake
from shared.core.life.items import ItemLog
from shared.core.life.leasing import due_under
from shared.core.life.rule import IllegalTransition, Result, end, wait
from shared.core.log import LogEntry, TextReplaced
from shared.core.response import (
    RESPONSE_SLOW,
    ItemStarted,
    NotNow,
    ReadReply,
    ResponseStatus,
    RunError,
    Slice,
    Snapshot,
    background_unsupported,
    unreadable,
)
from shared.core.run import UNANSWERED_CALL, Chaining, Continuation, Run, RunStatus, Step

# A 404 may be transient right after a response was created or finished. It was observed for up to 32 s.
MISSING_GRACE = timedelta(seconds=60)

_NOT_FOUND = "The provider does not know the response. It may be too new."

_ACTIVITIES = {
    "message": "writing",
    "reasoning": "thinking",
    "web_search_call": "searching the web",
    "file_search_call": "searching files",
    "code_interpreter_call": "running code",
    "image_generation_call": "drawing",
}
_CALLS = frozenset({"function_call", "mcp_call", "custom_tool_call"})


def read_verdict(run_id: str, reply: ReadReply) -> ReadReply:
    """Return a provider's reply to a read, unless it is the response of another run."""
    if isinstance(reply, Snapshot) and reply.run_id is not None and reply.run_id != run_id:
        return NotNow(unreadable("it is the response of another run"))
    return reply


def polled(run: Run, event: events.Polled, now: datetime) -> Result:
    snapshot = event.snapshot
    if run.terminal or not run.awaits(snapshot.response_id):
        return run, ()
    if not snapshot.status.finished:
        return _still_working(run, snapshot, now)
    if event.output is None:
        raise IllegalTransition(run, event)
    if event.compared != run.continuation:
        # A slice arrived meanwhile. The next poll compares its text with the answer.
        return run, ()
    logged, entries = _complete_log(run, event)
    turns = (*run.turns, event.output)
    done = replace(
        logged,
        continuation=None,
        kept=None,
        usage=run.usage + snapshot.usage,
        turns=turns,
        answer=event.answer,
    )
    if event.unread:
        # What cannot be read cannot be continued, and a provider might ignore that it is named.
        done = replace(done, unread=True, background_ignored=True, chaining=Chaining.REPLAY)
    after, effects = finish_turn(done, snapshot, event.invalid, event.repeatable, now)
    return after, entries + effects


def _complete_log(run: Run, event: events.Polled) -> tuple[Run, tuple[LogEntry, ...]]:
    """Add the entries and the text that the slices did not bring. If the text does not agree, replace it."""
    items = ItemLog.of(run)
    if not event.agrees:
        items.entries.append(TextReplaced(run.turn))
    items.finish(event.outline, written=run.written, commented=run.commented, with_text=event.agrees)
    return items.into(run), tuple(items.entries)


def _still_working(run: Run, snapshot: Snapshot, now: datetime) -> Result:
    if run.step is not Step.POLL:
        # The worker that cancels the response will see what comes of it.
        return run, ()
    read = run
    if run.missing_since or run.waiting:
        read = replace(run, missing_since=None, waiting=None, lease=None)
    if run.status is RunStatus.QUEUED and snapshot.status is ResponseStatus.IN_PROGRESS:
        return replace(read, status=RunStatus.IN_PROGRESS), ()
    if run.status is RunStatus.CANCELLING and run.missing_since:
        # The provider did not find the response before, so it has not cancelled it: send the cancellation
        # again.
        return replace(read, step=Step.CANCEL, lease=None, due=now), (Wake(),)
    return read, ()


def finish_turn(
    done: Run, snapshot: Snapshot, invalid: RunError | None, repeatable: frozenset[str], now: datetime
) -> Result:
    """Return what follows from a finished response, whose output `done` has already."""
    match snapshot.status:
        case ResponseStatus.FAILED:
            error = snapshot.error or RunError("provider_error", "The provider gave no reason.")
            return end(done, RunStatus.FAILED, now, error=error), ()
        case ResponseStatus.CANCELLED:
            return end(done, RunStatus.CANCELLED, now), ()
        case ResponseStatus.COMPLETED if snapshot.unanswerable:
            return end(done, RunStatus.INCOMPLETE, now, reason=UNANSWERED_CALL), ()
        case _ if not snapshot.calls and not snapshot.unanswerable:
            if invalid:
                return end(done, RunStatus.FAILED, now, error=invalid), ()
            status = (
                RunStatus.COMPLETED if snapshot.status is ResponseStatus.COMPLETED else RunStatus.INCOMPLETE
            )
            ended = end(done, status, now, reason=snapshot.incomplete_reason)
            return replace(ended, previous_response_id=snapshot.response_id), ()
        case ResponseStatus.INCOMPLETE:
            return end(done, RunStatus.INCOMPLETE, now, reason=snapshot.incomplete_reason), ()
    return queue_calls(done, snapshot, repeatable, now)


def sliced(run: Run, event: events.Sliced, _now: datetime) -> Result:
    """Add a slice that begins where the stored stream ends.

    When two pollers read the same slice, the second one is ignored: its `after` is no longer the end.
    """
    received = event.slice
    expected = Continuation(received.response_id, received.after)
    if run.step is not Step.POLL or run.continuation != expected:
        return run, ()
    if run.status is RunStatus.CANCELLING or not received.changed:
        return run, ()
    items = ItemLog.of(run)
    items.follow(received.changes, event.text)
    at_work = received.changes or received.status is ResponseStatus.IN_PROGRESS
    read = replace(
        items.into(run),
        status=RunStatus.IN_PROGRESS if at_work else run.status,
        continuation=Continuation(received.response_id, received.sequence),
        written=run.written + items.written,
        commented=run.commented + items.commented,
        activity=_activity(received) or run.activity,
        missing_since=None,
        waiting=None,
    )
    return read, tuple(items.entries)


def _activity(received: Slice) -> str:
    """Return what the model does since the last item that started, in a few words.

    Empty if no item started.
    """
    started = [change for change in received.changes if isinstance(change, ItemStarted)]
    if not started:
        return ""
    last = started[-1]
    if last.commentary:
        return "commenting"
    if last.kind in _CALLS and last.name:
        return f"calling {last.name}"
    return _ACTIVITIES.get(last.kind, "working")


def stream_lost(run: Run, event: events.StreamLost, _now: datetime) -> Result:
    if run.step is not Step.POLL or run.continuation is None or run.continuation.sequence is None:
        return run, ()
    if run.status is RunStatus.CANCELLING or not run.awaits(event.response_id):
        return run, ()
    return replace(run, continuation=Continuation(event.response_id)), ()


def poll_deferred(run: Run, event: events.PollDeferred, now: datetime) -> Result:
    if run.step is not Step.POLL or not run.awaits(event.response_id):
        return run, ()
    due = max(run.due, event.until or run.due)
    known = run.waiting is not None and run.waiting.error.code == event.error.code
    if known and due == run.due and event.error.code != RESPONSE_SLOW:
        return run, ()
    deferred, entries = wait(run, event.error, now)
    return replace(deferred, lease=None, due=due), entries


def poll_claimed(run: Run, event: events.PollClaimed, now: datetime) -> Result:
    if run.step is not Step.POLL or run.due != event.due:
        return run, ()
    until = max(event.lease.expires_at, event.next_poll)
    return replace(run, lease=event.lease, due=due_under(run, until, now)), ()


def missing(run: Run, event: events.Missing, now: datetime) -> Result:
    if run.terminal or not run.awaits(event.response_id):
        return run, ()
    if run.missing_since is None:
        missed, entries = wait(run, event.error or RunError("response_not_found", _NOT_FOUND), now)
        return replace(missed, missing_since=now, step=Step.POLL, lease=None, due=now), entries
    if now - run.missing_since < MISSING_GRACE:
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    return end(run, RunStatus.FAILED, now, error=event.error or _lost(run, event.response_id)), ()


def _lost(run: Run, response_id: str) -> RunError:
    """Return the error for a response that stays missing: from the beginning, or after it was there."""
    begun = run.turn_started_at
    early = begun and run.missing_since and run.missing_since - begun < MISSING_GRACE
    # The response of an earlier turn was read after its create.
    known = run.turns and not run.background_ignored
    if early and not known and not run.turn_items:
        return background_unsupported(
            f"The provider does not know response {response_id}, which it has created."
        )
    return RunError("response_not_found", f"The provider no longer knows response {response_id}.")
