"""Sessions in the `runs` table, each in the partition of its runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.core.ids import shard_of
from shared.core.life.session import session_change
from shared.core.run import DEFAULT_PROVIDER, Run, Session
from shared.ports.system import Randomness
from shared.ports.tables import Merge, Put, Row, Table, Value, Write
from shared.store import rows
from shared.store.run_rows import fields_of
from shared.store.transaction import new_tx, transact

_PROPERTIES = frozenset({*Session.__slots__, "tx"})


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as it was read. An empty `etag` means that it is not stored yet."""

    session: Session
    etag: str = ""
    # Properties of its row that a later version of this app has written.
    unknown: Mapping[str, Value] = field(default_factory=dict)


class SessionStore:
    """Reads sessions, and writes them on condition that they have not changed since."""

    def __init__(self, table: Table, randomness: Randomness) -> None:
        self._table = table
        self._randomness = randomness

    async def read(self, session_id: str) -> StoredSession | None:
        row = await self._table.get(shard_of(session_id), rows.session_key(session_id))
        return StoredSession(read_session(row), row.etag, _unknown_values(row)) if row else None

    async def write(self, stored: StoredSession) -> None:
        """Replace a session. Raises RowConflict when it has changed since it was read."""
        tx = new_tx(self._randomness)
        row = session_row(stored, tx)
        await transact(self._table, shard_of(stored.session.id), row.key, tx, [Put(row, stored.etag)])


def session_row(stored: StoredSession, tx: str) -> Row:
    session = stored.session
    values = rows.present(
        fields_of(session)
        | {
            "tx": tx,
            "provider": session.provider if session.provider != DEFAULT_PROVIDER else None,
            "awaits_outputs": session.awaits_outputs or None,
            "deleted": session.deleted or None,
        }
    )
    del values["id"]
    return Row(rows.session_key(session.id), {**stored.unknown, **values})


def _unknown_values(row: Row) -> dict[str, Value]:
    return {name: value for name, value in row.values.items() if name not in _PROPERTIES}


@rows.reader
def read_session(row: Row) -> Session:
    """Return the session of a row. Raises UnreadableRow."""
    values = row.values
    return Session(
        id=row.key.partition("|")[2],
        owner=rows.text(values, "owner"),
        agent=rows.agent(values),
        created_at=rows.read_time(values, "created_at"),
        updated_at=rows.read_time(values, "updated_at"),
        # A merge cannot remove a property, so an empty value means None.
        held_by=rows.optional_text(values, "held_by") or None,
        last_run_id=rows.optional_text(values, "last_run_id"),
        last_response_id=rows.optional_text(values, "last_response_id") or None,
        runs=rows.count(values, "runs"),
        provider=rows.optional_text(values, "provider") or DEFAULT_PROVIDER,
        awaits_outputs=bool(values.get("awaits_outputs")),
        deleted=bool(values.get("deleted")),
    )


def session_writes(before: Run, after: Run) -> list[Write]:
    """Return the write for what a transition changes in the run's session, if anything."""
    change = session_change(before, after)
    if change is None:
        return []
    values: dict[str, Value] = {"updated_at": rows.time_text(after.updated_at)}
    if change.released:
        values["held_by"] = ""
    if change.last_response_id is not None:
        values["last_response_id"] = change.last_response_id
    if change.awaits_outputs is not None:
        values["awaits_outputs"] = change.awaits_outputs
    return [Merge(Row(rows.session_key(after.session_id), values))]
