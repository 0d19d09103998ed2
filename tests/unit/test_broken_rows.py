"""A broken row stops only what it is about. Every other run goes on, and every list and the health are answered."""

import asyncio
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy

import pytest

from shared.core.calls import CallStatus
from shared.core.chat.events import ChatEvent, ChatReasoning, ChatText
from shared.core.run import Chaining, RunStatus
from shared.errors import StorageUnavailable
from shared.ports.tables import Put, Row, Value
from shared.steps.tick import tick
from shared.store import rows
from shared.web.http import Request
from shared.web.runs_api import handlers
from tests.support.client import Client
from tests.support.fakes import FakeAgents, answer, asks
from tests.support.generating import drive_until_death, generates
from tests.support.waiting import DAY, gives, waiting_world, waits
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


class WaitingTown(Town):
    """A world whose victim waits for an approval and for an output, and has the answer to a third call."""

    def __init__(self) -> None:
        self.world = waiting_world()
        self.client = Client(self.world.context)

    async def settle(self) -> "WaitingTown":
        fields = {"headers": {"Idempotency-Key": "a"}, "metadata": {"a": "b"}}
        self.victim = await waits(self.world, self.client, "pay", "pay", "ask", **fields)
        changed = {"approve": True, "arguments": {"amount": 20}}
        for message in (await gives(self.client, self.victim["calls"][0], changed)).messages:
            await self.world.work(message)
        assert (await self.world.run(self.victim["id"])).status is RunStatus.REQUIRES_ACTION
        shard = int(self.victim["id"][4:6], 16)
        self.world.context.randomness.bytes = _in_shard(shard, self.world.context.randomness.bytes)
        self.others = await waits(self.world, self.client, "pay")
        self.other = await self.world.start()
        return self


async def check_waits(town: WaitingTown) -> None:
    """Check that clients get an answer about everything that waits, and that the neighbour's call can be answered."""
    client, victim = town.client, town.victim
    listed, page = [], await client.get("/waits")
    while "nextLink" in page.json:
        listed += page.json["data"]
        page = await client.follow(page.json["nextLink"])
    assert town.others["calls"][0] in [(each["run_id"], each["id"]) for each in (*listed, *page.json["data"])]
    asked = [
        (handlers.get_calls, (victim["id"],), b""),
        *((handlers.post_answer, call, b'{"approve": true}') for call in victim["calls"]),
        (handlers.post_answer, victim["calls"][2], b'{"output": "1"}'),
    ]
    for handler, ids, body in asked:
        request = Request(url="https://app.example/api/x", headers={}, body=body)
        reply = await handlers.answer(handler, client._api, request, *ids)
        assert reply.status in {200, 404, 409, 422, 503}, reply
    assert (await gives(client, town.others["calls"][0], {"approve": False})).status == 200
    # The victim's waits end, whatever their clock row says.
    await check(town)
    town.world.clock.pass_(9 * DAY.total_seconds())
    await tick(town.world.context, 10)


class GeneratingTown(Town):
    """A world whose victim has lost its worker, which has stored a part of a text. Another worker takes it up."""

    async def settle(self) -> "GeneratingTown":
        begun: list[ChatEvent | float] = [
            ChatReasoning("Who?"),
            2.0,
            ChatText("Once "),
            2.0,
            ChatText("upon "),
            2.0,
        ]
        generates(self.world, begun)
        self.victim = (await self.client.start(headers={"Idempotency-Key": "a"}, metadata={"a": "b"})).json
        await drive_until_death(self.world)
        self.world.agents.changes = {}
        self.other = await self.neighbour()
        self.other = await self.world.start(session_id=self.other.session_id)
        return self


async def check_worker(town: GeneratingTown) -> None:
    """Check that a worker who gets the victim fails by name at most, and harms nobody else."""
    for _ in range(3):
        for message in await town.world.tick(20):
            with suppress(StorageUnavailable):
                await town.world.work(message)
    await check(town)


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


