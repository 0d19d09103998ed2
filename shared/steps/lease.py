"""The lease under which a step is taken. It is renewed beside the work, and whoever has lost it begins nothing more."""

import logging
import threading
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from shared.core.life import events
from shared.core.life.advance import advance
from shared.core.life.leasing import (
    LEASE,
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
from shared.steps.transition import Applied, apply, reread
from shared.store.runs import RunStore, StoredResult, StoredRun

# A step may take this much longer than its requests and tools: calls wait for threads, results have to be saved.
MARGIN = timedelta(seconds=30)
# A renewal conflicts with transitions of the run. More conflicts in a row than this count as a failure.
_ATTEMPTS = 3


class Hold:
    """A run that is worked on under a lease. It is the `Renewal` of this lease.

    The keeper renews in another thread, so what is known of the run may change between any two lines. Whatever either
    thread learns goes through `_note`, which never forgets what is newer.
    """

    def __init__(self, context: Context, stored: StoredRun, lease: Lease) -> None:
        self._context, self._known = context, stored
        self._noting = threading.Lock()
        self._began = context.clock.now()
        # Whether the keeper has found that the lease is lost.
        self._over = False
        # Whether this process is changing the run, which may end the lease.
        self._changing = False
        self.lease_id = lease.id
        # When the work of the step has to be over.
        self.ends_at = lease.expires_at
        self._kept = context.keeper.keep(pause_before_renewal(lease, self._began), self)

    def begin(self, run: Run) -> None:
        """Note that the work of a step begins. It ends a minute before the host would end the function."""
        step_ends = self._context.clock.now() + duration(self._context, run) + MARGIN
        self.ends_at = min(step_ends, self._began + self._context.longest_work)

    @property
    def lease(self) -> Lease | None:
        """The lease as the storage last confirmed it. None when it is lost, or when the work has ended it."""
        run = self._known.run
        return run.lease if leased(run, self.lease_id) and not self._over else None

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
        return await self.follow(apply(self._context, self.latest(stored), event, results))

    async def follow(self, change: Awaitable[Applied]) -> Applied:
        """Carry out a change of the run, and note the run as it is then."""
        held, self._changing = self.lease is not None, True
        try:
            applied = await change
            self._note(applied.stored)
        finally:
            self._changing = False
        if held and not applied.changed and self.lease is None:
            self._log_loss(taken=True)
        return applied

    def prolonged(self) -> Lease:
        """Return the lease as a transition that is written anyway makes it: as long as a new one."""
        return Lease(self.lease_id, self._context.lease_end())

    def latest(self, stored: StoredRun) -> StoredRun:
        """Return the run as it was last seen: a renewal has changed its etag."""
        known = self._known
        return known if known.run.rev >= stored.run.rev else stored

    def left(self) -> timedelta:
        """Return how long the lease still lasts. Nothing when it has ended."""
        lease = self.lease
        return max(lease.expires_at - self._context.clock.now(), timedelta()) if lease else timedelta()

    async def renew(self, table: Table) -> timedelta | None:
        """Renew the lease if it is time. Return when to call this again, or None when it is lost."""
        if self.lease is None:
            return None
        try:
            pause = await self._renewed(RunStore(table, self._context.randomness))
        except StorageUnavailable as fault:
            return self.failed(str(fault))
        if pause is not None:
            return self._next(pause)
        # A change by this process is noted before `_changing` ends, so `_changing` is read first.
        if not self._changing and self.lease:
            self._log_loss(taken=True)
        self._over = True
        return None

    def failed(self, reason: str) -> timedelta | None:
        """Note that the lease could not be renewed. Return when to try it again, or None when the lease has ended."""
        log_event("lease.not_renewed", level=logging.WARNING, run_id=self._known.run.id, reason=reason)
        return self._next(TRIED_AGAIN_AFTER)

    def _next(self, pause: timedelta) -> timedelta | None:
        """Return `pause`, or less if the lease ends earlier. None when it has ended."""
        if left := self.left():
            return min(pause, left)
        if self.lease:
            self._log_loss(taken=False)
        self._over = True
        return None

    async def _renewed(self, runs: RunStore) -> timedelta | None:
        """Renew the lease if it is time. Return when it is time again; None when the run has not got this lease any more."""
        # More than a lease is left after the clock was set back. A reply of the storage corrects it.
        stored = self._known if self.left() <= LEASE else await reread(runs, self._known.run.id)
        for _ in range(_ATTEMPTS):
            run = stored.run
            if (lease := run.lease) is None or lease.id != self.lease_id:
                return None
            self._note(stored)
            now, event = self._context.clock.now(), events.Renewed(self.lease_id, self.ends_at)
            if pause := pause_before_renewal(lease, now):
                return pause
            after, effects = advance(run, event, now)
            if after is run:
                # It has ended, or it lasts until the step has to be over.
                return RENEWED_EVERY
            try:
                self._note(await runs.renew(stored, after))
            except RowConflict:
                stored = await reread(runs, run.id)
                continue
            self._context.observer.stored(run, event, after, effects)
            return RENEWED_EVERY
        raise StorageUnavailable(f"Run {stored.run.id} kept changing under a renewal.")

    def _note(self, stored: StoredRun) -> None:
        """Keep the newer one of two states of the run. Transitions count in `rev`; renewals only prolong the lease."""
        with self._noting:
            if _order(stored) >= _order(self._known):
                self._known = stored

    def _log_loss(self, *, taken: bool) -> None:
        log_event("lease.lost", level=logging.WARNING, run_id=self._known.run.id, taken=taken)

    def release(self) -> None:
        """Let the lease be renewed no more."""
        self._kept.end()


def _order(stored: StoredRun) -> tuple[int, datetime]:
    """Return by what states of one run sort, the oldest first."""
    lease = stored.run.lease
    return stored.run.rev, lease.expires_at if lease else stored.run.updated_at


@contextmanager
def holding(context: Context, stored: StoredRun, lease: Lease) -> Iterator[Hold]:
    """Hold a run under its lease until the work is over."""
    hold = Hold(context, stored, lease)
    try:
        yield hold
    finally:
        hold.release()


def leased(run: Run, lease_id: str) -> bool:
    """Return whether the run, as it was read, is worked on under this lease."""
    return run.lease is not None and run.lease.id == lease_id


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
        case Step.PURGE | Step.GENERATE:
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
