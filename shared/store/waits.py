"""Runs with calls that wait for an answer.

A row for each, by the time since when it waits, so that nobody reads runs to find them. A clock row ends its first wait. A
transition of the run writes and removes both, so they always agree with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shared.core.calls import WaitKind
from shared.core.delivery import WAIT, ClockRow
from shared.core.ids import all_shards, shard_of
from shared.core.run import Run, RunStatus
from shared.errors import RowConflict
from shared.ports.tables import Delete, Put, Row, Table, Write
from shared.store import rows


@dataclass(frozen=True, slots=True, order=True)
class PausedRun:
    """A run with calls that wait, and since when. The one that has waited longest comes first."""

    since: datetime
    run_id: str
    # Whose run it is, by the row of its wait.
    owner: str = field(default="", compare=False)


class WaitStore:
    """Finds runs with calls that wait for an approval."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def approvals(
        self, owner: str | None, *, first: PausedRun | None = None, limit: int
    ) -> Sequence[PausedRun]:
        """Return the runs with calls that wait for an approval, from `first` on: those of one owner, or of all.

        At most `limit` of each shard are read, and as many more as there are broken rows, which hide no others.
        """
        begin, end = rows.bounds("paused")
        if first:
            begin = rows.paused_key(first.since, first.run_id)
        # The same run may be in any shard, so in each one the rows from this key on are read.
        where = {"kind": WaitKind.APPROVAL.value} | ({"owner": owner} if owner is not None else {})
        bounds = dict.fromkeys(all_shards(), (begin, end))
        broken = 0
        while True:
            found = await self._table.query_each(bounds, where=where, limit=limit + broken)
            readable = [paused for row in found if (paused := rows.readable(_read, row))]
            if len(found) - len(readable) <= broken:
                return sorted(readable)[:limit]
            broken = len(found) - len(readable)

    async def drop_clock(self, clock: ClockRow) -> None:
        """Remove a clock row that ends no wait."""
        try:
            await self._table.write(shard_of(clock.run_id), [Delete(rows.clock_key(clock))])
        except RowConflict:
            return


def wait_writes(before: Run | None, after: Run) -> list[Write]:
    """Return the writes that let the rows of waits agree with the run."""
    if before and before.calls is after.calls and before.status is after.status:
        # Most transitions are about something else.
        return []
    old, new = _rows_of(before) if before else {}, _rows_of(after)
    if old == new:
        return []
    removals = [Delete(key) for key in old if key not in new]
    return [*removals, *(Put(row) for key, row in new.items() if row != old.get(key))]


def _rows_of(run: Run) -> Mapping[str, Row]:
    """Return the rows of a run's waits, by key. None for a run without waits."""
    waits_for, ends_at = run.waits_for, run.wait_ends_at
    if waits_for is None or ends_at is None:
        return {}
    kind, since = waits_for
    paused = run.status is RunStatus.REQUIRES_ACTION
    values = {"owner": run.owner, "kind": kind.value, "paused": paused or None}
    clock = Row(rows.clock_key(ClockRow(ends_at, run.id, WAIT)), {})
    row = Row(rows.paused_key(since, run.id), rows.present(values))
    return {row.key: row, clock.key: clock}


@rows.reader
def _read(row: Row) -> PausedRun:
    _, since, run_id = row.key.split("|")
    at = rows.read_time({"since": since}, "since")
    return PausedRun(at, rows.identifier("run", run_id), rows.text(row.values, "owner"))
