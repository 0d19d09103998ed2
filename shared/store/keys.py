"""Idempotency keys in the `runs` table, each with the ids of its run and session."""

from dataclasses import asdict, dataclass
from datetime import datetime

from shared.errors import RowConflict, StorageUnavailable
from shared.ports.tables import Insert, Row, Table, Value
from shared.store import rows


@dataclass(frozen=True, slots=True)
class StoredKey:
    """The ids that belong to an Idempotency-Key, and the fingerprint of the request that used it first."""

    run_id: str
    session_id: str
    fingerprint: str


class KeyStore:
    """Reads keys and claims them. The first request with a key claims it."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def read(self, shard: str, hashed: str) -> StoredKey | None:
        """Return the ids that are stored for a key, or None."""
        row = await self._table.get(shard, f"key|{hashed}")
        if row is None:
            return None
        return StoredKey(*(str(row.values[name]) for name in ("run_id", "session_id", "fingerprint")))

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
