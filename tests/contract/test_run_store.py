"""What the stores keep, on every kind of table."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.core import ids
from shared.core.life.events import Record
from shared.core.response import RunError, Usage
from shared.core.run import (
    CallStatus,
    Chaining,
    Content,
    Lease,
    Pending,
    Run,
    RunStatus,
    Session,
    Step,
    ToolCall,
)
from shared.errors import RowConflict, StorageUnavailable
from shared.store.content import ContentStore
from shared.store.runs import CallResult, RunStore, StoredKey, StoredRun, StoredSession, Tick

NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
OWNER = "ann o'hara & 宇"


class Seeded:
    """Randomness that is the same each time."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def fraction(self) -> float:
        return self._random.random()


def new_run(shard: int = 3, number: int = 0, **changes) -> Run:
    at = NOW + timedelta(seconds=number)
    name = bytes([number]) * ids.RANDOM_BYTES
    run = Run(
        id=ids.new_id("run", shard, at, name),
        session_id=ids.new_id("ses", shard, at, name),
        owner=OWNER,
        agent="writer",
        metadata={"title": "Zwei Türme \U0001f469\U0001f3fd‍\U0001f680"},
        max_turns=8,
        step=Step.CREATE,
        due=at,
        chaining=Chaining.PREVIOUS_RESPONSE_ID,
        created_at=at,
        updated_at=at,
        expires_at=at + timedelta(minutes=30),
        input=Content(inline=b"\x00packed"),
        events=1,
    )
    return replace(run, **changes)


def session_of(run: Run) -> Session:
    return Session(
        id=run.session_id,
        owner=run.owner,
        agent=run.agent,
        created_at=run.created_at,
        updated_at=run.updated_at,
        held_by=run.id,
        last_run_id=run.id,
        runs=1,
    )


async def insert(store: RunStore, run: Run) -> StoredRun:
    return await store.insert(run, StoredSession(session_of(run)), [Record("run.queued")])


def advanced(run: Run) -> Run:
    """The same run in its second turn, with something in every field."""
    call = ToolCall(
        call_id="call/1", name="look_up", turn=1, idempotent=True, status=CallStatus.COMPLETED,
        started_at=NOW, completed_at=NOW + timedelta(seconds=10),
    )  # fmt: skip
    return replace(
        run,
        status=RunStatus.IN_PROGRESS,
        step=Step.POLL,
        lease=Lease("lease", NOW + timedelta(minutes=1)),
        rev=2,
        events=3,
        turn=2,
        turn_started_at=NOW,
        token="resp_2",
        missing_since=NOW,
        responses=("resp_1", "resp_2"),
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
        previous_response_id="r", rev=run.rev + 1, events=run.events + 1,
    )  # fmt: skip


@pytest.fixture
async def table(new_table):
    return await new_table()


@pytest.fixture
def store(table):
    return RunStore(table, Seeded())


async def test_a_run_comes_back_as_it_was(store):
    run = new_run()
    inserted = await insert(store, run)
    assert await store.read(run.id) == inserted
    assert inserted.run == run
    later = advanced(run)
    committed = await store.commit(inserted, later, [Record("run.polled", {"n": 1}), Record("tool.done")])
    assert await store.read(run.id) == committed
    assert committed.run == later
    assert await store.read(new_run(number=9).id) is None


async def test_a_run_is_inserted_once_and_a_session_held_by_one(store):
    run, other = new_run(), new_run(number=1)
    await insert(store, run)
    with pytest.raises(RowConflict):
        await insert(store, run)
    with pytest.raises(RowConflict):
        await insert(store, replace(other, session_id=run.session_id))
    assert await store.read(other.id) is None
    assert (await store.read_session(run.session_id)).session == session_of(run)


async def test_of_two_transitions_one_is_written(store, table):
    before = await insert(store, new_run())
    await store.commit(before, advanced(before.run), [Record("one"), Record("two")])
    written = await table.query("03", "", "~")
    result = CallResult(1, "call/1", Content(inline=b"late"))
    with pytest.raises(RowConflict):
        await store.commit(before, finished(before.run), [Record("late")], [result])
    assert await table.query("03", "", "~") == written


async def test_a_transition_that_ends_the_run_frees_its_session(store):
    before = await insert(store, new_run())
    await store.commit(before, finished(before.run), [Record("run.completed")])
    session = (await store.read_session(before.run.session_id)).session
    assert (session.held_by, session.last_response_id, session.runs) == (None, "r", 1)
    assert await store.pending("03") == (Tick(None, ""), [])


