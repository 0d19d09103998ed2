"""A lease is short, and it is renewed while its work goes on.

So a run whose worker dies waits only for the rest of a short lease, however long the work may take.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from shared.core.life import events
from shared.core.life.rule import Result
from shared.core.run import Lease, Run, RunStatus, Step

# How long a lease lasts, and after which time it is renewed first.
LEASE = timedelta(seconds=15)
RENEWED_FIRST_AFTER = timedelta(seconds=8)
# How long a renewed lease lasts, and after which time it is renewed again.
RENEWED_FOR = timedelta(seconds=12)
RENEWED_EVERY = timedelta(seconds=4)
# After a renewal that failed.
TRIED_AGAIN_AFTER = timedelta(seconds=1)
# How much of a lease has to be left when something with a side effect begins. Clocks of hosts differ by less.
ENOUGH = timedelta(seconds=5)


def enough_left(lease: Lease, now: datetime) -> bool:
    """Return whether something with a side effect may begin."""
    return now + ENOUGH <= lease.expires_at


def pause_before_renewal(lease: Lease, now: datetime) -> timedelta:
    """Return how long to wait before the lease is renewed; nothing when it is time.

    A transition that is written anyway makes a lease as long as a new one.
    """
    left = lease.expires_at - now
    if left <= RENEWED_FOR - RENEWED_EVERY:
        return timedelta()
    # Also when much more is left, which happens only after the clock was set back.
    return min(left - (LEASE - RENEWED_FIRST_AFTER), RENEWED_FIRST_AFTER)


def renewed(run: Run, event: events.Renewed, now: datetime) -> Result:
    """Prolong a lease: not one that has ended, not that of another worker, and never past the end of the step's work."""
    if run.lease is None or run.lease.id != event.lease_id or now >= run.lease.expires_at:
        return run, ()
    if run.step is Step.GENERATE and (run.status is RunStatus.CANCELLING or now >= run.expires_at):
        # The stream may bring nothing for minutes. When the lease has ended, another worker ends the run.
        return run, ()
    until = min(now + RENEWED_FOR, event.ends_at)
    if until <= run.lease.expires_at:
        return run, ()
    return replace(run, lease=Lease(run.lease.id, until), due=due_under(run, until, now)), ()


def prolonged(run: Run, lease: Lease) -> Run:
    """Return the run under a lease of the same worker. A renewal may have prolonged the present one further."""
    later = max(lease.expires_at, run.lease.expires_at) if run.lease else lease.expires_at
    return replace(run, lease=Lease(lease.id, later), due=later)


def due_under(run: Run, until: datetime, now: datetime) -> datetime:
    """Return when a run that is leased until `until` is due again. A poll is owed at the deadline in any case."""
    due = max(run.due, until) if run.step is Step.POLL else until
    return min(due, run.expires_at) if run.step is Step.POLL and now < run.expires_at else due
