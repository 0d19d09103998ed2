"""What an Idempotency-Key stands for, in the `runs` table."""

from dataclasses import asdict, dataclass
from datetime import datetime

from shared.errors import RowConflict, StorageUnavailable
from shared.ports.tables import Insert, Row, Table, Value
from shared.store import rows


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What an Idempotency-Key stands for."""

    run_id: str
    session_id: str
    fingerprint: str


class KeyStore:
    """Reads keys, and claims them: whoever comes first decides what a key stands for."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def read(self, shard: str, hashed: str) -> StoredKey | None:
        """Return what a key stands for, if anything."""
        row = await self._table.get(shard, f"key|{hashed}")
        if row is None:
            return None
        return StoredKey(*(str(row.values[name]) for name in ("run_id", "session_id", "fingerprint")))

    async def claim(self, shard: str, hashed: str, meant: StoredKey, now: datetime) -> StoredKey:
        """Store what a key stands for unless it stands for something already; return what it stands for."""
        values: dict[str, Value] = {**asdict(meant), "created_at": rows.time_text(now)}
        try:
            await self._table.write(shard, [Insert(Row(f"key|{hashed}", values))])
        except (RowConflict, StorageUnavailable):
            if stored := await self.read(shard, hashed):
                return stored
            raise
        return meant
