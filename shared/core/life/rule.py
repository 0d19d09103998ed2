"""Functions that several rules use."""

from dataclasses import replace
from datetime import datetime

from shared.core.calls import CallStatus, ToolCall
from shared.core.life.events import Effect, Event
from shared.core.response import RunError
from shared.core.run import Run, RunStatus, Step

Result = tuple[Run, tuple[Effect, ...]]


class IllegalTransition(Exception):
    """The event cannot happen to a run in this state."""

    def __init__(self, run: Run, event: Event) -> None:
        super().__init__(
            f"{type(event).__name__} cannot happen to a run that is {run.status} and owed {run.step}"
        )


def claimable(run: Run, now: datetime) -> bool:
    """Return whether a worker may take the step that the run is owed now."""
    return run.step.worked_on and now >= run.due


def holds(run: Run, lease_id: str, step: Step) -> bool:
    """Return whether this lease is the one under which the run's `step` is taken."""
    return run.step is step and run.lease is not None and run.lease.id == lease_id


def counted(run: Run) -> Run:
    """Count a create whose worker has not reported its outcome."""
    if run.step is Step.CREATE and run.lease is not None:
        return replace(run, unknown_creates=run.unknown_creates + 1)
    return run


def end(
    run: Run, status: RunStatus, now: datetime, *, error: RunError | None = None, reason: str | None = None
) -> Run:
    """Return the run with its outcome. It is owed nothing, and all of its calls are closed."""
    return replace(
        run,
        status=status,
        step=Step.NOTHING,
        continuation=None,
        lease=None,
        missing_since=None,
        completed_at=now,
        calls=tuple(_close_call(call, now) for call in run.calls),
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
