"""The stores under each fault: a write that took effect raises no conflict, and one that did not never succeeds."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from shared.adapters.azure_tables.account import TableAccount, create_missing_tables
from shared.adapters.azure_tables.table import TableStorage
from shared.adapters.system import SystemRandomness
from shared.core import ids
from shared.core.calls import CallStatus, ToolCall
from shared.core.delivery import Delivery
from shared.core.log import RunEnded, RunQueued
from shared.core.run import Content, Continuation, Lease, Run, RunStatus, Step
from shared.errors import RowConflict, StorageUnavailable
from shared.store.keys import StoredKey
from shared.store.outbox import StoredDelivery
from shared.store.runs import StoredResult, StoredRun
from shared.store.sessions import StoredSession
from shared.store.shards import ShardView, Tick
from tests.proofs.faults.network import Fault, FaultRule, Network
from tests.support.runs import NOW, OWNER, a_delivery, a_logged_run, a_session, an_id
from tests.support.world import stores

LATER = NOW + timedelta(seconds=5)
# Noise, so that it stays long when it is compressed.
LONG = secrets.token_hex(20_000)
# The adapter repeats a request. With REPEATED all repetitions of a write fail, but a read after them succeeds.
REPEATED = "repeated"
LASTING = "lasting"


@dataclass
class Lane:
    """One set of stores, reached over a network with faults (`faulty`) and without one (`plain`), and a run of its own.

    The run is worked on under a lease.
    """

    network: Network
    faulty: Any
    plain: Any
    shard: int
    run: StoredRun = field(init=False)
    session: StoredSession = field(init=False)
    delivery: StoredDelivery = field(init=False)

    def new_run(self, session_id: str = "") -> Run:
        run_id, own = (ids.new_id(kind, self.shard, NOW, secrets.token_bytes(10)) for kind in ("run", "ses"))
        return a_logged_run(id=run_id, session_id=session_id or own)

    async def begin(self) -> None:
        """Store a tick, and a run in progress that holds its session and owes a delivery."""
        run = self.new_run()
        stored = await self.plain.runs.insert(run, StoredSession(a_session(run)), [RunQueued()])
        working = replace(
            run,
            rev=2,
            status=RunStatus.IN_PROGRESS,
            step=Step.TOOLS,
            lease=Lease("ours", NOW),
            continuation=Continuation("resp_1"),
            calls=(ToolCall(call_id="c", name="t", turn=1, idempotent=False),),
        )
        owed = delivery_of(working)
        self.run = await self.plain.runs.commit(stored, working, deliveries=[owed])
        self.delivery = await self.plain.outbox.read(owed.clock)
        await self.plain.shards.claim(self.name, await self.tick(), NOW)
        self.session = await self.held()

    @property
    def name(self) -> str:
        return f"{self.shard:02x}"

    async def held(self) -> StoredSession:
        held = await self.plain.sessions.read(self.run.run.session_id)
        assert held
        return held

    async def tick(self) -> Tick:
        return (await self.owed()).tick

    async def owed(self) -> ShardView:
        """Return all that is owed in the lane's shard, whenever it is due."""
        return await self.plain.shards.owed(self.name, NOW + timedelta(days=1))


def delivery_of(run: Run) -> Delivery:
    """Return what the transition to `run` owes to the provider."""
    return a_delivery(run.id, f"{run.rev:08d}-0", f"resp_late_{run.rev}")


class Insert:
    """Inserts a new run with its session."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.run = lane.new_run()

    async def act(self) -> object:
        held = StoredSession(a_session(self.run))
        return await self.lane.faulty.runs.insert(self.run, held, [RunQueued()])

    async def done(self) -> bool:
        stored = await self.lane.plain.runs.read(self.run.id)
        held = await self.lane.plain.sessions.read(self.run.session_id)
        assert bool(stored) is bool(held), "only a part was written"
        return stored is not None

    async def right(self, returned: Any) -> bool:
        return returned == await self.lane.plain.runs.read(self.run.id)

    async def interfere(self) -> None:
        rival = replace(self.run, metadata={"by": "a rival"})
        await self.lane.plain.runs.insert(rival, StoredSession(a_session(rival)), [])

    async def lost(self) -> bool:
        stored = await self.lane.plain.runs.read(self.run.id)
        return stored is not None and stored.run.metadata == {"by": "a rival"}


class InsertIntoSession(Insert):
    """Inserts one more run of a session, on condition that the session has not changed."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane)
        self.run = lane.new_run(lane.run.run.session_id)

    async def act(self) -> object:
        held = replace(self.lane.session.session, held_by=self.run.id, last_run_id=self.run.id, runs=2)
        return await self.lane.faulty.runs.insert(self.run, StoredSession(held, self.lane.session.etag), [])

    async def done(self) -> bool:
        stored = await self.lane.plain.runs.read(self.run.id)
        assert (stored is not None) is ((await self.lane.held()).session.runs == 2), "only a part was written"
        return stored is not None

    async def interfere(self) -> None:
        await self.lane.plain.sessions.write(self.lane.session)

    async def lost(self) -> bool:
        return await self.lane.plain.runs.read(self.run.id) is None


