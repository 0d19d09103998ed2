"""Bugs in leases, their renewals, and the clocks by which they end."""

from tests.proofs.mutants.bug import Bug

_LEASING = "shared/core/life/leasing.py"
_OFFSET = "shared/core/clock_offset.py"
_LEASE = "shared/steps/lease.py"
_RUNS = "shared/store/runs.py"

LEASE_BUGS = (
    Bug(
        "a lease that expired during a stall is used",
        _LEASE,
        "        return lease is not None and enough_left(lease, self._context.clock.now())\n",
        "        return lease is not None\n",
    ),
    Bug(
        "a side effect begins with no time left",
        _LEASING,
        "    return now + ENOUGH <= lease.expires_at\n",
        "    return now <= lease.expires_at\n",
    ),
    Bug(
        "a lease is renewed after its end",
        _LEASING,
        "run.lease.id != event.lease_id or now >= run.lease.expires_at:",
        "run.lease.id != event.lease_id:",
    ),
    Bug(
        "a former holder renews the lease of another worker",
        _LEASE,
        "            if (lease := run.lease) is None or lease.id != self.lease_id:\n                return None\n"
        "            self._note(stored)\n"
        "            now, event = self._context.clock.now(), events.Renewed(self.lease_id, self.ends_at)\n",
        "            if (lease := run.lease) is None:\n                return None\n"
        "            self._note(stored)\n"
        "            now, event = self._context.clock.now(), events.Renewed(lease.id, self.ends_at)\n",
    ),
    Bug(
        "a stream keeps its lease past the deadline",
        _LEASING,
        "(run.status is RunStatus.CANCELLING or now >= run.expires_at):",
        "run.status is RunStatus.CANCELLING:",
        # Few seeds have such a stream, and no timer that would end the run.
        first=1700024350,
    ),
    Bug(
        "the end of the work does not end its lease",
        _LEASING,
        "    until = min(now + RENEWED_FOR, event.ends_at)\n",
        "    until = now + RENEWED_FOR\n",
    ),
    Bug(
        "a renewal is counted in rev",
        _RUNS,
        '{"lease_expires_at": until, "due": due, "renewal": tx}',
        '{"lease_expires_at": until, "due": due, "renewal": tx, "rev": after.rev + 1}',
    ),
    Bug(
        "a renewal is saved without a condition",
        _RUNS,
        "[Merge(run, before.etag), Merge(owed)]",
        "[Merge(run), Merge(owed)]",
    ),
    Bug(
        "work goes on after a renewal has shown that the lease is lost",
        _LEASE,
        "leased(run, self.lease_id) and not self._over else None",
        "leased(run, self.lease_id) else None",
    ),
    Bug(
        "a lease lasts as long as the longest work",
        _LEASING,
        "LEASE = timedelta(seconds=15)",
        "LEASE = timedelta(seconds=75)",
    ),
    Bug(
        "a wrong clock is not corrected",
        _OFFSET,
        "        return (self.low + self.high) / 2 if self.corrects else timedelta()\n",
        "        return timedelta()\n",
    ),
    Bug(
        "a wrong clock is corrected the wrong way",
        _OFFSET,
        "        return (self.low + self.high) / 2 if self.corrects",
        "        return -(self.low + self.high) / 2 if self.corrects",
    ),
)
