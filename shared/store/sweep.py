"""Removal of many rows, even while other processes remove some of them."""

from collections.abc import Callable, Sequence

from shared.errors import RowConflict, StorageUnavailable
from shared.ports.tables import Delete, Row, Table, Write

# Azure Table Storage: a transaction holds 100 writes.
WRITES_PER_TRANSACTION = 100
_ATTEMPTS = 20


def _only_row(row: Row) -> Sequence[Write]:
    return [Delete(row.key)]


async def sweep(
    table: Table,
    partition: str,
    first: str,
    end: str,
    *,
    removal: Callable[[Row], Sequence[Write]] = _only_row,
) -> None:
    """Remove all rows with `first` <= key < `end`.

    `removal` returns the writes that remove a row together with other rows that belong to it. When these are missing
    again and again, the rows themselves are removed. Raises StorageUnavailable when the rows keep changing.
    """
    for attempt in range(_ATTEMPTS):
        remove = removal if attempt < _ATTEMPTS // 2 else _only_row
        writes = [write for row in await table.query(partition, first, end) for write in remove(row)]
        try:
            for start in range(0, len(writes), WRITES_PER_TRANSACTION):
                await table.write(partition, writes[start : start + WRITES_PER_TRANSACTION])
        except RowConflict:
            # Another process removed one of them: read them again.
            continue
        return
    raise StorageUnavailable(f"Rows of {partition} kept changing while they were removed.")
