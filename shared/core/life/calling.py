"""The tools phase: tool calls are queued, started at most once, and completed."""

import json
from dataclasses import replace
from datetime import datetime

from shared.core import log
from shared.core.calls import CallStatus, ToolCall
from shared.core.life import events
from shared.core.life.events import Effect, Wake
from shared.core.life.leasing import prolonged
from shared.core.life.rule import Result, end, expire, holds
from shared.core.life.waiting import after_calls, completed, let_wait
from shared.core.response import RunError, Snapshot
from shared.core.run import Run, RunStatus, Step

# The row of a run has space for this many tool calls.
MAX_CALLS_PER_RUN = 256
# Of their ids together, as `id_bytes` counts them.
MAX_CALL_ID_BYTES = 24 * 1024


def claim_tools(run: Run, event: events.Claimed, now: datetime) -> Result:
    """Mark the calls as started before any of them runs, so that each runs at most once. Those that need an answer wait.

    A call that was approved since the worker has loaded the queued calls is left to whoever loads it with the arguments that
    were approved.
    """
    loaded = event.calls
    calls: list[ToolCall] = []
    effects: list[Effect] = []
    for call in run.calls:
        match call.status:
            case CallStatus.QUEUED if run.status is RunStatus.CANCELLING or call.call_id not in loaded:
                calls.append(call)
            case CallStatus.QUEUED if call.wait and loaded[call.call_id] != call.wait:
                calls.append(call)
            case CallStatus.QUEUED if (wait := loaded[call.call_id]) and call.wait is None:
                waiting, entries = let_wait(run, call, wait)
                effects += entries
                calls.append(waiting)
            case CallStatus.QUEUED:
                effects.append(log.ToolStarted(call.turn, call.call_id, call.name))
                cleared = call.call_id not in event.unclear
                calls.append(replace(call, status=CallStatus.IN_PROGRESS, started_at=now, cleared=cleared))
            case CallStatus.IN_PROGRESS if not call.idempotent or run.status is RunStatus.CANCELLING:
                effects.append(completed(call, CallStatus.UNKNOWN))
                calls.append(replace(call, status=CallStatus.UNKNOWN, completed_at=now))
            case _:
                calls.append(call)
    after, following = after_calls(replace(run, calls=tuple(calls)), now)
    return after, (*effects, *following)


def queue_calls(run: Run, snapshot: Snapshot, repeatable: frozenset[str], now: datetime) -> Result:
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    if now >= run.expires_at:
        return expire(run, now), ()
    if run.turn >= run.max_turns:
        return end(run, RunStatus.INCOMPLETE, now, reason="max_turns"), ()
    ids = sum(id_bytes(call.call_id) for call in (*run.calls, *snapshot.calls))
    if len(run.calls) + len(snapshot.calls) > MAX_CALLS_PER_RUN or ids > MAX_CALL_ID_BYTES:
        error = RunError(
            "too_many_tool_calls",
            f"The model requested more than {MAX_CALLS_PER_RUN} tool calls in one run, or their ids are too long.",
        )
        return end(run, RunStatus.FAILED, now, error=error), ()
    requested = tuple(_queue_call(run, call, repeatable) for call in snapshot.calls)
    queued = replace(
        run,
        status=RunStatus.IN_PROGRESS,
        step=Step.TOOLS,
        lease=None,
        due=now,
        missing_since=None,
        waiting=None,
        calls=run.calls + requested,
        previous_response_id=snapshot.response_id,
    )
    tokens = snapshot.usage.total_tokens if snapshot.usage else None
    return queued, (log.TurnCompleted(run.turn, len(requested), tokens), Wake())


def id_bytes(call_id: str) -> int:
    """Return how much space an id takes in a row, which holds it as JSON: six bytes for a control character."""
    return len(json.dumps(call_id, ensure_ascii=False).encode()) - len('""')


def _queue_call(run: Run, call: ToolCall, repeatable: frozenset[str]) -> ToolCall:
    return replace(call, arguments="", turn=run.turn, idempotent=call.name in repeatable)


def tool_done(run: Run, event: events.ToolDone, now: datetime) -> Result:
    if not holds(run, event.lease.id, Step.TOOLS):
        return run, ()
    calls, effects = list[ToolCall](), list[Effect]()
    for call in run.calls_of_turn():
        if call.call_id == event.call_id and call.status is CallStatus.IN_PROGRESS:
            calls.append(replace(call, status=event.status, completed_at=now))
            effects.append(completed(call, event.status))
        else:
            calls.append(call)
    if not effects:
        return run, ()
    earlier = tuple(call for call in run.calls if call.turn != run.turn)
    checkpointed = replace(run, calls=earlier + tuple(calls))
    after, following = after_calls(checkpointed, now)
    if after.step is Step.CREATE:
        after = prolonged(after, event.lease)
    return after, (*effects, *following)
