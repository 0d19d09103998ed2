"""Operations of the stores, to be carried out on either side of a twin."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shared.core import ids
from shared.core.life.events import Record
from shared.core.run import Content
from shared.errors import StorageUnavailable
from shared.ports.tables import Row, Table
from shared.store import rows
from shared.store.content import ContentStore
from shared.store.runs import RunStore, StoredKey, StoredRun, StoredSession, Tick
from tests.proofs.store_model.store_data import RUNS, SESSIONS, new_run, new_session
from tests.proofs.store_model.twin import Twin


class Numbered:
    """Randomness that gives the model and the system the same `tx` for the same step of the same writer."""

    def __init__(self, *place: object) -> None:
        self._place, self._count = place, 0

    def bytes(self, count: int) -> bytes:
        self._count += 1
        return hashlib.sha256(f"{self._place}{self._count}".encode()).digest()[:count]

    def fraction(self) -> float:
        return 0.5


class Torn:
    """A table the reply to whose next write is lost, or whose next write never was."""

    def __init__(self, table: Table, reply: str) -> None:
        self.get, self.query, self.query_each = table.get, table.query, table.query_each
        self._write, self._reply = table.write, reply

    async def write(self, partition, writes):
        reply, self._reply = self._reply, "arrives"
        if reply == "never was":
            raise StorageUnavailable("nobody answered")
        etag = await self._write(partition, writes)
        if reply == "is lost":
            raise StorageUnavailable("nobody answered")
        return etag


@dataclass(frozen=True)
class Act:
    """An operation of a store, on either side: `partitions` are what it may change of its table."""

    table: str
    partitions: Sequence[str]
    call: Callable[[int, "Stores"], Awaitable[object]]


class Stores:
    def __init__(self, tables: Mapping[str, Table], *place: object) -> None:
        self.runs = RunStore(tables["runs"], Numbered(*place))
        self.content = ContentStore(tables["content"])


class Operations:
    """Makes acts of what was drawn; None where there is no row yet to work on.

    A `version` 0 of a row is the newest that was seen, 1 the one before and so on; None is that of a writer
    who knows of no row.
    """

    def __init__(self, twins: Mapping[str, Twin]) -> None:
        self.twins = twins

    def _seen(self, identifier: str, key: str, version: int | None) -> tuple[Row, Row] | None:
        seen = self.twins["runs"].versions(ids.shard_of(identifier), key)
        return seen[-1 - version] if version is not None and version < len(seen) else None

    def insert(self, run: int, version: int | None, changes, session) -> Act:
        fresh, key = new_run(run, changes), rows.session_key(SESSIONS[run // 2])
        seen = self._seen(fresh.session_id, key, version)

        def call(side: int, stores: Stores) -> Awaitable[object]:
            known = rows.read_session(seen[side]) if seen else new_session(run // 2)
            held = StoredSession(replace(known, **session), seen[side].etag if seen else "")
            return stores.runs.insert(fresh, held, [Record("run.queued")])

        return Act("runs", [ids.shard_of(fresh.id)], call)

    def commit(self, run: int, version: int, changes, records, results) -> Act | None:
        there = [each for each in RUNS if self._seen(each, rows.run_key(each), 0)]
        run_id = there[run % len(there)]
        seen = self._seen(run_id, rows.run_key(run_id), version)
        if seen is None:
            return None

        def call(side: int, stores: Stores) -> Awaitable[object]:
            before = StoredRun(rows.read_run(seen[side]), seen[side].etag)
            after = replace(before.run, **changes, events=before.run.events + len(records))
            return stores.runs.commit(before, after, records, results)

        return Act("runs", [ids.shard_of(run_id)], call)

    def read(self, run: int) -> Act:
        return Act("runs", [], lambda _, stores: stores.runs.read(RUNS[run]))

    def results(self, run: int, turn: int) -> Act:
        return Act("runs", [], lambda _, stores: stores.runs.results(RUNS[run], turn))

    def purge(self, run: int) -> Act:
        return Act("runs", [ids.shard_of(RUNS[run])], lambda _, stores: stores.runs.purge(RUNS[run]))

    def pending(self, shard: str) -> Act:
        return Act("runs", [], lambda _, stores: stores.runs.pending(shard))

    def claim_tick(self, shard: str, version: int | None, at: datetime) -> Act:
        seen = self.twins["runs"].versions(shard, rows.TICK_KEY)
        known = seen[-1 - version] if version is not None and version < len(seen) else None

        def call(side: int, stores: Stores) -> Awaitable[object]:
            return stores.runs.claim_tick(shard, Tick(None, known[side].etag if known else ""), at)

        return Act("runs", [shard], call)

    def listing(self, **asked) -> Act:
        return Act("runs", [], lambda _, stores: stores.runs.listing(**asked))

    def read_session(self, session: int) -> Act:
        return Act("runs", [], lambda _, stores: stores.runs.read_session(SESSIONS[session]))

    def write_session(self, session: int, version: int, changes) -> Act | None:
        seen = self._seen(SESSIONS[session], rows.session_key(SESSIONS[session]), version)
        if seen is None:
            return None

        def call(side: int, stores: Stores) -> Awaitable[object]:
            held = StoredSession(replace(rows.read_session(seen[side]), **changes), seen[side].etag)
            return stores.runs.write_session(held)

        return Act("runs", [ids.shard_of(SESSIONS[session])], call)

    def read_key(self, key: str) -> Act:
        return Act("runs", [], lambda _, stores: stores.runs.read_key(ids.key_shard(key), key))

    def claim_key(self, key: str, meant: StoredKey, at: datetime) -> Act:
        shard = ids.key_shard(key)
        return Act("runs", [shard], lambda _, stores: stores.runs.claim_key(shard, key, meant, at))

    def save(self, run: int, name: str, text: str) -> Act:
        return Act("content", [RUNS[run]], lambda _, stores: stores.content.save(RUNS[run], name, text))

    def load(self, run: int, content: Content) -> Act:
        return Act("content", [], lambda _, stores: stores.content.load(RUNS[run], content))

    def drop(self, run: int, content: Content) -> Act:
        return Act("content", [RUNS[run]], lambda _, stores: stores.content.drop(RUNS[run], content))

    def purge_content(self, run: int) -> Act:
        return Act("content", [RUNS[run]], lambda _, stores: stores.content.purge(RUNS[run]))
