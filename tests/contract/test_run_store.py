"""The stores, on every kind of table."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.core import ids
from shared.core.calls import CallStatus, ToolCall
from shared.core.delivery import ClockRow, Delivery
from shared.core.log import RunEnded, RunInProgress, RunQueued, ToolCompleted
from shared.core.response import RunError, Usage
from shared.core.run import Content, Continuation, Lease, OpenItem, Owed, Run, RunStatus, Step
from shared.errors import RowConflict, StorageUnavailable
from shared.ports.tables import Insert, Merge, Row
from shared.store import rows
from shared.store.content import ContentStore
from shared.store.keys import KeyStore, StoredKey
from shared.store.outbox import Outbox
from shared.store.runs import RunStore, StoredResult, StoredRun
from shared.store.sessions import SessionStore, StoredSession
from shared.store.shards import ShardStore, ShardView, Tick
from tests.support.fakes import Seeded
from tests.support.runs import a_delivery, a_logged_run, a_session, an_id

NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
OWNER = "ann o'hara & 宇"
COMPLETED = RunEnded("completed")
# The log entries of the transition to `advanced`.
TWO = [RunInProgress(), ToolCompleted(1, "call/1", "look_up", "completed")]


def new_run(shard: int = 3, number: int = 0, **changes) -> Run:
    fields = {
        "id": an_id("run", shard, number, NOW),
        "session_id": an_id("ses", shard, number, NOW),
        "created_at": NOW + timedelta(seconds=number),
        "owner": OWNER,
        "metadata": {"title": "Zwei Türme \U0001f469\U0001f3fd‍\U0001f680"},
        "input": Content(inline=b"\x00packed"),
    }
    return a_logged_run(**fields | changes)


def stored_key(number: int) -> StoredKey:
    return StoredKey(an_id("run", 3, number, NOW), an_id("ses", 3, number, NOW), f"print_{number}")


async def insert(store: RunStore, run: Run) -> StoredRun:
    return await store.insert(run, StoredSession(a_session(run)), [RunQueued()])


def advanced(run: Run) -> Run:
    """The same run in its second turn, with something in every field."""
    call = ToolCall(
        call_id="call/1", name="look_up", turn=1, idempotent=True, status=CallStatus.COMPLETED,
        started_at=NOW, completed_at=NOW + timedelta(seconds=10),
    )  # fmt: skip
    return replace(
        run,
        stream=True,
        status=RunStatus.IN_PROGRESS,
        step=Step.POLL,
        lease=Lease("lease", NOW + timedelta(minutes=1)),
        rev=2,
        entries=3,
        stream_events=3,
        turn=2,
        turn_started_at=NOW,
        continuation=Continuation("resp_2", 7),
        written=12,
        items=3,
        turn_items=2,
        open_items=(OpenItem(0, 1), OpenItem(1, 2, parts=2, part_open=True)),
        activity="calling look_up",
        missing_since=NOW,
        responses=("resp_1", "resp_2"),
        abandoned=("resp_late",),
        previous_response_id="resp_1",
        previous_run_id="run_before",
        unknown_creates=1,
        started_at=NOW,
        turns=(Content(inline=b"\xff\x00"), Content(name="turn-2", chunks=7)),
        calls=(call,),
        usage=Usage(1, 2, 3),
        error=RunError("code", "message"),
        incomplete_reason="max_turns",
    )


def finished(run: Run) -> Run:
    return replace(
        run, status=RunStatus.COMPLETED, step=Step.NOTHING, completed_at=NOW, responses=("r",),
        previous_response_id="r", continuation=None, rev=run.rev + 1,
        entries=run.entries + 1, stream_events=run.stream_events + 1,
    )  # fmt: skip


def cancellation(run: Run, number: int = 0, seconds: float = 0) -> Delivery:
    """Return a delivery of the run's next transition, due after so many seconds."""
    name, response_id = f"{run.rev + 1:08d}-{number}", f"resp/late?{number} 宇"
    return a_delivery(run.id, name, response_id, due=NOW + timedelta(seconds=seconds))


@pytest.fixture
async def table(new_table):
    return await new_table()


@pytest.fixture
def store(table):
    return RunStore(table, Seeded(1))


@pytest.fixture
def sessions(table):
    return SessionStore(table, Seeded(2))


@pytest.fixture
def shards(table):
    return ShardStore(table, Seeded(3))