async def test_pending_runs_and_the_tick_of_one_shard(store):
    runs = [(await insert(store, new_run(number=n))).run for n in range(3)]
    await insert(store, new_run(shard=4, number=9))
    assert await store.claim_tick("03", Tick(None, ""), NOW)
    tick, pending = await store.pending("03")
    assert tick.at == NOW
    assert pending == [Pending.of(run) for run in reversed(runs)]


@pytest.mark.parametrize("first", [True, False])
async def test_of_many_pollers_one_claims_a_tick(store, first):
    if not first:
        await store.claim_tick("03", Tick(None, ""), NOW - timedelta(minutes=1))
    tick, _ = await store.pending("03")
    claims = [store.claim_tick("03", tick, NOW + timedelta(seconds=n)) for n in range(5)]
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


async def test_a_listing_keeps_to_what_is_asked(store):
    one, other = new_run(number=1), new_run(number=2, agent="analyst")
    stored = await insert(store, one)
    await insert(store, other)
    await store.commit(stored, finished(one), [Record("run.completed")])

    async def listed(**asked):
        options = {"status": None, "agent": None, "after": "", "limit": 9} | asked
        return [run.id for run in await store.listing(OWNER, **options)]

    assert await listed(status="completed") == [one.id]
    assert await listed(agent="analyst") == [other.id]
    assert await listed(agent="analyst", status="completed") == []
    assert await store.listing("nobody", status=None, agent=None, after="", limit=9) == []


async def test_the_first_claim_of_a_key_stands(store):
    meant = [StoredKey(f"run_{n}", f"ses_{n}", f"print_{n}") for n in range(4)]
    told = await asyncio.gather(*(store.claim_key("03", "abc", each, NOW) for each in meant))
    assert len(set(told)) == 1
    assert await store.claim_key("03", "abc", StoredKey("late", "late", "late"), NOW) == told[0]


async def test_results_of_a_turn_and_what_a_purge_leaves(store, table):
    before = await insert(store, new_run())
    results = [
        CallResult(1, "call/1?#", Content(inline=b"one")),
        CallResult(2, "b", Content(name="n", chunks=2)),
    ]
    stored = await store.commit(before, advanced(before.run), [Record("one"), Record("two")], results)
    assert await store.results(before.run.id, 1) == {"call/1?#": Content(inline=b"one")}
    assert await store.results(before.run.id, 2) == {"b": Content(name="n", chunks=2)}
    await store.purge(before.run.id)
    assert await store.results(before.run.id, 1) == {}
    kinds = {row.key.partition("|")[0] for row in await table.query("03", "", "~")}
    assert kinds == {"run", "pending", "session"}
    assert await store.read(before.run.id) == stored


class Tearing:
    """A table whose next write ends with `error`: after it was carried out, or before."""

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
async def test_a_write_that_took_effect_counts_whatever_was_answered(table, error):
    run = new_run()
    inserted = await insert(RunStore(Tearing(table, error, after=True), Seeded(1)), run)
    store = RunStore(Tearing(table, error, after=True), Seeded(2))
    committed = await store.commit(inserted, advanced(run), [Record("one"), Record("two")])
    assert await store.read(run.id) == committed
    await store.commit(committed, finished(committed.run), [Record("run.completed")])


@pytest.mark.parametrize("error", LOST, ids=["no reply", "conflict"])
async def test_a_write_that_took_no_effect_is_an_error(table, error):
    inserted = await insert(RunStore(table, Seeded(1)), new_run())
    store = RunStore(Tearing(table, error, after=False), Seeded(2))
    with pytest.raises(type(error)):
        await store.commit(inserted, advanced(inserted.run), [Record("one"), Record("two")])
    assert await store.read(inserted.run.id) == inserted


@pytest.mark.parametrize("error", LOST, ids=["no reply", "conflict with itself"])
async def test_a_key_that_was_stored_counts_whatever_was_answered(table, error):
    meant = StoredKey("run", "ses", "print")
    store = RunStore(Tearing(table, error, after=True), Seeded())
    assert await store.claim_key("03", "abc", meant, NOW) == meant


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
async def test_a_text_comes_back_as_it_was(table, text):
    store = ContentStore(table)
    content = await store.save("run_1", "turn-1", text)
    assert await store.load("run_1", content) == text
    other = await store.save("run_1", "turn-2", "another")
    await store.purge("run_1")
    assert await table.query("run_1", "", "~") == []
    assert await store.load("run_1", other) == "another"


async def test_a_long_text_lies_in_rows_and_a_missing_one_is_noticed(table):
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
