"""Compares leases with their holders, with their renewals and with what is done under them."""

from dataclasses import replace
from datetime import timedelta

from shared.core.run import Run, Step
from shared.steps.lease import MARGIN
from tests.proofs.simulation.evidence import Evidence, seconds_of
from tests.proofs.simulation.scheduler import ENOUGH, LEASE, LONGEST_TOOL, PROVIDER_TIMEOUT, Invocation

_LONGEST = {
    Step.CREATE: PROVIDER_TIMEOUT + MARGIN,
    Step.TOOLS: LONGEST_TOOL + MARGIN,
    # As long as any invocation may work.
    Step.GENERATE: timedelta(minutes=9),
}


class LeaseAuditor:
    """Checks each lease when it is written, and each side effect when it begins."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        # By run, turn, step and lease: when the last create or tool began.
        self._work_began: dict[tuple[str, int, Step, str], float] = {}

    def saw(self, before: Run | None, run: Run, by: Invocation) -> None:
        """Check a lease that was written."""
        if run.lease is None or (before and before.lease == run.lease):
            return
        again = before is not None and before.rev != run.rev and run.step is Step.CREATE
        if again and by.leases.get(run.id) == run.lease.id:
            # The holder begins its step anew, with another request.
            self._work_began.pop((run.id, run.turn, run.step, run.lease.id), None)
        if before is None or before.lease is None or before.lease.id != run.lease.id:
            by.leases[run.id] = run.lease.id
        require = self._evidence.require
        left = seconds_of(run.lease.expires_at) - self._evidence.now() - by.skew
        require(left <= LEASE + by.precision, 17, run.id, f"its lease lasts {left:.1f} s from now")

    def renewed(self, before: Run, run: Run, by: Invocation) -> None:
        """Check a write that is not counted in `rev`: only a holder's renewal may do that."""
        require, lease = self._evidence.require, before.lease
        same = lease is not None and run.lease is not None and lease.id == run.lease.id
        same = same and replace(run, lease=before.lease, due=before.due) == before
        require(same, 17, run.id, "a renewal changed more than the lease")
        if lease is None:
            return
        require(
            by.leases.get(run.id) == lease.id, 17, run.id, f"{by.name} renewed the lease of another worker"
        )
        late = by.renewing_since + by.skew - seconds_of(lease.expires_at)
        require(late < 0, 17, run.id, f"its lease was renewed {late:.1f} s after its end")
        began = self._work_began.get((run.id, run.turn, run.step, lease.id))
        if run.lease and began is not None:
            lasts = seconds_of(run.lease.expires_at) - began - by.skew
            longest = _LONGEST[run.step].total_seconds()
            require(lasts <= longest + by.precision, 17, run.id, f"{run.step} is renewed for {lasts:.0f} s")

    def begins(self, run_id: str, step: Step, by: Invocation) -> None:
        """Check a side effect at its beginning."""
        seen = self._evidence.runs.get(run_id)
        if seen is None or seen.run.terminal:
            return
        require, lease, now = self._evidence.require, seen.run.lease, self._evidence.now() + by.skew
        own = lease is not None and by.leases.get(run_id) == lease.id
        require(own, 17, run_id, f"{by.name} begins to {step}, and the run is not its own")
        require(not by.lost, 17, run_id, f"{by.name} begins to {step}, and knows that its lease is lost")
        if lease and own:
            left = seconds_of(lease.expires_at) - now + by.precision
            require(left >= ENOUGH, 17, run_id, f"{step} begins {left:.1f} s before the end")
            self._work_began[run_id, seen.run.turn, step, lease.id] = self._evidence.now()
