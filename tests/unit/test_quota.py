"""Quotas of owners: what is admitted, and that two hosts never admit one start too many."""

import json
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.adapters.agents.running import InstalledAgents
from shared.app import Baton
from shared.core import ids
from shared.core.caller import Caller
from shared.core.quota import MAX_SKEW, WINDOW, Limits, Quota, Refusal, admit
from shared.errors import StorageUnavailable, TooMany
from shared.ports.tables import Put, Row
from shared.settings import load
from shared.store import rows
from shared.store.content import ContentStore
from shared.store.quotas import QuotaStore, StoredQuota
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run
from shared.usecases.retry import retry
from tests.support.client import Client
from tests.support.fakes import FakeClock, Seeded, answer
from tests.support.memory_table import MemoryTable
from tests.support.runs import NOW, OWNER, an_id
from tests.support.world import CALLER, World

TWO_PENDING, TWO_A_MINUTE = Limits(pending_runs=2), Limits(starts_per_minute=2)
# An input that is too long for the row of its run.
LONG = json.dumps([{"role": "user", "content": random.Random(1).randbytes(200_000).hex()}])
OTHER = Caller("Zoë/#?%|\u00a7'")


def after(*seconds: float) -> tuple:
    return tuple(NOW + timedelta(seconds=each) for each in seconds)


@pytest.mark.parametrize(
    ("starts", "stored"),
    [
        ((), (0,)),
        ((-1,), (-1, 0)),
        # Of the times that are kept, as many as the limit needs.
        ((-61, -60, -1), (-1, 0)),
        ((-60, -60), (-60, 0)),
        # What no clock can have written is dropped.
        ((3600,), (0,)),
        ((-10_000, 61), (0,)),
        # The clock of the other host is ahead.
        ((5,), (5, 5)),
    ],
)
def test_a_start_within_the_quota_is_added_to_the_times(starts, stored):
    assert admit(TWO_A_MINUTE, 0, after(*starts), NOW) == after(*stored)


@pytest.mark.parametrize(
    ("starts", "seconds"),
    [
        ((-1, 0), 59),
        ((-59.5, -3), 1),
        ((-59.999, -59.999), 1),
        ((-50, -40, -30), 20),
        ((0, 5), 60),
        ((-3, -20), 40),
    ],
)
def test_a_start_over_the_quota_waits_until_the_oldest_leaves_the_minute(starts, seconds):
    assert admit(TWO_A_MINUTE, 0, after(*starts), NOW) == Refusal(Quota.STARTS, timedelta(seconds=seconds))


def test_pending_runs_are_counted_alone():
    assert admit(TWO_PENDING, 1, after(0, 0, 0), NOW) == ()
    assert admit(TWO_PENDING, 2, (), NOW).quota is Quota.PENDING_RUNS
    assert admit(TWO_A_MINUTE, 1000, (), NOW) == (NOW,)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_minute_of_any_clocks_has_more_starts_than_the_limit(most):
    """Each host takes the time from its own clock, which is up to two seconds wrong."""
    random_, at, stored, accepted = random.Random(most), 0.0, (), []
    skews = [random_.uniform(-2, 2) for _ in range(3)]
    for _ in range(2000):
        at += random_.expovariate(most / 20)
        now = NOW + timedelta(seconds=at + random_.choice(skews))
        decision = admit(Limits(starts_per_minute=most), 0, stored, now)
        if not isinstance(decision, Refusal):
            stored = decision
            accepted.append(now)
    assert len(accepted) > 100
    for first, last in zip(accepted, accepted[most:], strict=False):
        assert last - first >= WINDOW


async def test_the_quota_of_pending_runs():
    world = World(limits=TWO_PENDING)
    first, _ = await world.start(), await world.start()
    with pytest.raises(TooMany) as refusal:
        await world.start()
    assert refusal.value.code == "too_many_pending_runs"
    await world.start(caller=OTHER)
    await cancel(world.context, CALLER, first.id)
    await world.start()
    with pytest.raises(TooMany):
        await world.start()


async def test_a_deleted_run_is_not_pending():
    world = World(limits=TWO_PENDING)
    runs = [await world.start() for _ in range(2)]
    await delete_run(world.context, CALLER, runs[0].id)
    await world.start()


async def test_the_quota_of_starts():
    world = World(limits=TWO_A_MINUTE)
    await world.start()
    world.clock.pass_(20)
    await world.start()
    world.clock.pass_(10.5)
    for _ in range(3):
        with pytest.raises(TooMany) as refusal:
            await world.start()
    assert refusal.value.code == "too_many_starts"
    assert refusal.value.retry_after == timedelta(seconds=29.5)
    await world.start(caller=OTHER)
    world.clock.pass_(29.5)
    await world.start()
    with pytest.raises(TooMany):
        await world.start()


