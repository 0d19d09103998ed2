"""The event feed as JSON and as an event stream: it is the same for every reader, at any time and from any event."""

import json
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.core.ids import item_id
from shared.core.response import (
    ItemStarted,
    ResponseStatus,
    RunError,
    Slice,
    Snapshot,
    StreamChange,
    TextAdded,
)
from shared.core.run import Owed, RunStatus
from shared.steps.poll import poll
from shared.steps.work import work
from shared.usecases.feed import read_feed
from tests.support.client import Answer, Client
from tests.support.fakes import answer, asks
from tests.support.feeds import Reader
from tests.support.world import CALLER, World

EVENTS = "/runs/{run_id}/events"
SSE = {"Accept": "text/event-stream"}
TEXT = "Grüße,\nAstronauten! 🚀\r\n\u2028data: x\n\nid: 99\x00"


async def owed(world: World, run_id: str) -> Owed:
    [one] = [one for one in await world.owed() if one.run_id == run_id]
    return one


async def slice_by_slice(world: World, run_id: str, *texts: str) -> None:
    """Add texts to the current turn of a run, one with each poll."""
    for text in texts:
        one = await owed(world, run_id)
        world.provider.slice_replies = [brings(one, TextAdded(0, text))]
        await poll(world.context, one)


def brings(one: Owed, *changes: StreamChange) -> Slice:
    """Return the next slice of a stream."""
    response_id, after = one.continuation.response_id, one.continuation.sequence
    return Slice(response_id=response_id, after=after, sequence=after + 1, changes=changes)


async def ends(world: World, run_id: str, final: Snapshot) -> None:
    """Let the stream of the current turn end, and run what tools it asks for."""
    world.provider.state[final.response_id] = final
    one = await owed(world, run_id)
    response_id, after = one.continuation.response_id, one.continuation.sequence
    world.provider.slice_replies = [Slice(response_id=response_id, after=after, sequence=after, final=final)]
    if await poll(world.context, one):
        await work(world.context, run_id)


async def finished(world: World, client: Client, *texts: str, last: str | None = None) -> str:
    """Return a streamed run that has ended with these texts."""
    run_id = (await client.start(stream=True)).json["id"]
    await slice_by_slice(world, run_id, *texts)
    response_id = (await world.run(run_id)).continuation.response_id
    await ends(world, run_id, answer(response_id, "".join(texts) if last is None else last))
    return run_id


def stream_events(reply: Answer) -> tuple[int, list[tuple[str, dict]]]:
    """Return what EventSource reads from a reply: the pause, and the id and data of each event."""
    assert reply.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["Cache-Control"] == "no-store"
    first, *blocks = reply.text.removesuffix("\n\n").split("\n\n")
    found = []
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        assert set(fields) == {"id", "event", "data"}
        data = json.loads(fields["data"])
        assert (str(data["id"]), data["type"]) == (fields["id"], fields["event"])
        found.append((fields["id"], data))
    return int(first.removeprefix("retry: ")), found


# As JSON.


async def test_the_feed_of_a_new_run(world, client):
    run_id = (await client.start()).json["id"]
    assert (await client.get(EVENTS, run_id)).json == {
        "object": "list",
        "data": [
            {"id": 1, "type": "run.queued", "at": "2026-01-01T00:00:00.000Z"},
            {
                "id": 2,
                "type": "turn.started",
                "at": "2026-01-01T00:00:00.000Z",
                "turn": 1,
                "response_id": "resp_1",
                "model": "m",
            },
        ],
        "last_id": 2,
        "done": False,
        "retry_ms": 2000,
    }


