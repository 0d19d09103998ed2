"""The state machine of a run. All of its rules are in this folder.

`advance(run, event, now)` is pure. An event that comes too late does not change the run: the run has ended,
another worker has the lease, or the response is not the current one. An event that cannot happen raises
`IllegalTransition`. `MOVES` lists the states that each event may lead to, by the state before. Every result
is checked against it, and the diagram in docs/run-states.md is generated from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from shared.core.life import events
from shared.core.life.calling import tool_done
from shared.core.life.claiming import claimed
from shared.core.life.creating import chain_refused, create_deferred, create_refused, created, key_refused
from shared.core.life.ending import (
    cancel_deferred,
    cancel_requested,
    cancel_sent,
    deadline_passed,
    delete_requested,
    last_entries,
    purge_deferred,
    purged,
)
from shared.core.life.events import Deliver, Event, Wake
from shared.core.life.generating import (
    generate_deferred,
    generate_finished,
    generate_refused,
    generated,
)
from shared.core.life.leasing import renewed
from shared.core.life.polling import missing, poll_claimed, poll_deferred, polled, sliced, stream_lost
from shared.core.life.rule import IllegalTransition, Result
from shared.core.life.waiting import answered, wait_ended
from shared.core.log import RunInProgress
from shared.core.run import OUTCOMES, Run, RunStatus, Step

# The status of a run, and the step that it is owed.
State = tuple[RunStatus, Step]

_Q_CREATE, _Q_POLL = (RunStatus.QUEUED, Step.CREATE), (RunStatus.QUEUED, Step.POLL)
_P_CREATE, _P_POLL = (RunStatus.IN_PROGRESS, Step.CREATE), (RunStatus.IN_PROGRESS, Step.POLL)
_P_TOOLS, _ANSWER = (RunStatus.IN_PROGRESS, Step.TOOLS), (RunStatus.REQUIRES_ACTION, Step.ANSWER)
_Q_GENERATE, _P_GENERATE, _C_GENERATE = (
    (status, Step.GENERATE) for status in (RunStatus.QUEUED, RunStatus.IN_PROGRESS, RunStatus.CANCELLING)
)
_C_CREATE, _C_POLL = (RunStatus.CANCELLING, Step.CREATE), (RunStatus.CANCELLING, Step.POLL)
_C_TOOLS, _C_CANCEL = (RunStatus.CANCELLING, Step.TOOLS), (RunStatus.CANCELLING, Step.CANCEL)
_COMPLETED, _FAILED, _CANCELLED, _INCOMPLETE, _EXPIRED = (
    (status, Step.NOTHING)
    for status in (
        RunStatus.COMPLETED,
        RunStatus.FAILED,
        RunStatus.CANCELLED,
        RunStatus.INCOMPLETE,
        RunStatus.EXPIRED,
    )
)
_PURGE, _PURGED = (RunStatus.DELETED, Step.PURGE), (RunStatus.DELETED, Step.NOTHING)

# The clock of such a run goes on.
_RUNNING = (
    _Q_CREATE, _Q_POLL, _P_CREATE, _P_POLL, _P_TOOLS, _C_CREATE, _C_POLL, _C_TOOLS, _C_CANCEL,
    _Q_GENERATE, _P_GENERATE, _C_GENERATE,
)  # fmt: skip
_PENDING = (*_RUNNING, _ANSWER)
_ENDED = (_COMPLETED, _FAILED, _CANCELLED, _INCOMPLETE, _EXPIRED)
_ANSWERS = {_COMPLETED, _FAILED, _CANCELLED, _INCOMPLETE}

MOVES: Mapping[type[Event], Mapping[State, set[State]]] = {
    events.Claimed: {
        _Q_CREATE: {_Q_CREATE},
        _P_CREATE: {_P_CREATE},
        _Q_GENERATE: {_P_GENERATE},
        _P_GENERATE: {_P_GENERATE, _FAILED},
        _C_GENERATE: {_CANCELLED},
        _P_TOOLS: {_P_TOOLS, _P_CREATE, _P_GENERATE, _ANSWER, _COMPLETED},
        _C_CREATE: {_CANCELLED},
        _C_TOOLS: {_CANCELLED},
        _C_CANCEL: {_C_CANCEL},
        _PURGE: {_PURGE},
    },
    events.Renewed: {
        state: {state} for state in (*_RUNNING, _PURGE) if state not in {_Q_GENERATE, _C_GENERATE}
    },
    events.Created: {state: {state} for state in (*_PENDING, *_ENDED) if state[1] is not Step.GENERATE}
    | {
        _Q_CREATE: {_Q_CREATE, _Q_POLL, _P_POLL},
        _P_CREATE: {_P_CREATE, _P_POLL},
        _C_CREATE: {_C_CREATE, _C_CANCEL},
        _PURGE: {_PURGE},
        _PURGED: {_PURGE},
    },
    events.CreateRefused: {_Q_CREATE: {_FAILED}, _P_CREATE: {_FAILED}, _C_CREATE: {_CANCELLED}},
    events.CreateDeferred: {
        _Q_CREATE: {_Q_CREATE, _FAILED},
        _P_CREATE: {_P_CREATE, _FAILED},
        _C_CREATE: {_CANCELLED},
    },
    events.ChainRefused: {_Q_CREATE: {_Q_CREATE}, _P_CREATE: {_P_CREATE}, _C_CREATE: {_CANCELLED}},
    events.KeyRefused: {_Q_CREATE: {_Q_CREATE}, _P_CREATE: {_P_CREATE}, _C_CREATE: {_CANCELLED}},
    events.Polled: {
        _Q_POLL: _ANSWERS | {_Q_POLL, _P_POLL, _P_TOOLS, _EXPIRED},
        _P_POLL: _ANSWERS | {_P_POLL, _P_TOOLS, _EXPIRED},
        _C_POLL: _ANSWERS | {_C_POLL, _C_CANCEL},
        _C_CANCEL: _ANSWERS,
    },
    events.Sliced: {_Q_POLL: {_Q_POLL, _P_POLL}, _P_POLL: {_P_POLL}},
    events.StreamLost: {_Q_POLL: {_Q_POLL}, _P_POLL: {_P_POLL}},
    events.PollDeferred: {state: {state} for state in (_Q_POLL, _P_POLL, _C_POLL)},
    events.PollClaimed: {state: {state} for state in (_Q_POLL, _P_POLL, _C_POLL)},
    events.Missing: {
        _Q_POLL: {_Q_POLL, _FAILED},
        _P_POLL: {_P_POLL, _FAILED},
        _C_POLL: {_C_POLL, _CANCELLED},
        _C_CANCEL: {_C_POLL, _CANCELLED},
    },
    events.Generated: {_P_GENERATE: {_P_GENERATE, _EXPIRED}, _C_GENERATE: {_CANCELLED}},
    events.GenerateDeferred: {_P_GENERATE: {_P_GENERATE}, _C_GENERATE: {_CANCELLED}},
    events.GenerateRefused: {_P_GENERATE: {_FAILED}, _C_GENERATE: {_CANCELLED}},
    events.GenerateFinished: {
        _P_GENERATE: {_COMPLETED, _FAILED, _INCOMPLETE, _EXPIRED, _P_TOOLS},
        _C_GENERATE: {_COMPLETED, _FAILED, _INCOMPLETE, _CANCELLED},
    },
    events.ToolDone: {
        _P_TOOLS: {_P_TOOLS, _P_CREATE, _P_GENERATE, _ANSWER, _COMPLETED},
        _C_TOOLS: {_C_TOOLS, _CANCELLED},
    },
    events.Answered: {_P_TOOLS: {_P_TOOLS}, _ANSWER: {_ANSWER, _P_TOOLS, _P_CREATE, _P_GENERATE, _COMPLETED}},
    events.WaitEnded: {_P_TOOLS: {_P_TOOLS}, _ANSWER: {_ANSWER, _P_CREATE, _P_GENERATE, _COMPLETED}},
    events.CancelRequested: {
        _Q_CREATE: {_C_CREATE, _CANCELLED},
        _Q_POLL: {_C_CANCEL},
        _P_CREATE: {_C_CREATE, _CANCELLED},
        _P_POLL: {_C_CANCEL},
        _P_TOOLS: {_C_TOOLS, _CANCELLED},
        _Q_GENERATE: {_CANCELLED},
        _P_GENERATE: {_C_GENERATE, _CANCELLED},
        _ANSWER: {_CANCELLED},
    },
    events.CancelSent: {_C_CANCEL: {_C_POLL}},
    events.CancelDeferred: {_C_CANCEL: {_C_CANCEL}},
    events.DeadlinePassed: {state: {_EXPIRED} for state in _RUNNING},
    events.DeleteRequested: {state: {_PURGE} for state in (*_PENDING, *_ENDED)},
    events.PurgeDeferred: {_PURGE: {_PURGE}},
    events.Purged: {_PURGE: {_PURGED}},
}


def advance(run: Run, event: Event, now: datetime) -> Result:
    """Return the run after `event`, and the effects.

    Every change is counted in `rev`, except for a renewed lease, which is no news for clients.
    Returns the same run object when the event changes nothing.
    Raises IllegalTransition for an event that cannot happen.
    """
    after, effects = _RULES[type(event)](run, event, now)
    if after is run:
        return run, effects
    if (after.status, after.step) not in MOVES[type(event)].get((run.status, run.step), ()):
        raise IllegalTransition(run, event)
    if isinstance(event, events.Renewed):
        return after, effects
    if run.status is RunStatus.QUEUED and after.status is RunStatus.IN_PROGRESS:
        effects = (RunInProgress(), *effects)
    if after.status in OUTCOMES and not run.terminal:
        after, closing = last_entries(run, after)
        effects += closing
    entries = [effect for effect in effects if not isinstance(effect, Wake | Deliver)]
    return (
        replace(
            after,
            rev=run.rev + 1,
            entries=run.entries + len(entries),
            stream_events=run.stream_events + sum(entry.stream_events for entry in entries),
            updated_at=now,
        ),
        effects,
    )


# `Any`, because a Mapping cannot give each key a rule for its own type of event.
_RULES: Mapping[type[Event], Callable[[Run, Any, datetime], Result]] = {
    events.Claimed: claimed,
    events.Renewed: renewed,
    events.Created: created,
    events.CreateRefused: create_refused,
    events.CreateDeferred: create_deferred,
    events.ChainRefused: chain_refused,
    events.KeyRefused: key_refused,
    events.Polled: polled,
    events.Sliced: sliced,
    events.StreamLost: stream_lost,
    events.PollDeferred: poll_deferred,
    events.PollClaimed: poll_claimed,
    events.Missing: missing,
    events.Generated: generated,
    events.GenerateDeferred: generate_deferred,
    events.GenerateRefused: generate_refused,
    events.GenerateFinished: generate_finished,
    events.ToolDone: tool_done,
    events.Answered: answered,
    events.WaitEnded: wait_ended,
    events.CancelRequested: cancel_requested,
    events.CancelSent: cancel_sent,
    events.CancelDeferred: cancel_deferred,
    events.DeadlinePassed: deadline_passed,
    events.DeleteRequested: delete_requested,
    events.PurgeDeferred: purge_deferred,
    events.Purged: purged,
}
