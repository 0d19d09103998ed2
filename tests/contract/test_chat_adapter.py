"""Chat completions over real HTTP: what the adapter requests, when it disconnects, and what it makes of the bytes."""

import asyncio
import gc
import gzip
import json
import logging
import random
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.adapters.chat_api import reader
from shared.adapters.chat_api.body import Resume
from shared.adapters.chat_api.provider import ChatCompletionsProvider, Dialect
from shared.adapters.http.access import Connection
from shared.adapters.http.transport import Request
from shared.core.response import RunError
from shared.ports.chat import ChatBroken, ChatEnd, ChatRequest, ChatText
from tests.support.chats import (
    DONE,
    RECORDED,
    REQUEST,
    Collected,
    chat_request,
    chatting,
    chunk,
    content,
    events,
    generated,
    read,
)
from tests.support.loopback import Arrived, Loopback, always, reply
from tests.support.requests import LONG
from tests.support.stream_server import StreamServer

Json = dict[str, Any]
SHORT = timedelta(milliseconds=80)
SMALL = [events(content("a")), events(content("b"), chunk(finish="stop")), DONE]
AB = Collected("ab", outcome=ChatEnd("stop", None))
every = pytest.mark.parametrize("recorded", RECORDED.values(), ids=RECORDED)


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with StreamServer(parts=SMALL) as server:
        yield server


@pytest.fixture
async def provider(server: StreamServer) -> AsyncIterator[ChatCompletionsProvider]:
    async with chatting(server) as found:
        yield found


# Requests.


