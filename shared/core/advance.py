"""The life of a run: every rule of it, and nothing else.

`advance(run, event, now)` is pure. An event that comes too late (the run has ended, the lease has
passed on, the response is not the current one) leaves the run as it is; an event that cannot happen
raises `IllegalTransition`. `MOVES` says which status each event may lead to; every result is held
against it, and the diagram in docs/run-states.md is drawn from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from shared.core import events
from shared.core.events import Abandon, Effect, Event, Record, Wake
from shared.core.model import (
    OUTCOMES,
    CallStatus,
    Chaining,
    Content,
    FunctionCall,
    ResponseStatus,
    Run,
    RunError,
    RunStatus,
    Snapshot,
    Step,
    ToolCall,
)

# A 404 may be transient right after a response was created or finished; 32 s have been seen.
MISSING_GRACE = timedelta(seconds=60)
# What a run row can hold of its tool calls.
MAX_CALLS_PER_RUN = 256

Result = tuple[Run, tuple[Effect, ...]]

_Q, _P, _C = RunStatus.QUEUED, RunStatus.IN_PROGRESS, RunStatus.CANCELLING
_DELETED = RunStatus.DELETED
_PENDING = frozenset({_Q, _P, _C})
_STOPPED = frozenset({RunStatus.CANCELLED})

MOVES: Mapping[type[Event], Mapping[RunStatus, frozenset[RunStatus]]] = {
    events.Claimed: {
        _Q: frozenset({_Q}),
        _P: frozenset({_P}),
        _C: _STOPPED | {_C},
        _DELETED: frozenset({_DELETED}),
    },
    events.Created: {status: frozenset({status}) for status in _PENDING | OUTCOMES | {_DELETED}}
    | {_Q: frozenset({_Q, _P})},
    events.CreateRefused: {
        _Q: frozenset({RunStatus.FAILED}),
        _P: frozenset({RunStatus.FAILED}),
        _C: _STOPPED,
    },
    events.CreateDeferred: {_Q: frozenset({_Q}), _P: frozenset({_P}), _C: _STOPPED},
    events.ChainRefused: {_Q: frozenset({_Q}), _P: frozenset({_P}), _C: _STOPPED},
    events.Polled: {_Q: OUTCOMES | {_Q, _P}, _P: OUTCOMES | {_P}, _C: OUTCOMES - {RunStatus.EXPIRED} | {_C}},
    events.Sliced: {_Q: frozenset({_Q, _P}), _P: frozenset({_P})},
    events.StreamLost: {_Q: frozenset({_Q}), _P: frozenset({_P})},
    events.PollDeferred: {status: frozenset({status}) for status in _PENDING},
    events.Missing: {
        _Q: frozenset({_Q, RunStatus.FAILED}),
        _P: frozenset({_P, RunStatus.FAILED}),
        _C: _STOPPED | {_C},
    },
    events.ToolDone: {_P: frozenset({_P}), _C: _STOPPED | {_C}},
    events.CancelAsked: {status: _STOPPED | {_C} for status in (_Q, _P)},
    events.CancelSent: {_C: frozenset({_C})},
    events.CancelDeferred: {_C: frozenset({_C}), _DELETED: frozenset({_DELETED})},
    events.DeadlinePassed: {status: frozenset({RunStatus.EXPIRED}) for status in _PENDING},
    events.DeleteAsked: {status: frozenset({_DELETED}) for status in _PENDING | OUTCOMES},
    events.Purged: {_DELETED: frozenset({_DELETED})},
}


class IllegalTransition(Exception):
    """An event that cannot happen to a run in this state."""

    def __init__(self, run: Run, event: Event) -> None:
        super().__init__(
            f"{type(event).__name__} cannot happen to a run that is {run.status} and owed {run.step}"
        )


def advance(run: Run, event: Event, now: datetime) -> Result:
    """Return the run as it is after `event`, and what must be done then.

    The same run object comes back when the event changes nothing.
    Raises IllegalTransition for an event that cannot happen.
    """
    after, effects = _RULES[type(event)](run, event, now)
    if after is run:
        return run, effects
    if after.status not in MOVES[type(event)].get(run.status, frozenset()):
        raise IllegalTransition(run, event)
    if run.status is RunStatus.QUEUED and after.status is RunStatus.IN_PROGRESS:
        effects = (Record("run.in_progress"), *effects)
    if after.terminal and not run.terminal and after.status is not RunStatus.DELETED:
        effects += (*_text_taken_back(run, after), Record(f"run.{after.status}"))
    records = sum(isinstance(effect, Record) for effect in effects)
    return replace(after, rev=run.rev + 1, events=run.events + records, updated_at=now), effects


def _text_taken_back(run: Run, after: Run) -> tuple[Record, ...]:
    """Say that a turn which ends without a response leaves the text as the turn before it had it."""
    unfinished = run.token is not None and after.turns == run.turns
    if unfinished and (run.written or run.turns):
        return (Record("text.replaced", {"turn": len(run.turns)}),)
    return ()


def claimable(run: Run, now: datetime) -> bool:
    """Say whether a worker may take the step that the run is owed now."""
    return run.step in {Step.CREATE, Step.TOOLS, Step.CANCEL} and now >= run.due


def _claimed(run: Run, event: events.Claimed, now: datetime) -> Result:
    if not claimable(run, now):
        return run, ()
    abandoned = run.lease is not None
    taken = replace(run, lease=event.lease, due=event.lease.expires_at)
    match run.step:
        case Step.CREATE if run.status is RunStatus.CANCELLING:
            return _end(_counted(run), RunStatus.CANCELLED, now), ()
        case Step.CREATE if abandoned:
            return _counted(taken), (Record("turn.create_repeated", {"turn": run.turn}),)
        case Step.TOOLS:
            return _claim_tools(taken, now)
    return taken, ()


def _claim_tools(run: Run, now: datetime) -> Result:
    """Mark what will be run as started, before any of it starts: that is what makes it at most once."""
    calls, effects = [], []
    for call in run.calls:
        match call.status:
            case CallStatus.QUEUED if run.status is not RunStatus.CANCELLING:
                effects.append(Record("tool.started", _told_of(call)))
                calls.append(replace(call, status=CallStatus.IN_PROGRESS, started_at=now))
            case CallStatus.IN_PROGRESS if not call.idempotent or run.status is RunStatus.CANCELLING:
                effects.append(_tool_record(call, CallStatus.UNKNOWN))
                calls.append(replace(call, status=CallStatus.UNKNOWN, completed_at=now))
            case _:
                calls.append(call)
    return _after_calls(replace(run, calls=tuple(calls)), now), tuple(effects)


def _counted(run: Run) -> Run:
    """Count the create of a lease that ended otherwise than by its holder's word."""
    if run.step is Step.CREATE and run.lease is not None:
        return replace(run, unknown_creates=run.unknown_creates + 1)
    return run


