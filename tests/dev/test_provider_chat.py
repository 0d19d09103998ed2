"""Chat completions of the emulator, over HTTP without an SDK: streams, continuations, faults."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

Json = dict[str, Any]
CHATS = "/v1/chat/completions"
TEXT = "Grüße aus dem Weltraum \U0001f680, 漢字. " * 4
FUNCTION = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {"topic": {"type": "string"}}}}}  # fmt: skip


def user(*turns: Json, **settings: Any) -> Json:
    script = {"turns": turns, "queued_seconds": 0, "seconds": 0, **settings}
    return {"role": "user", "content": f"Go. [[script {json.dumps(script)}]]"}


def assistant(content: str, **fields: Any) -> Json:
    return {"role": "assistant", "content": content, **fields}


def body(*messages: Json, **fields: Any) -> Json:
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    return {"model": "m", "messages": list(messages), **streamed, **fields}


WRITTEN = user({"text": TEXT, "deltas": 12})


async def push(http: aiohttp.ClientSession, **fault: Any) -> None:
    async with http.post("/_emulator/faults", json=fault) as reply:
        assert reply.status == 200, await reply.text()


async def raw(http: aiohttp.ClientSession, request: Json) -> tuple[bytes, bool]:
    """Return the bytes of a stream, and whether it ended as HTTP wants it."""
    received = b""
    async with http.post(CHATS, json=request) as reply:
        assert (reply.status, reply.content_type) == (200, "text/event-stream"), await reply.text()
        try:
            async for part in reply.content.iter_any():
                received += part
        except aiohttp.ClientPayloadError:
            return received, False
    return received, True


def events_in(received: bytes) -> list[Json]:
    lines = [line for line in received.split(b"\n\n") if line.startswith(b"data: {")]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


async def stream(http: aiohttp.ClientSession, request: Json) -> list[Json]:
    received, complete = await raw(http, request)
    assert complete
    assert received.endswith(b"data: [DONE]\n\n")
    return events_in(received)


async def whole(http: aiohttp.ClientSession, *messages: Json, **fields: Any) -> Json:
    request = {"model": "m", "messages": list(messages), **fields}
    async with http.post(CHATS, json=request) as reply:
        assert reply.status == 200, await reply.text()
        return dict(await reply.json())


async def refused(http: aiohttp.ClientSession, request: Any) -> tuple[int, Json]:
    async with http.post(CHATS, json=request) as reply:
        return reply.status, (await reply.json())["error"]


def text_of(events: list[Json], name: str = "content") -> str:
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    return "".join(delta.get(name) or "" for delta in deltas)


async def test_a_stream_has_its_text_its_reason_and_its_usage(http):
    events = await stream(http, body(WRITTEN))
    assert text_of(events) == TEXT
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]][-2:] == [None, "stop"]
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    assert events[-1]["choices"] == []
    usage = events[-1]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert len(events) == 12 + 3


async def test_usage_comes_only_when_it_is_asked_for(http):
    request = body(WRITTEN)
    del request["stream_options"]
    assert not [event for event in await stream(http, request) if "usage" in event]


async def test_an_answer_in_one_piece_is_that_of_a_stream(http):
    turn = {"text": TEXT, "calls": [{"name": "f", "arguments": {"x": "y" * 40}}, {"name": "g"}]}
    events, answer = await stream(http, body(user(turn))), await whole(http, user(turn))
    [choice] = answer["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (TEXT, "tool_calls")
    assert answer["object"] == "chat.completion"
    pieces = [piece for event in events for choice in event["choices"] for piece in choice["delta"].get("tool_calls", ())]  # fmt: skip
    for index, call in enumerate(choice["message"]["tool_calls"]):
        mine = [piece for piece in pieces if piece["index"] == index]
        assert (mine[0]["id"], mine[0]["function"]["name"]) == (call["id"], call["function"]["name"])
        assert "".join(piece["function"]["arguments"] for piece in mine) == call["function"]["arguments"]
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"x": "y" * 40}


async def test_the_same_request_gets_the_same_answer(http):
    request = {
        "model": "m",
        "messages": [{"role": "user", "content": 'Write about ice. [[script {"seconds": 0}]]'}],
    }
    first, second = [await whole(http, *request["messages"]) for _ in range(2)]
    assert first["choices"] == second["choices"]
    assert len(first["choices"][0]["message"]["content"]) > 500


async def test_thoughts_come_before_the_text(http):
    turn = {
        "text": "So.",
        "items": [{"type": "reasoning", "summary": [{"text": "Let me think, long enough."}]}],
    }
    events = await stream(http, body(user(turn)))
    assert (text_of(events, "reasoning_content"), text_of(events)) == ("Let me think, long enough.", "So.")


async def test_outputs_lead_to_the_next_turn(http):
    asked = user({"calls": [{"name": "f", "call_id": "c1"}]}, {"text": "Done."})
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    output = {"role": "tool", "tool_call_id": "c1", "content": "42"}
    assert text_of(await stream(http, body(asked, assistant("", tool_calls=[call]), output))) == "Done."
    status, error = await refused(http, body(asked, assistant("", tool_calls=[call])))
    assert (status, "No tool output found" in error["message"]) == (400, True)


async def test_functions_that_the_text_names_are_called(http):
    asked = {"role": "user", "content": 'Please look_up ice. [[script {"seconds": 0}]]'}
    answer = await whole(http, {"role": "system", "content": "Be kind."}, asked, tools=[FUNCTION])
    [call] = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "look_up"


# Continuations.

CONTINUED: dict[str, tuple[Json, Json]] = {
    "prefix": ({"prefix": True}, {}),
    "partial": ({"partial": True}, {}),
    "continue_final_message": ({}, {"continue_final_message": True, "add_generation_prompt": False}),
    "trailing": ({}, {}),
}


@pytest.mark.parametrize(("marks", "fields"), CONTINUED.values(), ids=CONTINUED)
async def test_only_the_rest_is_written(http, marks, fields):
    for at in range(0, len(TEXT) + 1, 7):
        begun = assistant(TEXT[:at], **marks)
        assert text_of(await stream(http, body(WRITTEN, begun, **fields))) == TEXT[at:]
    answer = await whole(http, WRITTEN, assistant(TEXT[:9], **marks), **fields)
    assert answer["choices"][0]["message"]["content"] == TEXT[9:]


async def test_prose_is_continued_too(http):
    asked = {"role": "user", "content": 'Write about ice. [[script {"seconds": 0}]]'}
    text = (await whole(http, asked))["choices"][0]["message"]["content"]
    assert text_of(await stream(http, body(asked, assistant(text[:700], prefix=True)))) == text[700:]


async def test_calls_follow_a_text_that_is_continued(http):
    asked = user({"text": TEXT, "calls": [{"name": "f", "call_id": "c"}]})
    events = await stream(http, body(asked, assistant(TEXT, prefix=True)))
    assert text_of(events) == ""
    assert [event for event in events if event["choices"] and event["choices"][0]["delta"].get("tool_calls")]


async def test_a_begin_that_is_not_its_own_is_refused(http):
    status, error = await refused(http, body(WRITTEN, assistant("Something else", prefix=True)))
    assert (status, error["code"]) == (400, "invalid_prefix")


async def test_the_begin_is_repeated_on_request(http):
    await push(http, kind="chat_echo", times=0)
    begun = assistant(TEXT[:40], prefix=True)
    assert text_of(await stream(http, body(WRITTEN, begun))) == TEXT
    assert (await whole(http, WRITTEN, begun))["choices"][0]["message"]["content"] == TEXT


REFUSED: dict[str, Json] = {
    "no messages": {"messages": []},
    "an unknown parameter": {"instructions": "x"},
    "a wrong type": {"messages": "Go"},
    "an unknown role": {"messages": [{"role": "robot", "content": "x"}]},
    "no content": {"messages": [{"role": "user"}]},
    "a message that is none": {"messages": ["x"]},
    "no tools": {"tools": []},
    "a flat tool": {"tools": [{"type": "function", "name": "f"}]},
    "a bad schema": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 7}}}]},
    "options without a stream": {"stream": False},
    "a mark in the middle": {"messages": [assistant("x", prefix=True), WRITTEN]},
    "a mark of the user": {"messages": [{"role": "user", "content": "x", "partial": True}]},
    "both prompts": {"messages": [WRITTEN, assistant("G")], "continue_final_message": True},
    "nothing to continue": {"continue_final_message": True, "add_generation_prompt": False},
    "a call without an id": {"messages": [WRITTEN, assistant("", tool_calls=[{"function": {}}])]},
    "an output without a call": {
        "messages": [WRITTEN, {"role": "tool", "tool_call_id": "c", "content": "x"}]
    },
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
async def test_requests_that_services_refuse(http, fields):
    status, error = await refused(http, body(WRITTEN) | fields)
    assert (status, error["type"]) == (400, "invalid_request_error")


async def test_other_methods_and_credentials(http, url):
    async with http.get(CHATS) as reply:
        assert reply.status == 405
    async with aiohttp.ClientSession(url) as nobody, nobody.post(CHATS, json=body(WRITTEN)) as reply:
        assert reply.status == 401
    async with http.post("/openai" + CHATS, json=body(WRITTEN)) as reply:
        assert reply.status == 200


# How a turn ends.

ENDS = [
    ({"status": "incomplete"}, "length"),
    ({"status": "incomplete", "reason": "content_filter"}, "content_filter"),
]


@pytest.mark.parametrize(("turn", "reason"), ENDS)
async def test_a_turn_that_is_incomplete_says_why(http, turn, reason):
    events = await stream(http, body(user({"text": "a", **turn})))
    assert events[-2]["choices"][0]["finish_reason"] == reason


async def test_a_turn_that_fails_ends_with_an_error(http):
    asked = user({"text": "a", "status": "failed", "error": {"code": "overloaded", "message": "Busy."}})
    received, _ = await raw(http, body(asked))
    *before, last = events_in(received)
    assert (text_of(before), last["error"]["code"], b"[DONE]" in received) == ("a", "overloaded", False)
    status, error = await refused(http, {"model": "m", "messages": [asked]})
    assert (status, error["code"]) == (500, "overloaded")


# Faults.


async def test_a_stream_is_cut_after_so_many_bytes(http):
    full, _ = await raw(http, body(WRITTEN))
    for count in (1, 300, 1_500):
        await push(http, kind="stream_cut", bytes=count)
        received, complete = await raw(http, body(WRITTEN))
        assert (len(received), complete) == (count, False)
        # All but the id is the same.
        assert received.startswith(full[:20][:count])


@pytest.mark.parametrize("inside", ["event", "character"])
async def test_a_stream_is_cut_after_so_many_events(http, inside):
    await push(http, kind="stream_cut", after=4, inside=inside)
    received, complete = await raw(http, body(WRITTEN))
    assert not complete
    assert received.count(b"\n\n") >= 4
    assert not received.endswith(b"\n\n")


async def test_a_stream_stalls_until_the_client_leaves(http):
    await push(http, kind="stream_stalls", after=3)
    async with http.post(CHATS, json=body(WRITTEN)) as reply:
        received = b""
        while received.count(b"\n\n") < 3:
            received += await reply.content.readany()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reply.content.readany()
    async with asyncio.timeout(20):
        while (await log(http))["requests"][-1]["seconds"] is None:
            pass


async def log(http: aiohttp.ClientSession) -> Json:
    async with http.get("/_emulator/log") as reply:
        return dict(await reply.json())


@pytest.mark.parametrize("inside", ["event", "choices"])
async def test_an_error_comes_inside_a_stream(http, inside):
    await push(http, kind="chat_error", after=3, inside=inside)
    received, complete = await raw(http, body(WRITTEN))
    *before, last = events_in(received)
    error = last["error"] if inside == "event" else last["choices"][0]["error"]
    assert (len(before), error["code"], complete, b"[DONE]" in received) == (3, "server_error", True, False)


async def test_comments_keep_a_stream_alive(http):
    await push(http, kind="chat_comments", after=2)
    received, _ = await raw(http, body(WRITTEN))
    assert received.count(b": keep-alive\n\n") == received.count(b"data: ") - 2
    assert text_of(events_in(received)) == TEXT


async def test_a_stream_comes_byte_by_byte(http):
    await push(http, kind="chat_bytes")
    async with http.post(CHATS, json=body(WRITTEN)) as reply:
        parts = [part async for part, _ in reply.content.iter_chunks()]
    assert max(map(len, parts)) < 20
    assert text_of(events_in(b"".join(parts))) == TEXT


async def test_the_end_of_a_stream_is_left_out(http):
    found: dict[str, tuple[bool, bool, bool]] = {}
    for kind in ("chat_no_done", "chat_no_usage", "chat_no_finish", "chat_no_end"):
        await push(http, kind=kind, after=4 if kind == "chat_no_end" else 0)
        received, complete = await raw(http, body(WRITTEN))
        assert complete
        assert TEXT.startswith(text_of(events_in(received)))
        found[kind] = b"[DONE]" in received, b'"prompt_tokens"' in received, b'"stop"' in received
    assert found == {
        "chat_no_done": (False, True, True),
        "chat_no_usage": (True, False, True),
        "chat_no_finish": (True, True, False),
        "chat_no_end": (False, False, False),
    }


async def test_a_stream_is_ignored_or_refused(http):
    await push(http, kind="stream_ignored")
    async with http.post(CHATS, json=body(WRITTEN)) as reply:
        assert (await reply.json())["choices"][0]["message"]["content"] == TEXT
    await push(http, kind="status", status=429, retry_after=7, contains="Go.")
    async with http.post(CHATS, json=body(WRITTEN)) as reply:
        assert (reply.status, reply.headers["retry-after"]) == (429, "7")
    await push(http, kind="junk", operation="chat")
    async with http.post(CHATS, json=body(WRITTEN)) as reply:
        assert (reply.status, reply.content_type) == (200, "text/html")
    await push(http, kind="lost_reply", operation="chat")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await raw(http, body(WRITTEN))
    assert (await stream(http, body(WRITTEN)))[0]["choices"]


async def test_faults_of_chats_do_not_apply_to_responses(http):
    await push(http, kind="chat_no_done", times=0)
    request = {"model": "m", "input": '[[script {"seconds": 0, "queued_seconds": 0}]]', "stream": True}
    async with http.post("/v1/responses", json=request) as reply:
        assert b"response.completed" in await reply.read()
    async with http.get("/_emulator/faults") as reply:
        assert [fault["seen"] for fault in (await reply.json())["faults"]] == [0]


async def test_requests_are_kept_and_counted(http):
    request = body(WRITTEN)
    await stream(http, request)
    async with http.get("/_emulator/chats") as reply:
        assert await reply.json() == {"chats": [request]}
    found = await log(http)
    assert found["counters"]["chat"] == 1
    assert [(each["operation"], each["status"]) for each in found["requests"]] == [("chat", 200)]
    async with http.post("/_emulator/reset"), http.get("/_emulator/chats") as reply:
        assert await reply.json() == {"chats": []}


async def test_a_text_is_written_in_its_time(http):
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with http.post(CHATS, json=body(user({"text": TEXT, "deltas": 10}, seconds=2))) as reply:
        times = [loop.time() - began async for line in reply.content if line.startswith(b"data: {")]
    assert times[-1] > 1.9
    assert len({round(moment, 1) for moment in times}) > 4