@pytest.fixture
def outbox(table):
    return Outbox(table, Seeded(4))


@pytest.fixture
def keys(table):
    return KeyStore(table)


async def test_a_run_is_read_as_it_was_written(store):
    run = new_run()
    inserted = await insert(store, run)
    assert await store.read(run.id) == inserted
    assert inserted.run == run
    later = advanced(run)
    committed = await store.commit(inserted, later, TWO)
    assert await store.read(run.id) == committed
    assert committed.run == later
    assert await store.read(new_run(number=9).id) is None


async def test_a_run_is_inserted_once_and_a_session_held_by_one(store, sessions):
    run, other = new_run(), new_run(number=1)
    await insert(store, run)
    with pytest.raises(RowConflict):
        await insert(store, run)
    with pytest.raises(RowConflict):
        await insert(store, replace(other, session_id=run.session_id))
    assert await store.read(other.id) is None
    assert (await sessions.read(run.session_id)).session == a_session(run)


async def test_of_two_transitions_one_is_written(store, table):
    before = await insert(store, new_run())
    await store.commit(before, advanced(before.run), TWO)
    written = await table.query("03", "", "~")
    output, delivery = StoredResult(1, "call/1", Content(inline=b"late")), cancellation(before.run)
    with pytest.raises(RowConflict):
        await store.commit(before, finished(before.run), [COMPLETED], results=[output], deliveries=[delivery])
    assert await table.query("03", "", "~") == written


async def test_a_transition_that_ends_the_run_frees_its_session(store, sessions, shards):
    before = await insert(store, new_run())
    await store.commit(before, finished(before.run), [COMPLETED])
    session = (await sessions.read(before.run.session_id)).session
    assert (session.held_by, session.last_response_id, session.runs) == (None, "r", 1)
    assert await shards.owed("03", NOW) == ShardView()


async def test_owed_runs_and_the_tick_of_one_shard(store, shards):
    runs = [(await insert(store, new_run(number=n))).run for n in range(3)]
    await insert(store, new_run(shard=4, number=9))
    assert await shards.claim("03", Tick(None, ""), NOW)
    view = await shards.owed("03", NOW)
    assert view.tick.at == NOW
    assert view.runs == [Owed.of(run) for run in reversed(runs)]
    assert view.clocks == []


async def test_a_renewal_is_written_over_the_rows_of_its_run_unless_the_run_has_changed(store, shards):
    before = await insert(store, new_run())
    owed = replace(before.run, step=Step.CREATE, lease=Lease("lease", NOW), due=NOW, rev=1)
    leased = await store.commit(before, owed)
    until = NOW + timedelta(seconds=12)
    renewed = await store.renew(leased, replace(owed, lease=Lease("lease", until), due=until))
    assert await store.read(owed.id) == renewed
    assert (await shards.owed("03", until)).runs == [Owed.of(renewed.run)]
    with pytest.raises(RowConflict):
        await store.renew(leased, renewed.run)
    # The next transition goes on from the renewal, and leaves nothing of it in the row.
    changed = await store.commit(renewed, advanced(renewed.run), TWO)
    assert await store.read(owed.id) == changed
    assert changed.unknown == {}


class Counting:
    """A table that counts the rows that its queries return."""

    def __init__(self, table) -> None:
        self._table = table
        self.rows = 0

    async def query(self, *asked):
        found = await self._table.query(*asked)
        self.rows += len(found)
        return found


async def test_rows_that_are_due_later_are_not_read_by_a_tick(store, shards, table):
    run = (await insert(store, new_run())).run
    await shards.claim("03", Tick(None, ""), NOW)

    def clock(microseconds: int, number: int) -> ClockRow:
        return ClockRow(NOW + timedelta(microseconds=microseconds), run.id, f"{number:08d}-0")

    due = [clock(-(10**12), 7), clock(-1, 1), clock(0, 2), clock(0, 3)]
    later = [clock(microseconds, 1) for microseconds in range(1, 1001)]
    each = [Insert(Row(rows.clock_key(one), {})) for one in due + later]
    for start in range(0, len(each), 100):
        await table.write("03", each[start : start + 100])
    counting = Counting(table)
    view = await ShardStore(counting, Seeded()).owed("03", NOW)
    assert (view.tick.at, view.runs, view.clocks) == (NOW, [Owed.of(run)], due)
    assert counting.rows == len(["tick", "run"]) + len(due)
    assert (await shards.owed("03", NOW + timedelta(milliseconds=1))).clocks == due + later