def _tool_record(call: ToolCall, status: CallStatus) -> Record:
    return Record("tool.completed", {**_told_of(call), "status": status.value})


def _told_of(call: ToolCall) -> dict[str, str | int]:
    return {"turn": call.turn, "call_id": call.call_id, "name": call.name}


def _after_calls(run: Run, now: datetime) -> Run:
    """Go on to the next turn, under the same lease, once every call has ended."""
    if any(call.status.open for call in run.calls):
        return run
    if run.status is RunStatus.CANCELLING:
        return _end(run, RunStatus.CANCELLED, now)
    return replace(run, step=Step.CREATE, turn=run.turn + 1)


def _holds(run: Run, lease_id: str, step: Step) -> bool:
    return run.step is step and run.lease is not None and run.lease.id == lease_id


def _created(run: Run, event: events.Created, now: datetime) -> Result:
    snapshot = event.snapshot
    if not _holds(run, event.lease_id, Step.CREATE):
        return _came_too_late(run, snapshot.response_id, now)
    adopted = replace(
        run,
        lease=None,
        token=snapshot.response_id,
        sequence=snapshot.sequence,
        written=0,
        activity="",
        responses=(*run.responses, snapshot.response_id),
        turn_started_at=now,
        started_at=run.started_at or now,
    )
    started = Record("turn.started", {"turn": run.turn, "response_id": snapshot.response_id})
    if run.status is RunStatus.CANCELLING:
        return replace(adopted, step=Step.CANCEL, due=now), (started, Wake())
    # A response that is finished already is polled once like any other: one way to end a turn.
    status = (
        RunStatus.QUEUED
        if run.status is RunStatus.QUEUED and snapshot.status is ResponseStatus.QUEUED
        else RunStatus.IN_PROGRESS
    )
    return replace(adopted, step=Step.POLL, status=status, due=now), (started,)


def _came_too_late(run: Run, response_id: str, now: datetime) -> Result:
    """Note a response that nobody will adopt, so that it is stopped, and forgotten with the run."""
    if response_id in run.responses or response_id in run.abandoned:
        return run, ()
    noted = replace(run, abandoned=(*run.abandoned, response_id))
    if run.status is RunStatus.DELETED:
        return replace(noted, step=Step.CANCEL, lease=None, due=now), (Abandon(response_id), Wake())
    return noted, (Abandon(response_id),)


