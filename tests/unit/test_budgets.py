"""A conversation is never handled whole when it is too long: it is cut where everybody sees it, or refused with a code."""

import json
import random
import tracemalloc
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.core import limits
from shared.core.calls import CallStatus, ToolCall, ToolResult
from shared.core.chat.events import ChatCall, ChatEnd, ChatText
from shared.core.life.calling import MAX_CALLS_PER_RUN
from shared.core.response import ChainBroken, ItemStarted, PartStarted, RunError, Slice, TextAdded
from shared.core.run import Chaining, RunStatus
from shared.core.text import json_text
from shared.core.transcript import calls, output_text
from shared.ports.agents import Permit
from shared.steps.poll import poll
from tests.support.client import Client
from tests.support.fakes import FakeAgents, answer, asks, message
from tests.support.feeds import follow
from tests.support.generating import drive_until_death, generates
from tests.support.waiting import DAY, gives, waiting_world, waits
from tests.support.world import World

MIB = 2**20
# A text of nearly a mebibyte that does not become short when it is compressed.
LONG = "".join(map(chr, random.Random(0).choices(range(0x4E00, 0x9E00), k=349_000)))


@contextmanager
def memory_at_most(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most


class Talkative(FakeAgents):
    """Its tools return as much as a result may have. Those of `pay` are short."""

    async def run_tools(
        self, _agent: str, requests: Sequence[ToolCall], _permit: Permit
    ) -> AsyncGenerator[ToolResult, None]:
        for request in requests:
            output = "paid" if request.name == "pay" else LONG
            yield ToolResult(request.call_id, CallStatus.COMPLETED, output)


async def called(*names: str, chaining: Chaining = Chaining.PREVIOUS_RESPONSE_ID) -> World:
    """Return a world whose only run has called tools, and has their results."""
    world = World(agents=Talkative(), chaining=chaining)
    await world.start()
    world.provider.state["resp_1"] = asks("resp_1", *names)
    await world.drive(2)
    return world


def results(world: World) -> list[str]:
    items = json.loads(world.provider.creates[-1].input)
    return [item["output"] for item in items if item.get("type") == "function_call_output"]


@pytest.mark.parametrize("chaining", Chaining)
async def test_the_results_of_a_turn_fit_together_and_each_call_is_answered(chaining):
    world = await called(*["look_up"] * 20, "pay", chaining=chaining)
    sent = results(world)
    assert len(sent) == 21
    assert (
        limits.MAX_RESULTS_BYTES / 2
        < sum(len(each.encode()) for each in sent)
        < 1.01 * limits.MAX_RESULTS_BYTES
    )
    shown = [each for each in sent if "result_not_shown" not in each]
    assert len(shown) == 4 + 1
    # A short result still fits after a long one did not.
    assert sent[-1] == "paid"
    assert json.loads(sent[10])["result_not_shown"]["code"] == "results_too_large"


async def test_results_that_do_not_fit_are_not_loaded():
    world = await called("pay")
    world.provider.state["resp_2"] = asks("resp_2", *["look_up"] * 20)
    world.content_table.taken()
    with memory_at_most(10 * limits.MAX_RESULTS_BYTES):
        await world.drive(2)
    assert len(results(world)) == 20
    assert world.content_table.taken()["query"] <= 5


async def test_a_repeated_create_has_the_same_results():
    world = await called(*["look_up"] * 6)
    first = world.provider.creates[-1].input
    world.provider.create_replies = [ChainBroken(RunError("x", "No tool output found."))]
    world.provider.state["resp_2"] = asks("resp_2", "pay")
    await world.drive(3)
    assert len(world.provider.creates) == 4
    assert [each for each in results(world) if "result_not_shown" in each]
    assert json.loads(first)[0]["output"] in results(world)


# Calls that wait.


def measured(world: World) -> list[int]:
    """Return a list that gets the number of writes of each transaction from now on."""
    sizes, write = list[int](), world.table.write

    async def counting(partition, writes):
        sizes.append(len(writes))
        return await write(partition, writes)

    world.table.write = counting
    return sizes


@pytest.mark.parametrize("kind", ["pay", "ask"])
async def test_as_many_calls_as_a_run_has_may_wait_and_each_is_a_transaction_of_few_writes(kind):
    world = waiting_world()
    client, sizes = Client(world.context), measured(world)
    run = await waits(world, client, *[kind] * MAX_CALLS_PER_RUN)
    shown = (await client.get("/runs/{run_id}", run["id"])).json
    assert len(shown["required_action"]) == MAX_CALLS_PER_RUN
    given = {"approve": False, "reason": "漢" * 2_000} if kind == "pay" else {"output": "1"}
    for call in run["calls"][:5]:
        assert (await gives(client, call, given)).status == 200
    # The waits of all others end in one transition.
    await world.drive(1, 4 * DAY.total_seconds())
    shown = (await client.get("/runs/{run_id}", run["id"])).json
    assert [call["status"] for call in shown["tool_calls"]].count("timed_out") == MAX_CALLS_PER_RUN - 5
    assert max(sizes) < 10
    await world.drive(2)
    world.provider.state["resp_2"] = answer("resp_2")
    assert (await world.until_terminal(run["id"])).status is RunStatus.COMPLETED


async def test_as_many_calls_as_a_run_has_may_be_approved_and_run():
    world = waiting_world()
    client = Client(world.context)
    run = await waits(world, client, *["pay"] * MAX_CALLS_PER_RUN)
    sizes = measured(world)
    for call in run["calls"]:
        assert (await gives(client, call, {"approve": True})).status == 200
    await world.drive(1)
    world.provider.state["resp_2"] = answer("resp_2")
    assert (await world.until_terminal(run["id"])).status is RunStatus.COMPLETED
    assert sorted(world.agents.runs.values()) == [1] * MAX_CALLS_PER_RUN
    assert max(sizes) < 10


async def test_outputs_of_callers_fit_together_like_results():
    world = waiting_world()
    client = Client(world.context)
    run = await waits(world, client, *["ask"] * 6)
    for call in run["calls"]:
        assert (await gives(client, call, {"output": LONG})).status == 200
    await world.drive(1)
    sent = results(world)
    assert len(sent) == 6
    assert sum(len(each.encode()) for each in sent) < 1.01 * limits.MAX_RESULTS_BYTES
    assert json.loads(sent[-1])["result_not_shown"]["code"] == "results_too_large"


async def test_a_page_of_calls_ends_before_it_is_too_long():
    world = waiting_world()
    client, runs = Client(world.context), []
    for _ in range(3):
        run = (await client.start()).json
        [owed] = await world.owed()
        response_id = owed.continuation.response_id
        text = json.dumps({"note": LONG}, ensure_ascii=False)
        items = [
            {"type": "function_call", "call_id": f"c{n}", "name": "pay", "arguments": text} for n in range(3)
        ]
        output = json_text(items)
        world.provider.state[response_id] = replace(answer(response_id), output=output, calls=calls(output))
        await world.drive(2)
        runs.append(run["id"])
    for template, ids in (("/runs/{run_id}/calls", runs[:1]), ("/waits", [])):
        page, pages = await client.get(template, *ids), []
        while True:
            pages.append(len(page.json["data"]))
            assert len(page.text.encode()) < 1.1 * limits.MAX_CALLS_BYTES
            if "nextLink" not in page.json:
                break
            page = await client.follow(page.json["nextLink"])
        assert sum(pages) == (3 if ids else 9)
        assert ids or len(pages) >= 3


async def test_short_calls_of_a_long_output_are_one_page():
    """Each page loads the output. With a page for each call, a long output would be loaded as often as it has calls."""
    world = waiting_world()
    client = Client(world.context)
    run = await waits(world, client, *["pay"] * 5)
    stored = await world.context.runs.read(run["id"])
    items = json.loads(await world.context.content.load(run["id"], stored.run.turns[0]))
    items.append({"type": "reasoning", "summary": "x" * (limits.MAX_CALLS_BYTES + 1)})
    content = await world.context.content.save(run["id"], "turn-01-other", json.dumps(items))
    await world.context.runs.commit(stored, replace(stored.run, turns=(content,), rev=stored.run.rev + 1))
    for template, ids in (("/runs/{run_id}/calls", [run["id"]]), ("/waits", [])):
        page = (await client.get(template, *ids)).json
        assert (len(page["data"]), "nextLink" in page) == (5, False)


# Texts that a worker generates.


@pytest.mark.parametrize("begun", [False, True], ids=["at once", "after a join"])
async def test_a_text_that_is_too_long_ends_its_stream_at_once(begun):
    world = World()
    piece, too_much = ChatText("x" * MIB), [ChatText("x" * MIB)] * (limits.MAX_OUTPUT_BYTES // MIB + 1)
    before = [[piece, 2.0, piece, 2.0]] if begun else []
    endless = [each for _ in range(100) for each in (ChatText("x"), 60.0)]
    generates(world, *before, [*too_much, *endless])
    run, began = await world.start(), world.clock.now()
    if begun:
        await drive_until_death(world)
    await world.drive(2, 20)
    shown = (await Client(world.context).get("/runs/{run_id}", run.id)).json
    assert (shown["status"], shown["error"]["code"]) == ("failed", "output_too_large")
    assert world.clock.now() - began < timedelta(minutes=2)
    assert (await follow(world, run.id)).text == ""


async def test_as_many_calls_as_a_run_has_may_be_generated_and_each_transaction_has_few_writes():
    world = World()
    calls = [ChatCall(n, f"call_{n}", "look_up", "{}") for n in range(MAX_CALLS_PER_RUN)]
    generates(world, [*calls, ChatEnd("tool_calls", None)])
    sizes = measured(world)
    run = await world.start()
    run = await world.until_terminal(run.id)
    assert (run.status, len(run.calls)) == (RunStatus.COMPLETED, MAX_CALLS_PER_RUN)
    assert max(sizes) < 10


async def test_a_run_does_not_grow_with_the_joins_of_its_texts():
    sizes = []
    for joins in (1, 5):
        world = World()
        generates(world, *[[ChatText("x" * 100), 2.0, ChatText("y"), 300.0, ChatText("z")]] * joins)
        run = await world.start()
        [message] = await world.tick()
        for _ in range(joins):
            [message] = await world.work(message)
        stored = await world.run(run.id)
        assert stored.joins == joins - 1
        [row] = await world.table.query(run.id[4:6], f"run|{run.id}", f"run|{run.id}~")
        sizes.append(sum(len(str(value)) for value in row.values.values()))
    assert max(sizes) - min(sizes) < 30


# Replays.


async def conversation(count: int, size: int, chaining: Chaining = Chaining.REPLAY) -> tuple[World, str]:
    """Return a world with a session of runs that have ended with long texts."""
    world = World(chaining=chaining)
    session: dict[str, str] = {}
    for number in range(1, count + 1):
        run = await world.start(**session)
        text = "".join(chr(0x4E00 + (n * number) % 20_000) for n in range(1000)) * (size // 3000)
        response_id = run.continuation.response_id
        world.provider.state[response_id] = replace(answer(response_id), output=json_text(message(text)))
        assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED
        session = {"session_id": run.session_id}
    return world, session["session_id"]


async def test_a_conversation_that_is_too_long_to_be_replayed_is_refused_with_a_code():
    world, session_id = await conversation(3, 6 * MIB)
    creates = len(world.provider.creates)
    run = await world.start(session_id=session_id)
    assert (run.status, run.error.code) == (RunStatus.FAILED, "conversation_too_long")
    assert "16 MiB" in run.error.message
    assert len(world.provider.creates) == creates


async def test_a_long_conversation_that_fits_is_replayed_completely():
    world, session_id = await conversation(2, 6 * MIB)
    await world.start(session_id=session_id)
    sent = json.loads(world.provider.creates[-1].input)
    assert [item["role"] for item in sent] == ["user", "assistant", "user", "assistant", "user"]


async def test_a_conversation_of_much_structure_is_refused_before_it_is_parsed():
    world, session_id = await conversation(1, 3000)
    dense = "[" + ",".join(["{}"] * 300_000) + "]"
    for _ in range(2):
        run = await world.start(session_id=session_id)
        response_id = run.continuation.response_id
        world.provider.state[response_id] = replace(answer(response_id), output=dense)
        await world.until_terminal(run.id)
        world.provider.creates.clear()
    run = await world.start(session_id=session_id)
    assert (run.status, run.error.code) == (RunStatus.FAILED, "conversation_too_long")


async def test_a_session_of_many_runs_is_not_replayed_without_end(monkeypatch):
    monkeypatch.setattr("shared.steps.conversation.MAX_REPLAY_RUNS", 3)
    world, session_id = await conversation(4, 3000)
    assert (await world.start(session_id=session_id)).error.code == "conversation_too_long"


# Pages.


async def test_a_page_of_a_transcript_ends_before_it_is_too_long():
    world, session_id = await conversation(5, 6 * MIB, Chaining.PREVIOUS_RESPONSE_ID)
    client, seen, pages = Client(world.context), [], 0
    page = await client.get("/sessions/{session_id}", session_id)
    while True:
        pages += 1
        assert len(page.text.encode()) < 1.1 * limits.MAX_TRANSCRIPT_BYTES
        assert not page.json["transcript_cut"]
        seen += [run["id"] for run in page.json["runs"]]
        assert len(page.json["transcript"]) == 2 * len(page.json["runs"])
        if "nextLink" not in page.json:
            break
        page = await client.follow(page.json["nextLink"])
    assert (len(seen), len(set(seen)), pages) == (5, 5, 3)


async def test_the_transcript_of_a_single_run_that_is_too_long_is_cut_visibly(monkeypatch):
    monkeypatch.setattr("shared.usecases.read.MAX_TRANSCRIPT_BYTES", 2 * MIB)
    world, session_id = await conversation(2, 3 * MIB)
    page = await Client(world.context).get("/sessions/{session_id}", session_id)
    assert (page.json["transcript_cut"], len(page.json["runs"])) == (True, 1)
    assert [item["role"] for item in page.json["transcript"]] == ["user"]
    assert "nextLink" in page.json


async def test_a_page_of_a_feed_ends_before_it_is_too_long():
    world = await called(*["look_up"] * 12)
    world.provider.state["resp_2"] = answer("resp_2", "done")
    [owed] = await world.owed()
    run = await world.until_terminal(owed.run_id)
    client, after, sizes, outputs = Client(world.context), 0, [], []
    while True:
        page = await client.get("/runs/{run_id}/events", run.id, after=str(after), limit="1000")
        sizes.append(sum(len(event.get("output", "").encode()) for event in page.json["data"]))
        outputs += [event["output"] for event in page.json["data"] if event["type"] == "tool.completed"]
        assert page.json["last_id"] > after
        after = page.json["last_id"]
        if page.json["done"]:
            break
        assert page.json["retry_ms"] == 0
    assert len(outputs) == 12
    assert max(sizes) <= limits.MAX_FEED_BYTES
    assert len(sizes) >= 3


async def test_one_event_that_is_too_long_is_a_page_of_its_own():
    world = World()
    run = await world.start()
    text = "".join(chr(0x4E00 + n % 20_000) for n in range(2_000_000))
    world.provider.state["resp_1"] = replace(answer("resp_1"), output=json_text(message(text)))
    await world.until_terminal(run.id)
    client, after, events = Client(world.context), 0, []
    for _ in range(20):
        page = (await client.get("/runs/{run_id}/events", run.id, after=str(after))).json
        events += page["data"]
        after = page["last_id"]
        if page["done"]:
            break
    assert "".join(event["text"] for event in events if event["type"] == "text.delta") == text
    assert output_text(json_text(message(text))) == text


async def test_a_page_of_a_feed_loads_only_the_slices_that_it_shows():
    world = World()
    run = await world.start(stream=True)
    ascii_text = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=MIB))
    for number in range(12):
        [owed] = await world.owed()
        response_id, after = owed.continuation.response_id, owed.continuation.sequence
        started = [ItemStarted(0, "message"), PartStarted(0, "output_text")] if number == 0 else []
        changes = (*started, TextAdded(0, ascii_text))
        world.provider.slice_replies = [
            Slice(response_id=response_id, after=after, sequence=after + 1, changes=changes)
        ]
        await poll(world.context, owed)
    world.content_table.rows_read = 0
    client = Client(world.context)
    page = (await client.get("/runs/{run_id}/events", run.id, after="0", limit="1000")).json
    texts = [event["text"] for event in page["data"] if event["type"] == "text.delta"]
    assert len(texts) == 4
    # Each of these texts is a row.
    assert world.content_table.rows_read == 4
