"""The poll phase: the response is read until it has finished."""

from dataclasses import replace
from datetime import datetime, timedelta

from shared.core.life import events
from shared.core.life.calling import ask_for_tools
from shared.core.life.events import Record, Wake
from shared.core.life.rule import IllegalTransition, Result, end
from shared.core.response import ResponseStatus, RunError, Snapshot
from shared.core.run import Content, Run, RunStatus, Step

# A 404 may be transient right after a response was created or finished; 32 s have been seen.
MISSING_GRACE = timedelta(seconds=60)


def polled(run: Run, event: events.Polled, now: datetime) -> Result:
    snapshot = event.snapshot
    if run.token is None or run.terminal or snapshot.response_id != run.token:
        return run, ()
    if not snapshot.status.finished:
        return _still_working(run, snapshot, now)
    if event.output is None:
        raise IllegalTransition(run, event)
    if event.written != run.written:
        # A slice came in between, and its text has to be held against the answer first: by the next poll.
        return run, ()
    after, effects = _finish_turn(run, snapshot, event.output, event.repeatable, now)
    return after, _last_word(run, event) + effects


def _last_word(run: Run, event: events.Polled) -> tuple[Record, ...]:
    """Bring the text that was told so far to what the finished response says."""
    if not event.as_told:
        return (Record("text.replaced", {"turn": run.turn}),)
    if event.characters > run.written:
        return (Record("text.delta", {"turn": run.turn, "start": run.written}),)
    return ()


def _still_working(run: Run, snapshot: Snapshot, now: datetime) -> Result:
    found = replace(run, missing_since=None) if run.missing_since else run
    if run.status is RunStatus.QUEUED and snapshot.status is ResponseStatus.IN_PROGRESS:
        return replace(found, status=RunStatus.IN_PROGRESS), ()
    if run.status is RunStatus.CANCELLING and run.missing_since:
        # The provider could not have taken note of a cancellation of what it did not find.
        return replace(found, step=Step.CANCEL, lease=None, due=now), (Wake(),)
    return found, ()


def _finish_turn(
    run: Run, snapshot: Snapshot, output: Content, repeatable: frozenset[str], now: datetime
) -> Result:
    done = replace(
        run, token=None, sequence=None, usage=run.usage + snapshot.usage, turns=(*run.turns, output)
    )
    match snapshot.status:
        case ResponseStatus.FAILED:
            error = snapshot.error or RunError("provider_error", "The provider gave no reason.")
            return end(done, RunStatus.FAILED, now, error=error), ()
        case ResponseStatus.CANCELLED:
            return end(done, RunStatus.CANCELLED, now), ()
        case _ if not snapshot.calls:
            status = (
                RunStatus.COMPLETED if snapshot.status is ResponseStatus.COMPLETED else RunStatus.INCOMPLETE
            )
            ended = end(done, status, now, reason=snapshot.incomplete_reason)
            return replace(ended, previous_response_id=snapshot.response_id), ()
        case ResponseStatus.INCOMPLETE:
            return end(done, RunStatus.INCOMPLETE, now, reason=snapshot.incomplete_reason), ()
    return ask_for_tools(done, snapshot, repeatable, now)


def sliced(run: Run, event: events.Sliced, _now: datetime) -> Result:
    piece = event.slice
    # Another poller may have read the same stream and been faster: what follows its slice is read next time.
    if run.step is not Step.POLL or run.token != piece.response_id or run.sequence != piece.after:
        return run, ()
    if run.status is RunStatus.CANCELLING or not piece.news:
        return run, ()
    at_work = piece.text or piece.status is ResponseStatus.IN_PROGRESS
    read = replace(
        run,
        status=RunStatus.IN_PROGRESS if at_work else run.status,
        sequence=piece.sequence,
        written=run.written + len(piece.text),
        items=run.items + piece.items,
        activity=piece.activity or run.activity,
        missing_since=None,
    )
    if event.text is None:
        return read, ()
    where = event.text
    return read, (Record("text.delta", {"turn": run.turn, "name": where.name, "chunks": where.chunks}),)


def stream_lost(run: Run, event: events.StreamLost, _now: datetime) -> Result:
    if run.step is not Step.POLL or run.token != event.token or run.sequence is None:
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return run, ()
    return replace(run, sequence=None), ()


def poll_deferred(run: Run, event: events.PollDeferred, _now: datetime) -> Result:
    if run.step is not Step.POLL or run.token != event.token or event.until <= run.due:
        return run, ()
    return replace(run, due=event.until), ()


def missing(run: Run, event: events.Missing, now: datetime) -> Result:
    if run.terminal or run.token != event.token:
        return run, ()
    if run.missing_since is None:
        return replace(run, missing_since=now, step=Step.POLL, lease=None, due=now), ()
    if now - run.missing_since < MISSING_GRACE:
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    error = RunError("response_not_found", f"The provider no longer knows response {event.token}.")
    return end(run, RunStatus.FAILED, now, error=error), ()