async def test_a_refusal_is_a_429_that_says_when_to_come_again():
    client = Client(World(limits=Limits(pending_runs=2, starts_per_minute=1)).context)
    await client.start()
    refused = await client.start()
    assert (refused.status, refused.json["code"], refused.headers["Retry-After"]) == (
        429,
        "too_many_starts",
        "60",
    )
    client = Client(World(limits=Limits(pending_runs=1)).context)
    run = (await client.start()).json
    refused = await client.start()
    assert (refused.status, refused.json["code"], refused.headers["Retry-After"]) == (
        429, "too_many_pending_runs", "10",
    )  # fmt: skip
    await client.post("/runs/{run_id}/cancel", run["id"])
    assert (await client.post("/runs/{run_id}/retry", run["id"])).status == 202
    assert (await client.start()).status == 429


async def test_a_retry_counts_as_a_start():
    world = World(limits=Limits(starts_per_minute=1))
    run = await world.start()
    await cancel(world.context, CALLER, run.id)
    with pytest.raises(TooMany):
        await retry(world.context, CALLER, run.id, key=None)
    world.clock.pass_(60)
    await retry(world.context, CALLER, run.id, key=None)
    with pytest.raises(TooMany):
        await world.start()


@pytest.mark.parametrize("limits", [Limits(pending_runs=1), Limits(starts_per_minute=1)])
async def test_a_repeated_start_neither_counts_nor_is_refused(limits):
    world = World(limits=limits)
    run = await world.start(idempotency_key="k", fingerprint="a")
    for _ in range(3):
        assert (await world.start(idempotency_key="k", fingerprint="a")).id == run.id
    with pytest.raises(TooMany):
        await world.start(idempotency_key="k2", fingerprint="a")
    world.clock.pass_(61)
    await cancel(world.context, CALLER, run.id)
    later = await world.start(idempotency_key="k2", fingerprint="a")
    assert later.id != run.id
    assert (await world.start(idempotency_key="k2", fingerprint="a")).id == later.id


async def test_a_refused_start_writes_nothing():
    world = World(limits=Limits(pending_runs=1, starts_per_minute=5))
    await world.start()
    world.table.taken()
    world.content_table.taken()
    with pytest.raises(TooMany):
        await world.start(idempotency_key="k", fingerprint="a")
    assert "write" not in world.table.taken()
    assert not world.content_table.taken()


async def test_a_start_that_another_one_overtakes_leaves_its_key_and_nothing_else():
    world = World(limits=Limits(pending_runs=1))
    insert, overtaking = world.context.runs.insert, [True]

    async def overtaken(*arguments):
        if overtaking:
            overtaking.clear()
            await world.start()
        return await insert(*arguments)

    world.context.runs.insert = overtaken
    with pytest.raises(TooMany):
        await world.start(input=LONG, idempotency_key="k", fingerprint="a")
    assert world.content_table.taken()
    kinds = [key.partition("|")[0] for there in world.table._partitions.values() for key in there]
    assert [kinds.count(kind) for kind in ("key", "run", "session", "pending", "owner")] == [1, 1, 1, 1, 1]
    assert not any(world.content_table._partitions.values())
    [other] = await world.owed()
    await cancel(world.context, CALLER, other.run_id)
    run = await world.start(input=LONG, idempotency_key="k", fingerprint="a")
    assert (await world.start(idempotency_key="k", fingerprint="a")).id == run.id


async def test_short_starts_do_not_keep_a_long_one_waiting():
    """While a long input is saved, another start of its owner is stored."""
    world = World(limits=Limits(pending_runs=900, starts_per_minute=900))
    save, saved = world.context.content.save, []

    async def slow(run_id, name, text, **options):
        saved.append(text)
        content = await save(run_id, name, text, **options)
        if text == LONG:
            await world.start()
        return content

    world.context.content.save = slow
    run = await world.start(input=LONG)
    assert saved.count(LONG) == 1
    assert await world.context.content.load(run.id, run.input) == LONG


async def test_the_input_of_a_start_that_is_always_overtaken_is_removed():
    world = World(limits=Limits(pending_runs=900))
    insert = world.context.runs.insert

    async def overtaken(run, *arguments):
        if run.excerpt == "long":
            await world.start()
        return await insert(run, *arguments)

    world.context.runs.insert = overtaken
    with pytest.raises(StorageUnavailable):
        await world.start(input=LONG, excerpt="long")
    assert not any(world.content_table._partitions.values())


