"""What is owed in a shard, read with one query, and the claim of a tick by one poller."""

from dataclasses import dataclass, field
from datetime import datetime

from shared.core.delivery import ClockRow
from shared.core.ids import shard_of
from shared.core.run import Owed
from shared.errors import RowConflict, UnreadableRow
from shared.log import log_skipped
from shared.ports.system import Randomness
from shared.ports.tables import Delete, Insert, Put, Row, Table
from shared.store import rows
from shared.store.outbox import read_clock
from shared.store.run_rows import read_owed
from shared.store.transaction import new_tx, transact


@dataclass(frozen=True, slots=True)
class Tick:
    """The last tick of a shard."""

    # None before the first tick.
    at: datetime | None = None
    etag: str = ""


@dataclass(slots=True)
class ShardView:
    """Everything that can be due in a shard: runs that are owed a step, and clock rows that are due."""

    tick: Tick = field(default_factory=Tick)
    runs: list[Owed] = field(default_factory=list)
    clocks: list[ClockRow] = field(default_factory=list)


class ShardStore:
    """Reads what is owed without reading runs."""

    def __init__(self, table: Table, randomness: Randomness) -> None:
        self._table = table
        self._randomness = randomness

    async def owed(self, shard: str, now: datetime) -> ShardView:
        """Return the shard's tick and everything that can be due until `now`, in one query."""
        view = ShardView()
        for row in await self._table.query(shard, *rows.owed_bounds(now)):
            try:
                _add(view, row)
            except UnreadableRow as fault:
                # One broken row must not hide the others.
                log_skipped(fault)
        return view

    async def drop(self, run_id: str) -> None:
        """Remove the row of what is owed for a run that does not exist."""
        try:
            await self._table.write(shard_of(run_id), [Delete(rows.owed_key(run_id))])
        except RowConflict:
            return

    async def last_tick(self, shard: str) -> datetime | None:
        """Return the time of the shard's last tick, with one point read. None before the first one."""
        row = await self._table.get(shard, rows.TICK_KEY)
        return _tick_time(row) if row else None

    async def claim(self, shard: str, tick: Tick, now: datetime) -> bool:
        """Claim the time from the last tick until `now`.

        Returns False when another poller has claimed it first.
        """
        tx = new_tx(self._randomness)
        row = Row(rows.TICK_KEY, {"at": rows.time_text(now), "tx": tx})
        write = Put(row, tick.etag) if tick.etag else Insert(row)
        try:
            await transact(self._table, shard, row.key, tx, [write])
        except RowConflict:
            return False
        return True


def _add(view: ShardView, row: Row) -> None:
    if row.key == rows.TICK_KEY:
        # The etag is kept first, so that a tick with an unreadable time can be replaced.
        view.tick = Tick(None, row.etag)
        view.tick = Tick(_tick_time(row), row.etag)
    elif row.key.startswith(rows.TICK_KEY):
        view.runs.append(read_owed(row))
    else:
        view.clocks.append(read_clock(row))


@rows.reader
def _tick_time(row: Row) -> datetime:
    return rows.read_time(row.values, "at")
