"""Runs, their log, their sessions and their keys, over any `Table`.

Each transition of a run is one write: the run's row on condition that it is as it was read, its
pending row, its session, its tool results, its log entries. Every write carries a random `tx`; when
the reply is lost or speaks of a conflict, the row is read again, and its own `tx` there means that
the write took effect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from shared.core.ids import all_shards, position, shard_of
from shared.core.life.events import Record
from shared.core.run import Content, Pending, Run, RunStatus, Session
from shared.errors import RowConflict, StorageUnavailable
from shared.log import say_fault
from shared.ports.system import Randomness
from shared.ports.tables import Delete, Insert, Merge, Put, Row, Table, Value, Write
from shared.store import rows
from shared.store.sweep import sweep

_TX_BYTES = 8
# The most that one transition writes into a run's log: every tool call of a run, and what goes with them.
MAX_RECORDS = 300


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it was read, with what a conditional write of it needs."""

    run: Run
    etag: str


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as it was read; an empty `etag` means that it is still to be written."""

    session: Session
    etag: str = ""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What an Idempotency-Key stands for."""

    run_id: str
    session_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Tick:
    """When a shard was last polled; `at` is None before its first time."""

    at: datetime | None
    etag: str


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry of a run's log, as it is stored. `seq` counts from 1 without a gap."""

    seq: int
    type: str
    at: datetime
    data: Mapping[str, Any]

    @property
    def piece(self) -> Content | None:
        """Where the text lies that a slice brought, if this entry tells of one."""
        if "name" not in self.data or self.type != "text.delta":
            return None
        return Content(name=str(self.data["name"]), chunks=int(self.data["chunks"]))


@dataclass(frozen=True, slots=True)
class CallResult:
    """The stored result of a tool call: `output` is what the model is told."""

    turn: int
    call_id: str
    output: Content


class RunStore:
    """All that Baton stores in the `runs` table."""

    def __init__(self, table: Table, randomness: Randomness) -> None:
        self._table = table
        self._randomness = randomness

    async def read(self, run_id: str) -> StoredRun | None:
        """Return the run, in one point read; a tombstone is returned like any other."""
        row = await self._table.get(shard_of(run_id), rows.run_key(run_id))
        return StoredRun(rows.read_run(row), row.etag) if row else None

    async def insert(self, run: Run, held: StoredSession, records: Sequence[Record]) -> StoredRun:
        """Write a new run together with the session that it now holds.

        Raises RowConflict when the run exists or the session has changed.
        """
        tx = self._tx()
        session = rows.session_row(held.session, tx)
        writes: list[Write] = [
            Insert(rows.run_row(run, tx)),
            Put(session, held.etag) if held.etag else Insert(session),
            *_pending_writes(None, run),
            *_log_writes(run, records),
        ]
        return StoredRun(run, await self._transact(run.id, tx, writes))

    async def commit(
        self, before: StoredRun, after: Run, records: Sequence[Record], results: Sequence[CallResult] = ()
    ) -> StoredRun:
        """Write one transition. Raises RowConflict when the run is no longer as `before` says."""
        tx = self._tx()
        writes: list[Write] = [
            Put(rows.run_row(after, tx), before.etag),
            *_pending_writes(before.run, after),
            *_session_writes(before.run, after),
            *(Put(_result_row(after.id, result)) for result in results),
            *_log_writes(after, records),
        ]
        return StoredRun(after, await self._transact(after.id, tx, writes))

    async def _transact(self, run_id: str, tx: str, writes: list[Write]) -> str:
        return await self._write(shard_of(run_id), rows.run_key(run_id), tx, writes)

    async def _write(self, shard: str, key: str, tx: str, writes: list[Write]) -> str:
        """Write, and find out by the row of `key` whether a write took effect whose reply was lost."""
        try:
            return await self._table.write(shard, writes)
        except (RowConflict, StorageUnavailable):
            row = await self._table.get(shard, key)
            if row and row.values.get("tx") == tx:
                return row.etag
            raise

    def _tx(self) -> str:
        return self._randomness.bytes(_TX_BYTES).hex()

    async def log(self, run_id: str, after: int = 0, limit: int | None = None) -> list[Logged]:
        """Return the entries of the run's log after `after`, the first `limit` of them."""
        # A row holds the entries of one transition and is named after the first of them.
        first = max(0, after + 1 - MAX_RECORDS)
        found = await self._table.query(
            shard_of(run_id),
            f"event|{run_id}|{first:08d}",
            f"event|{run_id}}}",
            limit=None if limit is None else limit + MAX_RECORDS,
        )
        entries = [entry for row in found for entry in _logged(row) if entry.seq > after]
        return entries[:limit]

    async def results(self, run_id: str, turn: int) -> dict[str, Content]:
        """Return the stored results of one turn's tool calls, by call id."""
        first = f"tool|{run_id}|{turn:02d}|"
        found = await self._table.query(shard_of(run_id), first, f"{first[:-1]}}}")
        return {str(row.values["call_id"]): rows.read_content(row.values.get("output")) for row in found}

    async def purge(self, run_id: str) -> None:
        """Remove a deleted run's log and tool results; its tombstone stays."""
        for kind in ("event", "tool"):
            await sweep(self._table, shard_of(run_id), f"{kind}|{run_id}|", f"{kind}|{run_id}}}")

    async def pending(self, shard: str) -> tuple[Tick, list[Pending]]:
        """Return the shard's tick and everything pending in it, in one query."""
        tick, pending = Tick(None, ""), []
        for row in await self._table.query(shard, *rows.prefix("pending")):
            try:
                if row.key == rows.TICK_KEY:
                    # Even if its time is unreadable it can be replaced.
                    tick = Tick(None, row.etag)
                    tick = Tick(rows.read_time(row.values, "at"), row.etag)
                else:
                    pending.append(rows.read_pending(row))
            except (KeyError, ValueError) as fault:
                # One row that somebody broke must not hide the others.
                say_fault("row.unreadable", fault, shard=shard, row=row.key)
        return tick, pending

    async def claim_tick(self, shard: str, tick: Tick, now: datetime) -> bool:
        """Claim the time from the last tick until now; False when another poller was faster."""
        tx = self._tx()
        row = Row(rows.TICK_KEY, {"at": rows.time_text(now), "tx": tx})
        try:
            await self._write(shard, row.key, tx, [Put(row, tick.etag) if tick.etag else Insert(row)])
        except RowConflict:
            return False
        return True

    async def listing(
        self, owner: str, *, status: str | None, agent: str | None, after: str, limit: int
    ) -> list[Run]:
        """Return up to `limit` of the owner's runs, newest first, that come after the position `after`."""
        where = (
            {"owner": owner} | ({"status": status} if status else {}) | ({"agent": agent} if agent else {})
        )
        bounds = {
            # No position is longer than another, so one more character is the next key.
            shard: (f"run|run_{shard}{after}0" if after else "run|", "run}")
            for shard in all_shards()
        }
        found = await self._table.query_each(bounds, where=where, limit=limit)
        runs = [run for row in found if (run := _readable(row))]
        return sorted(runs, key=lambda run: position(run.id))[:limit]

    async def read_session(self, session_id: str) -> StoredSession | None:
        row = await self._table.get(shard_of(session_id), rows.session_key(session_id))
        return StoredSession(rows.read_session(row), row.etag) if row else None

    async def write_session(self, held: StoredSession) -> None:
        """Replace a session. Raises RowConflict when it has changed since it was read."""
        tx = self._tx()
        row = rows.session_row(held.session, tx)
        await self._write(shard_of(held.session.id), row.key, tx, [Put(row, held.etag)])

    async def read_key(self, shard: str, hashed: str) -> StoredKey | None:
        """Return what a key stands for, if anything."""
        row = await self._table.get(shard, f"key|{hashed}")
        if row is None:
            return None
        return StoredKey(*(str(row.values[name]) for name in ("run_id", "session_id", "fingerprint")))

    async def claim_key(self, shard: str, hashed: str, meant: StoredKey, now: datetime) -> StoredKey:
        """Store what a key stands for unless it stands for something already; return what it stands for."""
        values: dict[str, Value] = {**asdict(meant), "created_at": rows.time_text(now)}
        try:
            await self._table.write(shard, [Insert(Row(f"key|{hashed}", values))])
        except (RowConflict, StorageUnavailable):
            if stored := await self.read_key(shard, hashed):
                return stored
            raise
        return meant