class Commit:
    """Commits the transition that ends a run: its row, its pending row, its session, an output, its log, a delivery."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        run = lane.run.run
        calls = tuple(replace(call, status=CallStatus.COMPLETED) for call in run.calls)
        self.after = replace(
            run,
            rev=3,
            entries=2,
            stream_events=3,
            status=RunStatus.COMPLETED,
            step=Step.NOTHING,
            lease=None,
            continuation=None,
            calls=calls,
            updated_at=LATER,
        )
        self.delivery = delivery_of(self.after)

    async def act(self) -> object:
        return await self.lane.faulty.runs.commit(
            self.lane.run,
            self.after,
            [RunEnded("completed")],
            results=[StoredResult(1, "c", Content(inline=b"y"))],
            deliveries=[self.delivery],
        )

    async def done(self) -> bool:
        stored = await self.lane.plain.runs.read(self.after.id)
        done = stored is not None and stored.run == self.after
        owed = await self.lane.owed()
        contents = await self.lane.plain.outbox.read(self.delivery.clock)
        assert (self.after.id in {one.run_id for one in owed.runs}) is not done, "only a part was written"
        assert (self.delivery.clock in owed.clocks) is done, "only a part was written"
        assert bool(contents) is done, "only a part was written"
        assert ((await self.lane.held()).session.held_by is None) is done, "only a part was written"
        assert bool(await self.lane.plain.runs.results(self.after.id, 1)) is done, "only a part was written"
        return done

    async def right(self, returned: Any) -> bool:
        return returned == await self.lane.plain.runs.read(self.after.id)

    async def interfere(self) -> None:
        rival = replace(self.lane.run.run, rev=3, metadata={"by": "a rival"})
        await self.lane.plain.runs.commit(self.lane.run, rival)

    async def lost(self) -> bool:
        stored = await self.lane.plain.runs.read(self.after.id)
        return stored is not None and stored.run.metadata == {"by": "a rival"}


class Renew:
    """Renews the lease of a run: some values of its row and of its pending row."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.after = self.leased("ours", LATER)

    def leased(self, by: str, until: datetime) -> Run:
        return replace(self.lane.run.run, lease=Lease(by, until), due=until)

    async def act(self) -> object:
        return await self.lane.faulty.runs.renew(self.lane.run, self.after)

    async def stored(self) -> Run:
        stored = await self.lane.plain.runs.read(self.after.id)
        [due] = [one.due for one in (await self.lane.owed()).runs if one.run_id == self.after.id]
        assert due == stored.run.due, "only a part was written"
        return stored.run

    async def done(self) -> bool:
        return await self.stored() == self.after

    async def right(self, returned: Any) -> bool:
        return returned == await self.lane.plain.runs.read(self.after.id)

    def taken(self) -> Run:
        """Return the run as another worker has taken it."""
        return replace(self.leased("a rival", LATER + timedelta(seconds=1)), rev=3)

    async def interfere(self) -> None:
        await self.lane.plain.runs.commit(self.lane.run, self.taken())

    async def lost(self) -> bool:
        return await self.stored() == self.taken()


class ClaimTick:
    """Claims a tick of a shard, which only one poller can have."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    async def act(self) -> object:
        return await self.lane.faulty.shards.claim(self.lane.name, self.tick, LATER)

    async def prepare(self) -> None:
        self.tick = await self.lane.tick()

    async def done(self) -> bool:
        return (await self.lane.tick()).at == LATER

    async def right(self, returned: Any) -> bool:
        return returned is await self.done()

    async def interfere(self) -> None:
        tick = await self.lane.tick()
        await self.lane.plain.shards.claim(self.lane.name, tick, LATER + timedelta(seconds=1))

    async def lost(self) -> bool:
        return (await self.lane.tick()).at == LATER + timedelta(seconds=1)


def a_key(number: int) -> StoredKey:
    return StoredKey(an_id("run", 3, number, NOW), an_id("ses", 3, number, NOW), "same")


class ClaimKey:
    """Claims an Idempotency-Key for a run."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.hashed = secrets.token_hex(32)
        self.meant = a_key(0)

    async def act(self) -> object:
        return await self.lane.faulty.keys.claim(self.lane.name, self.hashed, self.meant, NOW)

    async def stored(self) -> StoredKey | None:
        return await self.lane.plain.keys.read(self.lane.name, self.hashed)

    async def done(self) -> bool:
        return await self.stored() == self.meant

    async def right(self, returned: Any) -> bool:
        return returned == await self.stored()

    async def interfere(self) -> None:
        rival = a_key(1)
        await self.lane.plain.keys.claim(self.lane.name, self.hashed, rival, NOW)

    async def lost(self) -> bool:
        return (await self.stored()) == a_key(1)