async def test_a_claimed_key_whose_start_was_not_stored_starts_later():
    world = World(limits=Limits(pending_runs=1))
    insert, faults = world.context.runs.insert, [StorageUnavailable("busy")]

    async def fails_once(*arguments):
        if faults:
            raise faults.pop()
        return await insert(*arguments)

    world.context.runs.insert = fails_once
    with pytest.raises(StorageUnavailable):
        await world.start(idempotency_key="k", fingerprint="a")
    other = await world.start()
    with pytest.raises(TooMany):
        await world.start(idempotency_key="k", fingerprint="a")
    await cancel(world.context, CALLER, other.id)
    run = await world.start(idempotency_key="k", fingerprint="a")
    assert (await world.start(idempotency_key="k", fingerprint="a")).id == run.id


async def test_without_quotas_there_is_no_row_of_an_owner(world):
    await world.start()
    assert not [
        key for rows_ in world.table._partitions.values() for key in rows_ if key.startswith("owner|")
    ]


async def test_with_quotas_all_sessions_of_an_owner_begin_in_one_shard():
    world = World(limits=Limits(pending_runs=900))
    for caller in (CALLER, OTHER):
        runs = [await world.start(caller=caller) for _ in range(5)]
        assert {ids.shard_of(run.id) for run in runs} == {ids.home_shard(caller.owner)}


# Rows that no version writes.
BROKEN = [
    {"owner": OWNER, "starts": b"nonsense"},
    {"owner": OWNER, "starts": b"x\x9cnonsense"},
    {"owner": OWNER, "starts": "nonsense"},
    {"owner": OWNER, "starts": b"7"},
    {"owner": OWNER, "starts": b'["2026"]'},
    {"owner": OWNER, "starts": b"[true]"},
    {"owner": OWNER, "starts": b"[-1]"},
    {"owner": OWNER, "starts": b"[" + b"9" * 400 + b"]"},
    {"owner": OWNER, "starts": b"[" * 1000},
    {"owner": OWNER, "starts": rows.pack([0] * 2000)},
    {"owner": OWNER, "starts": rows.pack([2**53, 2**53])},
    {"owner": "another"},
    {"owner": 7},
    {},
]


@pytest.mark.parametrize(
    "limits", [TWO_A_MINUTE, Limits(pending_runs=2, starts_per_minute=2)], ids=["starts", "both"]
)
@pytest.mark.parametrize("values", BROKEN, ids=lambda values: str(values)[:60])
async def test_a_broken_row_does_not_lock_its_owner_out(values, limits):
    world = World(limits=limits)
    await world.table.write(ids.home_shard(OWNER), [Put(Row(rows.quota_key(OWNER), values))])
    await world.start()
    await world.start()
    with pytest.raises(TooMany):
        await world.start()


async def test_times_ahead_hold_an_owner_up_for_two_minutes_at_most():
    world = World(limits=TWO_A_MINUTE)
    ahead = NOW + MAX_SKEW
    await world.context.quotas.write(StoredQuota(owner=OWNER, starts=(ahead, ahead)))
    for _ in range(8):
        with pytest.raises(TooMany) as refusal:
            await world.start()
        assert refusal.value.retry_after <= WINDOW + MAX_SKEW
        world.clock.pass_(15)
    await world.start()


async def test_a_broken_row_of_a_run_does_not_count():
    world = World(limits=TWO_PENDING)
    keys = ["pending|", "pending|run_zzz", f"pending|{an_id('run', 0)}"]
    for key in keys:
        await world.table.write(ids.home_shard(OWNER), [Put(Row(key, {"owner": OWNER, "status": "dance"}))])
    await world.start()
    await world.start()
    with pytest.raises(TooMany):
        await world.start()


async def test_what_a_later_version_keeps_in_the_row_stays():
    world = World(limits=TWO_A_MINUTE)
    place = ids.home_shard(OWNER), rows.quota_key(OWNER)
    await world.table.write(place[0], [Put(Row(place[1], {"owner": OWNER, "from_a_later_version": "kept"}))])
    await world.start()
    row = await world.table.get(*place)
    assert row.values["from_a_later_version"] == "kept"


def foreign(world: World, most: Limits) -> World:
    """Let the quotas of a world begin now."""
    world.context = replace(world.context, quotas=QuotaStore(world.table, Seeded(3), most))
    return world


async def elsewhere(world: World):
    """Return an ended run whose session is not in the home shard of its owner."""
    while ids.shard_of((run := await world.start()).id) == ids.home_shard(OWNER):
        pass
    response_id = run.continuation.response_id
    world.provider.state[response_id] = answer(response_id)
    return await world.until_terminal(run.id)


async def test_a_run_in_an_older_session_counts_as_a_start():
    world = World()
    session_id = (await elsewhere(world)).session_id
    foreign(world, Limits(starts_per_minute=1))
    run = await world.start(session_id=session_id)
    assert ids.shard_of(run.id) != ids.home_shard(OWNER)
    with pytest.raises(TooMany):
        await world.start()
    world.clock.pass_(60)
    await world.start()
    await cancel(world.context, CALLER, run.id)
    with pytest.raises(TooMany):
        await world.start(session_id=session_id)