async def test_the_feed_of_a_run_with_tools_and_text_from_its_beginning_to_its_end(world, client):
    run_id = (await client.start(stream=True)).json["id"]
    await slice_by_slice(world, run_id, "Let me see. ")
    asked = asks("resp_1", "look_up")
    text = answer("resp_1", "Let me see. ").output[1:-1]
    world.clock.pass_(1.5)
    await ends(world, run_id, replace(asked, output=f"[{text}, {asked.output[1:-1]}]"))
    await slice_by_slice(world, run_id, "Once ", "upon ")
    await ends(world, run_id, answer("resp_2", "Once upon a time"))
    reply = (await client.get(EVENTS, run_id)).json
    first, second, third = (item_id(run_id, ordinal) for ordinal in range(3))
    assert [{name: value for name, value in event.items() if name != "at"} for event in reply["data"]] == [
        {"id": 1, "type": "run.queued"},
        {"id": 2, "type": "turn.started", "turn": 1, "response_id": "resp_1", "model": "m"},
        {"id": 3, "type": "run.in_progress"},
        {"id": 4, "type": "item.started", "turn": 1, "item_id": first, "kind": "message"},
        {"id": 5, "type": "part.started", "turn": 1, "item_id": first, "part": 0, "kind": "output_text"},
        {"id": 6, "type": "text.delta", "turn": 1, "item_id": first, "part": 0, "text": "Let me see. "},
        {"id": 7, "type": "part.completed", "turn": 1, "item_id": first, "part": 0},
        {"id": 8, "type": "item.completed", "turn": 1, "item_id": first},
        {
            "id": 9,
            "type": "item.started",
            "turn": 1,
            "item_id": second,
            "kind": "function_call",
            "name": "look_up",
        },
        {"id": 10, "type": "item.completed", "turn": 1, "item_id": second},
        {"id": 11, "type": "turn.completed", "turn": 1, "tool_calls": 1, "total_tokens": 2},
        {
            "id": 12,
            "type": "tool.started",
            "turn": 1,
            "call_id": "call_resp_1_0",
            "name": "look_up",
            "arguments": "{}",
        },
        {
            "id": 13,
            "type": "tool.completed",
            "turn": 1,
            "call_id": "call_resp_1_0",
            "name": "look_up",
            "status": "completed",
            "output": "result of call_resp_1_0",
        },
        {"id": 14, "type": "turn.started", "turn": 2, "response_id": "resp_2", "model": "m"},
        {"id": 15, "type": "item.started", "turn": 2, "item_id": third, "kind": "message"},
        {"id": 16, "type": "part.started", "turn": 2, "item_id": third, "part": 0, "kind": "output_text"},
        {"id": 17, "type": "text.delta", "turn": 2, "item_id": third, "part": 0, "text": "Once "},
        {"id": 18, "type": "text.delta", "turn": 2, "item_id": third, "part": 0, "text": "upon "},
        {"id": 19, "type": "text.delta", "turn": 2, "item_id": third, "part": 0, "text": "a time"},
        {"id": 20, "type": "part.completed", "turn": 2, "item_id": third, "part": 0},
        {"id": 21, "type": "item.completed", "turn": 2, "item_id": third},
        {"id": 22, "type": "run.completed"},
    ]
    assert [event["at"][17:] for event in reply["data"]] == ["00.000Z"] * 6 + ["01.500Z"] * 16
    assert (reply["last_id"], reply["done"]) == (22, True)
    assert (await client.get("/runs/{run_id}", run_id)).json["output_text"] == "Once upon a time"


async def test_a_page_ends_at_the_limit_and_is_not_done(world, client):
    run_id = await finished(world, client, "a", "b", "c")
    complete = (await client.get(EVENTS, run_id)).json["data"]
    assert len(complete) == 11
    for limit in range(1, 12):
        seen, after = [], 0
        while True:
            page = (await client.get(EVENTS, run_id, after=str(after), limit=str(limit))).json
            seen += page["data"]
            assert len(page["data"]) <= limit
            assert page["last_id"] == seen[-1]["id"]
            assert page["done"] == (len(seen) == len(complete))
            assert (page["retry_ms"] == 0) == (not page["done"])
            after = page["last_id"]
            if page["done"]:
                break
        assert seen == complete


async def test_a_feed_that_is_longer_than_a_page_has_further_pages(world, client):
    run_id = (await client.start(stream=True)).json["id"]
    await slice_by_slice(world, run_id, *(f"{n} " for n in range(250)))
    page = (await client.get(EVENTS, run_id)).json
    assert (len(page["data"]), page["last_id"], page["retry_ms"]) == (100, 100, 0)
    page = (await client.get(EVENTS, run_id, limit="1000")).json
    assert (len(page["data"]), page["last_id"], page["done"]) == (255, 255, False)
    assert page["retry_ms"] > 0


@pytest.mark.parametrize("after", [2, 3, 999_999_999])
async def test_a_page_without_new_events_is_empty(world, client, after):
    run_id = (await client.start()).json["id"]
    reply = (await client.get(EVENTS, run_id, after=str(after))).json
    assert reply == {"object": "list", "data": [], "last_id": 2, "done": False, "retry_ms": 2000}
    assert stream_events(await client.get(EVENTS, run_id, headers=SSE, after=str(after))) == (2000, [])