def about_waits(row: Row) -> list[str]:
    """Return the properties of a row that are about waits. Those of all runs were broken before."""
    of_runs = {"owner", "status", "step", "turn", "calls", "paused_at", "paused_microseconds", "turn_01"}
    kind = row.key.partition("|")[0]
    if kind in {"paused", "answer"}:
        return list(row.values)
    return [name for name in row.values if kind == "run" and name in of_runs]


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_value_of_a_run_that_waits_stops_only_it(value):
    town = await WaitingTown().settle()
    found = await stored(town)
    assert {where.split(" ")[1].partition("|")[0] for where in found} >= {"run", "answer", "paused"}
    for where, row in found.items():
        for name in about_waits(row):
            fresh = deepcopy(town)
            own = (await stored(fresh))[where]
            await broken(fresh, where, Row(own.key, {**own.values, name: value}))
            await check_waits(fresh)


async def test_a_missing_property_of_a_run_that_waits_stops_only_it():
    town = await WaitingTown().settle()
    for where, row in (await stored(town)).items():
        for name in about_waits(row):
            fresh = deepcopy(town)
            own = (await stored(fresh))[where]
            await broken(fresh, where, Row(own.key, {k: v for k, v in own.values.items() if k != name}))
            await check_waits(fresh)


def about_texts(row: Row) -> list[str]:
    """Return the properties of a row that a worker needs to go on with a text."""
    of_runs = {
        "provider", "generates", "restarts", "joins", "loose_joins", "joined", "joined_loosely", "unmetered", "status", "step",
        "turn", "turn_started_at", "written", "items", "turn_items", "open_items", "activity",
    }  # fmt: skip
    kind = row.key.partition("|")[0]
    return list(row.values) if kind == "event" else [name for name in row.values if name in of_runs]


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_value_of_a_run_whose_worker_died_stops_only_it(value):
    town = await GeneratingTown().settle()
    further = {
        "restarts": 0,
        "joins": 0,
        "loose_joins": 0,
        "joined": 0,
        "joined_loosely": True,
        "unmetered": True,
    }
    for where, row in (await stored(town)).items():
        added = further if row.key.startswith("run|") else {}
        for name in about_texts(Row(row.key, {**row.values, **added})):
            fresh = deepcopy(town)
            own = (await stored(fresh))[where]
            await broken(fresh, where, Row(own.key, {**own.values, name: value}))
            await check_worker(fresh)
    [(run_id, texts)] = town.world.content_table._partitions.items()
    for key, row in texts.items():
        fresh = deepcopy(town)
        await fresh.world.content_table.write(run_id, [Put(Row(key, {**row.values, "c00": value}))])
        await check_worker(fresh)


async def test_a_run_whose_worker_died_goes_on_if_nothing_is_broken():
    town = await GeneratingTown().settle()
    for where, row in (await stored(town)).items():
        await broken(town, where, Row(row.key, {**row.values, "of_tomorrow": 2**40}))
    await check_worker(town)
    shown = (await town.client.get("/runs/{run_id}", town.victim["id"])).json
    assert (shown["status"], shown["output_text"]) == ("completed", "Once upon The end.")


@pytest.mark.parametrize("kind", ["answer|", "paused|", "pending~", "run|", "tool|", "event|"])
async def test_a_missing_row_of_a_run_that_waits_stops_only_it(kind):
    town = await WaitingTown().settle()
    shard, run_id = town.victim["id"][4:6], town.victim["id"]
    there = town.world.table._partitions[shard]
    gone = [key for key in there if key.startswith(kind) and run_id in key]
    assert gone
    for key in gone:
        del there[key]
    await check_waits(town)


async def test_one_property_more_of_a_run_that_waits_changes_nothing():
    town = await WaitingTown().settle()
    for where, row in (await stored(town)).items():
        more = {"of_tomorrow": 2**40, "turn_of_tomorrow": b"\x00"}
        await broken(town, where, Row(row.key, {**row.values, **more}))
    for call, answered in zip(town.victim["calls"][1:], ({"approve": True}, {"output": "1"}), strict=True):
        assert (await gives(town.client, call, answered)).status == 200
    run = await town.world.run(town.victim["id"])
    assert [call.status for call in run.calls] == ["completed", "queued", "completed"]
    town.world.provider.state["resp_4"] = answer("resp_4")
    assert (await town.world.until_terminal(run.id)).status is RunStatus.COMPLETED


