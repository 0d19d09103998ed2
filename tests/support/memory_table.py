"""Tables in memory: the model that the real ones are held against, and what simulations run on."""

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
        wanted = (where or {}).items()
        return [row for row in found if all(row.values.get(name) == value for name, value in wanted)][:limit]

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
        match writes[0]:
            case Delete():
                return ""
            case Insert(row) | Put(row) | Merge(row):
                return rows[row.key].etag

    def _carry_out(self, write: Write, rows: dict[str, Row]) -> None:
        match write:
            case Delete(key):
                del rows[key]
            case Insert(row) | Put(row):
                self._store(row.key, row.values, rows)
            case Merge(row):
                self._store(row.key, {**rows[row.key].values, **row.values}, rows)

    def _store(self, key: str, values: Mapping[str, Value], rows: dict[str, Row]) -> None:
        self._etag += 1
        rows[key] = Row(key, dict(values), str(self._etag))


def _check(write: Write, rows: Mapping[str, Row]) -> None:
    match write:
        case Insert(row) if row.key in rows:
            raise RowConflict(row.key)
        case Put(row, etag) if etag and (row.key not in rows or rows[row.key].etag != etag):
            raise RowConflict(row.key)
        case Merge(Row(key=key)) | Delete(key) if key not in rows:
            raise RowConflict(key)
