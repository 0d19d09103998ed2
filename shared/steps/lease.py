"""The lease under which a step is taken. It is renewed beside the work, and whoever has lost it begins nothing more."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from shared.core.life import events
from shared.core.life.advance import advance
from shared.core.life.leasing import (
    FIRST_RENEWED_AT,
    RENEWED_EVERY,
    TRIED_AGAIN_AFTER,
    enough_left,
    pause_before_renewal,
)
from shared.core.run import Lease, Run, Step
from shared.errors import RowConflict, StorageUnavailable
from shared.log import log_event
from shared.ports.tables import Table
from shared.steps.context import Context
from shared.steps.transition import Applied, apply
from shared.store.runs import RunStore, StoredResult, StoredRun

# A step may take this much longer than its requests and tools: calls wait for threads, results have to be saved.
MARGIN = timedelta(seconds=30)
# A renewal conflicts with transitions of the run. More conflicts in a row than this count as a failure.
_ATTEMPTS = 3


class Hold:
    """A run that is worked on under a lease.

    The keeper renews the lease in another thread, so what is known of the run may change between any two lines. Each
    value is replaced as a whole, and at worst an older one is seen, which a conflict shows.
    """

    def __init__(self, context: Context, stored: StoredRun, lease: Lease) -> None:
        self._context, self._known = context, stored
        self._began = context.clock.now()
        # Whether the lease was found to be lost.
        self._over = False
        self.lease_id = lease.id
        # When the work of the step has to be over.
        self.ends_at = lease.expires_at
        first = lease.expires_at - FIRST_RENEWED_AT - self._began
        self._kept = context.keeper.keep(max(first, timedelta()), self.renew)

    def begin(self, run: Run) -> None:
        """Note that the work of a step begins. It ends a minute before the host would end the function."""
        step_ends = self._context.clock.now() + duration(self._context, run) + MARGIN
        self.ends_at = min(step_ends, self._began + self._context.longest_work)

    @property
    def lease(self) -> Lease | None:
        """The lease as the storage last confirmed it. None when it is lost."""
        lease = self._known.run.lease
        return lease if lease and lease.id == self.lease_id and not self._over else None

    def given(self) -> bool:
        """Return whether something with a side effect may begin now."""
        lease = self.lease
        return lease is not None and enough_left(lease, self._context.clock.now())

    async def lost(self) -> None:
        """Return when the lease is lost."""
        await self._kept.lost()

    async def apply(
        self, stored: StoredRun, event: events.Event, results: Sequence[StoredResult] = ()
    ) -> Applied:
        """Advance the run by `event`, like `transition.apply`."""
        applied = await apply(self._context, self.latest(stored), event, results)
        self._known = applied.stored
        return applied

    def latest(self, stored: StoredRun) -> StoredRun:
        """Return the run as it was last seen: a renewal has changed its etag."""
        known = self._known
        return known if known.run.rev >= stored.run.rev else stored

    async def renew(self, table: Table) -> timedelta | None:
        """Renew the lease if it is time. Return when to call this again, or None when it is lost."""
        context, lease = self._context, self.lease
        if lease is None:
            return None
        if pause := pause_before_renewal(lease, context.clock.now()):
            return pause
        pause, run_id = RENEWED_EVERY, self._known.run.id
        try:
            lease = await self._renewed(RunStore(table, context.randomness))
        except StorageUnavailable as fault:
            log_event("lease.not_renewed", level=logging.WARNING, run_id=run_id, reason=str(fault))
            pause = TRIED_AGAIN_AFTER
        left = lease.expires_at - context.clock.now() if lease else timedelta()
        if left > timedelta():
            return min(pause, left)
        if self.lease:
            log_event("lease.lost", level=logging.WARNING, run_id=run_id, taken=lease is None)
        self._over = True
        return None

    async def _renewed(self, runs: RunStore) -> Lease | None:
        """Return the lease, renewed if it may be. None when another process has taken the run."""
        stored = self._known
        for _ in range(_ATTEMPTS):
            run, event = stored.run, events.Renewed(self.lease_id, self.ends_at)
            after, effects = advance(run, event, self._context.clock.now())
            if after is run:
                # It was taken, it has ended, or it lasts until the step has to be over.
                return run.lease if run.lease and run.lease.id == self.lease_id else None
            try:
                renewed = await runs.renew(stored, after)
            except RowConflict:
                stored = await self._reread(runs, run)
                continue
            self._context.observer.stored(run, event, after, effects)
            if self._known.run.rev <= after.rev:
                self._known = renewed
            return after.lease
        raise StorageUnavailable(f"Run {stored.run.id} kept changing under a renewal.")

    async def _reread(self, runs: RunStore, run: Run) -> StoredRun:
        if fresh := await runs.read(run.id):
            return fresh
        raise StorageUnavailable(f"The row of run {run.id} is missing.")

    def release(self) -> None:
        """Let the lease be renewed no more."""
        self._kept.end()


@contextmanager
def holding(context: Context, stored: StoredRun, lease: Lease) -> Iterator[Hold]:
    """Hold a run under its lease until the work is over."""
    hold = Hold(context, stored, lease)
    try:
        yield hold
    finally:
        hold.release()


def leased(run: Run, lease: Lease) -> bool:
    """Return whether the run is worked on under this lease."""
    return run.lease is not None and run.lease.id == lease.id


def duration(context: Context, run: Run) -> timedelta:
    """Return how long the requests or the tools of the owed step may take."""
    spec = context.agents.spec(run.agent)
    match run.step:
        case Step.TOOLS if spec is not None:
            return spec.longest_tool
        case Step.CANCEL:
            # A cancellation, and a read of the response.
            return context.read_timeout + context.provider_timeout
        case Step.POLL:
            # At the deadline the response is read, cancelled, and read again.
            return 2 * context.provider_timeout + context.read_timeout
        case Step.PURGE:
            return context.longest_work
    return context.provider_timeout


def may_begin(hold: Hold, run: Run) -> bool:
    """Return whether enough of the lease is left for a side effect; checked right before it.

    It is not when this process was paused, or when the storage did not answer. Another worker then takes the step.
    """
    if hold.given():
        return True
    reason = "not enough of the lease is left"
    log_event("step.skipped", level=logging.WARNING, run_id=run.id, step=run.step, reason=reason)
    return False
