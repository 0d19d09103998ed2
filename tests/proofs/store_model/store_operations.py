"""The operations of the stores, which run on either side of a twin."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import SimpleNamespace

from shared.core import ids
from shared.core.delivery import ClockRow
from shared.core.log import RunQueued
from shared.core.run import Content
from shared.errors import StorageUnavailable
from shared.ports.tables import Row, Table
from shared.store import rows
from shared.store.keys import StoredKey
from shared.store.outbox import Outbox, StoredDelivery, read_delivery
from shared.store.run_rows import read_run
from shared.store.runs import StoredRun
from shared.store.sessions import StoredSession, read_session
from shared.store.shards import Tick
from shared.store.waits import PausedRun
from tests.proofs.store_model.store_data import (
    DELIVERIES,
    RUNS,
    SESSIONS,
    new_delivery,
    new_run,
    new_session,
)
from tests.proofs.store_model.twin import Twin
from tests.support.world import stores


class Numbered:
    """Randomness that returns the same `tx` to the model and to the system for the same step of the same writer."""

    def __init__(self, *place: object) -> None:
        self._place, self._count = place, 0

    def bytes(self, count: int) -> bytes:
        self._count += 1
        return hashlib.sha256(f"{self._place}{self._count}".encode()).digest()[:count]

    def fraction(self) -> float:
        return 0.5


class Torn:
    """A table whose next write is lost: the "request", so that it has no effect, or the "reply"."""

    def __init__(self, table: Table, lost: str) -> None:
        self.get, self.query, self.query_each = table.get, table.query, table.query_each
        self._write, self._lost = table.write, lost

    async def write(self, partition, writes):
        lost, self._lost = self._lost, ""
        if lost == "request":
            raise StorageUnavailable("no answer")
        etag = await self._write(partition, writes)
        if lost == "reply":
            raise StorageUnavailable("no answer")
        return etag


@dataclass(frozen=True)
class Act:
    """An operation of a store, for either side. `partitions` are those that it may change in its table."""

    table: str
    partitions: Sequence[str]
    call: Callable[[int, "Stores"], Awaitable[object]]


class Stores(SimpleNamespace):
    def __init__(self, tables: Mapping[str, Table], *place: object) -> None:
        super().__init__(**stores(tables["runs"], tables["content"], Numbered(*place)))


class Operations:
    """Builds acts from drawn arguments; None if there is no row for it yet.

    A `version` 0 of a row is the newest that was seen, 1 the one before and so on; None is for a writer that has
    seen no row.
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
            known = read_session(seen[side]) if seen else new_session(run // 2)
            held = StoredSession(replace(known, **session), seen[side].etag if seen else "")
            return stores.runs.insert(fresh, held, [RunQueued()])

        return Act("runs", [ids.shard_of(fresh.id)], call)

    def commit(self, run: int, version: int, **written) -> Act | None:
        there = [each for each in RUNS if self._seen(each, rows.run_key(each), 0)]
        run_id = there[run % len(there)]
        seen = self._seen(run_id, rows.run_key(run_id), version)
        if seen is None:
            return None

        entries = written["entries"]

        def call(side: int, stores: Stores) -> Awaitable[object]:
            before = StoredRun(read_run(seen[side]), seen[side].etag)
            counts = {
                "entries": before.run.entries + len(entries),
                "stream_events": before.run.stream_events + sum(entry.stream_events for entry in entries),
            }
            after = replace(before.run, **written["changes"], **counts)
            owed = [new_delivery(run_id, *each) for each in written["deliveries"]]
            results, answers = written["results"], written["answers"]
            return stores.runs.commit(
                before, after, entries, results=results, answers=answers, deliveries=owed
            )

        return Act("runs", [ids.shard_of(run_id)], call)

    def read(self, run: int) -> Act:
        return Act("runs", [], lambda _, stores: stores.runs.read(RUNS[run]))

    def log(self, run: int, after: int, limit: int | None) -> Act:
        return Act("runs", [], lambda _, stores: stores.runs.log(RUNS[run], after, limit))

    def results(self, run: int, turn: int) -> Act:
        return Act("runs", [], lambda _, stores: stores.runs.results(RUNS[run], turn))

    def answers(self, run: int) -> Act:
        return Act("runs", [], lambda _, stores: stores.runs.answers(RUNS[run]))

    def approvals(self, owner: str | None, first: PausedRun | None, limit: int) -> Act:
        return Act("runs", [], lambda _, stores: stores.waits.approvals(owner, first=first, limit=limit))

    def drop_clock(self, clock: ClockRow) -> Act:
        return Act("runs", [ids.shard_of(clock.run_id)], lambda _, stores: stores.waits.drop_clock(clock))

    def purge(self, run: int) -> Act:
        return Act("runs", [ids.shard_of(RUNS[run])], lambda _, stores: stores.runs.purge(RUNS[run]))

    def delivery(self, which: int, due: datetime | None) -> Act | None:
        """Read a delivery by its clock row, or by a clock row of another time."""
        return self._on_delivery(
            which,
            0,
            lambda outbox, stored: outbox.read(
                replace(stored.delivery, due=due or stored.delivery.due).clock
            ),
        )

    def move(self, which: int, version: int, due: datetime) -> Act | None:
        return self._on_delivery(which, version, lambda outbox, stored: outbox.move(stored, due))

    def remove(self, which: int, version: int) -> Act | None:
        return self._on_delivery(which, version, lambda outbox, stored: outbox.remove(stored))

    def _on_delivery(
        self, which: int, version: int, action: Callable[[Outbox, StoredDelivery], Awaitable[object]]
    ) -> Act | None:
        keys = [(run_id, rows.delivery_key(run_id, name)) for run_id in RUNS for name in DELIVERIES]
        there = [place for place in keys if self._seen(*place, 0)]
        if not there:
            return None
        run_id, key = there[which % len(there)]
        seen = self._seen(run_id, key, version)
        if seen is None:
            return None

        def call(side: int, stores: Stores) -> Awaitable[object]:
            delivery = read_delivery(seen[side])
            assert delivery
            return action(stores.outbox, StoredDelivery(delivery, seen[side].etag, seen[side].values))

        return Act("runs", [ids.shard_of(run_id)], call)

    def owed(self, shard: str, now: datetime) -> Act:
        return Act("runs", [], lambda _, stores: stores.shards.owed(shard, now))

    def claim_tick(self, shard: str, version: int | None, at: datetime) -> Act:
        seen = self.twins["runs"].versions(shard, rows.TICK_KEY)
        known = seen[-1 - version] if version is not None and version < len(seen) else None

        def call(side: int, stores: Stores) -> Awaitable[object]:
            return stores.shards.claim(shard, Tick(None, known[side].etag if known else ""), at)

        return Act("runs", [shard], call)

    def listing(self, **selection) -> Act:
        return Act("runs", [], lambda _, stores: stores.runs.listing(**selection))

    def read_session(self, session: int) -> Act:
        return Act("runs", [], lambda _, stores: stores.sessions.read(SESSIONS[session]))

    def write_session(self, session: int, version: int, changes) -> Act | None:
        seen = self._seen(SESSIONS[session], rows.session_key(SESSIONS[session]), version)
        if seen is None:
            return None

        def call(side: int, stores: Stores) -> Awaitable[object]:
            held = StoredSession(replace(read_session(seen[side]), **changes), seen[side].etag)
            return stores.sessions.write(held)

        return Act("runs", [ids.shard_of(SESSIONS[session])], call)

    def read_key(self, key: str) -> Act:
        return Act("runs", [], lambda _, stores: stores.keys.read(ids.key_shard(key), key))

    def claim_key(self, key: str, meant: StoredKey, at: datetime) -> Act:
        shard = ids.key_shard(key)
        return Act("runs", [shard], lambda _, stores: stores.keys.claim(shard, key, meant, at))

    def save(self, run: int, name: str, text: str) -> Act:
        return Act("content", [RUNS[run]], lambda _, stores: stores.content.save(RUNS[run], name, text))

    def load(self, run: int, content: Content) -> Act:
        return Act("content", [], lambda _, stores: stores.content.load(RUNS[run], content))

    def drop(self, run: int, content: Content) -> Act:
        return Act("content", [RUNS[run]], lambda _, stores: stores.content.drop(RUNS[run], content))

    def purge_content(self, run: int) -> Act:
        return Act("content", [RUNS[run]], lambda _, stores: stores.content.purge(RUNS[run]))
