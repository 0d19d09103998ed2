"""The life of a run: every rule of it, and nothing else.

`advance(run, event, now)` is pure. An event that comes too late (the run has ended, the lease has
passed on, the response is not the current one) leaves the run as it is; an event that cannot happen
raises `IllegalTransition`. `MOVES` says which status each event may lead to; every result is held
against it, and the diagram in docs/run-states.md is drawn from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from shared.core.life import events
from shared.core.life.calling import tool_done
from shared.core.life.claiming import claimed
from shared.core.life.creating import chain_refused, create_deferred, create_refused, created
from shared.core.life.ending import (
    cancel_asked,
    cancel_deferred,
    cancel_sent,
    deadline_passed,
    delete_asked,
    purged,
    text_taken_back,
)
from shared.core.life.events import Event, Record
from shared.core.life.polling import missing, poll_deferred, polled, sliced, stream_lost
from shared.core.life.rule import IllegalTransition, Result
from shared.core.run import OUTCOMES, Run, RunStatus

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
        effects += (*text_taken_back(run, after), Record(f"run.{after.status}"))
    records = sum(isinstance(effect, Record) for effect in effects)
    return replace(after, rev=run.rev + 1, events=run.events + records, updated_at=now), effects


# The value types differ by key, which Mapping cannot say.
_RULES: Mapping[type[Event], Callable[[Run, Any, datetime], Result]] = {
    events.Claimed: claimed,
    events.Created: created,
    events.CreateRefused: create_refused,
    events.CreateDeferred: create_deferred,
    events.ChainRefused: chain_refused,
    events.Polled: polled,
    events.Sliced: sliced,
    events.StreamLost: stream_lost,
    events.PollDeferred: poll_deferred,
    events.Missing: missing,
    events.ToolDone: tool_done,
    events.CancelAsked: cancel_asked,
    events.CancelSent: cancel_sent,
    events.CancelDeferred: cancel_deferred,
    events.DeadlinePassed: deadline_passed,
    events.DeleteAsked: delete_asked,
    events.Purged: purged,
}
