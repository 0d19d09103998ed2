"""The generate phase: a worker holds the stream of a turn, at a provider without background mode, and stores what comes."""

from dataclasses import replace
from datetime import datetime

from shared.core import log
from shared.core.life import events
from shared.core.life.events import Wake
from shared.core.life.items import ItemLog
from shared.core.life.leasing import prolonged
from shared.core.life.polling import finish_turn
from shared.core.life.rule import Result, end, expire, holds, wait
from shared.core.response import RunError, Usage
from shared.core.run import Run, RunStatus, Step

# How many times the text of a turn is written anew. After that the turn is too long for its provider.
MAX_RESTARTS = 3


def claim_generation(run: Run, event: events.Claimed, now: datetime) -> Result:
    """Begin the stream of a turn, or take it up again under the lease that `run` has.

    `claimed` has checked that the worker has loaded all of the text that is stored.
    """
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    if run.turn_started_at is None:
        begun = replace(
            run,
            status=RunStatus.IN_PROGRESS,
            written=0,
            commented=0,
            turn_items=0,
            restarts=0,
            joined=0,
            activity="",
            turn_started_at=now,
            started_at=run.started_at or now,
        )
        return begun, (log.TurnStarted(run.turn, "", event.model),)
    if run.restarts > MAX_RESTARTS:
        return _too_long(run, now), ()
    if not run.turn_items:
        # Nothing of it is stored.
        return run, ()
    if run.written and event.join is not None:
        if run.joined == run.written:
            # Nothing came since, so it is the same join.
            return run, ()
        loose = event.join is events.Join.BEST_EFFORT
        joined = replace(
            run,
            joins=run.joins + (not loose),
            loose_joins=run.loose_joins + loose,
            joined=run.written,
            joined_loosely=loose,
            # What the text so far has cost was not reported, because its stream did not end.
            unmetered=True,
        )
        return joined, (log.TurnJoined(run.turn, run.written, event.join.value),)
    return _restart(run, now)


def _restart(run: Run, now: datetime) -> Result:
    """Take the text of the turn back, because its provider cannot continue it."""
    if run.restarts >= MAX_RESTARTS:
        return _too_long(run, now), ()
    items = ItemLog.of(run)
    items.close()
    entries = (*items.entries, log.TextReplaced(0))
    anew = replace(items.into(run), written=0, commented=0, turn_items=0, joined=0, restarts=run.restarts + 1)
    return anew, entries


def _too_long(run: Run, now: datetime) -> Run:
    message = (
        f"The turn was interrupted {MAX_RESTARTS + 1} times where its provider cannot continue it. No provider continues "
        "a call. Declare how it continues a text, with resume, or use a provider with background mode."
    )
    return end(run, RunStatus.FAILED, now, error=RunError("generate_too_long", message))


def generated(run: Run, event: events.Generated, now: datetime) -> Result:
    """Add what a worker has stored of the stream. A worker whose lease has ended changes nothing."""
    if not holds(run, event.lease.id, Step.GENERATE):
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    if now >= run.expires_at:
        return expire(run, now), ()
    run, entries = _loosened(run) if event.loose else (run, ())
    items = ItemLog.of(run)
    items.follow(event.changes, event.text)
    read = replace(
        items.into(run),
        written=run.written + items.written,
        activity="writing" if items.written else "thinking",
        waiting=None,
    )
    return prolonged(read, event.lease), (*entries, *items.entries)


def _loosened(run: Run) -> Result:
    """Take back that the last join was exact."""
    if run.joined_loosely or run.joined != run.written:
        return run, ()
    loosened = replace(run, joins=run.joins - 1, loose_joins=run.loose_joins + 1, joined_loosely=True)
    return loosened, (log.TurnJoined(run.turn, run.joined, events.Join.BEST_EFFORT.value),)


def generate_deferred(run: Run, event: events.GenerateDeferred, now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.GENERATE):
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    free = replace(run, lease=None, due=event.until)
    if event.in_call:
        free = replace(free, restarts=run.restarts + 1)
    if event.error is None:
        return free, (Wake(),)
    deferred, entries = wait(free, event.error, now)
    return deferred, entries


def generate_refused(run: Run, event: events.GenerateRefused, now: datetime) -> Result:
    if not holds(run, event.lease_id, Step.GENERATE):
        return run, ()
    if run.status is RunStatus.CANCELLING:
        return end(run, RunStatus.CANCELLED, now), ()
    return end(run, RunStatus.FAILED, now, error=event.error), ()


def generate_finished(run: Run, event: events.GenerateFinished, now: datetime) -> Result:
    """Complete the turn: the run ends, or its calls are queued."""
    if not holds(run, event.lease_id, Step.GENERATE):
        return run, ()
    items = ItemLog.of(run)
    items.finish(event.outline, written=run.written, commented=run.commented, with_text=True)
    done = replace(
        items.into(run),
        lease=None,
        waiting=None,
        turn_started_at=None,
        # The next turn begins when a worker has time for it.
        activity="",
        usage=run.usage + (event.snapshot.usage or Usage()),
        unmetered=run.unmetered or event.snapshot.usage is None,
        turns=(*run.turns, event.output),
        answer=event.answer,
    )
    after, effects = finish_turn(done, event.snapshot, event.invalid, event.repeatable, now)
    # There is no response that a later turn could name.
    return replace(after, previous_response_id=None), (*items.entries, *effects)
