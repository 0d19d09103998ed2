"""Quotas of an owner: how many of the runs may be pending, and how many may start in a minute."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

# What the settings may ask for. A start reads the rows of all pending runs of its owner with one query, and a page of
# its answer has 1,000 rows. The times of the last minute's starts are kept in one property of a row.
MAX_PENDING_RUNS = 999
MAX_STARTS_PER_MINUTE = 1_000

WINDOW = timedelta(minutes=1)
# How far the clocks of two hosts may differ. A time that is further ahead of a host's clock counts as broken.
MAX_SKEW = timedelta(minutes=1)
# Nobody knows when a run will end. Runs take minutes, and a client that asks more often than this gains nothing.
_PAUSE_WHILE_PENDING = timedelta(seconds=10)
_SHORTEST_PAUSE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What each owner may do. None: there is no limit."""

    pending_runs: int | None = None
    starts_per_minute: int | None = None


class Quota(StrEnum):
    """What is limited."""

    PENDING_RUNS = "pending_runs"
    STARTS = "starts"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A start is over a quota. After `retry_after` it may be within it."""

    quota: Quota
    retry_after: timedelta


def admit(
    limits: Limits, pending: int, starts: Sequence[datetime], now: datetime
) -> tuple[datetime, ...] | Refusal:
    """Decide whether an owner may start one more run at `now`.

    `pending` is how many of his runs are pending, `starts` the times of his last starts in the order of their acceptance.
    Returns the times to be stored with the start, the new one last: as many as the limit needs.

    No stored time is later than the one after it, also when the hosts' clocks differ: of as many starts as the limit, the
    first is then the one that leaves the minute first.
    """
    if limits.pending_runs is not None and pending >= limits.pending_runs:
        return Refusal(Quota.PENDING_RUNS, _PAUSE_WHILE_PENDING)
    most = limits.starts_per_minute
    if most is None:
        return ()
    # Times that no clock can have written would lock the owner out.
    kept = sorted(at for at in starts if now - WINDOW - MAX_SKEW < at <= now + MAX_SKEW)
    if len(kept) >= most and kept[-most] + WINDOW > now:
        return Refusal(Quota.STARTS, max(kept[-most] + WINDOW - now, _SHORTEST_PAUSE))
    return (*kept, max([*kept, now]))[-most:]