async def test_the_retry_of_a_feed_ends_after_the_next_poll(world, client):
    for streams, longest in ((True, 5000), (False, 30_000)):
        run_id = (await client.start(stream=streams)).json["id"]
        world.clock.pass_(2000)
        assert (await client.get(EVENTS, run_id)).json["retry_ms"] == longest


# As a stream of events.


async def test_events_as_event_source_reads_them(world, client):
    run_id = await finished(world, client, TEXT, "and more", last=TEXT + "and more.")
    retry, found = stream_events(await client.get(EVENTS, run_id, headers=SSE))
    assert retry >= 1000
    assert [number for number, _ in found] == [str(number) for number in range(1, 12)]
    assert [data for _, data in found] == (await client.get(EVENTS, run_id)).json["data"]
    assert [data["text"] for _, data in found if data["type"] == "text.delta"] == [TEXT, "and more", "."]


async def test_a_client_resumes_after_the_last_event_it_received(world, client):
    run_id = await finished(world, client, "a", "b")
    complete = stream_events(await client.get(EVENTS, run_id, headers=SSE))[1]
    for last in range(len(complete)):
        back = await client.get(EVENTS, run_id, headers=SSE | {"Last-Event-ID": str(last)})
        assert stream_events(back)[1] == complete[last:]
        # The address keeps the `after` of the first request.
        back = await client.get(EVENTS, run_id, headers=SSE | {"Last-Event-ID": str(last)}, after="1")
        assert stream_events(back)[1] == complete[last:]
        begun = await client.get(EVENTS, run_id, headers=SSE, after=str(last))
        assert stream_events(begun)[1] == complete[last:]


async def test_the_header_counts_for_json_as_well(world, client):
    run_id = await finished(world, client, "a", "b")
    page = (await client.get(EVENTS, run_id, headers={"Last-Event-ID": "4"}, after="1")).json
    assert page["data"][0]["id"] == 5


async def test_after_the_last_event_a_client_gets_a_204(world, client):
    run_id = await finished(world, client, "a")
    for last in ("9", "10", "999999999"):
        for asked in ({"headers": SSE | {"Last-Event-ID": last}}, {"headers": SSE, "after": last}):
            reply = await client.get(EVENTS, run_id, **asked)
            assert (reply.status, reply.text, reply.headers["Cache-Control"]) == (204, "", "no-store")
        reply = await client.get(EVENTS, run_id, headers={"Last-Event-ID": last})
        assert (reply.status, reply.json["data"], reply.json["done"]) == (200, [], True)
    reply = await client.get(EVENTS, run_id, headers=SSE | {"Last-Event-ID": "8"})
    assert [number for number, _ in stream_events(reply)[1]] == ["9"]


async def test_no_client_gets_a_204_while_the_run_is_pending(world, client):
    run_id = (await client.start()).json["id"]
    assert (await client.get(EVENTS, run_id, headers=SSE | {"Last-Event-ID": "2"})).status == 200
    await client.post("/runs/{run_id}/cancel", run_id)
    assert (await client.get(EVENTS, run_id, headers=SSE | {"Last-Event-ID": "2"})).status == 200
    assert (await client.get(EVENTS, run_id, headers=SSE | {"Last-Event-ID": "4"})).status == 204


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("text/event-stream, */*;q=0.1", True),
        ("application/json", False),
        ("*/*", False),
        ("", False),
        ("text/html", False),
    ],
)
async def test_a_client_that_does_not_accept_a_stream_gets_json(world, client, accept, streams):
    run_id = (await client.start()).json["id"]
    reply = await client.get(EVENTS, run_id, headers={"Accept": accept})
    assert (reply.json is None) == streams


async def test_a_stream_ends_at_the_limit_and_the_rest_is_available_at_once(world, client):
    run_id = await finished(world, client, "a", "b", "c")
    retry, found = stream_events(await client.get(EVENTS, run_id, headers=SSE, limit="2"))
    assert (retry, len(found)) == (0, 2)


# Owners.