@pytest.mark.parametrize("key", ["paused|", "answer|", "pending~"])
@pytest.mark.parametrize(
    "rest",
    [
        "",
        "run_",
        "x|y",
        "2026-01-01T00:00:05.000000Z|run_0f" + "0" * 26,
        "2026-01-01T00:00:05.000000Z|run_0f" + "0" * 26 + "|wait",
        "9999-12-31T23:59:59Z|run|x",
        "0001-01-01T00:00:00Z|" + "run_0f" + "0" * 26,
        "\u2603",
        "z" * 200,
    ],
)
async def test_a_row_with_a_strange_key_hides_no_wait(key, rest):
    town = await WaitingTown().settle()
    row = Row(key + rest, {"owner": "default", "kind": "approval", "paused": True})
    await town.world.table.write(town.victim["id"][4:6], [Put(row)])
    await check_waits(town)


async def test_a_row_that_names_the_wait_of_a_foreign_run_shows_nothing_of_it():
    town = WaitingTown()
    ann, bob = Client(town.world.context, owner="ann"), Client(town.world.context, owner="bob")
    run = await waits(town.world, ann, "pay")
    shard = run["id"][4:6]
    [row] = await town.world.table.query(shard, "paused|", "paused}")
    await town.world.table.write(shard, [Put(Row(row.key, {**row.values, "owner": "bob"}))])
    assert (await bob.get("/waits")).json["data"] == []


@pytest.mark.parametrize("count", [1, 5, 40])
async def test_broken_runs_take_no_place_in_the_list_of_waits(count):
    town = WaitingTown()
    world, client = town.world, town.client
    world.context.randomness.bytes = _in_shard(3, world.context.randomness.bytes)
    runs = [await waits(world, client, "pay") for _ in range(count + 3)]
    for run in runs[1:-2]:
        row = await world.table.get("03", f"run|{run['id']}")
        await world.table.write("03", [Put(Row(row.key, {**row.values, "due": "never"}))])
    seen, page = [], await client.get("/waits", limit="2")
    while True:
        seen += [each["run_id"] for each in page.json["data"]]
        if "nextLink" not in page.json:
            break
        page = await client.follow(page.json["nextLink"])
    good = [runs[0]["id"], *(run["id"] for run in runs[-2:])]
    assert seen == good


@pytest.mark.parametrize("key", ["pending|", "pending~", "run|", "event|", "session|", "delivery|"])
@pytest.mark.parametrize("rest", ["", "run_", "x|y", "9999-12-31T23:59:59Z|run|x", "\u2603", "z" * 200])
async def test_a_row_with_a_strange_key_stops_nothing(key, rest):
    town = await Town().settle()
    if key + rest != rows.TICK_KEY:
        await town.world.table.write(town.victim["id"][4:6], [Put(Row(key + rest, {"owner": "default"}))])
    await check(town)


async def test_a_clock_row_with_a_time_at_the_edge_stops_nothing():
    town = await Town().settle()
    run_id, shard = town.victim["id"], town.victim["id"][4:6]
    for due in (
        "0001-01-01T00:00:00+14:00",
        "0001-01-01T00:00:00.000000Z",
        "2026-01-01T00:00:00+00:00",
        "9999-12-31T23:59:59.999999Z",
    ):
        await town.world.table.write(shard, [Put(Row(f"pending~{due}|{run_id}|00000001-0", {}))])
    for _ in range(3):
        town.world.clock.pass_(60)
        assert not [
            message for message in await tick(town.world.context, 10) if message.startswith("delivery")
        ]
    await check(town)


