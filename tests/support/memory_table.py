"""Tables in memory: for tests and simulations, and the model with which the real tables are compared."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence

from shared.adapters.azure_tables.limits import check_key, check_writes
from shared.errors import RowConflict
from shared.ports.tables import Delete, Insert, Merge, Put, Row, Value, Write


class MemoryTable:
    """A `Table` without IO. Etags are numbers that never repeat."""

    def __init__(self) -> None:
        self._partitions: dict[str, dict[str, Row]] = defaultdict(dict)
        self._etag = 0

    async def get(self, partition: str, key: str) -> Row | None:
        check_key(partition)
        check_key(key)
        return self._partitions[partition].get(key)

    async def query(
        self,
        partition: str,
        first: str,
        end: str,
        *,
        where: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        rows = self._partitions[partition]
        keys = sorted(rows)
        found = [rows[key] for key in keys[bisect_left(keys, first) : bisect_left(keys, end)]]
        if where:
            wanted = where.items()
            found = [row for row in found if all(row.values.get(name) == value for name, value in wanted)]
        return found[:limit]

    async def query_each(
        self, bounds: Mapping[str, tuple[str, str]], *, where: Mapping[str, str], limit: int
    ) -> list[Row]:
        found = [await self.query(shard, *ends, where=where, limit=limit) for shard, ends in bounds.items()]
        return [row for rows in found for row in rows]

    async def write(self, partition: str, writes: Sequence[Write]) -> str:
        check_writes(partition, writes)
        rows = self._partitions[partition]
        for write in writes:
            _check(write, rows)
        for write in writes:
            self._carry_out(write, rows)
        first = writes[0]
        return "" if isinstance(first, Delete) else rows[first.row.key].etag

    def _carry_out(self, write: Write, rows: dict[str, Row]) -> None:
        if isinstance(write, Delete):
            del rows[write.key]
        elif isinstance(write, Merge):
            self._store(write.row.key, {**rows[write.row.key].values, **write.row.values}, rows)
        else:
            self._store(write.row.key, dict(write.row.values), rows)

    def _store(self, key: str, values: dict[str, Value], rows: dict[str, Row]) -> None:
        self._etag += 1
        rows[key] = Row(key, values, str(self._etag))


def _check(write: Write, rows: Mapping[str, Row]) -> None:
    key = write.key if isinstance(write, Delete) else write.row.key
    there = rows.get(key)
    if isinstance(write, Insert):
        holds = there is None
    elif isinstance(write, Put):
        holds = not write.etag or (there is not None and there.etag == write.etag)
    else:
        version = write.etag if isinstance(write, Merge) else ""
        holds = there is not None and version in {"", there.etag}
    if not holds:
        raise RowConflict(key)
