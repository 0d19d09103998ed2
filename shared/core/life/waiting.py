"""Calls that wait for a person, or for the caller. A run of which all open calls wait is owed an answer, and its clock stands still."""

from dataclasses import replace
from datetime import datetime

from shared.core import log
from shared.core.calls import AnswerType, CallerCalls, CallKind, CallStatus, ToolCall, Wait, WaitKind
from shared.core.life import events
from shared.core.life.events import Effect, Wake
from shared.core.life.rule import Result, end, resumed
from shared.core.run import Run, RunStatus, Step

_CLOSED: dict[AnswerType, CallStatus] = {
    AnswerType.REFUSED: CallStatus.REFUSED,
    AnswerType.OUTPUT: CallStatus.COMPLETED,
    AnswerType.ERROR: CallStatus.FAILED,
    AnswerType.TIMED_OUT: CallStatus.TIMED_OUT,
}


def let_wait(run: Run, call: ToolCall, wait: Wait) -> tuple[ToolCall, tuple[Effect, ...]]:
    """Return a queued call as it waits. One that the caller runs after the end of the run does not wait."""
    if wait.kind is WaitKind.OUTPUT and run.caller_calls is CallerCalls.END:
        return replace(call, status=CallStatus.HANDED_OVER), ()
    entry = log.CallWaiting(call.turn, call.call_id, call.name, wait.kind.value, wait.expires_at)
    return replace(call, status=CallStatus.WAITING, wait=wait), (entry,)


def completed(call: ToolCall, status: CallStatus) -> log.ToolCompleted:
    return log.ToolCompleted(call.turn, call.call_id, call.name, status.value)


def after_calls(run: Run, now: datetime) -> Result:
    """Return what follows when calls of the turn were started, ended or answered. The next turn begins under the same lease, if there is one."""
    statuses = {call.status for call in run.calls_of_turn()}
    if CallStatus.IN_PROGRESS in statuses:
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    if CallStatus.QUEUED in statuses:
        # Calls that were approved. Whoever takes the step loads their arguments before the calls are marked as started.
        return _going_on(run, Step.TOOLS, now)
    if CallStatus.WAITING in statuses:
        return _paused(run, now)
    if CallStatus.HANDED_OVER in statuses:
        return end(run, RunStatus.COMPLETED, now), ()
    following = replace(run, turn=run.turn + 1)
    if run.generates:
        # Its worker does not hold the stream of the next turn: that is for the workers of another queue.
        return _going_on(following, Step.GENERATE, now)
    if run.lease is None:
        return _going_on(following, Step.CREATE, now)
    return replace(following, step=Step.CREATE), ()


def _going_on(run: Run, step: Step, now: datetime) -> Result:
    """Return the run as any worker may take it further."""
    free = replace(resumed(run, now), status=RunStatus.IN_PROGRESS, step=step, lease=None)
    return replace(free, due=min(run.due, now) if run.step is step and run.lease is None else now), (Wake(),)


def _paused(run: Run, now: datetime) -> Result:
    """Return the run as only people can move it."""
    if run.status is RunStatus.REQUIRES_ACTION:
        return run, ()
    paused = replace(
        run, status=RunStatus.REQUIRES_ACTION, step=Step.ANSWER, lease=None, waiting=None, paused_at=now
    )
    return paused, (log.RunRequiresAction(),)


def answered(run: Run, event: events.Answered, now: datetime) -> Result:
    """Close a call that waits, or let it run. An answer counts once, while its call waits and has not timed out."""
    if run.turn != event.turn:
        return run, ()
    for call, wait in run.waits:
        if call.call_id == event.call_id and now < wait.expires_at:
            entry = log.CallAnswered(
                call.turn,
                call.call_id,
                call.name,
                event.answer.value,
                by=event.by,
                by_name=event.by_name,
                reason=event.reason,
            )
            closed, effects = _answered(call, wait, event.answer, now)
            after, following = after_calls(_with(run, {call.call_id: closed}), now)
            return after, (entry, *effects, *following)
    return run, ()


def wait_ended(run: Run, _event: events.WaitEnded, now: datetime) -> Result:
    """Close the calls that nobody has answered in time. The model is told so, and the run goes on."""
    late, effects = dict[str, ToolCall](), list[Effect]()
    for call, wait in run.waits:
        if now >= wait.expires_at:
            effects.append(log.CallAnswered(call.turn, call.call_id, call.name, AnswerType.TIMED_OUT.value))
            late[call.call_id], closing = _answered(call, wait, AnswerType.TIMED_OUT, now)
            effects += closing
    if not late:
        return run, ()
    after, following = after_calls(_with(run, late), now)
    return after, (*effects, *following)


def _answered(
    call: ToolCall, wait: Wait, answer: AnswerType, now: datetime
) -> tuple[ToolCall, tuple[Effect, ...]]:
    """Return a call with its answer. An approved one is owed to a worker, or to the provider, which runs it."""
    hosted = call.kind is CallKind.MCP_APPROVAL
    if answer is AnswerType.APPROVED:
        approved = replace(call, wait=replace(wait, approved=True))
        if hosted:
            return replace(approved, status=CallStatus.COMPLETED, completed_at=now), ()
        return replace(approved, status=CallStatus.QUEUED), ()
    status = _CLOSED[answer]
    return replace(call, status=status, completed_at=now), () if hosted else (completed(call, status),)


def _with(run: Run, changed: dict[str, ToolCall]) -> Run:
    """Return the run with changed calls of its turn, by call id."""
    calls = (changed.get(call.call_id, call) if call.turn == run.turn else call for call in run.calls)
    return replace(run, calls=tuple(calls))
