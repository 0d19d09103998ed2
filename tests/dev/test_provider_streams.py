"""Streams that a client leaves and resumes, over HTTP without an SDK, and the faults of streams."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

Json = dict[str, Any]
RESPONSES = "/v1/responses"
TEXT = "Grüße aus dem Weltraum 🚀. " * 40
TERMINAL = ("response.completed", "response.failed", "response.incomplete")


def body(*turns: Json, **settings: Any) -> Json:
    script = {"turns": turns, "queued_seconds": 0, **settings}
    text = f"Go. [[script {json.dumps(script)}]]"
    return {"model": "m", "background": True, "stream": True, "store": True, "input": text}


async def push(http: aiohttp.ClientSession, **fault: Any) -> None:
    async with http.post("/_emulator/faults", json=fault) as reply:
        assert reply.status == 200, await reply.text()


async def read(reply: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    """Yield the events of a stream as they arrive."""
    assert (reply.status, reply.content_type) == (200, "text/event-stream")
    async for line in reply.content:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


async def start(http: aiohttp.ClientSession, *turns: Json, **settings: Any) -> Json:
    """Create a response, and leave its stream after the event with its id."""
    async with http.post(RESPONSES, json=body(*turns, **settings)) as reply:
        async for event in read(reply):
            assert (event["type"], event["sequence_number"]) == ("response.created", 0)
            return dict(event["response"])
    raise AssertionError("no event came")


def resumed(http: aiohttp.ClientSession, response: Json, after: int | None = None, **options: Any) -> Any:
    query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    return http.get(f"{RESPONSES}/{response['id']}", params=query, **options)


async def replay(http: aiohttp.ClientSession, response: Json, after: int | None = None) -> list[Json]:
    async with resumed(http, response, after) as reply:
        return [event async for event in read(reply)]


async def until_it_breaks(request: Any) -> tuple[bytes, Exception]:
    """Return the bytes of a stream, and the exception that ended it."""
    received = b""
    async with request as reply:
        try:
            async for chunk in reply.content.iter_any():
                received += chunk
        except (aiohttp.ClientPayloadError, TimeoutError) as failure:
            return received, failure
    raise AssertionError("the stream ended without a failure")


async def retrieve(http: aiohttp.ClientSession, response: Json) -> Json:
    async with http.get(f"{RESPONSES}/{response['id']}") as reply:
        return dict(await reply.json())


def text_of(events: list[Json]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


async def test_a_response_is_read_to_its_end_in_slices(http: aiohttp.ClientSession) -> None:
    response = await start(http, {"text": TEXT, "deltas": 100}, seconds=1.5)
    assert response == await retrieve(http, response) | {"status": response["status"]}
    events: list[Json] = []
    slices = 0
    while not events or events[-1]["type"] not in TERMINAL:
        async with resumed(http, response, len(events)) as reply:
            slices += 1
            events += [event async for event in first(read(reply), 30)]
    assert slices > 2
    assert [event["sequence_number"] for event in events] == list(range(1, len(events) + 1))
    assert text_of(events) == TEXT
    assert (await replay(http, response))[1:] == events
    assert events[-1]["response"] == await retrieve(http, response)


async def first(events: AsyncIterator[Json], count: int) -> AsyncIterator[Json]:
    async for event in events:
        yield event
        count -= 1
        if count == 0:
            return


async def test_past_events_come_at_once_and_later_ones_when_they_happen(http: aiohttp.ClientSession) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    response = await start(http, {"text": TEXT, "deltas": 20}, seconds=5)
    async with resumed(http, response, 0) as reply:
        async for event in read(reply):
            if event["sequence_number"] == 8:
                break
    began = loop.time()
    async with resumed(http, response, 0) as reply:
        times = [loop.time() - began async for _ in read(reply)]
    # Past events come faster than they were written, and later events not before they are written.
    assert times[6] < (began - started) / 2
    assert began + times[-1] - started > 4.5
    later = [round(moment, 1) for moment in times[8:-4]]
    assert len(set(later)) > 5


async def test_a_stream_without_new_events_sends_its_headers_at_once(http: aiohttp.ClientSession) -> None:
    """The first event comes after half an hour, so the headers did not wait for it."""
    response = await start(http, {"calls": [{"name": "f"}]}, seconds=1800)
    async with asyncio.timeout(60), resumed(http, response, 1) as reply:
        assert reply.status == 200


@pytest.mark.parametrize("deltas", [1, 7, 1000])
async def test_a_script_sets_the_number_of_deltas(http: aiohttp.ClientSession, deltas: int) -> None:
    events = await replay(http, await start(http, {"text": "x" * 7000, "deltas": deltas}))
    assert sum(event["type"] == "response.output_text.delta" for event in events) == deltas
    assert text_of(events) == "x" * 7000


async def test_prose_comes_in_small_deltas(http: aiohttp.ClientSession) -> None:
    events = await replay(http, await start(http))
    lengths = [len(event["delta"]) for event in events if event["type"] == "response.output_text.delta"]
    assert len(lengths) > 10
    assert max(lengths) <= 120


async def test_no_deltas_at_all_is_refused(http: aiohttp.ClientSession) -> None:
    async with http.post(RESPONSES, json=body({"text": "x", "deltas": 0})) as reply:
        assert reply.status == 400


async def test_function_calls_stream_with_their_arguments(http: aiohttp.ClientSession) -> None:
    call = {"name": "look_up", "arguments": {"topic": "ice"}, "call_id": "call_1"}
    events = await replay(http, await start(http, {"calls": [call]}))
    about_call = events[2:-1]
    assert [event["type"].removeprefix("response.") for event in about_call] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    assert (about_call[0]["item"]["name"], about_call[0]["item"]["arguments"]) == ("look_up", "")
    assert about_call[1]["delta"] == about_call[2]["arguments"] == '{"topic": "ice"}'
    assert about_call[3]["item"] == events[-1]["response"]["output"][0]


async def test_cancelling_ends_the_stream(http: aiohttp.ClientSession) -> None:
    response = await start(http, {"text": TEXT}, seconds=60)
    async with resumed(http, response, 0) as reply:
        events = read(reply)
        await anext(events)
        async with http.post(f"{RESPONSES}/{response['id']}/cancel") as cancelled:
            assert cancelled.status == 200
        *_, last = [event async for event in events]
    # The protocol has no event for a cancellation. The last event has the status, unless the stream ended before it.
    if "response" in last:
        assert (last["type"], last["response"]["status"]) == ("response.failed", "cancelled")
    async with resumed(http, response, 0) as reply:
        assert reply.status == 400
    assert (await retrieve(http, response))["status"] == "cancelled"


async def test_a_deleted_response_cannot_be_resumed(http: aiohttp.ClientSession) -> None:
    response = await start(http, {"text": TEXT}, seconds=60)
    async with http.delete(f"{RESPONSES}/{response['id']}") as reply:
        assert reply.status == 200
    async with resumed(http, response, 0) as reply:
        assert reply.status == 404


@pytest.mark.parametrize(
    ("change", "query", "message"),
    [
        ({"stream": False}, "stream=true", "not created with stream=true"),
        ({"background": False}, "stream=true", "not created with background=true"),
        ({}, "stream=true&starting_after=x", "starting_after must be an integer"),
    ],
    ids=["not streamed", "not in the background", "not a number"],
)
async def test_a_stream_that_cannot_be_resumed_is_refused(
    http: aiohttp.ClientSession, change: Json, query: str, message: str
) -> None:
    async with http.post(RESPONSES, json=body({"text": "x"}) | change) as reply:
        if reply.content_type == "text/event-stream":
            response = [event async for event in read(reply)][-1]["response"]
        else:
            response = await reply.json()
    async with http.get(f"{RESPONSES}/{response['id']}?{query}") as reply:
        error = (await reply.json())["error"]
        assert reply.status == 400
        assert reply.headers["x-request-id"].startswith("req_")
    assert message in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


async def test_a_stream_that_is_too_old_is_refused(http: aiohttp.ClientSession) -> None:
    response = await start(http, {"text": "x"})
    await push(http, kind="stream_refused")
    assert await retrieve(http, response)
    async with resumed(http, response, 0) as reply:
        assert reply.status == 400
        assert "more than 5 minutes old" in (await reply.json())["error"]["message"]
    assert await replay(http, response, 0)


async def test_an_ignored_request_for_a_stream_is_answered_with_json(http: aiohttp.ClientSession) -> None:
    await push(http, kind="stream_ignored")
    async with http.post(RESPONSES, json=body({"text": "x"})) as reply:
        assert reply.content_type == "application/json"
        response = await reply.json()
    assert response["status"] == "queued"
    async with resumed(http, response, 0) as reply:
        assert reply.status == 400


@pytest.mark.parametrize("inside", ["event", "character"])
async def test_a_stream_cut_in_the_middle(http: aiohttp.ClientSession, inside: str) -> None:
    response = await start(http, {"text": TEXT, "deltas": 10})
    complete = await replay(http, response, 0)
    await push(http, kind="stream_cut", after=5, inside=inside)
    received, failure = await until_it_breaks(resumed(http, response, 0))
    assert isinstance(failure, aiohttp.ClientPayloadError)
    *blocks, rest = received.split(b"\n\n")
    assert len(blocks) == 5
    assert b"data: " in rest
    if inside == "character":
        with pytest.raises(UnicodeDecodeError):
            rest.decode()
    assert await replay(http, response, 5) == complete[5:]


async def test_a_stream_that_stalls(http: aiohttp.ClientSession) -> None:
    response = await start(http, {"text": TEXT})
    await push(http, kind="stream_stalls", after=2)
    timeout = aiohttp.ClientTimeout(sock_read=1.5)
    received, failure = await until_it_breaks(resumed(http, response, 0, timeout=timeout))
    assert isinstance(failure, TimeoutError)
    assert [block.count(b"data: ") for block in received.split(b"\n\n")] == [1, 1, 0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("stream_doubled", [1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8]),
        ("stream_shuffled", [1, 3, 2, 5, 4, 7, 6, 8]),
        ("stream_gap", [1, 3, 4, 5, 6, 7, 8]),
    ],
)
async def test_events_doubled_shuffled_or_left_out(
    http: aiohttp.ClientSession, kind: str, expected: list[int]
) -> None:
    response = await start(http, {"refusal": "No."})
    complete = await replay(http, response, 0)
    assert [event["sequence_number"] for event in complete] == [1, 2, 3, 4, 5, 6, 7, 8]
    await push(http, kind=kind, after=1)
    events = await replay(http, response, 0)
    assert [event["sequence_number"] for event in events] == expected
    by_number = {event["sequence_number"]: event for event in complete}
    assert all(event == by_number[event["sequence_number"]] for event in events)


async def test_a_fault_for_streams_does_not_change_other_requests(http: aiohttp.ClientSession) -> None:
    await push(http, kind="stream_gap", times=0)
    async with http.post(RESPONSES, json=body({"text": "x"}) | {"stream": False}) as reply:
        assert reply.status == 200
    async with http.get("/_emulator/log") as reply:
        assert [one["fault"] for one in (await reply.json())["requests"]] == [None]
    async with http.post("/_emulator/faults", json={"kind": "stream_cut", "inside": "out"}) as reply:
        assert reply.status == 400