@pytest.mark.parametrize("headers", [{}, SSE], ids=["JSON", "stream"])
async def test_only_its_owner_reads_a_feed(world, headers):
    ann, bob = Client(world.context, owner="ann"), Client(world.context, owner="bob")
    run_id = await finished(world, ann, "secret")
    for last in ("0", "5", "99"):
        reply = await bob.get(EVENTS, run_id, headers=headers, after=last)
        assert (reply.status, reply.json["code"]) == (404, "run_not_found")
        assert "secret" not in reply.text
    assert (await ann.get(EVENTS, run_id, headers=headers)).status == 200


@pytest.mark.parametrize("headers", [{}, SSE], ids=["JSON", "stream"])
async def test_a_deleted_run_has_no_feed(world, client, headers):
    run_id = await finished(world, client, "a", "b")
    assert (await client.delete("/runs/{run_id}", run_id)).status == 204
    for last in ("0", "6"):
        assert (await client.get(EVENTS, run_id, headers=headers, after=last)).status == 404


@pytest.mark.parametrize("kind", ["text.delta", "tool.completed", "the answer"])
async def test_a_run_that_is_deleted_while_its_feed_is_read_is_not_found(world, client, kind):
    long = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(60_000))
    run_id = (await client.start(stream=True)).json["id"]
    if kind == "text.delta":
        await slice_by_slice(world, run_id, "a")
    elif kind == "tool.completed":
        run_tools = world.agents.run_tools

        async def at_length(agent, requests, permit):
            async for result in run_tools(agent, requests, permit):
                yield replace(result, output=long)

        world.agents.run_tools = at_length
        await ends(world, run_id, asks("resp_1", "pay"))
    else:
        await ends(world, run_id, answer("resp_1", long))
    log = world.context.runs.log

    async def deleted_meanwhile(*asked):
        found = await log(*asked)
        await client.delete("/runs/{run_id}", run_id)
        return found

    world.context.runs.log = deleted_meanwhile
    assert (await client.get(EVENTS, run_id)).status == 404


# Contents.


async def test_a_text_that_the_end_changed_is_replaced(world, client):
    run_id = await finished(world, client, "Once ", "upno", last="Once upon a time")
    data = (await client.get(EVENTS, run_id)).json["data"]
    assert [(one["type"], one.get("text")) for one in data[3:]] == [
        ("item.started", None),
        ("part.started", None),
        ("text.delta", "Once "),
        ("text.delta", "upno"),
        ("text.replaced", "Once upon a time"),
        ("part.completed", None),
        ("item.completed", None),
        ("run.completed", None),
    ]
    assert data[7]["turn"] == 1
    # A reader that starts here has the complete text as well.
    assert (await client.get(EVENTS, run_id, after="7")).json["data"] == data[7:]


async def test_a_text_of_a_run_that_failed_is_kept(world, client):
    run_id = (await client.start(stream=True)).json["id"]
    await slice_by_slice(world, run_id, "Once ")
    failed = Snapshot(response_id="resp_1", status=ResponseStatus.FAILED, error=RunError("a", "b"))
    await ends(world, run_id, failed)
    *_, delta, part, item, ended = (await client.get(EVENTS, run_id)).json["data"]
    assert (delta["type"], delta["text"], ended["type"]) == ("text.delta", "Once ", "run.failed")
    assert (part["type"], item["type"]) == ("part.completed", "item.completed")
    assert (await client.get("/runs/{run_id}", run_id)).json["output_text"] == "Once "


async def test_a_call_id_in_a_later_turn_is_another_call(world, client):
    run_id = (await client.start(stream=True)).json["id"]
    run_tools = world.agents.run_tools

    async def echo(agent, requests, permit):
        async for result in run_tools(agent, requests, permit):
            [request] = [one for one in requests if one.call_id == result.call_id]
            yield replace(result, output=f"did {request.arguments}")

    world.agents.run_tools = echo
    for turn in (1, 2):
        asked = asks(f"resp_{turn}", "pay", call_ids=["call_0"])
        [call] = asked.calls
        output = json.dumps(
            [{"type": "function_call", "call_id": "call_0", "name": "pay", "arguments": str(turn)}]
        )
        await ends(world, run_id, replace(asked, calls=(replace(call, arguments=str(turn)),), output=output))
    data = (await client.get(EVENTS, run_id)).json["data"]
    told = [(one["turn"], one.get("arguments"), one.get("output")) for one in data if "call_id" in one]
    assert told == [(1, "1", None), (1, None, "did 1"), (2, "2", None), (2, None, "did 2")]


