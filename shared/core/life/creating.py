"""The create phase: a turn gets its response, or the run ends without one."""

from dataclasses import replace
from datetime import datetime

from shared.core.life import events
from shared.core.life.events import Abandon, Record, Wake
from shared.core.life.rule import Result, end, holds
from shared.core.response import ResponseStatus
from shared.core.run import Chaining, Run, RunStatus, Step


def created(run: Run, event: events.Created, now: datetime) -> Result:
    snapshot = event.snapshot
    if not holds(run, event.lease_id, Step.CREATE):
        return came_too_late(run, snapshot.response_id, now)
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


def came_too_late(run: Run, response_id: str, now: datetime) -> Result:
    """Note a response that nobody will adopt, so that it is stopped, and forgotten with the run."""
    if response_id in run.responses or response_id in run.abandoned:
        return run, ()
    noted = replace(run, abandoned=(*run.abandoned, response_id))
    if run.status is RunStatus.DELETED:
        return replace(noted, step=Step.CANCEL, lease=None, due=now), (Abandon(response_id), Wake())
    return noted, (Abandon(response_id),)


def create_refused(run: Run, event: events.CreateRefused, now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.CREATE):
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    return end(run, RunStatus.FAILED, now, error=event.error), ()


def create_deferred(run: Run, event: events.CreateDeferred, now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.CREATE):
        return run, ()
    counted = replace(run, unknown_creates=run.unknown_creates + event.unknown)
    if run.status is RunStatus.CANCELLING:
        return end(counted, RunStatus.CANCELLED, now), ()
    return replace(counted, lease=None, due=event.until), ()


def chain_refused(run: Run, event: events.ChainRefused, now: datetime) -> Result:
    if not holds(run, event.lease.id, Step.CREATE):
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    replayed = replace(run, chaining=Chaining.REPLAY, lease=event.lease, due=event.lease.expires_at)
    return replayed, (Record("turn.replayed", {"turn": run.turn}),)
