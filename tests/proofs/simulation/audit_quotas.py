"""Checks that no owner goes over a quota, and that nobody below all quotas is refused."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.core.ids import home_shard, shard_of
from shared.core.quota import WINDOW, Limits
from shared.core.run import Run
from tests.proofs.simulation.evidence import Evidence, Seen, seconds_of
from tests.proofs.simulation.scheduler import MAX_SKEW, Invocation

_MINUTE = WINDOW.total_seconds()


@dataclass(eq=False, slots=True)
class QuotaAuditor:
    """Compares each start with the runs before it.

    The time of a start is the one that its run shows: when the host that accepted it has done so, by the clock of this host.
    By one clock for all, a minute may thus be shorter by twice the skew of the clocks.
    """

    evidence: Evidence
    limits: Limits = field(default_factory=Limits)
    # Since when there are quotas.
    since: float = 0.0
    # By owner, the runs that began while there were quotas.
    counted: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    # By owner, when a start was written into the row of the quota.
    booked: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def applies_to(self, by: Invocation) -> bool:
        return self.limits != Limits() and by.started_at >= self.since

    def wrote(self, values: Mapping[str, Any]) -> None:
        """Note that the row of an owner's quota was written."""
        self.booked[values["owner"]].append(self.evidence.now())

    def saw_start(self, run: Run, by: Invocation) -> None:
        """Check a run when it is stored for the first time."""
        if not self.applies_to(by):
            return
        require = self.evidence.require
        at = seconds_of(run.created_at) - by.skew
        honest = by.started_at - by.precision <= at <= self.evidence.now() + by.precision
        require(honest, 18, run.id, f"it began at {at:.3f}, when it was neither requested nor stored")
        runs = self.counted[run.owner]
        if (most := self.limits.pending_runs) is not None and shard_of(run.id) == home_shard(run.owner):
            pending = sum(self._is_pending(one.id) and self._is_at_home(one) for one in runs)
            pending += sum(self._was_there(seen, run, by) for seen in self.evidence.runs.values())
            require(pending < most, 18, run.id, f"{run.owner} has {pending} other pending runs of {most}")
        runs.append(run)
        if (most := self.limits.starts_per_minute) is not None:
            times = sorted(one.created_at for one in runs)
            crowded = any(last - first < WINDOW for first, last in zip(times, times[most:], strict=False))
            require(not crowded, 18, run.id, f"{run.owner} has more than {most} starts in a minute")

    def _is_pending(self, run_id: str) -> bool:
        return self.evidence.runs[run_id].ended_at is None

    def _is_at_home(self, run: Run) -> bool:
        return shard_of(run.id) == home_shard(run.owner)

    def _was_there(self, seen: Seen, run: Run, by: Invocation) -> bool:
        """Return whether a run of before the quotas was pending all the time while `by` worked."""
        mine = seen.owner == run.owner and seen.run.id != run.id and self._is_at_home(seen.run)
        before = all(seen.run.id != one.id for one in self.counted[run.owner])
        return mine and before and seen.since < by.started_at and seen.ended_at is None

    def refused(self, owner: str, code: str, at: float, by: Invocation) -> None:
        """Check a refusal of a start that was requested at `at`: the owner has to be at the limit."""
        require = self.evidence.require
        require(self.applies_to(by), 18, "", f"{owner} was refused, and there are no quotas")
        if code == "too_many_pending_runs":
            pending = sum(
                seen.owner == owner and (seen.ended_at is None or seen.ended_at >= at)
                for seen in self.evidence.runs.values()
                if home_shard(owner) == shard_of(seen.run.id)
            )
            full = self.limits.pending_runs is not None and pending >= self.limits.pending_runs
            require(full, 18, "", f"{owner} was refused with {pending} pending runs")
        else:
            since = at - _MINUTE - 2 * MAX_SKEW
            starts = sum(one >= since for one in self.booked[owner])
            full = self.limits.starts_per_minute is not None and starts >= self.limits.starts_per_minute
            require(full, 18, "", f"{owner} was refused after {starts} starts")
