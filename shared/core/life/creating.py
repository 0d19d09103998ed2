"""The create phase: a turn gets its response, or the run ends without one."""

from dataclasses import replace
from datetime import datetime

from shared.core import log
from shared.core.delivery import CancelResponse
from shared.core.life import events
from shared.core.life.events import Deliver, Wake
from shared.core.life.leasing import prolonged
from shared.core.life.rule import Result, end, holds, wait
from shared.core.response import (
    ChainBroken,
    CreateReply,
    KeyRefused,
    NotNow,
    Refused,
    ResponseStatus,
    RunError,
    Snapshot,
    background_unsupported,
    unreadable,
)
from shared.core.run import Chaining, Continuation, Run, RunStatus, Step

# After so many creates of a turn that the provider reported as successes and that cannot be used, the run fails.
MAX_UNUSABLE_CREATES = 3
# After so many creates of a turn to which there was no reply in time, the provider counts as one without background mode.
MAX_TIMED_OUT_CREATES = 2
# How long the ids of a run's responses may be together. A property of its row has space for them.
MAX_ID_BYTES = 40 * 1024

_TOO_SLOW = background_unsupported(
    f"The provider did not name the response within the time limit, {MAX_TIMED_OUT_CREATES} times."
)


def verdict(run: Run, reply: CreateReply) -> CreateReply:
    """Return a provider's reply to a create, corrected by what is known of this run."""
    match reply:
        case Snapshot(run_id=str(other)) if other != run.id:
            return _unusable("the response belongs to another run")
        case Snapshot(response_id=response_id) if response_id in run.responses:
            return _unusable("it is an earlier response of this run")
        case Snapshot(response_id=response_id) if _bytes((*run.responses, response_id)) > MAX_ID_BYTES:
            message = f"The ids of the run's responses have more than {MAX_ID_BYTES} bytes together."
            return Refused(RunError("provider_unusable", message))
        case ChainBroken(error) if run.chaining is Chaining.REPLAY:
            return Refused(error)
        case KeyRefused(reason) if run.keyless:
            return Refused(RunError("provider_rejected", reason))
        case NotNow(timed_out=True) if run.responses and not run.background_ignored:
            # The provider had background mode in an earlier turn.
            return replace(reply, timed_out=False)
        case Refused(RunError(code="provider_denied") as error) if run.turn > 1:
            # The provider accepted the key in an earlier turn: the key is being changed.
            return NotNow(error)
    return reply


def _unusable(reason: str) -> NotNow:
    return NotNow(unreadable(reason), unknown=True, unusable=True)


def _bytes(ids: tuple[str, ...]) -> int:
    return sum(len(each.encode()) for each in ids)


def created(run: Run, event: events.Created, now: datetime) -> Result:
    snapshot = event.snapshot
    if run.step is Step.GENERATE:
        # Its provider creates no responses.
        return run, ()
    if not holds(run, event.lease_id, Step.CREATE):
        return _abandon(run, snapshot.response_id, now)
    adopted = replace(
        run,
        lease=None,
        continuation=Continuation(snapshot.response_id, snapshot.sequence),
        written=0,
        commented=0,
        unusable_creates=0,
        timed_out_creates=0,
        repeats=0,
        kept=event.kept,
        # An earlier create of this turn may have begun it, so that it had the time to finish.
        background_ignored=run.background_ignored or bool(event.kept and not run.unknown_creates),
        waiting=None,
        turn_items=0,
        activity="",
        responses=(*run.responses, snapshot.response_id),
        turn_started_at=now,
        started_at=run.started_at or now,
    )
    started = log.TurnStarted(run.turn, snapshot.response_id, event.model)
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
    abandoned = (*run.abandoned, response_id)
    while _bytes(abandoned) > MAX_ID_BYTES:
        abandoned = abandoned[1:]
    noted = replace(run, abandoned=abandoned)
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
    counted = replace(
        run,
        unknown_creates=run.unknown_creates + event.unknown,
        unusable_creates=run.unusable_creates + event.unusable,
        timed_out_creates=run.timed_out_creates + event.timed_out,
    )
    if run.status is RunStatus.CANCELLING:
        return end(counted, RunStatus.CANCELLED, now), ()
    if counted.unusable_creates >= MAX_UNUSABLE_CREATES:
        # Another create would probably be paid for, and not be usable either.
        message = f"The provider reported success {MAX_UNUSABLE_CREATES} times: {event.error.message}"
        return end(counted, RunStatus.FAILED, now, error=RunError("provider_unusable", message)), ()
    if counted.timed_out_creates >= MAX_TIMED_OUT_CREATES:
        return end(counted, RunStatus.FAILED, now, error=_TOO_SLOW), ()
    deferred, entries = wait(counted, event.error, now)
    return replace(deferred, lease=None, due=event.until), entries


def chain_refused(run: Run, event: events.ChainRefused, now: datetime) -> Result:
    if not holds(run, event.lease.id, Step.CREATE):
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    replayed = replace(run, chaining=Chaining.REPLAY, repeats=run.repeats + 1)
    return prolonged(replayed, event.lease), (log.TurnReplayed(run.turn),)


def key_refused(run: Run, event: events.KeyRefused, now: datetime) -> Result:
    if not holds(run, event.lease.id, Step.CREATE):
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    return prolonged(replace(run, keyless=True), event.lease), ()
