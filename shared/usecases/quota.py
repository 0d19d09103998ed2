"""Starts within the quotas of their owners."""

from dataclasses import dataclass, replace
from datetime import datetime

from shared.core import ids
from shared.core.quota import Quota, Refusal
from shared.core.quota import admit as decide
from shared.errors import StorageUnavailable, TooMany
from shared.steps.context import Context
from shared.store.quotas import StoredQuota

# How many times a start is decided when others of the same owner come first. One of them is stored each time.
ATTEMPTS_WITH_QUOTAS = 40


@dataclass(frozen=True, slots=True)
class Admission:
    """A start is within the quotas of its owner, if the stored quota is still the one that was read."""

    # When this was decided. The run begins then.
    at: datetime
    # With the start in it.
    quota: StoredQuota


async def admit(context: Context, owner: str, *, again: bool = False) -> Admission | None:
    """Decide whether an owner may start one more run. Nothing is written.

    Returns None without quotas. `again`: it was decided before, and the quota could not be written. Raises TooMany.
    """
    if context.quotas is None:
        return None
    limits, stored = context.quotas.limits, await context.quotas.read(owner, again=again)
    # After the read, so that no start in the row is later by the same clock.
    now = context.clock.now()
    decision = decide(limits, stored.pending, stored.starts, now)
    if not isinstance(decision, Refusal):
        return Admission(now, replace(stored, starts=decision))
    if decision.quota is Quota.PENDING_RUNS:
        raise TooMany(
            f"No more than {limits.pending_runs} runs may be pending. Wait until one has ended, or cancel one.",
            code="too_many_pending_runs",
            retry_after=decision.retry_after,
        )
    raise TooMany(
        f"No more than {limits.starts_per_minute} runs may start in a minute.",
        code="too_many_starts",
        retry_after=decision.retry_after,
    )


async def book(context: Context, admission: Admission | None, run_id: str) -> StoredQuota | None:
    """Return the quota that is to be written together with the run.

    A session that began before there were quotas may be in another shard. No transaction holds its run and the quota, so
    the quota is written now, before the run. Raises RowConflict when it has changed.
    """
    if context.quotas is None or admission is None:
        return None
    if ids.shard_of(run_id) == admission.quota.shard:
        return admission.quota
    await context.quotas.write(admission.quota)
    return None


def kept_changing() -> StorageUnavailable:
    return StorageUnavailable("The quota of an owner kept changing while a run was started.")
