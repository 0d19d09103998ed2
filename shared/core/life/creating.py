"""The create phase: a turn gets its response, or the run ends without one."""

from dataclasses import replace
from datetime import datetime

from shared.core import log
from shared.core.delivery import CancelResponse
from shared.core.life import events
from shared.core.life.events import Deliver, Wake
from shared.core.life.rule import Result, end, holds
from shared.core.response import (
    ChainBroken,
    CreateReply,
    NotNow,
    Refused,
    ResponseStatus,
    RunError,
    Snapshot,
)
from shared.core.run import Chaining, Continuation, Run, RunStatus, Step


def verdict(run: Run, reply: CreateReply) -> CreateReply:
    """Return a provider's reply to a create, corrected by what is known of this run."""
    match reply:
        case Snapshot(response_id=response_id) if response_id in run.responses:
            return NotNow("the provider answered with an earlier response of this run", unknown=True)
        case ChainBroken(reason) if run.chaining is Chaining.REPLAY:
            return Refused(RunError("provider_rejected", reason))
        case Refused(RunError(code="provider_denied", message=message)) if run.turn > 1:
            # The provider accepted the key in an earlier turn: the key is being changed.
            return NotNow(message)
    return reply


def created(run: Run, event: events.Created, now: datetime) -> Result:
    snapshot = event.snapshot
    if not holds(run, event.lease_id, Step.CREATE):
        return _abandon(run, snapshot.response_id, now)
    adopted = replace(
        run,
        lease=None,
        continuation=Continuation(snapshot.response_id, snapshot.sequence),
        written=0,
        turn_items=0,
        activity="",
        responses=(*run.responses, snapshot.response_id),
        turn_started_at=now,
        started_at=run.started_at or now,
    )
    started = log.TurnStarted(run.turn, snapshot.response_id)
    if run.status is RunStatus.CANCELLING:
        return replace(adopted, step=Step.CANCEL, due=now), (started, Wake())
    # A response that has already finished is polled once too, so that every turn ends by a poll.
    queued = run.status is RunStatus.QUEUED and snapshot.status is ResponseStatus.QUEUED
    status = RunStatus.QUEUED if queued else RunStatus.IN_PROGRESS
    return replace(adopted, step=Step.POLL, status=status, due=now), (started,)


def _abandon(run: Run, response_id: str, now: datetime) -> Result:
    """Note an abandoned response. It has to be stopped now, and deleted together with the run."""
    if response_id in run.responses or response_id in run.abandoned:
        return run, ()
    noted = replace(run, abandoned=(*run.abandoned, response_id))
    if run.status is RunStatus.DELETED:
        # The purge stops the response before it deletes it at the provider.
        return replace(noted, step=Step.PURGE, lease=None, due=now), (Wake(),)
    return noted, (Deliver(CancelResponse(run.provider, response_id)),)


def create_refused(run: Run, event: events.CreateRefused, now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.CREATE):
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    return end(run, RunStatus.FAILED, now, error=event.error), ()


def create_deferred(run: Run, event: events.CreateDeferred, now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.CREATE):
        return run, ()
    deferred = replace(run, unknown_creates=run.unknown_creates + event.unknown)
    if run.status is RunStatus.CANCELLING:
        return end(deferred, RunStatus.CANCELLED, now), ()
    return replace(deferred, lease=None, due=event.until), ()


def chain_refused(run: Run, event: events.ChainRefused, now: datetime) -> Result:
    if not holds(run, event.lease.id, Step.CREATE):
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    replayed = replace(run, chaining=Chaining.REPLAY, lease=event.lease, due=event.lease.expires_at)
    return replayed, (log.TurnReplayed(run.turn),)
