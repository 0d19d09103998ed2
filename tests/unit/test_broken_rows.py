"""A broken row stops only what it is about. Every other run goes on, and every list and the health are answered."""

import json
import zlib
from collections.abc import Callable
from copy import deepcopy

import pytest

from shared.core.calls import CallStatus
from shared.core.run import RunStatus
from shared.ports.tables import Put, Row, Value
from shared.steps.tick import tick
from shared.store import rows
from shared.web.http import Request
from shared.web.runs_api import handlers
from tests.support.client import Client
from tests.support.fakes import FakeAgents, answer, asks
from tests.support.world import World


def packed(value: object) -> bytes:
    return json.dumps(value).encode()


HOSTILE: dict[str, Value] = {
    "no text": 7,
    "an empty text": "",
    "a word": "dance",
    "a long text": "x" * 20_000,
    "a time without a zone": "2026-01-01T00:00:00",
    "the year 9999": "9999-12-31T23:59:59.999999Z",
    "the year 9999, far west": "9999-12-31T23:59:59.999999-14:00",
    "the year 1": "0001-01-01T00:00:00+00:00",
    "a negative number": -1,
    "a huge number": 2**63 - 1,
    "true": True,
    "no bytes": b"",
    "null": packed(None),
    "a number": packed(7),
    "a list": packed([7]),
    "a list of objects": packed([{}]),
    "an object": packed({"a": 7, "since": 3, "type": []}),
    "nested": b"[" * 60_000,
    "many values": zlib.compress(b"[" + b"[]," * 900_000 + b"0]"),
    "a bomb": zlib.compress(b"0" * 60_000_000),
    "a cut stream": zlib.compress(b"[1, 2, 3]")[:-3],
    "a pointer to nothing": "3|turn-01-nowhere",
    "a pointer to much": "999999999999|turn-01-nowhere",
    "no pointer": "x|y|z",
}


class Town:
    """A world with one run at work, which has called tools, and others whose rows lie in the same shard."""

    def __init__(self) -> None:
        self.world = World(agents=FakeAgents())
        self.client = Client(self.world.context)

    async def settle(self) -> "Town":
        self.victim = (await self.client.start(headers={"Idempotency-Key": "a"}, metadata={"a": "b"})).json
        self.world.provider.state["resp_1"] = asks("resp_1", "look_up")
        await self.world.drive(3)
        session = {"session_id": (await self.neighbour()).session_id}
        self.other = await self.world.start(**session)
        return self

    async def neighbour(self):
        """Start and end a run in the shard of the victim."""
        shard = int(self.victim["id"][4:6], 16)
        self.world.context.randomness.bytes = _in_shard(shard, self.world.context.randomness.bytes)
        run = await self.world.start()
        response_id = run.continuation.response_id
        self.world.provider.state[response_id] = answer(response_id)
        await self.world.until_terminal(run.id)
        return run


def _in_shard(shard: int, original: Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda count: bytes([shard]) if count == 1 else original(count)


async def stored(town: Town) -> dict[str, Row]:
    """Return the rows of the victim, and the tick of its shard."""
    run_id, session_id = town.victim["id"], town.victim["session_id"]
    found = {}
    for shard, there in town.world.table._partitions.items():
        for key, row in there.items():
            of_tick = key == rows.TICK_KEY and shard == run_id[4:6]
            if run_id in key or session_id in key or key.startswith("key|") or of_tick:
                found[f"{shard} {key}"] = row
    return found


async def check(town: Town) -> None:
    """Check that the neighbour is polled, and that clients get an answer about everything."""
    world, client = town.world, town.client
    polled = len(world.provider.reads)
    world.clock.pass_(600)
    await tick(world.context, 10)
    assert town.other.continuation.response_id in world.provider.reads[polled:]
    listed = await client.get("/runs")
    assert listed.status == 200
    assert town.other.id in {run["id"] for run in listed.json["data"]}
    assert (await client.get("/health")).status in {200, 503}
    assert (await client.get("/runs/{run_id}", town.other.id)).status == 200
    for handler, of in [
        (handlers.get_run, "id"),
        (handlers.get_events, "id"),
        (handlers.get_session, "session_id"),
    ]:
        request = Request(url="https://app.example/api/x", headers={})
        reply = await handlers.answer(handler, client._api, request, town.victim[of])
        assert reply.status in {200, 404, 503}
    again = await client.start(headers={"Idempotency-Key": "a"}, metadata={"a": "b"})
    assert again.status in {200, 202, 409, 422, 503}


async def broken(town: Town, where: str, row: Row) -> None:
    shard, _ = where.split(" ", 1)
    await town.world.table.write(shard, [Put(row)])


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_value_of_any_property_stops_only_its_own_run(value):
    town = await Town().settle()
    for where, row in (await stored(town)).items():
        for name in row.values:
            fresh = deepcopy(town)
            own = (await stored(fresh))[where]
            await broken(fresh, where, Row(own.key, {**own.values, name: value}))
            await check(fresh)


async def test_a_missing_property_stops_only_its_own_run():
    town = await Town().settle()
    for where, row in (await stored(town)).items():
        for name in row.values:
            fresh = deepcopy(town)
            own = (await stored(fresh))[where]
            await broken(fresh, where, Row(own.key, {k: v for k, v in own.values.items() if k != name}))
            await check(fresh)


async def test_one_property_more_changes_nothing():
    town = await Town().settle()
    for where, row in (await stored(town)).items():
        await broken(
            town, where, Row(row.key, {**row.values, "of_tomorrow": 2**40, "turn_of_tomorrow": b"\x00"})
        )
    town.world.provider.state["resp_2"] = answer("resp_2")
    run = await town.world.until_terminal(town.victim["id"])
    assert (run.status, run.calls[0].status) == (RunStatus.COMPLETED, CallStatus.COMPLETED)


@pytest.mark.parametrize("key", ["pending|", "pending~", "run|", "event|", "session|", "delivery|"])
@pytest.mark.parametrize("rest", ["", "run_", "x|y", "9999-12-31T23:59:59Z|run|x", "\u2603", "z" * 200])
async def test_a_row_with_a_strange_key_stops_nothing(key, rest):
    town = await Town().settle()
    if key + rest != rows.TICK_KEY:
        await town.world.table.write(town.victim["id"][4:6], [Put(Row(key + rest, {"owner": "default"}))])
    await check(town)


@pytest.mark.parametrize("count", [1, 5, 40])
async def test_broken_rows_take_no_place_in_a_list(count):
    world = World()
    client = Client(world.context)
    world.context.randomness.bytes = _in_shard(3, world.context.randomness.bytes)
    good = [(await client.start()).json["id"] for _ in range(5)]
    for _ in range(count):
        world.clock.pass_(1)
        run_id = (await client.start()).json["id"]
        row = await world.table.get("03", f"run|{run_id}")
        await world.table.write("03", [Put(Row(row.key, {**row.values, "due": "never"}))])
    seen, page = [], await client.get("/runs", limit="2")
    while True:
        seen += [run["id"] for run in page.json["data"]]
        if "nextLink" not in page.json:
            break
        page = await client.follow(page.json["nextLink"])
    assert sorted(seen) == sorted(good)