async def test_a_request_asks_for_a_stream_with_its_usage(server, provider):
    tools = json.dumps([{"type": "function", "function": {"name": "f"}}])
    assert await generated(provider, tools=tools, options={"temperature": 0.5, "stop": ["ä"]}) == AB
    [sent] = server.requests
    assert (sent.method, sent.path) == ("POST", "/v1/chat/completions")
    assert sent.json == {
        "model": "m-9",
        "messages": [{"role": "user", "content": "Go"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "stop": ["ä"],
    }
    assert sent.headers["authorization"] == "Bearer k"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["accept"].startswith("text/event-stream")
    assert (sent.headers["user-agent"], "idempotency-key" in sent.headers) == ("baton", False)


async def test_without_tools_none_are_sent(server, provider):
    await generated(provider)
    assert "tools" not in server.requests[0].json


GO = {"role": "user", "content": "Go"}
BEGUN = {"role": "assistant", "content": 'Once "up\u00e4on\u0000'}
RESUMED: dict[Resume, tuple[Json, Json]] = {
    Resume.PREFIX: ({"prefix": True}, {}),
    Resume.PARTIAL: ({"partial": True}, {}),
    Resume.TRAILING: ({}, {}),
    Resume.CONTINUE_FINAL_MESSAGE: ({}, {"continue_final_message": True, "add_generation_prompt": False}),
}


@pytest.mark.parametrize("messages", ["[]", " [ ] ", '[{"role": "user", "content": "Go"}]\n'])
@pytest.mark.parametrize(("resume", "marks"), RESUMED.items(), ids=RESUMED)
async def test_a_text_is_continued_as_the_provider_wants_it(server, resume, marks, messages):
    on_message, on_request = marks
    async with chatting(server, Dialect(resume=resume, silence=LONG)) as provider:
        await generated(provider, messages=messages, prefix=BEGUN["content"])
        await generated(provider, messages=messages)
    resumed, begun = (sent.json for sent in server.requests)
    before = json.loads(messages)
    assert resumed.pop("messages") == [*before, BEGUN | on_message]
    assert begun.pop("messages") == before
    assert resumed == begun | on_request


async def test_a_provider_that_cannot_continue_never_gets_a_text_to_continue(server, provider):
    with pytest.raises(ValueError, match="resume is restart"):
        await generated(provider, prefix="Once")
    assert server.requests == []


@pytest.mark.parametrize(
    "name", ["stream", "stream_options", "messages", "model", "tools", "continue_final_message"]
)
async def test_options_cannot_set_what_baton_sets(server, provider, name):
    with pytest.raises(ValueError, match=name):
        await generated(provider, options={name: None})
    assert server.requests == []


async def test_without_a_key_no_credentials_are_sent(server):
    async with chatting(server, api_key=None, open=True, headers={"x-team": "a"}) as provider:
        assert await generated(provider) == AB
    assert "authorization" not in server.requests[0].headers
    assert server.requests[0].headers["x-team"] == "a"


@pytest.mark.parametrize(
    "address", ["", "example.com/v1", "ftp://x/v1", "http://", "https://x/v1?key=1", "http://u:p@x/v1"]
)
def test_an_address_is_checked(address):
    with pytest.raises(ValueError, match="address of a provider"):
        ChatCompletionsProvider(Connection(base_url=address, api_key="k"))


@pytest.mark.parametrize("status", [400, 422])
async def test_a_provider_that_refuses_to_report_its_usage_is_not_asked_for_it(status):
    async def answering(arrived: Arrived) -> AsyncIterator[bytes]:
        if "stream_options" in arrived.json:
            yield reply(status, b'{"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs"}]}')
        else:
            yield reply(200, b"".join(SMALL), content_type="text/event-stream")

    async with Loopback(answering) as server, chatting(server) as provider:
        assert [await generated(provider) for _ in range(2)] == [AB, AB]
    assert ["stream_options" in sent.json for sent in server.arrived] == [True, False, False]


async def test_a_refusal_that_repeats_the_request_is_not_about_its_usage():
    """One conversation that is refused must not cost all later ones their usage."""

    async def answering(arrived: Arrived) -> AsyncIterator[bytes]:
        if len(server.arrived) <= 2:
            yield reply(422, json.dumps({"detail": [{"msg": "Wrong role", "input": arrived.json}, {"msg": "stream_options"}]}).encode())  # fmt: skip
        else:
            yield reply(200, b"".join(SMALL), content_type="text/event-stream")

    async with Loopback(answering) as server, chatting(server) as provider:
        assert (await generated(provider)).outcome.error.code == "provider_rejected"
        assert await generated(provider) == AB
    assert ["stream_options" in sent.json for sent in server.arrived] == [True, False, True]


def asked(*call_ids: str) -> list[Json]:
    calls = [
        {"id": each, "type": "function", "function": {"name": "f", "arguments": "{}"}} for each in call_ids
    ]
    outputs = [{"role": "tool", "tool_call_id": each, "content": each} for each in call_ids]
    return [GO, {"role": "assistant", "content": None, "tool_calls": calls}, *outputs]


async def test_a_provider_that_knows_only_ids_of_its_own_form_gets_them():
    """Mistral's models refuse the ids of others, which are in a conversation that began elsewhere."""

    async def answering(arrived: Arrived) -> AsyncIterator[bytes]:
        bad = [each["id"] for message in arrived.json["messages"] for each in message.get("tool_calls", ()) if not re.fullmatch("[a-zA-Z0-9]{9}", each["id"])]  # fmt: skip
        if bad:
            message = f"Tool call id was {bad[0]} but must be a-z, A-Z, 0-9, with a length of 9."
            yield reply(400, json.dumps({"object": "error", "message": message, "code": "3280"}).encode())
        else:
            yield reply(200, b"".join(SMALL), content_type="text/event-stream")

    given = asked("call_0", "D681PevKs", "call_1")
    async with Loopback(answering) as server, chatting(server) as provider:
        assert [await generated(provider, messages=json.dumps(given)) for _ in range(2)] == [AB, AB]
    first, second, third = (sent.json["messages"] for sent in server.arrived)
    assert first == given
    assert second == third
    ids = [each["id"] for each in second[1]["tool_calls"]]
    assert ids == [each["tool_call_id"] for each in second[2:]]
    assert len(set(ids)) == 3
    assert ids[1] == "D681PevKs"
    # Nothing else is different.
    assert [each["content"] for each in second] == [each["content"] for each in given]


async def test_a_provider_that_refuses_all_ids_is_asked_twice_only():
    refusal = b'{"message": "Tool call id was x but must be a-z, A-Z, 0-9, with a length of 9."}'
    async with Loopback(always(reply(400, refusal))) as server, chatting(server) as provider:
        found = await generated(provider, messages=json.dumps(asked("call_0")))
        assert found.outcome.error.code == "provider_rejected"
        assert await generated(provider) == Collected(outcome=found.outcome)
    assert len(server.arrived) == 3


async def test_another_refusal_is_not_repeated():
    async with (
        Loopback(always(reply(400, b'{"error": {"message": "No."}}'))) as server,
        chatting(server) as provider,
    ):
        assert (await generated(provider)).outcome.error == RunError("provider_rejected", "No.")
    assert len(server.arrived) == 1


# Streams.


@every
@pytest.mark.parametrize("size", [1, 97, 10**6])
async def test_an_answer_is_the_same_whatever_the_packets(server, provider, recorded, size):
    body = recorded.body
    server.parts = [body[at : at + size] for at in range(0, len(body), size)]
    assert await generated(provider) == recorded.collected


@every
@pytest.mark.parametrize("then", ["end", "cut"])
async def test_what_came_before_a_cut_is_kept(server, provider, recorded, then):
    luck, server.then = random.Random(recorded.name), then
    for at in sorted(luck.sample(range(len(recorded.body)), 30)):
        server.parts = [recorded.body[: at // 2], recorded.body[at // 2 : at]]
        found, expected = await generated(provider), read(recorded.body[:at])
        assert found.begins(recorded.collected)
        assert type(found.outcome) is type(expected.outcome)
        assert (found.text, found.reasoning, found.calls) == (
            expected.text,
            expected.reasoning,
            expected.calls,
        )
        if isinstance(found.outcome, ChatBroken):
            assert found.outcome.retryable


async def test_events_are_given_as_they_come(server, provider):
    server.parts, server.then = SMALL[:1], "stalls"
    async with aclosing(provider.generate(REQUEST)) as answer, asyncio.timeout(20):
        assert await anext(answer) == ChatText("a")
        assert not server.left.is_set()


@pytest.mark.parametrize("then", ["stalls", "goes on"])
async def test_closing_the_generator_closes_the_connection(server, provider, then):
    server.parts, server.then = SMALL[:1], then
    answer = provider.generate(REQUEST)
    await anext(answer)
    await answer.aclose()
    async with asyncio.timeout(20):
        await server.left.wait()


@pytest.mark.parametrize("parts", [[], SMALL[:1]], ids=["before an event", "after one"])
async def test_cancelling_the_reader_closes_the_connection(server, provider, parts):
    server.parts, server.then = parts, "stalls"
    reading = asyncio.create_task(generated(provider))
    async with asyncio.timeout(20):
        await server.asked.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await server.left.wait()


async def test_the_connection_is_closed_when_the_answer_is_over(server, provider):
    server.then = "stalls"
    assert await generated(provider) == AB
    async with asyncio.timeout(20):
        await server.left.wait()


@pytest.mark.parametrize(
    "parts", [[], [b": ping\n\n"], [b'data: {"choices": [']], ids=["nothing", "a ping", "a part"]
)
async def test_a_connection_without_a_byte_counts_as_dead(server, parts):
    server.parts, server.then = [*SMALL[:1], *parts], "stalls"
    async with chatting(server, Dialect(silence=SHORT)) as provider:
        found = await with_text(provider)
    stalled = RunError("stream_stalled", "Nothing of the answer came for 0.08 seconds.")
    assert found == Collected("a", outcome=ChatBroken(stalled, None, retryable=True))


async def with_text(provider: ChatCompletionsProvider) -> Collected:
    """Return an answer with text. A busy machine may not be fast enough for one the first time."""
    async with asyncio.timeout(LONG.total_seconds()):
        while not (found := await generated(provider)).text:
            pass
    return found


async def test_comments_are_no_progress_for_longer_than_the_limit(server):
    server.parts, server.then = SMALL[:1], "goes on"
    async with chatting(server, Dialect(silence=LONG, idle=timedelta(milliseconds=300))) as provider:
        found = await with_text(provider)
        assert found.outcome.error.code == "stream_stalled"
        assert "0.3 seconds" in found.outcome.error.message


@pytest.mark.parametrize("then", ["stalls", "goes on"])
async def test_a_complete_answer_does_not_wait_long_for_its_end(server, then):
    server.parts, server.then = SMALL[:2], then
    async with chatting(server, Dialect(silence=LONG, after_finish=SHORT)) as provider, asyncio.timeout(20):
        assert await generated(provider) == AB


async def test_a_server_that_does_not_answer_is_no_answer(server):
    server.head, server.parts, server.then = b"", [], "stalls"
    async with chatting(server, Dialect(silence=SHORT)) as provider:
        found = await generated(provider)
    assert (found.outcome.error.code, found.outcome.retryable) == ("provider_unreachable", True)


async def test_nobody_waits_longer_for_an_answer_than_its_function_may_last(server, provider):
    server.head, server.parts, server.then = b"", [], "stalls"
    async with asyncio.timeout(LONG.total_seconds() / 2):
        found = await generated(provider, within=SHORT)
    assert (found.outcome.error.code, found.outcome.retryable) == ("provider_unreachable", True)


async def test_no_request_is_kept_while_its_answer_comes(server, provider):
    server.parts, server.then = SMALL[:1], "stalls"
    async with aclosing(provider.generate(chat_request(run_id="run_8"))) as answer:
        assert await anext(answer) == ChatText("a")
        kept = [
            each
            for each in gc.get_objects()
            if isinstance(each, Request) or (isinstance(each, ChatRequest) and each.run_id == "run_8")
        ]
        assert kept == []


async def test_a_server_that_is_not_there_is_no_answer(server):
    async with chatting(server) as provider:
        await server.__aexit__()
        found = await generated(provider)
    assert (found.outcome.error.code, found.outcome.retryable) == ("provider_unreachable", True)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_stream_may_be_compressed(encoding):
    body = b"".join(SMALL)
    packed = gzip.compress(body) if encoding == "gzip" else __import__("zlib").compress(body)
    answer = reply(200, packed, content_type="text/event-stream", content_encoding=encoding)
    async with Loopback(always(answer)) as server, chatting(server) as provider:
        assert await generated(provider) == AB


# Replies without a stream.

WHOLE = json.dumps(
    {"choices": [{"message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}]}
).encode()


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain", ""])
@pytest.mark.parametrize("body", [WHOLE, b"".join(SMALL)], ids=["JSON", "a stream"])
async def test_the_body_says_what_it_is_and_not_its_type(kind, body):
    async with Loopback(always(reply(200, body, content_type=kind))) as server, chatting(server) as provider:
        assert await generated(provider) == AB


class Turns(asyncio.Semaphore):
    """Turns that say when the first one is taken."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.taken = asyncio.Event()

    async def acquire(self) -> bool:
        acquired = await super().acquire()
        self.taken.set()
        return acquired


async def test_large_answers_in_one_piece_take_turns():
    """The first one holds the only turn until it is complete."""
    whole = reply(200, json.dumps({"pad": "x" * 2**20} | json.loads(WHOLE)).encode())
    turns, release = Turns(1), asyncio.Event()

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        yield whole[:-2]
        if len(server.arrived) == 1:
            await release.wait()
        yield whole[-2:]

    async with Loopback(answering) as server, chatting(server) as provider, asyncio.timeout(60):
        provider._transport._large = turns
        first = asyncio.create_task(generated(provider))
        await turns.taken.wait()
        second = asyncio.create_task(generated(provider))
        done, _ = await asyncio.wait([second], timeout=0.5)
        assert not done
        release.set()
        assert await asyncio.gather(first, second) == [AB, AB]


STATUSES: dict[int, tuple[str, bool]] = {
    204: ("unreadable_reply", True),
    307: ("provider_rejected", False),
    400: ("provider_rejected", False),
    401: ("provider_denied", False),
    402: ("quota_exhausted", False),
    403: ("provider_denied", False),
    404: ("model_not_found", False),
    408: ("provider_unavailable", True),
    409: ("provider_unavailable", True),
    413: ("provider_rejected", False),
    422: ("provider_rejected", False),
    429: ("rate_limited", True),
    500: ("provider_unavailable", True),
    503: ("provider_unavailable", True),
    529: ("provider_unavailable", True),
}


@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
async def test_what_a_status_means(status, expected):
    answer = reply(
        status, b"" if status == 204 else b'{"error": {"message": "No."}}', retry_after="7", location="/other"
    )
    async with Loopback(always(answer)) as server, chatting(server) as provider:
        found = (await generated(provider)).outcome
    assert (found.error.code, found.retryable) == expected
    assert status == 204 or "No." in found.error.message
    assert found.retry_after == (timedelta(seconds=7) if found.retryable and status != 204 else None)
    # No redirect is followed.
    assert [sent.path for sent in server.arrived] == ["/v1/chat/completions"]


CODES = {
    "no_db_connection": (400, ("provider_denied", False)),
    "insufficient_quota": (429, ("quota_exhausted", False)),
    "model_not_found": (400, ("model_not_found", False)),
    "context_length_exceeded": (400, ("provider_rejected", False)),
    "rate_limit_exceeded": (400, ("provider_unavailable", True)),
}


@pytest.mark.parametrize(("code", "expected"), CODES.items(), ids=CODES)
async def test_what_a_code_means(code, expected):
    status, outcome = expected
    body = json.dumps({"error": {"message": "No.", "code": code}}).encode()
    async with Loopback(always(reply(status, body))) as server, chatting(server) as provider:
        found = (await generated(provider)).outcome
    assert (found.error.code, found.retryable) == outcome
    assert found.error.provider_code == code


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text/plain; charset=utf-8", f"Failed to read [secret]: role \ufffd {'x' * 400}"),
        ("text/html", "The provider answered HTTP 422 and gave no reason."),
    ],
)
async def test_a_reason_may_be_a_plain_text(kind, reason):
    body = f"Failed to read {KEY}: role ".encode() + b"\xff " + b"x" * 400 + b"\n"
    async with (
        Loopback(always(reply(422, body, content_type=kind))) as server,
        chatting(server, api_key=KEY) as provider,
    ):
        assert (await generated(provider)).outcome.error == RunError("provider_rejected", reason)


# Secrets and limits.

KEY, HEADER = "key-0123456789abcdef-0123", "GatewayKey7-GatewayKey7"


@pytest.mark.parametrize("how", ["status", "denied", "error", "text"])
async def test_no_secret_comes_back(how, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = f"{KEY} {HEADER}"
    error = {"error": {"message": secrets, "code": KEY}}
    bodies = {
        "status": reply(400, json.dumps(error).encode()),
        "denied": reply(401, json.dumps(error).encode()),
        "error": reply(200, events(error), content_type="text/event-stream"),
        "text": reply(200, events(content(secrets)) + DONE, content_type="text/event-stream"),
    }
    async with (
        Loopback(always(bodies[how])) as server,
        chatting(server, api_key=KEY, headers={"x-key": HEADER}, credentials="DEEP_KEY") as provider,
    ):
        found = await generated(provider)
        shown = f"{found} {provider._failures} {provider._access} {provider._transport}"
    assert "[secret]" in shown
    assert ("Check DEEP_KEY." in shown) == (how == "denied")
    logged = "\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records)
    assert not [one for one in (KEY, HEADER) if one in shown + logged]


async def test_a_line_that_never_ends_ends_the_answer(monkeypatch):
    monkeypatch.setattr("shared.adapters.chat_api.lines.MAX_EVENT_BYTES", 2**20)
    sent = 0

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        nonlocal sent
        yield b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\ndata: {"
        while True:
            sent += 2**16
            yield b" " * 2**16

    async with Loopback(answering) as server, chatting(server) as provider, asyncio.timeout(60):
        found = (await generated(provider)).outcome
    assert (found.error.code, found.retryable) == ("output_too_large", False)
    assert sent < 50 * 2**20


async def test_a_body_that_never_ends_ends_the_answer(monkeypatch):
    monkeypatch.setattr(reader, "MAX_REPLY_BYTES", 2**20)
    async with (
        Loopback(always(reply(200, b'{"a": "' + b"x" * 2**21))) as server,
        chatting(server) as provider,
    ):
        assert (await generated(provider)).outcome.error.code == "output_too_large"


def test_an_app_without_chat_providers_imports_nothing_of_this():
    program = "import sys, shared.app; print([each for each in sys.modules if 'chat' in each])"
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


# The emulator: answers that are cut and continued.


TEXT = "Grüße aus dem Weltraum \U0001f680, 漢字. " * 3
SCRIPT = {"seconds": 0, "queued_seconds": 0, "turns": [{"text": TEXT, "deltas": 9, "calls": [{"name": "f", "call_id": "c"}]}]}  # fmt: skip
ASKED = chat_request(messages=json.dumps([{"role": "user", "content": f"[[script {json.dumps(SCRIPT)}]]"}]))
CALLED = [["c", "f", "{}"]]


async def push(control: aiohttp.ClientSession, **fault: Any) -> None:
    async with control.post("/_emulator/faults", json={"operation": "chat", **fault}) as answer:
        assert answer.status == 200, await answer.text()


def emulating(
    url: str, resume: Resume, *, echoes: bool = False, silence: timedelta = LONG
) -> ChatCompletionsProvider:
    dialect = Dialect(resume=resume, echoes=echoes, silence=silence)
    return ChatCompletionsProvider(Connection(base_url=f"{url}/v1", api_key="k"), dialect)


async def continued(provider: ChatCompletionsProvider) -> Collected:
    """Return an answer that is continued each time it breaks, as a step does."""
    whole, tries = Collected(), 0
    while not isinstance(whole.outcome, ChatEnd):
        asked = chat_request(messages=ASKED.messages, prefix=whole.text)
        part = Collected.of([event async for event in provider.generate(asked)])
        # Calls that are half written are never used.
        whole.text, whole.calls, whole.outcome = whole.text + part.text, part.calls, part.outcome
        tries += 1
        assert tries < 30
        assert isinstance(part.outcome, ChatEnd) or part.outcome.retryable
    return whole


BREAKS = [
    {"kind": "stream_cut"},
    {"kind": "stream_cut", "inside": "character"},
    {"kind": "chat_no_end"},
    {"kind": "chat_error"},
    {"kind": "chat_error", "inside": "choices"},
]


@pytest.mark.parametrize("echoes", [False, True], ids=["continues", "echoes"])
@pytest.mark.parametrize("resume", RESUMED)
async def test_a_text_that_breaks_anywhere_is_the_same_when_it_is_continued(
    emulated, control, resume, echoes
):
    provider = emulating(emulated, resume, echoes=echoes)
    for after in range(14):
        for fault in BREAKS if after % 4 == 1 else BREAKS[:1]:
            await push(control, **fault, after=after)
            if echoes:
                await push(control, kind="chat_echo")
            found = await continued(provider)
            assert (found.text, found.calls, found.outcome.finish_reason) == (TEXT, CALLED, "tool_calls")
    await provider.close()


async def test_a_text_that_breaks_after_any_byte_is_the_same_when_it_is_continued(emulated, control):
    provider, luck = emulating(emulated, Resume.PREFIX), random.Random(7)
    for _ in range(40):
        await push(control, kind="stream_cut", bytes=luck.randrange(3_000))
        found = await continued(provider)
        assert (found.text, found.calls) == (TEXT, CALLED)
        async with control.delete("/_emulator/faults"):
            pass
    await provider.close()


@pytest.mark.parametrize(
    "kind",
    [
        "chat_comments",
        "chat_bytes",
        "chat_no_done",
        "chat_no_usage",
        "chat_no_finish",
        "stream_ignored",
        "slow",
    ],
)
async def test_faults_that_leave_the_answer_whole(emulated, control, kind):
    provider = emulating(emulated, Resume.RESTART)
    await push(control, kind=kind, seconds=0.1)
    found = Collected.of([event async for event in provider.generate(ASKED)])
    assert (found.text, found.calls) == (TEXT, CALLED)
    assert isinstance(found.outcome, ChatEnd)
    assert (found.outcome.usage is None) == (kind == "chat_no_usage")
    assert (found.outcome.finish_reason is None) == (kind == "chat_no_finish")
    await provider.close()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "status", "status": 429, "retry_after": 3}, "rate_limited"),
        ({"kind": "status", "status": 500}, "provider_unavailable"),
        ({"kind": "lost_reply"}, "provider_unreachable"),
        ({"kind": "junk"}, "unreadable_reply"),
        ({"kind": "junk", "junk": "truncated"}, "unreadable_reply"),
    ],
)
async def test_faults_that_break_the_answer(emulated, control, fault, code):
    provider = emulating(emulated, Resume.RESTART)
    await push(control, **fault)
    found = Collected.of([event async for event in provider.generate(ASKED)])
    assert (found.outcome.error.code, found.outcome.retryable) == (code, True)
    assert found.outcome.retry_after == (timedelta(seconds=3) if code == "rate_limited" else None)
    assert found.begins(Collected(TEXT, calls=CALLED))
    await provider.close()


async def test_a_stall_breaks_the_answer(emulated, control):
    provider = emulating(emulated, Resume.RESTART, silence=timedelta(milliseconds=500))
    await push(control, kind="stream_stalls", after=3, times=0)
    async with asyncio.timeout(LONG.total_seconds()):
        while not (found := Collected.of([event async for event in provider.generate(ASKED)])).text:
            pass
    assert found.outcome.error.code == "stream_stalled"
    assert found.begins(Collected(TEXT))
    await provider.close()


class Deaf(Loopback):
    """Answers the first request of a connection only, and does not say so."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await super().handle(reader, writer)
        await reader.read()


async def streamed(_: Arrived) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    for part in [*SMALL, b""]:
        yield b"%x\r\n%b\r\n" % (len(part), part)


async def test_each_stream_has_a_connection_of_its_own():
    async with Deaf(streamed) as server, chatting(server, Dialect(silence=timedelta(seconds=5))) as provider:
        assert [await generated(provider) for _ in range(3)] == [AB] * 3
    assert len(server.arrived) == 3