async def test_a_run_in_an_older_session_costs_a_write_more():
    world = World()
    session_id = (await elsewhere(world)).session_id
    foreign(world, Limits(pending_runs=5, starts_per_minute=5))
    world.table.taken()
    await world.start(session_id=session_id)
    assert world.table.taken() == {"get": 1, "query": 1, "write": 3}


class Turns:
    """An awaitable that lets another coroutine go on."""

    def __await__(self):
        yield


class Interleaved(MemoryTable):
    """A table that waits before each operation takes effect and after it. A query is answered in pages."""

    async def get(self, *args, **kwargs):
        await Turns()
        found = await super().get(*args, **kwargs)
        await Turns()
        return found

    async def query(self, partition, first, end, *, where=None, limit=None):
        await Turns()
        keys = [row.key for row in await super().query(partition, first, end, where=where)]
        await Turns()
        page = await super().query(partition, first, keys[1], where=where) if keys[1:] else []
        await Turns()
        rest = keys[1] if keys[1:] else first
        return page + await super().query(partition, rest, end, where=where)

    async def write(self, *args, **kwargs):
        await Turns()
        etag = await super().write(*args, **kwargs)
        await Turns()
        return etag


LIMITS = [Limits(pending_runs=3), Limits(starts_per_minute=3), Limits(pending_runs=3, starts_per_minute=3)]


@pytest.mark.parametrize("limits", LIMITS, ids=["pending", "starts", "both"])
@pytest.mark.parametrize("seed", range(40))
def test_two_hosts_that_start_at_the_same_moment_never_start_one_too_many(limits, seed):
    table, random_ = Interleaved(), random.Random(seed)
    hosts = []
    for host in range(2):
        world = World(clock=FakeClock(), randomness=Seeded(100 * seed + host))
        # Both hosts have one storage.
        runs, quotas = replace_table(world, table, limits)
        world.context = replace(world.context, runs=runs, quotas=quotas)
        hosts.append(world)
    keys = ["k", None, "k", None, None, None, None, "k"]
    going = [
        hosts[number % 2].start(idempotency_key=key, fingerprint="a" if key else "")
        for number, key in enumerate(keys)
    ]
    started, refused = set(), 0
    while going:
        one = random_.choice(going)
        try:
            one.send(None)
        except StopIteration as end:
            going.remove(one)
            started.add(end.value.id)
        except TooMany:
            going.remove(one)
            refused += 1
    stored = [key for key in table._partitions[ids.home_shard(OWNER)] if key.startswith("run|")]
    assert len(stored) == len(started) == 3
    assert refused >= 3


@pytest.mark.parametrize("seed", range(20))
def test_no_input_is_left_but_those_of_runs(seed):
    table, content, random_ = Interleaved(), MemoryTable(), random.Random(seed)
    hosts = [World(randomness=Seeded(100 * seed + host)) for host in range(2)]
    for world in hosts:
        runs, quotas = replace_table(world, table, Limits(pending_runs=3, starts_per_minute=5))
        world.context = replace(world.context, runs=runs, quotas=quotas, content=ContentStore(content))
    going = [
        hosts[number % 2].start(input=LONG, idempotency_key=key, fingerprint="a" if key else "")
        for number, key in enumerate(["k", "k", None, "k", None, None, "k2", "k2"])
    ]
    started = {}
    while going:
        one = random_.choice(going)
        try:
            one.send(None)
        except StopIteration as end:
            going.remove(one)
            started[end.value.id] = end.value.input.name
        except TooMany:
            going.remove(one)
    stored = {
        run: {key.split("|")[0] for key in there} for run, there in content._partitions.items() if there
    }
    assert stored == {run: {name} for run, name in started.items()}


def replace_table(world: World, table: MemoryTable, limits: Limits):
    """Let a world store runs, sessions and keys in another table; return its runs and quotas."""
    for store in (world.context.runs, world.context.sessions, world.context.keys):
        store._table = table
    return world.context.runs, QuotaStore(table, Seeded(11), limits)


@pytest.mark.parametrize("limits", [None, Limits(pending_runs=7, starts_per_minute=90)])
async def test_the_settings_of_the_app_decide_whether_there_are_quotas(limits):
    settings = {
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "WORK_QUEUE": "work",
        "POLL_SCHEDULE": "*/5 * * * * *",
        "OPENAI_API_KEY": "sk-test",
    }
    if limits:
        settings |= {"QUOTA_PENDING_RUNS": "7", "QUOTA_STARTS_PER_MINUTE": "90"}
    app = Baton(load(settings), InstalledAgents({}, {}))
    quotas = app.context.quotas
    assert (quotas.limits if quotas else None) == limits
    await app.close()
