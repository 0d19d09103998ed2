"""Functions that several rules use."""

from dataclasses import replace
from datetime import datetime, timedelta

from shared.core.calls import CallStatus, ToolCall
from shared.core.life.events import Effect, Event
from shared.core.log import RunWaiting
from shared.core.response import RunError
from shared.core.run import Run, RunStatus, Step, Waiting

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


def wait(run: Run, error: RunError, now: datetime) -> Result:
    """Note why the owed step is tried again. It is logged when the reason has changed."""
    before = run.waiting
    waiting = Waiting(error, before.since, before.attempts + 1) if before else Waiting(error, now)
    same = before is not None and before.error.code == error.code
    entry = RunWaiting(error.code, error.message, error.provider_code or "")
    return replace(run, waiting=waiting), () if same else (entry,)


def end(
    run: Run, status: RunStatus, now: datetime, *, error: RunError | None = None, reason: str | None = None
) -> Run:
    """Return the run with its outcome. It is owed nothing, and all of its calls are closed."""
    return replace(
        resumed(run, now),
        status=status,
        step=Step.NOTHING,
        continuation=None,
        lease=None,
        missing_since=None,
        waiting=None,
        completed_at=now,
        calls=tuple(_close_call(call, status, now) for call in run.calls),
        error=error,
        incomplete_reason=reason,
    )


def resumed(run: Run, now: datetime) -> Run:
    """Let the clock of a run go on. While it stood still, the deadline came no nearer."""
    if run.paused_at is None:
        return run
    # By the clock of another host, it may have gone on before it stopped. A row holds no negative time.
    pause = max(now - run.paused_at, timedelta())
    return replace(run, paused_at=None, paused=run.paused + pause, expires_at=run.expires_at + pause)


def expire(run: Run, now: datetime) -> Run:
    """Return the run, expired. Its error says what it waited for."""
    if run.waiting is None:
        error = RunError("expired", "The deadline passed before the run was finished.")
    else:
        reason = run.waiting.error
        message = f"The deadline passed while the run waited: {reason.message}"
        error = RunError("expired", message, reason.provider_code)
    return end(run, RunStatus.EXPIRED, now, error=error)


def _close_call(call: ToolCall, status: RunStatus, now: datetime) -> ToolCall:
    match call.status:
        case CallStatus.QUEUED | CallStatus.WAITING:
            return replace(call, status=CallStatus.CANCELLED)
        case CallStatus.HANDED_OVER if status is not RunStatus.COMPLETED:
            # Nobody will ask for its output, so the caller must not carry it out.
            return replace(call, status=CallStatus.CANCELLED)
        case CallStatus.IN_PROGRESS:
            return replace(call, status=CallStatus.UNKNOWN, completed_at=now)
    return call