def _create_refused(run: Run, event: events.CreateRefused, now: datetime) -> Result:
    if not _holds(run, event.lease_id, Step.CREATE):
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return _end(run, RunStatus.CANCELLED, now), ()
    return _end(run, RunStatus.FAILED, now, error=event.error), ()


def _create_deferred(run: Run, event: events.CreateDeferred, now: datetime) -> Result:
    if not _holds(run, event.lease_id, Step.CREATE):
        return run, ()
    counted = replace(run, unknown_creates=run.unknown_creates + event.unknown)
    if run.status is RunStatus.CANCELLING:
        return _end(counted, RunStatus.CANCELLED, now), ()
    return replace(counted, lease=None, due=event.until), ()


def _chain_refused(run: Run, event: events.ChainRefused, now: datetime) -> Result:
    if not _holds(run, event.lease.id, Step.CREATE):
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return _end(run, RunStatus.CANCELLED, now), ()
    replayed = replace(run, chaining=Chaining.REPLAY, lease=event.lease, due=event.lease.expires_at)
    return replayed, (Record("turn.replayed", {"turn": run.turn}),)


def _polled(run: Run, event: events.Polled, now: datetime) -> Result:
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
            return _end(done, RunStatus.FAILED, now, error=error), ()
        case ResponseStatus.CANCELLED:
            return _end(done, RunStatus.CANCELLED, now), ()
        case _ if not snapshot.calls:
            status = (
                RunStatus.COMPLETED if snapshot.status is ResponseStatus.COMPLETED else RunStatus.INCOMPLETE
            )
            ended = _end(done, status, now, reason=snapshot.incomplete_reason)
            return replace(ended, previous_response_id=snapshot.response_id), ()
        case ResponseStatus.INCOMPLETE:
            return _end(done, RunStatus.INCOMPLETE, now, reason=snapshot.incomplete_reason), ()
    return _ask_for_tools(done, snapshot, repeatable, now)


def _ask_for_tools(run: Run, snapshot: Snapshot, repeatable: frozenset[str], now: datetime) -> Result:
    if run.status is RunStatus.CANCELLING:
        return _end(run, RunStatus.CANCELLED, now), ()
    if now >= run.expires_at:
        return _end(run, RunStatus.EXPIRED, now), ()
    if run.turn >= run.max_turns:
        return _end(run, RunStatus.INCOMPLETE, now, reason="max_turns"), ()
    if len(run.calls) + len(snapshot.calls) > MAX_CALLS_PER_RUN:
        error = RunError(
            "too_many_tool_calls", f"The model asked for more than {MAX_CALLS_PER_RUN} tool calls in one run."
        )
        return _end(run, RunStatus.FAILED, now, error=error), ()
    asked = tuple(_queue_call(run, call, repeatable) for call in snapshot.calls)
    owed = replace(
        run,
        status=RunStatus.IN_PROGRESS,
        step=Step.TOOLS,
        lease=None,
        due=now,
        missing_since=None,
        calls=run.calls + asked,
        previous_response_id=snapshot.response_id,
    )
    return owed, (Record("turn.completed", {"turn": run.turn, "tool_calls": len(asked)}), Wake())


def _sliced(run: Run, event: events.Sliced, _now: datetime) -> Result:
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


def _stream_lost(run: Run, event: events.StreamLost, _now: datetime) -> Result:
    if run.step is not Step.POLL or run.token != event.token or run.sequence is None:
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return run, ()
    return replace(run, sequence=None), ()


def _queue_call(run: Run, call: FunctionCall, repeatable: frozenset[str]) -> ToolCall:
    return ToolCall(call_id=call.call_id, name=call.name, turn=run.turn, idempotent=call.name in repeatable)


def _poll_deferred(run: Run, event: events.PollDeferred, _now: datetime) -> Result:
    if run.step is not Step.POLL or run.token != event.token or event.until <= run.due:
        return run, ()
    return replace(run, due=event.until), ()


def _missing(run: Run, event: events.Missing, now: datetime) -> Result:
    if run.terminal or run.token != event.token:
        return run, ()
    if run.missing_since is None:
        return replace(run, missing_since=now, step=Step.POLL, lease=None, due=now), ()
    if now - run.missing_since < MISSING_GRACE:
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return _end(run, RunStatus.CANCELLED, now), ()
    error = RunError("response_not_found", f"The provider no longer knows response {event.token}.")
    return _end(run, RunStatus.FAILED, now, error=error), ()


