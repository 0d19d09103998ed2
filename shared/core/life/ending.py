"""How a run ends: cancelled, expired, deleted."""

from dataclasses import replace
from datetime import datetime

from shared.core.life import events
from shared.core.life.events import Record
from shared.core.life.rule import IllegalTransition, Result, counted, end, holds
from shared.core.run import Content, Run, RunStatus, Step


def text_taken_back(run: Run, after: Run) -> tuple[Record, ...]:
    """Say that a turn which ends without a response leaves the text as the turn before it had it."""
    unfinished = run.token is not None and after.turns == run.turns
    if unfinished and (run.written or run.turns):
        return (Record("text.replaced", {"turn": len(run.turns)}),)
    return ()


def cancel_asked(run: Run, event: events.CancelAsked, now: datetime) -> Result:
    if run.terminal or run.status is RunStatus.CANCELLING:
        return run, ()
    record = Record("run.cancelling")
    cancelling = replace(run, status=RunStatus.CANCELLING)
    if run.step is Step.POLL:
        return replace(cancelling, step=Step.CANCEL, lease=event.lease, due=event.lease.expires_at), (record,)
    if run.lease and now < run.lease.expires_at:
        # Whoever holds the lease sees the word when it saves what it did.
        return cancelling, (record,)
    return end(counted(cancelling), RunStatus.CANCELLED, now), ()


def cancel_sent(run: Run, event: events.CancelSent, now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.CANCEL) or run.status is not RunStatus.CANCELLING:
        return run, ()
    return replace(run, step=Step.POLL, lease=None, due=now), ()


def cancel_deferred(run: Run, event: events.CancelDeferred, _now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.CANCEL):
        return run, ()
    return replace(run, lease=None, due=event.until), ()


def deadline_passed(run: Run, event: events.DeadlinePassed, now: datetime) -> Result:
    if run.terminal:
        return run, ()
    if now < run.expires_at:
        raise IllegalTransition(run, event)
    spent = replace(counted(run), usage=run.usage + event.usage)
    return end(spent, RunStatus.EXPIRED, now), ()


def delete_asked(run: Run, event: events.DeleteAsked, now: datetime) -> Result:
    if run.status is RunStatus.DELETED:
        return run, ()
    tombstone = replace(
        end(counted(run), RunStatus.DELETED, now),
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


def purged(run: Run, event: events.Purged, _now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.CANCEL) or run.status is not RunStatus.DELETED:
        return run, ()
    return replace(run, step=Step.NOTHING, lease=None, token=None, responses=(), abandoned=()), ()