async def test_an_unreadable_row_hides_no_other(store, shards, table):
    run = (await insert(store, new_run())).run
    broken = ["pending|run_broken", "pending~2026-01-01", f"pending~2025-13-01|{run.id}|00000001-0"]
    await table.write("03", [Insert(Row(key, {})) for key in broken])
    view = await shards.owed("03", NOW)
    assert (view.runs, view.clocks) == ([Owed.of(run)], [])


@pytest.mark.parametrize("first", [True, False])
async def test_of_many_pollers_one_claims_a_tick(shards, first):
    if not first:
        await shards.claim("03", Tick(None, ""), NOW - timedelta(minutes=1))
    tick = (await shards.owed("03", NOW)).tick
    claims = [shards.claim("03", tick, NOW + timedelta(seconds=n)) for n in range(5)]
    assert sorted(await asyncio.gather(*claims)) == [False] * 4 + [True]


async def test_a_listing_is_newest_first_over_all_shards_and_goes_on_after_a_position(store):
    runs = [new_run(shard=n % 16, number=n) for n in range(20)]
    for run in runs:
        await insert(store, run)
    await insert(store, new_run(number=30, owner="bob"))
    newest_first = list(reversed(runs))
    page = await store.listing(OWNER, status=None, agent=None, after="", limit=7)
    rest = await store.listing(OWNER, status=None, agent=None, after=ids.position(page[-1].id), limit=50)
    assert page + rest == newest_first


async def test_a_listing_keeps_to_its_filters(store):
    one, other = new_run(number=1), new_run(number=2, agent="analyst")
    stored = await insert(store, one)
    await insert(store, other)
    await store.commit(stored, finished(one), [COMPLETED])

    async def listed(**asked):
        options = {"status": None, "agent": None, "after": "", "limit": 9} | asked
        return [run.id for run in await store.listing(OWNER, **options)]

    assert await listed(status="completed") == [one.id]
    assert await listed(agent="analyst") == [other.id]
    assert await listed(agent="analyst", status="completed") == []
    assert await store.listing("nobody", status=None, agent=None, after="", limit=9) == []


async def test_the_first_claim_of_a_key_stands(keys):
    meant = [stored_key(n) for n in range(4)]
    stood_for = await asyncio.gather(*(keys.claim("03", "abc", each, NOW) for each in meant))
    assert len(set(stood_for)) == 1
    assert await keys.claim("03", "abc", stored_key(4), NOW) == stood_for[0]


async def test_a_purge_removes_the_results_the_log_and_the_deliveries_of_a_run(store, table, shards):
    before, other = await insert(store, new_run()), await insert(store, new_run(number=1))
    results = [
        StoredResult(1, "call/1?#", Content(inline=b"one")),
        StoredResult(2, "b", Content(name="n", chunks=2), parts=True),
    ]
    deliveries = [cancellation(before.run), cancellation(before.run, number=1, seconds=3600)]
    stored = await store.commit(before, advanced(before.run), TWO, results=results, deliveries=deliveries)
    kept = cancellation(other.run)
    await store.commit(other, advanced(other.run), TWO, deliveries=[kept])
    assert await store.results(before.run.id, 1) == {"call/1?#": results[0]}
    assert await store.results(before.run.id, 2) == {"b": results[1]}
    await store.purge(before.run.id)
    assert await store.results(before.run.id, 1) == {}
    left = [row.key for row in await table.query("03", "", "~") if before.run.id in row.key]
    assert {key.partition("|")[0] for key in left} == {"run", "pending"}
    assert (await shards.owed("03", NOW + timedelta(days=1))).clocks == [kept.clock]
    assert await store.read(before.run.id) == stored


async def test_fields_of_a_later_version_are_ignored_and_kept(store, table):
    inserted = await insert(store, new_run())
    key, later = rows.run_key(inserted.run.id), {"approvals": "two", "turn_limit": 7, "packed": b"\x00"}
    await table.write("03", [Merge(Row(key, later))])
    read = await store.read(inserted.run.id)
    assert (read.run, read.unknown) == (inserted.run, later)
    committed = await store.commit(read, advanced(read.run), TWO)
    assert committed.run == advanced(read.run)
    assert await store.read(read.run.id) == committed
    ended = await store.commit(committed, finished(committed.run), [COMPLETED])
    assert (await store.read(read.run.id)).unknown == ended.unknown == later
    assert later.items() <= (await table.get("03", key)).values.items()


