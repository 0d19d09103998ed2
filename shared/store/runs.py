"""Runs and the results of their tool calls, over any `Table`.

Each transition of a run is one transaction. It writes the run's row, on condition that the row is as it was
read, and with it what is owed, the session, tool results, log entries and deliveries.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from shared.core.delivery import Delivery
from shared.core.ids import all_shards, is_id, position, shard_of
from shared.core.log import LogEntry, LogLine
from shared.core.run import Content, Owed, Run, RunStatus
from shared.ports.system import Randomness
from shared.ports.tables import Delete, Insert, Merge, Put, Row, Table, Value, Write
from shared.store import rows
from shared.store.answers import StoredAnswer, answer_row, read_answer
from shared.store.log import log_writes, read_log
from shared.store.outbox import delivery_writes, removal_of_row
from shared.store.quotas import StoredQuota, quota_writes
from shared.store.run_rows import owed_row, read_run, run_row, unknown_values
from shared.store.sessions import StoredSession, session_row, session_writes
from shared.store.sweep import sweep
from shared.store.transaction import new_tx, transact
from shared.store.waits import wait_writes


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it was read, with the etag for a conditional write."""

    run: Run
    etag: str
    # Properties of its row that a later version of this app has written.
    unknown: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """The stored result of a tool call. `output` is the text that is sent to the model."""

    turn: int
    call_id: str
    output: Content
    # Whether the text is the JSON text of content parts, which are sent as such.
    parts: bool = field(default=False, kw_only=True)


# How often a list is read when broken rows take the places of others: enough for a thousand of them.
_ATTEMPTS_TO_LIST = 10