async def test_a_call_of_unknown_outcome_has_no_output(world, client):
    run_id = (await client.start()).json["id"]
    world.provider.state["resp_1"] = asks("resp_1", "pay")

    def dies(_request):
        raise KeyboardInterrupt

    world.agents.during = dies
    with pytest.raises(KeyboardInterrupt):
        await world.drive()
    world.agents.during = None
    await world.drive(1, 200)
    [told] = [
        one for one in (await client.get(EVENTS, run_id)).json["data"] if one["type"] == "tool.completed"
    ]
    assert (told["status"], told["output"]) == ("unknown", "")
    world.provider.state["resp_2"] = answer("resp_2")
    await world.until_terminal(run_id)


async def test_long_arguments_results_and_texts_are_complete(world, client):
    long = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(400_000))
    run_id = (await client.start(stream=True)).json["id"]
    run_tools = world.agents.run_tools

    async def at_length(agent, requests, permit):
        async for result in run_tools(agent, requests, permit):
            yield replace(result, output=long)

    world.agents.run_tools = at_length
    asked = asks("resp_1", "pay")
    arguments = json.dumps({"text": long}, ensure_ascii=False)
    output = [{"type": "function_call", "call_id": "call_resp_1_0", "name": "pay", "arguments": arguments}]
    await ends(world, run_id, replace(asked, output=json.dumps(output, ensure_ascii=False)))
    await slice_by_slice(world, run_id, long)
    await ends(world, run_id, answer("resp_2", long + "."))
    data = (await client.get(EVENTS, run_id)).json["data"]
    assert [one["arguments"] for one in data if one["type"] == "tool.started"] == [arguments]
    assert [one["output"] for one in data if one["type"] == "tool.completed"] == [long]
    assert [one["text"] for one in data if one["type"] == "text.delta"] == [long, "."]


async def test_events_stay_the_same_for_ever(world, client):
    """Each event stays as it was when it was first read, because pointers lead to the same texts for ever."""
    run_id = (await client.start(stream=True)).json["id"]
    seen: list[list[dict]] = []

    async def look() -> None:
        seen.append((await client.get(EVENTS, run_id, limit="1000")).json["data"])

    await look()
    for turn in (1, 2):
        for text in ("a", "b"):
            await slice_by_slice(world, run_id, text)
            await look()
        await ends(world, run_id, asks(f"resp_{turn}", "pay", "look_up"))
        await look()
    await slice_by_slice(world, run_id, "Once ")
    await ends(world, run_id, answer("resp_3", "Twice"))
    await look()
    for earlier in seen:
        assert seen[-1][: len(earlier)] == earlier
    assert [one["id"] for one in seen[-1]] == list(range(1, len(seen[-1]) + 1))
    assert sum(one["type"].startswith("run.") and one["type"][4:] in set(RunStatus) for one in seen[-1]) == 3


@pytest.mark.parametrize("seed", range(10))
async def test_ten_clients_that_reconnect_have_the_same_text(world, client, seed):
    """They read as EventSource and as JSON clients do, at random times, and lose pages that break off."""
    luck = random.Random(seed)
    run_id = (await client.start(stream=True)).json["id"]
    readers = [Reader() for _ in range(10)]

    async def come() -> None:
        for reader in luck.sample(readers, 4):
            limit = str(luck.choice([1, 3, 1000]))
            if luck.random() < 0.5:
                headers = SSE | {"Last-Event-ID": str(reader.last_id)}
                reply = await client.get(EVENTS, run_id, headers=headers, limit=limit)
                events = [data for _, data in stream_events(reply)[1]] if reply.status == 200 else []
            else:
                events = (await client.get(EVENTS, run_id, after=str(reader.last_id), limit=limit)).json[
                    "data"
                ]
            for event in events[: luck.randrange(len(events) + 1)]:
                reader.read(event)

    for turn in (1, 2):
        await slice_by_slice(world, run_id, f"Turn {turn}: ")
        await come()
        await ends(world, run_id, asks(f"resp_{turn}", "pay"))
    for n in range(20):
        await slice_by_slice(world, run_id, f"{n} ")
        await come()
    text = "".join(f"{n} " for n in range(20)) + "." if luck.random() < 0.5 else "Something else."
    await ends(world, run_id, answer("resp_3", text))
    while not all(reader.types and reader.types[-1] == "run.completed" for reader in readers):
        await come()
    assert {reader.text for reader in readers} == {text}
    assert (await client.get("/runs/{run_id}", run_id)).json["output_text"] == text