async def outbox_rows(table) -> list[str]:
    keys = [row.key for row in await table.query("03", "", "~")]
    return [key for key in keys if key.startswith(("delivery|", "pending~"))]


async def delivered(store: RunStore, *deliveries: Delivery) -> StoredRun:
    """Store a run whose second transition has deliveries."""
    before = await insert(store, new_run())
    return await store.commit(before, advanced(before.run), TWO, deliveries=deliveries)


async def test_a_delivery_is_written_with_its_transition(store, outbox, shards, table):
    one, other = cancellation(new_run()), cancellation(new_run(), number=1, seconds=60)
    await delivered(store, one, other)
    assert len(await outbox_rows(table)) == 4
    assert (await shards.owed("03", NOW)).clocks == [one.clock]
    assert [(await outbox.read(each.clock)).delivery for each in (one, other)] == [one, other]


async def test_a_delivery_is_moved_with_its_clock_row(store, outbox, shards, table):
    await delivered(store, first := cancellation(new_run()))
    later = NOW + timedelta(seconds=45, microseconds=1)
    moved = await outbox.move(await outbox.read(first.clock), later)
    assert moved.delivery == replace(first, due=later)
    assert await outbox.read(moved.delivery.clock) == moved
    assert (await shards.owed("03", later - timedelta(microseconds=1))).clocks == []
    assert (await shards.owed("03", later)).clocks == [moved.delivery.clock]
    assert len(await outbox_rows(table)) == 2


async def test_a_delivery_that_was_made_leaves_no_row(store, outbox, table):
    one, other = cancellation(new_run()), cancellation(new_run(), number=1)
    await delivered(store, one, other)
    await outbox.remove(await outbox.read(one.clock))
    assert await outbox.read(one.clock) is None
    assert await outbox_rows(table) == [
        rows.delivery_key(other.run_id, other.name),
        rows.clock_key(other.clock),
    ]
    await outbox.remove(await outbox.read(other.clock))
    assert await outbox_rows(table) == []


async def test_a_clock_row_without_a_delivery_is_dropped(store, outbox, table):
    await delivered(store, there := cancellation(new_run()))
    gone = replace(there.clock, name="00000009-0")
    early = replace(there.clock, due=NOW - timedelta(hours=1))
    await table.write("03", [Insert(Row(rows.clock_key(clock), {})) for clock in (gone, early)])
    # The second read finds no clock row to remove.
    for clock in (gone, early, gone, early):
        assert await outbox.read(clock) is None
        assert await table.get("03", rows.clock_key(clock)) is None
    assert (await outbox.read(there.clock)).delivery == there


async def test_a_delivery_of_a_later_version_is_kept(store, outbox, table):
    await delivered(store, delivery := cancellation(new_run()))
    await table.write("03", [Merge(Row(rows.delivery_key(delivery.run_id, delivery.name), {"type": "fax"}))])
    before = await outbox_rows(table)
    assert await outbox.read(delivery.clock) is None
    assert await outbox_rows(table) == before
    # It is purged with its run. Its clock row is removed when it is read.
    await store.purge(delivery.run_id)
    assert await outbox_rows(table) == [rows.clock_key(delivery.clock)]
    assert await outbox.read(delivery.clock) is None
    assert await outbox_rows(table) == []


async def test_of_two_moves_of_a_delivery_one_is_written(store, outbox, table):
    await delivered(store, delivery := cancellation(new_run()))
    stored = await outbox.read(delivery.clock)
    moved = await outbox.move(stored, NOW + timedelta(minutes=1))
    before = await table.query("03", "", "~")
    for due in (NOW + timedelta(minutes=1), NOW + timedelta(minutes=2)):
        with pytest.raises(RowConflict):
            await outbox.move(stored, due)
    # A delivery that another worker has moved stays.
    await outbox.remove(stored)
    assert await table.query("03", "", "~") == before
    # Also when it was moved back to the time at which it was read.
    moved = await outbox.move(moved, NOW)
    with pytest.raises(RowConflict):
        await outbox.move(stored, NOW + timedelta(minutes=2))
    await outbox.remove(moved)
    with pytest.raises(RowConflict):
        await outbox.move(moved, NOW + timedelta(minutes=3))
    assert await outbox_rows(table) == []