class WriteSession:
    """Writes a session, on condition that it has not changed."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    async def act(self) -> object:
        deleted = replace(self.lane.session.session, deleted=True)
        return await self.lane.faulty.sessions.write(StoredSession(deleted, self.lane.session.etag))

    async def done(self) -> bool:
        return (await self.lane.held()).session.deleted

    async def right(self, returned: Any) -> bool:
        return await self.done()

    async def interfere(self) -> None:
        await self.lane.plain.sessions.write(
            StoredSession(replace(self.lane.session.session, runs=7), self.lane.session.etag)
        )

    async def lost(self) -> bool:
        held = await self.lane.held()
        return held.session.runs == 7 and not held.session.deleted


class MoveDelivery:
    """Moves a delivery to another time: its row and its clock row."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    async def act(self) -> object:
        return await self.lane.faulty.outbox.move(self.lane.delivery, LATER)

    async def moved(self, due: datetime) -> StoredDelivery | None:
        """Return the delivery if it is due at that time."""
        clock = replace(self.lane.delivery.delivery, due=due).clock
        [there] = (await self.lane.owed()).clocks
        return await self.lane.plain.outbox.read(clock) if there == clock else None

    async def done(self) -> bool:
        was, found = await self.moved(NOW), await self.moved(LATER)
        assert bool(was) is not bool(found), "only a part was written"
        return found is not None

    async def right(self, returned: Any) -> bool:
        return returned == await self.moved(LATER)

    async def interfere(self) -> None:
        await self.lane.plain.outbox.move(self.lane.delivery, LATER + timedelta(seconds=1))

    async def lost(self) -> bool:
        return await self.moved(LATER + timedelta(seconds=1)) is not None


WRITES = {
    kind.__name__: kind
    for kind in (Insert, InsertIntoSession, Commit, Renew, ClaimTick, ClaimKey, WriteSession, MoveDelivery)
}

# Each takes the stores of one side.
READS: Mapping[str, Callable[[Any, Lane], Awaitable[Any]]] = {
    "read": lambda side, lane: side.runs.read(lane.run.run.id),
    "read of none": lambda side, lane: side.runs.read(ids.new_id("run", lane.shard, NOW, bytes(10))),
    "log": lambda side, lane: side.runs.log(lane.run.run.id),
    "owed": lambda side, lane: side.shards.owed(lane.name, NOW),
    "outputs": lambda side, lane: side.runs.results(lane.run.run.id, 1),
    "session": lambda side, lane: side.sessions.read(lane.run.run.session_id),
    "key": lambda side, lane: side.keys.read(lane.name, "none"),
    "delivery": lambda side, lane: side.outbox.read(lane.delivery.delivery.clock),
    "listing": lambda side, _: side.runs.listing(OWNER, status=None, agent=None, after="", limit=5),
}


@dataclass
class Lab:
    """Runs checks on lanes. Each lane has a shard of its own, so as many lanes as shards can share the tables."""

    account: TableAccount

    async def each(
        self, fault: Fault, names: list[str], check: Callable[[Lane, str], Awaitable[None]]
    ) -> None:
        tables = [f"{name}{secrets.token_hex(8)}" for name in ("runs", "content")]
        await create_missing_tables(self.account, tables)
        plan = [[name] for name in names] if fault.stalls else [names]
        await asyncio.gather(*(self._lane(tables, n, some, check) for n, some in enumerate(plan)))

    async def _lane(
        self, names: list[str], number: int, cases: list[str], check: Callable[[Lane, str], Awaitable[None]]
    ) -> None:
        async with Network() as network:
            plain = TableStorage(self.account)
            endpoint = await network.link("table", self.account.endpoint)
            faulty = TableStorage(replace(self.account, endpoint=endpoint))
            sides = [
                SimpleNamespace(
                    **stores(storage.table(names[0]), storage.table(names[1]), SystemRandomness())
                )
                for storage in (faulty, plain)
            ]
            try:
                for n, case in enumerate(cases):
                    lane = Lane(network, *sides, shard=number + n)
                    await lane.begin()
                    try:
                        await check(lane, case)
                    except AssertionError as failure:
                        failure.add_note(case)
                        raise
            finally:
                await faulty.close()
                await plain.close()


@pytest.fixture
def lab(account: TableAccount) -> Lab:
    return Lab(account)


def inject(network: Network, fault: Fault, lasts: str) -> FaultRule:
    """Inject a fault into the next request, into all of its repetitions, or into all requests from here."""
    if lasts == REPEATED:
        # A GET finds out whether a write took effect.
        rule = FaultRule(fault, times=None, matches=lambda request: request.method != "GET")
    else:
        rule = FaultRule(fault, times=1 if lasts == "once" else None)
    network.inject(rule)
    return rule


