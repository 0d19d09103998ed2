"""What a provider sends takes little memory and little time, whatever it is made of."""

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from shared.adapters.http.answer import MAX_ERROR_BYTES, MAX_REPLY_BYTES
from shared.adapters.http.json_body import MAX_REPLY_MARKS
from shared.adapters.http.transport import LARGE_REPLIES
from shared.adapters.responses_api.decode import MAX_OUTPUT_BYTES, MAX_STATUS_CHARACTERS
from shared.adapters.responses_api.provider import MAX_OPENING_EVENTS, MAX_STATUSES_REPORTED
from shared.core.response import Absent, NotNow, Refused, ResponseStatus, Slice, Snapshot, Usage
from tests.support.loopback import Arrived, Loopback, always, reply
from tests.support.requests import ALL, provided
from tests.support.stream_samples import REFERENCES

MIB = 2**20
USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
every = pytest.mark.parametrize("operation", ALL)


def response(output: str, **fields: Any) -> bytes:
    head = json.dumps({"id": "resp_1", "status": "completed", "usage": USAGE, **fields})
    return f'{head[:-1]}, "output": {output}}}'.encode()


def text_item(text: str) -> str:
    part = {"type": "output_text", "text": text, "annotations": []}
    return json.dumps({"type": "message", "role": "assistant", "content": [part]}, ensure_ascii=False)


async def measured(work: Callable[[], Awaitable[Any]]) -> tuple[Any, float, int]:
    """Return a result with the CPU time and the peak of memory that it took."""
    began = time.process_time()
    found = await work()
    seconds = time.process_time() - began
    tracemalloc.start()
    try:
        await work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return found, seconds, peak


async def read(body: bytes) -> tuple[Any, float, int]:
    async with Loopback(always(reply(200, body))) as server, provided(server) as provider:
        return await measured(lambda: provider.read("resp_1"))


def streaming(events: bytes, otherwise: bytes) -> Callable[[Arrived], AsyncIterator[bytes]]:
    """Return what answers requests for a stream with its events, and every other request with a response."""

    async def answering(arrived: Arrived) -> AsyncIterator[bytes]:
        if "stream=true" in arrived.path:
            yield reply(200, events, content_type="text/event-stream")
        else:
            yield reply(200, otherwise)

    return answering


# Charsets.


CHARSETS = [
    "punycode",
    "hex",
    "idna",
    "rot13",
    "base64",
    "zlib",
    "bz2",
    "unicode_escape",
    "undefined",
    "utf-7",
    "utf-16",
]


@every
@pytest.mark.parametrize("charset", CHARSETS)
async def test_no_codec_is_called_by_the_name_that_a_reply_gives(operation, charset):
    body = json.dumps(
        {"error": {"code": "bad", "message": "-" + "a" * 500_000 + "é"}}, ensure_ascii=False
    ).encode()
    head = {"content_type": f"application/json; charset={charset}"}
    async with (
        Loopback(always(reply(400, body, **head))) as server,
        provided(server) as provider,
    ):
        began = time.process_time()
        found = await ALL[operation](provider)
        assert time.process_time() - began < 1
    assert type(found) in {Refused, NotNow, Absent} or operation == "slice"
    if isinstance(found, Refused | NotNow):
        assert found.error.message.endswith("é")


@pytest.mark.parametrize("charset", CHARSETS)
async def test_a_reply_is_utf_8_with_replacement(charset):
    body = response(f"[{text_item('grün')}]").replace("ü".encode(), b"\xff")
    async with (
        Loopback(always(reply(200, body, content_type=f"application/json; charset={charset}"))) as server,
        provided(server) as provider,
    ):
        found = await provider.read("resp_1")
    assert "gr\ufffdn" in found.output


# Structure and size.


DENSE = {
    "empty objects": "{}",
    "empty lists": "[]",
    "objects with an empty name": '{"":0}',
    "lists in lists": "[[[]]]",
    "numbers": "1",
}


