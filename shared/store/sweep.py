"""Removal of many rows, also while others remove some of them."""

from shared.errors import RowConflict, StorageUnavailable
from shared.ports.tables import Delete, Table

# Azure Table Storage: a transaction holds 100 writes.
WRITES_PER_TRANSACTION = 100
_ATTEMPTS = 20


async def sweep(table: Table, partition: str, first: str, end: str) -> None:
    """Remove all rows with `first` <= key < `end`. Raises StorageUnavailable when there is no end to it."""
    for _ in range(_ATTEMPTS):
        keys = [row.key for row in await table.query(partition, first, end)]
        try:
            for start in range(0, len(keys), WRITES_PER_TRANSACTION):
                some = keys[start : start + WRITES_PER_TRANSACTION]
                await table.write(partition, [Delete(key) for key in some])
        except RowConflict:
            # Somebody else removed one of them: look again.
            continue
        return
    raise StorageUnavailable(f"Rows of {partition} kept changing while they were removed.")