def _tool_done(run: Run, event: events.ToolDone, now: datetime) -> Result:
    if not _holds(run, event.lease.id, Step.TOOLS):
        return run, ()
    calls, effects = [], []
    for call in run.calls_of_turn():
        if call.call_id == event.call_id and call.status is CallStatus.IN_PROGRESS:
            calls.append(replace(call, status=event.status, completed_at=now))
            effects.append(_tool_record(call, event.status))
        else:
            calls.append(call)
    if not effects:
        return run, ()
    earlier = tuple(call for call in run.calls if call.turn != run.turn)
    checkpointed = replace(run, calls=earlier + tuple(calls))
    after = _after_calls(checkpointed, now)
    if after.step is Step.CREATE:
        after = replace(after, lease=event.lease, due=event.lease.expires_at)
    return after, tuple(effects)


def _cancel_asked(run: Run, event: events.CancelAsked, now: datetime) -> Result:
    if run.terminal or run.status is RunStatus.CANCELLING:
        return run, ()
    record = Record("run.cancelling")
    cancelling = replace(run, status=RunStatus.CANCELLING)
    if run.step is Step.POLL:
        return replace(cancelling, step=Step.CANCEL, lease=event.lease, due=event.lease.expires_at), (record,)
    if run.lease and now < run.lease.expires_at:
        # Whoever holds the lease sees the word when it saves what it did.
        return cancelling, (record,)
    return _end(_counted(cancelling), RunStatus.CANCELLED, now), ()


def _cancel_sent(run: Run, event: events.CancelSent, now: datetime) -> Result:
    if not _holds(run, event.lease_id, Step.CANCEL) or run.status is not RunStatus.CANCELLING:
        return run, ()
    return replace(run, step=Step.POLL, lease=None, due=now), ()


def _cancel_deferred(run: Run, event: events.CancelDeferred, _now: datetime) -> Result:
    if not _holds(run, event.lease_id, Step.CANCEL):
        return run, ()
    return replace(run, lease=None, due=event.until), ()


def _deadline_passed(run: Run, event: events.DeadlinePassed, now: datetime) -> Result:
    if run.terminal:
        return run, ()
    if now < run.expires_at:
        raise IllegalTransition(run, event)
    spent = replace(_counted(run), usage=run.usage + event.usage)
    return _end(spent, RunStatus.EXPIRED, now), ()


def _delete_asked(run: Run, event: events.DeleteAsked, now: datetime) -> Result:
    if run.status is RunStatus.DELETED:
        return run, ()
    tombstone = replace(
        _end(_counted(run), RunStatus.DELETED, now),
        token=run.token,
        step=Step.CANCEL,
        lease=event.lease,
        due=event.lease.expires_at,
        owner="",
        input=Content(),
        turns=(),
        calls=(),
        metadata={},
        error=None,
    )
    return tombstone, ()


def _purged(run: Run, event: events.Purged, _now: datetime) -> Result:
    if not _holds(run, event.lease_id, Step.CANCEL) or run.status is not RunStatus.DELETED:
        return run, ()
    return replace(run, step=Step.NOTHING, lease=None, token=None, responses=(), abandoned=()), ()


def _end(
    run: Run, status: RunStatus, now: datetime, *, error: RunError | None = None, reason: str | None = None
) -> Run:
    calls = tuple(_close_call(call, now) for call in run.calls)
    return replace(
        run,
        status=status,
        step=Step.NOTHING,
        token=None,
        sequence=None,
        lease=None,
        missing_since=None,
        completed_at=now,
        calls=calls,
        error=error,
        incomplete_reason=reason,
    )


def _close_call(call: ToolCall, now: datetime) -> ToolCall:
    match call.status:
        case CallStatus.QUEUED:
            return replace(call, status=CallStatus.CANCELLED)
        case CallStatus.IN_PROGRESS:
            return replace(call, status=CallStatus.UNKNOWN, completed_at=now)
    return call


# The value types differ by key, which Mapping cannot say.
_RULES: Mapping[type[Event], Callable[[Run, Any, datetime], Result]] = {
    events.Claimed: _claimed,
    events.Created: _created,
    events.CreateRefused: _create_refused,
    events.CreateDeferred: _create_deferred,
    events.ChainRefused: _chain_refused,
    events.Polled: _polled,
    events.Sliced: _sliced,
    events.StreamLost: _stream_lost,
    events.PollDeferred: _poll_deferred,
    events.Missing: _missing,
    events.ToolDone: _tool_done,
    events.CancelAsked: _cancel_asked,
    events.CancelSent: _cancel_sent,
    events.CancelDeferred: _cancel_deferred,
    events.DeadlinePassed: _deadline_passed,
    events.DeleteAsked: _delete_asked,
    events.Purged: _purged,
}
