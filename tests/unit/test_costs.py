"""What each action costs in storage operations: the figures of docs/performance.md."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

import pytest

from shared.core.caller import Caller
from shared.core.chat.events import ChatEnd, ChatEvent, ChatText
from shared.core.ids import all_shards
from shared.core.log import TextDelta
from shared.core.quota import Limits
from shared.core.response import ItemStarted, NoStream, ResponseStatus, Slice, Snapshot, TextAdded, Usage
from shared.core.run import RunStatus
from shared.ports.tables import Row
from shared.steps.due import claim_due
from shared.steps.poll import poll
from shared.steps.work import work
from shared.usecases.feed import read_feed
from shared.usecases.read import owned_run
from tests.support.client import Client
from tests.support.fakes import answer, asks
from tests.support.generating import Died, add_chat, generates
from tests.support.waiting import gives, waiting_world, waits
from tests.support.world import CALLER, World


def in_progress(response_id: str) -> Snapshot:
    return Snapshot(response_id=response_id, status=ResponseStatus.IN_PROGRESS)


async def pending(world: World, run) -> object:
    [one] = await world.owed()
    world.table.taken()
    return one


async def test_a_start_is_two_transactions(world):
    await world.start()
    assert world.table.taken() == {"write": 2}
    assert world.content_table.taken() == {}


async def test_an_idempotent_start_stores_its_key(world):
    await world.start(idempotency_key="k", fingerprint="a")
    assert world.table.taken() == {"write": 3}


@pytest.mark.parametrize("pending", [0, 3])
async def test_a_start_with_a_quota_is_one_query_more(pending):
    world = World(limits=Limits(pending_runs=100, starts_per_minute=100))
    await world.start(caller=Caller("another"))
    for _ in range(pending):
        await world.start()
    world.table.taken()
    world.table.rows_read = 0
    await world.start()
    assert world.table.taken() == {"write": 2, "query": 1}
    assert world.table.rows_read == (pending + 1 if pending else 0)
    await world.start(idempotency_key="k", fingerprint="a")
    assert world.table.taken() == {"write": 3, "query": 1}


async def test_a_quota_of_starts_alone_is_a_point_read_more():
    world = World(limits=Limits(starts_per_minute=100))
    await world.start()
    assert world.table.taken() == {"write": 2, "get": 1}
    assert world.table.rows_read == 0


async def test_the_next_run_of_a_session_reads_the_session(world):
    run = await world.start()
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(run.id)
    world.table.taken()
    await world.start(session_id=run.session_id)
    assert world.table.taken() == {"write": 2, "get": 1}


async def test_an_unchanged_poll_costs_no_storage_operation(world):
    run = await world.start()
    one = await pending(world, run)
    world.provider.state["resp_1"] = in_progress("resp_1")
    await poll(world.context, one)
    world.table.taken()
    one = await pending(world, run)
    assert one.status is RunStatus.IN_PROGRESS
    await poll(world.context, one)
    assert world.table.taken() == {}


@pytest.mark.parametrize("news", [in_progress("resp_1"), answer("resp_1"), asks("resp_1", "pay")])
async def test_a_poll_with_changes_reads_the_run_and_writes_once(world, news):
    run = await world.start()
    one = await pending(world, run)
    world.provider.state["resp_1"] = news
    await poll(world.context, one)
    assert world.table.taken() == {"get": 1, "write": 1}


async def test_a_turn_with_one_tool_is_three_transactions(world):
    run = await world.start()
    world.provider.state["resp_1"] = asks("resp_1", "pay")
    await world.tick()
    world.table.taken()
    await work(world.context, run.id)
    # Read the run; claim; checkpoint; adopt the next response; and the tool results for its input.
    assert world.table.taken() == {"get": 1, "write": 3, "query": 1}


async def sliced(world: World, run, **fields) -> None:
    """Poll once, and let the provider answer with a slice of one event, unless `fields` say otherwise."""
    one = await pending(world, run)
    after = one.continuation.sequence
    world.provider.slice_replies = [
        Slice(response_id="resp_1", after=after, **{"sequence": after + 1, **fields})
    ]
    world.content_table.taken()
    await poll(world.context, one)


async def test_a_slice_with_text_writes_the_text_and_then_the_run(world):
    run = await world.start(stream=True)
    await sliced(world, run, changes=(TextAdded(0, "Chapter 1"),))
    assert world.table.taken() == {"get": 1, "write": 1}
    assert world.content_table.taken() == {"write": 1}
    assert world.provider.reads == []


async def test_a_slice_without_text_writes_once(world):
    run = await world.start(stream=True)
    await sliced(world, run, changes=(ItemStarted(0, "reasoning"),))
    assert world.table.taken() == {"get": 1, "write": 1}
    assert world.content_table.taken() == {}


async def test_an_empty_slice_costs_no_storage_operation(world):
    run = await world.start(stream=True)
    await sliced(world, run, status=ResponseStatus.IN_PROGRESS)
    world.provider.state["resp_1"] = in_progress("resp_1")
    await sliced(world, run, sequence=1)
    assert world.table.taken() == {}
    assert world.content_table.taken() == {}


@pytest.mark.parametrize("text", ["", "Chapter 1"])
async def test_the_end_of_a_stream_reads_the_text_that_was_stored(world, text):
    run = await world.start(stream=True)
    await sliced(world, run, changes=(TextAdded(0, text),) if text else ())
    await sliced(world, run, sequence=1, final=answer("resp_1", text))
    read = {"query": 1} if text else {}
    assert world.table.taken() == {"get": 1, "write": 1} | read
    assert world.content_table.taken() == read
    assert (await world.run(run.id)).terminal


async def test_a_lost_stream_is_one_write(world):
    run = await world.start(stream=True)
    await sliced(world, run, status=ResponseStatus.IN_PROGRESS)
    one = await pending(world, run)
    world.provider.slice_replies = [NoStream()]
    await poll(world.context, one)
    assert world.table.taken() == {"get": 1, "write": 1}


@pytest.mark.parametrize("text", ["", "Chapter 1"])
@pytest.mark.parametrize("slices", [1, 40])
async def test_the_feed_is_a_point_read_and_a_query_and_one_more_for_its_texts(world, text, slices):
    run = await world.start(stream=True)
    for _ in range(slices):
        await sliced(world, run, changes=(TextAdded(0, text),) if text else ())
    world.table.taken()
    world.content_table.taken()
    feed = await read_feed(world.context, CALLER, run.id, after=0, limit=100)
    texts = [line.text for line in feed.lines if isinstance(line.entry, TextDelta)]
    assert texts == [text] * slices * bool(text)
    assert world.table.taken() == {"get": 1, "query": 1}
    assert world.content_table.taken() == ({"query": 1} if text else {})
    await read_feed(world.context, CALLER, run.id, after=feed.last_number, limit=100)
    assert world.table.taken() == {"get": 1}
    assert world.content_table.taken() == {}


async def test_the_run_and_its_log_do_not_grow_with_the_text():
    sizes = []
    for length in (1_000, 2_000_000):
        world = World()
        run = await world.start(stream=True)
        text = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(length))
        await sliced(world, run, changes=(TextAdded(0, text),))
        rows = await world.table.query(run.id[4:6], "", "~")
        sizes.append(sum(len(str(value)) for row in rows for value in row.values.values()))
    assert max(sizes) - min(sizes) < 20


async def test_a_status_read_is_one_point_read(world):
    run = await world.start()
    world.table.taken()
    await owned_run(world.context, CALLER, run.id)
    assert world.table.taken() == {"get": 1}
    assert world.provider.reads == []


# Runs that wait.


async def test_a_run_that_waits_costs_its_tools_step_nothing_more():
    costs = []
    for name in ("look_up", "pay", "ask"):
        world = waiting_world()
        await world.start()
        world.provider.state["resp_1"] = asks("resp_1", name)
        await world.tick()
        world.table.taken()
        await world.drive(1)
        costs.append(world.table.taken())
    ran, *waited = costs
    # One write is the claim, and one is that of the tick. Checkpoint, results and the next response come later.
    assert waited == [{"query": 16, "get": 1, "write": 2}] * 2
    assert ran["write"] > 2


@pytest.mark.parametrize("template", ["/runs/{run_id}", "/runs/{run_id}/calls"])
async def test_the_status_of_a_run_that_waits_is_a_point_read(template):
    world = waiting_world()
    client = Client(world.context)
    run = await waits(world, client, "pay", "ask")
    world.table.taken()
    world.content_table.taken()
    await client.get(template, run["id"])
    assert (world.table.taken(), world.content_table.taken()) == ({"get": 1}, {})


async def test_the_status_of_a_run_that_has_waited_costs_what_any_does():
    world = waiting_world()
    client = Client(world.context)
    run = await waits(world, client, "pay")
    await gives(client, run["calls"][0], {"approve": True})
    await world.drive(1)
    world.table.taken()
    await client.get("/runs/{run_id}", run["id"])
    assert world.table.taken() == {"get": 1}


async def test_an_answer_reads_the_run_and_writes_once():
    world = waiting_world()
    client = Client(world.context)
    run = await waits(world, client, "pay", "ask")
    for call, given in zip(run["calls"], ({"approve": True}, {"output": "1"}), strict=True):
        world.table.taken()
        await gives(client, call, given)
        assert world.table.taken() == {"get": 1, "write": 1}
        assert world.content_table.taken() == {}


@pytest.mark.parametrize("waiting", [0, 40])
async def test_runs_that_wait_cost_a_tick_no_row(waiting):
    world = waiting_world()
    client = Client(world.context)
    for _ in range(waiting):
        await waits(world, client, "pay")
    world.table.taken()
    world.table.rows_read = 0
    for shard in range(16):
        await claim_due(world.context, f"{shard:02x}")
    assert world.table.taken() == {"query": 16}
    # Those of the last ticks are all rows that there are.
    assert world.table.rows_read <= 16


@pytest.mark.parametrize("others", [0, 40])
async def test_the_list_of_waits_reads_only_runs_that_wait(others):
    world = waiting_world()
    client = Client(world.context)
    for _ in range(3):
        await waits(world, client, "pay")
    await waits(world, client, "ask")
    for _ in range(others):
        await world.start()
    world.table.taken()
    world.table.rows_read = 0
    assert len((await client.get("/waits")).json["data"]) == 3
    assert world.table.taken() == {"query": 16, "get": 3}
    assert world.table.rows_read == 3
    assert world.content_table.taken() == {}


@pytest.mark.parametrize("before", [0, 50])
async def test_an_idle_tick_is_one_query_a_shard_whatever_lies_behind(world, before):
    for n in range(before):
        run = await world.start()
        world.provider.state[f"resp_{n + 1}"] = answer(f"resp_{n + 1}")
        await world.until_terminal(run.id)
    world.table.taken()
    for shard in range(16):
        await claim_due(world.context, f"{shard:02x}")
    assert world.table.taken() == {"query": 16}


async def test_the_pending_list_does_not_grow_with_history(world):
    run = await world.start()
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(run.id)
    for n in range(2, 30):
        run = await world.start(session_id=run.session_id)
        world.provider.state[f"resp_{n}"] = answer(f"resp_{n}")
        await world.until_terminal(run.id)
    rows = await world.table.query(run.id[4:6], "pending|", "pending}")
    assert [row.key for row in rows] == ["pending|"]


async def test_a_long_output_is_chunks_first_and_then_one_transaction(world):
    run = await world.start()
    one = await pending(world, run)
    noise = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(600_000))
    world.provider.state["resp_1"] = answer("resp_1", noise)
    await poll(world.context, one)
    assert world.table.taken() == {"get": 1, "write": 1}
    rows = await world.content_table.query(run.id, "", "~")
    assert len(rows) == world.content_table.taken()["write"] > 1
    assert all(len(value) <= 65536 for row in rows for value in row.values.values())


# Runs whose turns a worker generates.


async def costs_of(*streams: Sequence[ChatEvent | float]) -> tuple[World, tuple[dict, dict]]:
    """Return what workers cost for a run at a provider without background mode, after its start."""
    world = World()
    generates(world, *streams)
    await world.start()
    [message] = await world.tick()
    world.table.taken()
    world.content_table.taken()
    await work_each(world, message)
    return world, (world.table.taken(), world.content_table.taken())


async def work_each(world: World, message: str) -> None:
    more = [message]
    while more:
        with suppress(Died):
            more += await world.work(more.pop())


async def test_a_start_at_a_provider_without_background_mode_is_one_transaction():
    world = World()
    generates(world)
    await world.start()
    assert (world.table.taken(), world.content_table.taken()) == ({"write": 1}, {})


@pytest.mark.parametrize("pieces", [0, 1, 5])
async def test_a_checkpoint_is_a_text_and_a_transaction(pieces):
    # Each piece but the last is stored when two seconds have passed. That one is stored with the end of the turn.
    written = [each for n in range(pieces) for each in (2.0, ChatText(f"{n} "))]
    _, taken = await costs_of([ChatText("Once "), *written, ChatEnd("stop", Usage(1, 2, 3))])
    # The run is read once, before its claim. The other two transactions are the claim and the end of the turn.
    assert taken == ({"get": 1, "write": 2 + pieces}, {"write": pieces} if pieces else {})


async def test_a_piece_that_comes_early_costs_nothing():
    _, taken = await costs_of([*[ChatText("Once ")] * 500, ChatEnd("stop", None)])
    assert taken == ({"get": 1, "write": 2}, {})


async def test_a_long_text_is_stored_although_no_time_has_passed():
    _, (runs, texts) = await costs_of([*[ChatText("x" * 1024)] * 33, ChatEnd("stop", None)])
    assert (runs["write"], texts["write"]) == (2 + 2, 2)


async def test_whoever_continues_a_text_reads_the_log_and_all_of_the_text_with_one_query_each():
    begun = [each for n in range(4) for each in (ChatText(f"{n} "), 2.0)]
    world, _ = await costs_of(begun)
    [message] = await world.tick(20)
    world.table.taken()
    world.content_table.taken()
    await work_each(world, message)
    assert world.table.taken() == {"get": 1, "query": 1, "write": 2}
    assert world.content_table.taken() == {"query": 1}


async def test_a_checkpoint_does_not_grow_with_the_text_before_it():
    sizes = []
    for before in (1, 40):
        begun = [each for n in range(before) for each in (ChatText(f"{n:02d} " * 100), 2.0)]
        world, _ = await costs_of([*begun, ChatText("x"), 2.0])
        rows = await world.table.query((await world.owed())[0].run_id[4:6], "run|", "run}")
        sizes.append(sum(len(str(value)) for row in rows for value in row.values.values()))
    assert max(sizes) - min(sizes) < 20


async def test_a_run_at_the_providers_of_the_settings_costs_the_same_beside_others():
    costs = []
    for beside in (False, True):
        world = World()
        if beside:
            add_chat(world)
        await world.start()
        world.provider.state["resp_1"] = asks("resp_1", "look_up")
        world.provider.state["resp_2"] = answer("resp_2")
        await world.drive(4)
        [row] = [row for row in await every_row(world) if row.key.startswith("run|")]
        assert row.values["status"] == "completed"
        costs.append((world.table.taken(), world.content_table.taken(), sorted(row.values)))
    assert costs[0] == costs[1]
    assert not {"generates", "restarts", "joins", "loose_joins", "joined", "joined_loosely", "unmetered"} & {
        *costs[0][2]
    }


async def every_row(world: World) -> list[Row]:
    return [row for shard in all_shards() for row in await world.table.query(shard, "", "~")]


def test_an_app_without_such_providers_does_not_load_their_adapter():
    settings = {
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "OPENAI_API_KEY": "local",
    }
    code = (
        "import sys; from shared.app import application; application();"
        "print([name for name in sys.modules if name.startswith('shared.adapters.chat_api')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"