class Tearing:
    """A table whose next write raises `error`, after it took effect or before."""

    def __init__(self, table, error: Exception, *, after: bool) -> None:
        self._table = table
        self._error: Exception | None = error
        self._after = after

    def __getattr__(self, name: str) -> Callable:
        return getattr(self._table, name)

    async def write(self, partition, writes):
        error, self._error = self._error, None
        if error and not self._after:
            raise error
        etag = await self._table.write(partition, writes)
        if error:
            raise error
        return etag


LOST = [StorageUnavailable("no reply"), RowConflict("repeated by a retry")]


@pytest.mark.parametrize("error", LOST, ids=["no reply", "conflict with itself"])
async def test_a_write_that_took_effect_succeeds_whatever_the_reply(table, error):
    run = new_run()
    inserted = await insert(RunStore(Tearing(table, error, after=True), Seeded(11)), run)
    store = RunStore(Tearing(table, error, after=True), Seeded(12))
    delivery = cancellation(run)
    committed = await store.commit(inserted, advanced(run), TWO, deliveries=[delivery])
    assert await store.read(run.id) == committed
    outbox = Outbox(Tearing(table, error, after=True), Seeded(13))
    moved = await outbox.move(await outbox.read(delivery.clock), NOW + timedelta(minutes=1))
    assert await outbox.read(moved.delivery.clock) == moved
    await outbox.move(moved, NOW + timedelta(minutes=2))
    await store.commit(committed, finished(committed.run), [COMPLETED])


@pytest.mark.parametrize("error", LOST, ids=["no reply", "conflict"])
async def test_a_write_that_took_no_effect_is_an_error(table, error):
    inserted = await insert(RunStore(table, Seeded(11)), new_run())
    store = RunStore(Tearing(table, error, after=False), Seeded(12))
    delivery = cancellation(inserted.run)
    with pytest.raises(type(error)):
        await store.commit(inserted, advanced(inserted.run), TWO, deliveries=[delivery])
    assert await store.read(inserted.run.id) == inserted
    assert await outbox_rows(table) == []
    await store.commit(inserted, advanced(inserted.run), TWO, deliveries=[delivery])
    outbox = Outbox(Tearing(table, error, after=False), Seeded(13))
    stored = await outbox.read(delivery.clock)
    with pytest.raises(type(error)):
        await outbox.move(stored, NOW + timedelta(minutes=1))
    assert await outbox.read(delivery.clock) == stored


@pytest.mark.parametrize("error", LOST, ids=["no reply", "conflict with itself"])
async def test_a_key_that_was_stored_is_claimed_whatever_the_reply(table, error):
    meant = stored_key(0)
    keys = KeyStore(Tearing(table, error, after=True))
    assert await keys.claim("03", "abc", meant, NOW) == meant


# Over 5 MB of UTF-8, of which over 1 MB does not compress.
seeded = Seeded()
NOVEL = "".join(
    f"{seeded.bytes(16).hex()} 宇宙の果て \U0001f469\U0001f3fd‍\U0001f680 \x00 été \u2028\n"
    for _ in range(75_000)
)
TEXTS = {
    "novel": NOVEL,
    "short": "宇宙 \U0001f469\U0001f3fd‍\U0001f680 \x00\r\n",
    "empty": "",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_a_text_is_read_as_it_was_written(table, text):
    store = ContentStore(table)
    content = await store.save("run_1", "turn-1", text)
    assert await store.load("run_1", content) == text
    other = await store.save("run_1", "turn-2", "another")
    await store.purge("run_1")
    assert await table.query("run_1", "", "~") == []
    assert await store.load("run_1", other) == "another"


async def test_a_long_text_is_stored_in_rows_and_a_missing_row_is_an_error(table):
    store = ContentStore(table)
    assert len(NOVEL.encode()) > 5_000_000
    content = await store.save("run_1", "turn-1", NOVEL)
    kept = await store.save("run_1", "turn-10", NOVEL)
    assert content.inline is None
    assert content.chunks > 1
    await store.drop("run_1", content)
    with pytest.raises(LookupError, match=f"0 of {content.chunks}"):
        await store.load("run_1", content)
    assert await store.load("run_1", kept) == NOVEL
