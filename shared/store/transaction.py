"""Writes whose outcome is known even when their reply was lost."""

from collections.abc import Sequence

from shared.errors import RowConflict, StorageUnavailable
from shared.ports.system import Randomness
from shared.ports.tables import Table, Write

_TX_BYTES = 8


def new_tx(randomness: Randomness) -> str:
    """Return a random name for one write; the row that tells whether it took effect carries it."""
    return randomness.bytes(_TX_BYTES).hex()


async def transact(table: Table, partition: str, key: str, tx: str, writes: Sequence[Write]) -> str:
    """Carry out all writes or none, and return the new etag of the first, which is that of `key`.

    When the reply is lost, or speaks of a conflict, the row of `key` is read again: this `tx` in it means that the writes
    took effect. Raises RowConflict or StorageUnavailable.
    """
    try:
        return await table.write(partition, writes)
    except (RowConflict, StorageUnavailable):
        row = await table.get(partition, key)
        if row and row.values.get("tx") == tx:
            return row.etag
        raise