def _readable(row: Row) -> Run | None:
    """Return the run of a row, or None for a row that somebody broke: it must not hide the others."""
    try:
        return rows.read_run(row)
    except (KeyError, ValueError) as fault:
        say_fault("row.unreadable", fault, row=row.key)
        return None


def _pending_writes(before: Run | None, after: Run) -> list[Write]:
    was, now = Pending.of(before) if before else None, Pending.of(after)
    if was == now:
        return []
    return [Put(rows.pending_row(now))] if now else [Delete(rows.pending_key(after.id))]


def _session_writes(before: Run, after: Run) -> list[Write]:
    """Release the session in the transition that ends its run; end the chain when a part of it is deleted."""
    values: dict[str, Value] = {}
    if after.terminal and not before.terminal:
        values["held_by"] = ""
        if after.in_conversation and after.previous_response_id:
            values["last_response_id"] = after.previous_response_id
    if before.in_conversation and after.status is RunStatus.DELETED:
        # The provider's chain would still hold it; without the chain the next run replays what is left.
        values["last_response_id"] = ""
    if not values:
        return []
    values["updated_at"] = rows.time_text(after.updated_at)
    return [Merge(Row(rows.session_key(after.session_id), values))]


def _log_writes(run: Run, records: Sequence[Record]) -> list[Write]:
    """Return the row for the entries of one transition; it is named after the first of them."""
    if not records or run.status is RunStatus.DELETED:
        return []
    first = run.events - len(records) + 1
    entries = [{"seq": first + n, "type": record.type, **record.data} for n, record in enumerate(records)]
    values: dict[str, Value] = {"at": rows.time_text(run.updated_at), "entries": rows.pack(entries)}
    return [Insert(Row(f"event|{run.id}|{first:08d}", values))]


def _logged(row: Row) -> list[Logged]:
    at = rows.read_time(row.values, "at")
    return [
        Logged(entry.pop("seq"), entry.pop("type"), at, entry) for entry in rows.unpack(row.values["entries"])
    ]


def _result_row(run_id: str, result: CallResult) -> Row:
    key = f"tool|{run_id}|{result.turn:02d}|{rows.name_hash(result.call_id)}"
    return Row(key, {"call_id": result.call_id, "output": rows.content_value(result.output)})
