"""Transactions whose outcome is known even when the reply was lost."""

from collections.abc import Sequence
from typing import NamedTuple

from shared.errors import RowConflict, StorageUnavailable
from shared.ports.system import Randomness
from shared.ports.tables import Row, Table, Write

_TX_BYTES = 8


class Written(NamedTuple):
    """What is known of a row after its transaction."""

    etag: str
    # Read when the reply was lost. It may have changed since then as far as its proof allows.
    row: Row | None = None


def new_tx(randomness: Randomness) -> str:
    """Return a random name for one transaction.

    It is stored in a row, which then shows that the transaction took effect.
    """
    return randomness.bytes(_TX_BYTES).hex()


async def transact(
    table: Table, partition: str, key: str, tx: str, writes: Sequence[Write], *, proof: str = "tx"
) -> Written:
    """Carry out all writes or none. The first is that of `key`.

    When the reply is lost or reports a conflict, the row of `key` is read again. If it holds this `tx` as `proof`,
    the writes took effect: a repeated request after a lost reply conflicts with itself. Raises RowConflict or
    StorageUnavailable.
    """
    try:
        return Written(await table.write(partition, writes))
    except (RowConflict, StorageUnavailable):
        row = await table.get(partition, key)
        if row and row.values.get(proof) == tx:
            return Written(row.etag, row)
        raise
