"""Quotas in the `runs` table: one row for each owner, in the shard in which the owner's sessions begin.

A start writes this row, on condition that it is as it was read, in the transaction that writes the run. So of two starts at
the same moment only one is stored, and the other one is decided again. Nothing is counted that could be lost: the
pending runs are those whose rows exist, and the starts are in the row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shared.core.ids import home_shard
from shared.core.quota import MAX_STARTS_PER_MINUTE, Limits
from shared.errors import UnreadableRow
from shared.log import log_skipped
from shared.ports.system import Randomness
from shared.ports.tables import Insert, Put, Row, Table, Value, Write
from shared.store import rows
from shared.store.run_rows import read_owed
from shared.store.transaction import new_tx, transact

_PROPERTIES = frozenset({"owner", "starts", "tx"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredQuota:
    """An owner's quota as it was read. An empty `etag` means that it is not stored yet."""

    owner: str
    # The times of the last starts, in the order of their acceptance.
    starts: tuple[datetime, ...] = ()
    # How many runs of the owner are pending in this shard. It is not stored.
    pending: int = 0
    etag: str = ""
    # Properties of its row that a later version of this app has written.
    unknown: Mapping[str, Value] = field(default_factory=dict)

    @property
    def shard(self) -> str:
        return home_shard(self.owner)


class QuotaStore:
    """Reads quotas, and writes those of starts that are stored elsewhere."""

    def __init__(self, table: Table, randomness: Randomness, limits: Limits) -> None:
        self._table = table
        self._randomness = randomness
        self.limits = limits

    async def read(self, owner: str, *, again: bool = False) -> StoredQuota:
        """Return the quota of an owner with his pending runs, in one operation.

        The row of the quota comes before those of pending runs, with or without waits. So a run that is missing because it
        was stored during the query has changed the quota since, also when the storage answers the query in pages.

        `again`: the quota was read before, and could not be written. A row that does not name its owner is found then too.
        """
        shard, key = home_shard(owner), rows.quota_key(owner)
        if self.limits.pending_runs is None:
            row = await self._table.get(shard, key)
            return _stored(owner, row, 0)
        found = await self._table.query(shard, key, rows.bounds("pending")[1], where={"owner": owner})
        row = next((each for each in found if each.key == key), None)
        if row is None and again:
            row = await self._table.get(shard, key)
        return _stored(owner, row, sum(map(_is_pending, found)))

    async def write(self, quota: StoredQuota) -> None:
        """Replace a quota. Raises RowConflict when it has changed since it was read."""
        tx = new_tx(self._randomness)
        await transact(self._table, quota.shard, rows.quota_key(quota.owner), tx, quota_writes(quota, tx))


def quota_writes(quota: StoredQuota | None, tx: str) -> list[Write]:
    """Return the write of a quota, on condition that it has not changed since it was read."""
    if quota is None:
        return []
    values: dict[str, Value] = {**quota.unknown, "owner": quota.owner, "tx": tx}
    if quota.starts:
        values["starts"] = rows.pack([(at - _EPOCH) // _MICROSECOND for at in quota.starts])
    row = Row(rows.quota_key(quota.owner), values)
    return [Put(row, quota.etag) if quota.etag else Insert(row)]


def _stored(owner: str, row: Row | None, pending: int) -> StoredQuota:
    """Return what a row holds. What is not readable counts as no start: a broken row must not lock its owner out."""
    if row is None:
        return StoredQuota(owner=owner, pending=pending)
    try:
        starts = _read_starts(row)
    except UnreadableRow as fault:
        log_skipped(fault)
        return StoredQuota(owner=owner, pending=pending, etag=row.etag)
    unknown = {name: value for name, value in row.values.items() if name not in _PROPERTIES}
    return StoredQuota(owner=owner, starts=starts, pending=pending, etag=row.etag, unknown=unknown)


@rows.reader
def _read_starts(row: Row) -> tuple[datetime, ...]:
    """Return the times of starts. Raises UnreadableRow."""
    if "starts" not in row.values:
        return ()
    stored = rows.unpack(row.values["starts"])
    if not isinstance(stored, list) or len(stored) > MAX_STARTS_PER_MINUTE:
        raise ValueError("these are no times of starts")
    return tuple(_EPOCH + rows.count({"at": each}, "at") * _MICROSECOND for each in stored)


def _is_pending(row: Row) -> bool:
    """Return whether a row is that of a pending run. A broken one must not count for ever."""
    if row.key.startswith(rows.PAUSED):
        # Other runs with calls that wait are owed a step, too, and have a row for that.
        return bool(row.values.get("paused"))
    if not row.key.startswith(rows.TICK_KEY):
        return False
    try:
        return not read_owed(row).status.terminal
    except UnreadableRow as fault:
        log_skipped(fault)
        return False
