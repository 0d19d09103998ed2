"""How a run ends without its answer: cancelled, expired, deleted."""

from dataclasses import replace
from datetime import datetime

from shared.core.life import events
from shared.core.life.items import ItemLog
from shared.core.life.rule import Result, counted, end, expire, holds, wait
from shared.core.log import LogEntry, RunCancelling, RunEnded, TextReplaced
from shared.core.run import Content, Run, RunStatus, Step


def last_entries(run: Run, after: Run) -> tuple[Run, tuple[LogEntry, ...]]:
    """Return the run, which has just got its outcome, and the log entries that end its log.

    When the current turn ends without a finished response, its text is not part of the outcome. The text is
    replaced by that of the turn before.
    """
    items = ItemLog.of(after)
    items.close()
    begun = run.continuation is not None or run.step is Step.GENERATE
    unfinished = begun and after.turns == run.turns
    if unfinished and (run.written or run.turns):
        items.entries.append(TextReplaced(len(run.turns)))
    return items.into(after), (*items.entries, RunEnded(after.status.value))


def cancel_requested(run: Run, event: events.CancelRequested, now: datetime) -> Result:
    if run.terminal or run.status is RunStatus.CANCELLING:
        return run, ()
    entry = RunCancelling()
    cancelling = replace(run, status=RunStatus.CANCELLING, waiting=None)
    if run.step is Step.POLL:
        return replace(cancelling, step=Step.CANCEL, lease=event.lease, due=event.lease.expires_at), (entry,)
    if run.lease and now < run.lease.expires_at:
        # The worker that has the lease finds the new status when it saves its result.
        return cancelling, (entry,)
    return end(counted(cancelling), RunStatus.CANCELLED, now), ()


def cancel_sent(run: Run, event: events.CancelSent, now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.CANCEL):
        return run, ()
    return replace(run, step=Step.POLL, waiting=None, lease=None, due=now), ()


def cancel_deferred(run: Run, event: events.CancelDeferred, now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.CANCEL):
        return run, ()
    deferred, entries = wait(run, event.error, now)
    return replace(deferred, lease=None, due=event.until), entries


def deadline_passed(run: Run, event: events.DeadlinePassed, now: datetime) -> Result:
    if run.terminal or run.paused_at or now < run.expires_at:
        # Its clock stands still, or it stood still since the deadline was read.
        return run, ()
    if run.continuation and run.continuation.response_id != event.response_id:
        # The response was created meanwhile. The next tick reads it and cancels it.
        return run, ()
    charged = replace(counted(run), usage=run.usage + event.usage)
    return expire(charged, now), ()


def delete_requested(run: Run, event: events.DeleteRequested, now: datetime) -> Result:
    if run.status is RunStatus.DELETED:
        return run, ()
    tombstone = replace(
        end(counted(run), RunStatus.DELETED, now),
        continuation=run.continuation,
        step=Step.PURGE,
        lease=event.lease,
        due=event.lease.expires_at,
        owner="",
        input=Content(),
        tools=None,
        turns=(),
        answer=None,
        excerpt="",
        retry_of=None,
        calls=(),
        open_items=(),
        metadata={},
        error=None,
    )
    return tombstone, ()


def purge_deferred(run: Run, event: events.PurgeDeferred, _now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.PURGE):
        return run, ()
    return replace(run, lease=None, due=event.until), ()


def purged(run: Run, event: events.Purged, _now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.PURGE):
        return run, ()
    return replace(
        run, step=Step.NOTHING, lease=None, continuation=None, responses=(), abandoned=(), key=None
    ), ()