@pytest.mark.parametrize("element", DENSE.values(), ids=DENSE)
async def test_an_output_of_nothing_but_structure_is_refused_before_it_is_parsed(element):
    size = 20 * MIB
    dense = response("[" + ",".join([element] * (size // (len(element) + 1))) + "]")
    harmless = response(f"[{text_item('a' * (MAX_OUTPUT_BYTES // 2))}]")
    found, seconds, peak = await read(dense)
    assert (found.status, found.error.code) == (ResponseStatus.FAILED, "output_too_large")
    assert f"{MAX_REPLY_MARKS:,}" in found.error.message
    kept, harmless_seconds, _ = await read(harmless)
    assert kept.status is ResponseStatus.COMPLETED
    # The body, and what this test's own server has not sent yet.
    assert peak < 2 * size
    assert seconds < 5 * harmless_seconds + 1


async def test_as_much_structure_as_is_allowed_is_read():
    found, _, peak = await read(response("[" + ",".join(["{}"] * (MAX_REPLY_MARKS // 3 - 20)) + "]"))
    assert found.status is ResponseStatus.COMPLETED
    assert peak < 100 * MAX_REPLY_MARKS + 3 * MIB


async def test_an_output_over_its_limit_fails_the_run_and_its_usage_counts():
    found, _, _ = await read(response(f"[{text_item('a' * MAX_OUTPUT_BYTES)}]"))
    assert (found.status, found.error.code, found.output) == (ResponseStatus.FAILED, "output_too_large", "[]")
    assert found.usage == Usage(3, 4, 7)
    assert f"{MAX_OUTPUT_BYTES // MIB} MiB" in found.error.message
    kept, _, peak = await read(response(f"[{text_item('a' * (MAX_OUTPUT_BYTES - 1000))}]"))
    assert kept.status is ResponseStatus.COMPLETED
    assert peak < 3 * MAX_REPLY_BYTES


async def test_an_output_that_is_too_large_may_come_at_the_end_of_a_stream():
    sent = [
        {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1", "status": "queued"}},
        {
            "type": "response.completed",
            "sequence_number": 1,
            "response": json.loads(response("[" + "{}," * 200_000 + "{}]")),
        },
    ]
    body = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in sent)
    read = response("[" + "{}," * 200_000 + "{}]")
    async with Loopback(streaming(body, read)) as server, provided(server) as provider:
        received = await provider.slice("resp_1", 0)
        assert not (isinstance(received, Slice) and received.final)
        assert (await provider.read("resp_1")).error.code == "output_too_large"


@every
async def test_an_error_is_read_up_to_its_limit(operation):
    long = json.dumps({"error": {"code": "bad", "message": "a" * (MAX_ERROR_BYTES - 1000)}}).encode()
    for body, reads in ((long, True), (long + b" " * 4 * MIB, False)):
        async with Loopback(always(reply(400, body))) as server, provided(server) as provider:
            found = await ALL[operation](provider)
        if isinstance(found, Refused | NotNow):
            assert ("aaa" in found.error.message) is reads


# What is remembered.


async def test_a_status_is_remembered_and_logged_cut(caplog):
    names = [chr(ord("a") + n % 26) * MIB * 2 + str(n) for n in range(10)]
    async with Loopback(always(reply(200, b"{}"))) as server, provided(server) as provider:
        for name in names:
            server.answering = always(reply(200, response("[]", status=name)))
            assert (await provider.read("resp_1")).status is ResponseStatus.IN_PROGRESS
        assert all(len(each) <= MAX_STATUS_CHARACTERS for each in provider._statuses_reported)
        assert len(provider._statuses_reported) <= MAX_STATUSES_REPORTED
    logged = [record.getMessage() for record in caplog.records if "unknown_status" in record.getMessage()]
    assert len(logged) == 10
    assert max(map(len, logged)) < 200


# Streams that lead nowhere.


NAMELESS = [
    b"data:1\n\n",
    b"data:{}\n\n",
    b"data: [[[]]]\n\n",
    b": kept alive\n\n",
    b"\n\n",
    b"data:\n",
    b'data: {"type": "response.created", "response": {"id": ""}}\n\n',
    b'data: {"type": "x", "response": {"status": "completed", "output": [' + b"{}," * 500 + b"{}]}}\n\n",
]


@pytest.mark.parametrize("event", NAMELESS, ids=lambda event: event[:30].decode())
@pytest.mark.parametrize("operation", ["streamed create", "slice"])
async def test_a_stream_that_never_names_a_response_costs_little(operation, event):
    """Five mebibytes of it take no longer than a few of a harmless stream of that size."""

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n"
        piece = event * (64 * 1024 // len(event))
        for _ in range(5 * MIB // len(piece)):
            yield piece

    async with Loopback(answering) as server, provided(server) as provider:
        found, seconds, peak = await measured(lambda: ALL[operation](provider))
    assert seconds < 2
    assert peak < 16 * MIB
    assert type(found) in {NotNow, Slice}


async def test_a_create_looks_at_a_limited_number_of_events():
    before = b'data: {"type": "keepalive"}\n\n'
    named = REFERENCES["plain"].written[0]
    for count, kind in ((MAX_OPENING_EVENTS - 1, Snapshot), (MAX_OPENING_EVENTS, NotNow)):
        body = before * count + named
        async with (
            Loopback(always(reply(200, body, content_type="text/event-stream"))) as server,
            provided(server) as provider,
        ):
            assert type(await ALL["streamed create"](provider)) is kind


async def test_the_events_of_a_slice_are_limited_together():
    """Each of them is allowed alone, but all of them are kept at once."""
    item = '{"type": "x", "a": [' + "[]," * 120_000 + "0]}"
    events = [
        f'data: {{"type": "response.output_item.done", "sequence_number": {n}, "output_index": {n}, "item": {item}}}\n\n'.encode()
        for n in range(1, 40)
    ]
    body = b"".join(events)
    async with (
        Loopback(always(reply(200, body, content_type="text/event-stream"))) as server,
        provided(server) as provider,
    ):
        found, seconds, peak = await measured(lambda: provider.slice("resp_1", 0))
    assert isinstance(found, Slice)
    assert 1 <= found.sequence <= 3
    assert peak < 90 * MIB
    assert seconds < 3


@pytest.mark.parametrize(
    "line", [b"\n", b"\r", b"\r\n", b":\n\n", b"data:\n", b"data:xx\n", b"data\n"], ids=repr
)
@pytest.mark.parametrize("operation", ["streamed create", "slice"])
async def test_a_stream_of_lines_costs_little(operation, line):
    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n"
        piece = line * (64 * 1024 // len(line))
        for _ in range(20 * MIB // len(piece)):
            yield piece
        yield b"\n\n"

    async with Loopback(answering) as server, provided(server) as provider:
        _, seconds, peak = await measured(lambda: ALL[operation](provider))
    assert seconds < 1.5
    assert peak < 60 * MIB


async def test_few_long_replies_are_read_at_the_same_time():
    """Others wait, so that many of them do not use up the memory together. Short ones never wait."""
    release, long = asyncio.Event(), b" " * MIB

    async def answering(request: Arrived) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n"
        if "short" not in request.path:
            for _ in range(8):
                yield long
            await release.wait()
        yield response("[]")

    async with Loopback(answering) as server, provided(server) as provider:
        reads = [asyncio.create_task(provider.read(f"resp_{n}")) for n in range(24)]
        await server.until(24)
        tracemalloc.start()
        for _ in range(20):
            assert (await provider.read("short")).status is ResponseStatus.COMPLETED
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        release.set()
        found = await asyncio.gather(*reads)
    assert all(each.status is ResponseStatus.COMPLETED for each in found)
    # 24 of them would have 192 MiB. Each of those that wait has what fits into the buffers of its connection.
    assert peak < LARGE_REPLIES * 10 * MIB + 24 * 3 * MIB


KEY = "sk-proj-0123456789abcdefghij"
HEADER = "Token gateway-pass-77-0123"
CALL = {"type": "function_call", "call_id": KEY, "name": KEY, "arguments": KEY}
TEXT = {"type": "message", "content": [{"type": "output_text", "text": f"<{KEY}>"}]}
PLACES: dict[str, dict[str, Any]] = {
    "the id": {"id": f"resp_{KEY}", "status": "in_progress"},
    "a name": {"id": "resp_1", "status": "completed", "output": [CALL]},
    "a type": {"id": "resp_1", "status": "completed", "output": [{"type": KEY, "name": KEY}]},
    "a text": {"id": "resp_1", "status": "completed", "output": [TEXT]},
    "an error": {
        "id": "resp_1",
        "status": "failed",
        "error": {"code": KEY, "message": f"{KEY}, gateway-pass-77-0123"},
    },
    "a status": {"id": "resp_1", "status": KEY},
    "a reason": {"id": "resp_1", "status": "incomplete", "output": [], "incomplete_details": {"reason": KEY}},
    "metadata": {"id": "resp_1", "status": "in_progress", "metadata": {"baton_run": KEY}},
}


@every
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_nothing_that_is_received_repeats_a_secret(operation, place, caplog):
    caplog.set_level(0)
    body = json.dumps(place).encode()
    event = {"type": "response.completed", "sequence_number": 1, "response": place}
    sent = b"data: " + json.dumps(event).encode() + b"\n\n"
    fields = {"api_key": KEY, "headers": {"x-gateway": HEADER}}
    async with Loopback(streaming(sent, body)) as server, provided(server, **fields) as provider:
        found = await ALL[operation](provider)
    for secret in (KEY, HEADER, "gateway-pass-77-0123"):
        assert secret not in repr(found)
        assert secret not in caplog.text
