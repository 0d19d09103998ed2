"""What each action costs in storage operations: the figures of docs/performance.md, held fast."""

import pytest

from shared.core.model import ResponseStatus, RunStatus, Snapshot
from shared.usecases.poll import claim_due, poll
from shared.usecases.read import owned_run
from shared.usecases.work import work
from tests.fakes import OWNER, World, answer, asks


def in_progress(response_id: str) -> Snapshot:
    return Snapshot(response_id=response_id, status=ResponseStatus.IN_PROGRESS)


async def pending(world: World, run) -> object:
    [one] = (await world.context.runs.pending(run.id[4:6]))[1]
    world.table.taken()
    return one


async def test_a_start_is_two_transactions():
    world = World()
    await world.start()
    assert world.table.taken() == {"write": 2}
    assert world.content_table.taken() == {}


async def test_an_idempotent_start_stores_its_key():
    world = World()
    await world.start(idempotency_key="k", fingerprint="a")
    assert world.table.taken() == {"write": 3}


async def test_the_next_run_of_a_session_reads_the_session():
    world = World()
    run = await world.start()
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(run.id)
    world.table.taken()
    await world.start(session_id=run.session_id)
    assert world.table.taken() == {"write": 2, "get": 1}


async def test_an_unchanged_poll_costs_nothing():
    world = World()
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
async def test_a_poll_with_news_reads_the_run_and_writes_once(news):
    world = World()
    run = await world.start()
    one = await pending(world, run)
    world.provider.state["resp_1"] = news
    await poll(world.context, one)
    assert world.table.taken() == {"get": 1, "write": 1}


async def test_a_turn_with_one_tool_is_three_transactions():
    world = World()
    run = await world.start()
    world.provider.state["resp_1"] = asks("resp_1", "pay")
    await world.tick()
    world.table.taken()
    await work(world.context, run.id)
    # Read the run; claim; checkpoint; adopt the next response; and the tool results for its input.
    assert world.table.taken() == {"get": 1, "write": 3, "query": 1}


async def test_a_status_read_is_one_point_read():
    world = World()
    run = await world.start()
    world.table.taken()
    await owned_run(world.context, OWNER, run.id)
    assert world.table.taken() == {"get": 1}
    assert world.provider.reads == []


@pytest.mark.parametrize("before", [0, 50])
async def test_an_idle_tick_is_one_query_a_shard_whatever_lies_behind(before):
    world = World()
    for n in range(before):
        run = await world.start()
        world.provider.state[f"resp_{n + 1}"] = answer(f"resp_{n + 1}")
        await world.until_terminal(run.id)
    world.table.taken()
    for shard in range(16):
        await claim_due(world.context, f"{shard:02x}")
    assert world.table.taken() == {"query": 16}


async def test_the_pending_list_does_not_grow_with_history():
    world = World()
    run = await world.start()
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(run.id)
    for n in range(2, 30):
        run = await world.start(session_id=run.session_id)
        world.provider.state[f"resp_{n}"] = answer(f"resp_{n}")
        await world.until_terminal(run.id)
    rows = await world.table.query(run.id[4:6], "pending|", "pending}")
    assert [row.key for row in rows] == ["pending|"]


async def test_a_long_output_is_chunks_first_and_then_one_transaction():
    world = World()
    run = await world.start()
    one = await pending(world, run)
    noise = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(600_000))
    world.provider.state["resp_1"] = answer("resp_1", noise)
    await poll(world.context, one)
    assert world.table.taken() == {"get": 1, "write": 1}
    rows = await world.content_table.query(run.id, "", "~")
    assert len(rows) == world.content_table.taken()["write"] > 1
    assert all(len(value) <= 65536 for row in rows for value in row.values.values())