@pytest.mark.parametrize("value", [1_000_000_000, 2**40, 2**63 - 1, -1, "text", True, b"x"], ids=str)
async def test_a_hostile_chunk_of_a_text_stops_only_its_own_run(value):
    town = await Town().settle()
    world = town.world
    text = "".join(map(chr, random.Random(0).choices(range(0x4E00, 0x9E00), k=30_000)))
    run = await world.start()
    response_id = run.continuation.response_id
    world.provider.state[response_id] = answer(response_id, text)
    await world.until_terminal(run.id)
    other = await world.start(session_id=run.session_id)
    rows_of = dict(world.content_table._partitions[run.id])
    for key, row in rows_of.items():
        await world.content_table.write(run.id, [Put(Row(key, {**row.values, "c00": value}))])
    tracemalloc.start()
    assert (await town.client.get("/runs/{run_id}", run.id)).status == 503
    assert (await town.client.get("/runs/{run_id}/events", run.id, limit="1000")).status == 503
    session = await town.client.get("/sessions/{session_id}", run.session_id)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30_000_000
    assert (session.status, session.json["transcript_cut"]) == (200, True)
    assert [each["id"] for each in session.json["runs"]] == [other.id, run.id]


async def test_a_row_of_a_run_that_does_not_exist_is_removed_once_it_is_overdue():
    town = await Town().settle()
    shard, run_id = town.victim["id"][4:6], town.victim["id"]
    del town.world.table._partitions[shard][f"run|{run_id}"]
    for _ in range(4):
        town.world.clock.pass_(3600)
        await tick(town.world.context, 10)
    assert f"pending|{run_id}" not in town.world.table._partitions[shard]


# Rows that name what is another owner's, or each other.


async def theirs(world: World, session_of: str, **changes: str) -> None:
    """Change the row of a session or a run."""
    kind = "session" if session_of.startswith("ses") else "run"
    row = await world.table.get(session_of[4:6], f"{kind}|{session_of}")
    await world.table.write(session_of[4:6], [Put(Row(row.key, {**row.values, **changes}))])


async def two_owners() -> tuple[World, Client, Client, dict, dict]:
    """Return a world in which ann and bob have each a run that has ended, and replays are used."""
    world = World(chaining=Chaining.REPLAY)
    world.context.randomness.bytes = _in_shard(3, world.context.randomness.bytes)
    ann, bob = Client(world.context, owner="ann"), Client(world.context, owner="bob")
    runs = []
    for client, text in ((ann, "hello"), (bob, "BOBS SECRET")):
        run = (await client.start(input=text)).json
        response_id = (await world.run(run["id"])).continuation.response_id
        world.provider.state[response_id] = answer(response_id)
        await world.until_terminal(run["id"])
        runs.append(run)
    return world, ann, bob, runs[0], runs[1]


async def test_a_session_that_names_a_foreign_run_shows_nothing_of_it():
    world, ann, bob, own, foreign = await two_owners()
    await theirs(world, own["session_id"], last_run_id=foreign["id"])
    await ann.start(session_id=own["session_id"], input="more")
    assert "SECRET" not in world.provider.creates[-1].input
    for reply in (
        await ann.get("/sessions/{session_id}", own["session_id"]),
        await ann.get("/runs", session_id=own["session_id"]),
    ):
        assert foreign["id"] not in reply.text
        assert "SECRET" not in reply.text
    assert (await bob.get("/runs/{run_id}", foreign["id"])).status == 200


async def test_a_run_that_names_a_foreign_run_cannot_delete_it():
    world, ann, bob, own, foreign = await two_owners()
    await theirs(world, own["id"], previous_run_id=foreign["id"])
    page = await ann.get("/sessions/{session_id}", own["session_id"])
    assert "SECRET" not in page.text
    assert (await ann.delete("/sessions/{session_id}", own["session_id"])).status == 204
    assert (await bob.get("/runs/{run_id}", foreign["id"])).status == 200


@pytest.mark.parametrize("deleted", [False, True])
async def test_runs_that_name_each_other_are_no_endless_loop(deleted):
    world, ann, _, own, _ = await two_owners()
    if deleted:
        await ann.delete("/runs/{run_id}", own["id"])
    await theirs(world, own["id"], previous_run_id=own["id"])
    async with asyncio.timeout(20):
        listed = await ann.get("/runs", session_id=own["session_id"])
        assert [run["id"] for run in listed.json["data"]] == ([] if deleted else [own["id"]])
        for reply in (
            await ann.get("/sessions/{session_id}", own["session_id"]),
            await ann.start(session_id=own["session_id"]),
            await ann.delete("/sessions/{session_id}", own["session_id"]),
        ):
            assert reply.status < 500


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