class RunStore:
    """Reads runs and commits their transitions."""

    def __init__(self, table: Table, randomness: Randomness) -> None:
        self._table = table
        self._randomness = randomness

    async def read(self, run_id: str) -> StoredRun | None:
        """Return the run, with one point read. A tombstone is returned too. Raises UnreadableRow.

        The id may come from another row, so it may be anything.
        """
        if not is_id("run", run_id):
            return None
        row = await self._table.get(shard_of(run_id), rows.run_key(run_id))
        return StoredRun(read_run(row), row.etag, unknown_values(row)) if row else None

    async def insert(
        self,
        run: Run,
        held: StoredSession,
        entries: Sequence[LogEntry],
        quota: StoredQuota | None = None,
    ) -> StoredRun:
        """Write a new run together with the session that it now holds, and with its owner's quota if it is given.

        Raises RowConflict when the run exists, or the session or the quota has changed.
        """
        tx = new_tx(self._randomness)
        session = session_row(held, tx)
        writes: list[Write] = [
            Insert(run_row(run, tx)),
            Put(session, held.etag) if held.etag else Insert(session),
            *_owed_writes(None, run),
            *log_writes(run, entries),
            *quota_writes(quota, tx),
        ]
        return await self._transact(run, tx, writes)

    async def commit(
        self,
        before: StoredRun,
        after: Run,
        entries: Sequence[LogEntry] = (),
        *,
        results: Iterable[StoredResult] = (),
        answers: Iterable[StoredAnswer] = (),
        deliveries: Sequence[Delivery] = (),
    ) -> StoredRun:
        """Write one transition. Raises RowConflict when the stored run is no longer `before`."""
        tx = new_tx(self._randomness)
        # Of a deleted run nothing is kept but its tombstone.
        unknown = {} if after.status is RunStatus.DELETED else before.unknown
        writes: list[Write] = [
            Put(run_row(after, tx, unknown), before.etag),
            *_owed_writes(before.run, after),
            *wait_writes(before.run, after),
            *session_writes(before.run, after),
            *(Put(_result_row(after.id, each)) for each in results),
            *(Put(answer_row(after.id, each)) for each in answers),
            *log_writes(after, entries),
            *delivery_writes(deliveries, tx),
        ]
        return await self._transact(after, tx, writes, unknown)

    async def renew(self, before: StoredRun, after: Run) -> StoredRun:
        """Write a renewed lease: a few values, and not the complete row.

        It has a proof of its own: that of a transition must stay, in case its writer has not got the reply yet.
        Raises RowConflict when the stored run is no longer `before`.
        """
        assert after.lease is not None
        tx = new_tx(self._randomness)
        until, due = rows.time_text(after.lease.expires_at), rows.time_text(after.due)
        run = Row(rows.run_key(after.id), {"lease_expires_at": until, "due": due, "renewal": tx})
        owed = Row(rows.owed_key(after.id), {"due": due})
        writes: list[Write] = [Merge(run, before.etag), Merge(owed)]
        return await self._transact(after, tx, writes, before.unknown, proof="renewal")

    async def _transact(
        self,
        after: Run,
        tx: str,
        writes: list[Write],
        unknown: Mapping[str, Value] | None = None,
        *,
        proof: str = "tx",
    ) -> StoredRun:
        shard, key = shard_of(after.id), rows.run_key(after.id)
        etag, row = await transact(self._table, shard, key, tx, writes, proof=proof)
        if row:
            # The lease may have been renewed since, which leaves the proof of a transition as it is.
            read = read_run(row)
            after = replace(after, lease=read.lease, due=read.due)
        return StoredRun(after, etag, unknown or {})

    async def log(self, run_id: str, after: int = 0, limit: int | None = None) -> list[LogLine]:
        """Return the lines of the run's log after the line `after`, at most `limit`."""
        return await read_log(self._table, run_id, after, limit)

    async def results(self, run_id: str, turn: int) -> dict[str, StoredResult]:
        """Return the stored results of one turn's tool calls, by call id."""
        found = await self._table.query(shard_of(run_id), *rows.bounds(f"tool|{run_id}|{turn:02d}"))
        return {result.call_id: result for result in map(_read_result, found)}

    async def answers(self, run_id: str) -> dict[tuple[int, str], StoredAnswer]:
        """Return the stored answers to the run's calls, by turn and call id."""
        found = await self._table.query(shard_of(run_id), *rows.bounds(f"answer|{run_id}"))
        return {(answer.turn, answer.call_id): answer for answer in map(read_answer, found)}

    async def purge(self, run_id: str) -> None:
        """Remove a deleted run's log, tool results, answers and deliveries. Its tombstone stays."""
        for kind in ("event", "tool", "answer"):
            await sweep(self._table, shard_of(run_id), *rows.bounds(f"{kind}|{run_id}"))
        await sweep(
            self._table,
            shard_of(run_id),
            *rows.bounds(f"delivery|{run_id}"),
            removal=removal_of_row,
        )

    async def listing(
        self, owner: str, *, status: str | None, agent: str | None, after: str, limit: int, until: str = ""
    ) -> list[Run]:
        """Return up to `limit` of the owner's runs, newest first.

        They come after the position `after`, and before the position `until` if there is one.
        """
        where = (
            {"owner": owner} | ({"status": status} if status else {}) | ({"agent": agent} if agent else {})
        )
        bounds = {
            # All positions have the same length, so a key with one more character is the first one after.
            shard: (
                f"run|run_{shard}{after}0" if after else "run|",
                f"run|run_{shard}{until}" if until else "run}",
            )
            for shard in all_shards()
        }
        broken, runs = 0, list[Run]()
        for _ in range(_ATTEMPTS_TO_LIST):
            found = await self._table.query_each(bounds, where=where, limit=limit + broken)
            runs = [run for row in found if (run := rows.readable(read_run, row))]
            # Broken rows took the place of others, so as many more are read.
            if len(found) - len(runs) <= broken:
                break
            broken = 2 * (len(found) - len(runs))
        return sorted(runs, key=lambda run: position(run.id))[:limit]


@rows.reader
def _read_result(row: Row) -> StoredResult:
    return StoredResult(
        turn=int(row.key.split("|")[2]),
        call_id=rows.text(row.values, "call_id"),
        output=rows.read_content(row.values.get("output")),
        parts=bool(row.values.get("parts")),
    )


def _owed_writes(before: Run | None, after: Run) -> list[Write]:
    owed_before, owed = Owed.of(before) if before else None, Owed.of(after)
    if owed_before == owed:
        return []
    return [Put(owed_row(owed))] if owed else [Delete(rows.owed_key(after.id))]


def _result_row(run_id: str, result: StoredResult) -> Row:
    key = rows.result_key(run_id, result.turn, result.call_id)
    values = {
        "call_id": result.call_id,
        "output": rows.content_value(result.output),
        "parts": result.parts or None,
    }
    return Row(key, rows.present(values))