LASTS = pytest.mark.parametrize("lasts", ["once", REPEATED, LASTING])


@LASTS
@pytest.mark.parametrize("fault", Fault)
async def test_a_write_that_took_effect_is_no_conflict_and_one_that_did_not_is_no_success(
    fault, lasts, lab, hasten, counted
):
    hasten(fault)

    async def check(lane: Lane, name: str) -> None:
        case = WRITES[name](lane)
        if isinstance(case, ClaimTick):
            await case.prepare()
        rule = inject(lane.network, fault, lasts)
        returned, unknown = None, False
        try:
            returned = await case.act()
        except StorageUnavailable:
            unknown = True
        except RowConflict:
            pytest.fail("no other client wrote")
        assert rule.applied, "the fault was not applied"
        lane.network.rule = None
        done = await case.done()
        if unknown:
            assert lasts != "once", "the adapter repeats after one failure"
            assert lasts == LASTING or not fault.arrives, "a read can find the write"
        else:
            assert done
            assert await case.right(returned)
        if fault is not Fault.LATE:
            assert done is (not unknown or fault.arrives)
        await lane.network.settle()
        assert await case.done() is (done or fault is Fault.LATE)

    await lab.each(fault, list(WRITES), check)
    counted("writes of the run store x faults", len(WRITES))


@LASTS
@pytest.mark.parametrize("fault", Fault)
async def test_a_write_that_lost_a_race_never_succeeds(fault, lasts, lab, hasten, counted):
    hasten(fault)

    async def check(lane: Lane, name: str) -> None:
        case = WRITES[name](lane)
        if isinstance(case, ClaimTick):
            await case.prepare()
        await case.interfere()
        rule = inject(lane.network, fault, lasts)
        returned: object = None
        try:
            returned = await case.act()
        except (StorageUnavailable, RowConflict) as refusal:
            returned = refusal
        assert rule.applied, "the fault was not applied"
        if not isinstance(returned, Exception):
            assert isinstance(case, ClaimTick | ClaimKey), "the write succeeded"
            assert await case.right(returned)
        elif lasts == LASTING:
            assert isinstance(returned, StorageUnavailable)
        lane.network.rule = None
        await lane.network.settle()
        assert await case.lost()

    await lab.each(fault, list(WRITES), check)
    counted("lost races of the run store x faults", len(WRITES))


@pytest.mark.parametrize("fault", Fault)
async def test_a_read_returns_what_is_stored(fault, lab, hasten, counted):
    hasten(fault)

    async def check(lane: Lane, name: str) -> None:
        expected = await READS[name](lane.plain, lane)
        lane.network.inject(rule := FaultRule(fault))
        try:
            assert await READS[name](lane.faulty, lane) == expected
        except StorageUnavailable:
            assert fault is Fault.CUT_UNSEEN
        assert rule.applied, "the fault was not applied"

    await lab.each(fault, list(READS), check)
    counted("reads of the run store x faults", len(READS))


@pytest.mark.parametrize("lasts", ["once", LASTING])
@pytest.mark.parametrize("fault", Fault)
async def test_long_texts_are_stored_and_removed_completely(fault, lasts, lab, hasten, counted):
    hasten(fault)

    async def attempt(lane: Lane, doing: Callable[[], Awaitable[Any]]) -> Any:
        """Carry out an operation under the fault; if it fails, repeat it without."""
        rule = inject(lane.network, fault, lasts)
        try:
            found = await doing()
        except StorageUnavailable:
            lane.network.rule = None
            found = await doing()
        assert rule.applied, "the fault was not applied"
        lane.network.rule = None
        await lane.network.settle()
        return found

    async def check(lane: Lane, case: str) -> None:
        run_id = lane.run.run.id
        store, plain = (lane.faulty if case == "save" else lane.plain).content, lane.plain.content
        saved = (
            await attempt(lane, lambda: store.save(run_id, "text", LONG))
            if case == "save"
            else (await plain.save(run_id, "text", LONG))
        )
        if case == "load":
            assert await attempt(lane, lambda: lane.faulty.content.load(run_id, saved)) == LONG
        if case in {"drop", "purge"}:
            await attempt(
                lane,
                lambda: (
                    lane.faulty.content.purge(run_id)
                    if case == "purge"
                    else lane.faulty.content.drop(run_id, saved)
                ),
            )
            with pytest.raises(LookupError):
                await plain.load(run_id, saved)
        else:
            assert await plain.load(run_id, saved) == LONG

    cases = ["save", "load", "drop", "purge"]
    await lab.each(fault, cases, check)
    counted("uses of the content store x faults", len(cases))
