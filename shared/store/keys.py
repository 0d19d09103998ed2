"""Idempotency keys in the `runs` table, each with the ids of its run and session."""

from dataclasses import asdict, dataclass
from datetime import datetime

from shared.errors import RowConflict, StorageUnavailable
from shared.ports.tables import Insert, Put, Row, Table, Value
from shared.store import rows


@dataclass(frozen=True, slots=True)
class StoredKey:
    """The ids that belong to an Idempotency-Key, and the fingerprint of the request that used it first."""

    run_id: str
    session_id: str
    # Empty once the run was deleted, because it is a hash of the input.
    fingerprint: str

    def is_of(self, fingerprint: str) -> bool:
        """Return whether a request with this fingerprint may have been the first, as far as that is still known."""
        return self.fingerprint in {"", fingerprint}


class KeyStore:
    """Reads keys and claims them. The first request with a key claims it."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def read(self, shard: str, hashed: str) -> StoredKey | None:
        """Return the ids that are stored for a key, or None."""
        row = await self._table.get(shard, f"key|{hashed}")
        return _read(row) if row else None

    async def claim(self, shard: str, hashed: str, fresh: StoredKey, now: datetime) -> StoredKey:
        """Store `fresh` for a key, unless ids are stored for it already. Return the stored ids."""
        values: dict[str, Value] = {**asdict(fresh), "created_at": rows.time_text(now)}
        try:
            await self._table.write(shard, [Insert(Row(f"key|{hashed}", values))])
        except (RowConflict, StorageUnavailable):
            if stored := await self.read(shard, hashed):
                return stored
            raise
        return fresh

    async def forget(self, shard: str, hashed: str, run_id: str) -> None:
        """Remove the fingerprint of a key whose run was deleted. The key itself stays used."""
        row = await self._table.get(shard, f"key|{hashed}")
        if row is None or row.values.get("run_id") != run_id or not row.values.get("fingerprint"):
            return
        values = {**row.values, "fingerprint": ""}
        try:
            await self._table.write(shard, [Put(Row(row.key, values), row.etag)])
        except RowConflict:
            return


@rows.reader
def _read(row: Row) -> StoredKey:
    """Return what is stored for a key. Raises UnreadableRow."""
    values = row.values
    return StoredKey(
        run_id=rows.identifier("run", values["run_id"]),
        session_id=rows.identifier("ses", values["session_id"]),
        fingerprint=rows.text(values, "fingerprint"),
    )