async def test_entries_added_while_a_feed_is_read_come_with_the_next_page(world, client):
    run_id = (await client.start(stream=True)).json["id"]
    log = world.context.runs.log

    async def after_more(*asked):
        await slice_by_slice(world, run_id, "Once ")
        return await log(*asked)

    world.context.runs.log = after_more
    feed = await read_feed(world.context, CALLER, run_id, after=0, limit=100)
    assert ([line.number for line in feed.lines], feed.last_number, feed.more) == ([1, 2], 2, False)
    world.context.runs.log = log
    feed = await read_feed(world.context, CALLER, run_id, after=2, limit=100)
    assert [line.entry.type for line in feed.lines] == [
        "run.in_progress",
        "item.started",
        "part.started",
        "text.delta",
    ]


async def test_a_transition_of_many_entries_is_read_from_any_of_them(world, client):
    run_id = (await client.start()).json["id"]
    world.provider.state["resp_1"] = asks("resp_1", *["pay"] * 120)
    await world.tick()
    world.clock.pass_(1)
    await work(world.context, run_id)
    complete = (await client.get(EVENTS, run_id, limit="1000")).json["data"]
    assert len(complete) > 240
    for after in (0, 3, 60, 119, 200, len(complete) - 1):
        for limit in (1, 50, 1000):
            page = (await client.get(EVENTS, run_id, after=str(after), limit=str(limit))).json
            assert page["data"] == complete[after : after + limit]


# Progress, in the run itself.


async def test_progress_of_a_run_that_streams(world, client):
    run_id = (await client.start(stream=True)).json["id"]

    async def progress():
        run = (await client.get("/runs/{run_id}", run_id)).json
        assert (await client.get("/runs")).json["data"][0]["progress"] == run["progress"]
        return run["progress"]

    assert await progress() == {"characters": 0, "items": 0, "activity": "waiting"}
    begun = {
        "thinking": [ItemStarted(0, "reasoning")],
        "writing": [ItemStarted(1, "message"), TextAdded(1, "🚀 up")],
        "calling pay": [ItemStarted(2, "function_call", "pay")],
    }
    for n, (activity, changes) in enumerate(begun.items()):
        one = await owed(world, run_id)
        world.provider.slice_replies = [brings(one, *changes)]
        await poll(world.context, one)
        assert await progress() == {"characters": 4 * (n > 0), "items": n + 1, "activity": activity}
    await ends(world, run_id, asks("resp_1", "pay", "look_up"))
    assert await progress() == {"characters": 0, "items": 3, "activity": "waiting"}
    world.provider.cancel_replies["resp_2"] = Snapshot(
        response_id="resp_2", status=ResponseStatus.IN_PROGRESS
    )
    await client.post("/runs/{run_id}/cancel", run_id)
    assert (await progress())["activity"] == "cancelling"
    world.provider.state["resp_2"] = answer("resp_2")
    await world.until_terminal(run_id)
    assert await progress() is None


async def test_progress_names_the_tools_that_run(world, client):
    run_id = (await client.start()).json["id"]
    world.provider.state["resp_1"] = asks("resp_1", "pay", "look_up")

    def dies(_request):
        raise KeyboardInterrupt

    world.agents.during = dies
    with pytest.raises(KeyboardInterrupt):
        await world.drive()
    run = (await client.get("/runs/{run_id}", run_id)).json
    assert run["progress"]["activity"] == "running pay, look_up"


async def test_progress_needs_no_further_row_than_the_run(world, client):
    run_id = (await client.start(stream=True)).json["id"]
    await slice_by_slice(world, run_id, "a", "b")
    world.table.taken()
    world.content_table.taken()
    await client.get("/runs/{run_id}", run_id)
    assert (world.table.taken(), world.content_table.taken()) == ({"get": 1}, {})


async def test_whether_a_run_streams_is_asked_of_the_agent_when_it_starts(world, client):
    for stream, streams in ((True, True), (False, False), (None, False)):
        await client.start(stream=stream)
        assert world.provider.creates[-1].stream is streams
    assert timedelta() < world.context.streaming.longest < world.context.schedule.longest
