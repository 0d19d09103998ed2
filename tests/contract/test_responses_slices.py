"""Streams over real HTTP: what the adapter requests, when it disconnects, and what the received events lead to."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from shared.adapters.http import transport
from shared.adapters.http.access import Connection
from shared.adapters.responses_api.provider import ResponsesProvider
from shared.adapters.system import SystemClock
from shared.core import transcript
from shared.core.ids import shard_of
from shared.core.pace import Schedule
from shared.core.response import (
    ItemStarted,
    NoStream,
    NotNow,
    Refused,
    ResponseStatus,
    RunError,
    Slice,
    Snapshot,
)
from shared.core.run import RunStatus
from shared.ports.providers import ResponseRequest
from shared.steps.context import Context
from shared.steps.due import claim_due
from shared.steps.poll import poll
from shared.steps.work import work
from tests.support.feeds import Reader, follow
from tests.support.loopback import reply
from tests.support.requests import LONG, provided, request
from tests.support.stream_samples import REFERENCES
from tests.support.stream_server import StreamServer
from tests.support.streams import delta, event, message, stream
from tests.support.world import World

Json = dict[str, Any]
SHORT = timedelta(milliseconds=80)
PLAIN = REFERENCES["plain"]


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with StreamServer() as server:
        yield server


@pytest.fixture
async def provider(server: StreamServer) -> AsyncIterator[ResponsesProvider]:
    """A provider that reads to the end."""
    async with provided(server) as found:
        yield found


@pytest.fixture
async def pausing(server: StreamServer) -> AsyncIterator[ResponsesProvider]:
    """A provider for which a short pause ends a slice."""
    async with provided(server, slice_pause=SHORT) as found:
        yield found


@pytest.fixture
async def hasty(server: StreamServer) -> AsyncIterator[ResponsesProvider]:
    """A provider that waits only a short time."""
    async with provided(
        server, create_timeout=SHORT, read_timeout=SHORT, slice_budget=SHORT, slice_pause=SHORT
    ) as found:
        yield found


def streamed(**fields: Any) -> ResponseRequest:
    return request(**{"stream": True} | fields)


# Creating.


async def test_a_streamed_create_requests_a_background_response(server, provider):
    server.parts = [PLAIN.written[0]]
    await provider.create(streamed())
    [sent] = server.requests
    assert (sent.method, sent.path) == ("POST", "/v1/responses")
    assert sent.headers["authorization"] == "Bearer k"
    assert sent.headers["content-type"] == "application/json"
    assert [sent.json[name] for name in ("stream", "background", "store", "model")] == [
        True,
        True,
        True,
        "gpt-9",
    ]
    assert "stream_options" not in sent.json


@pytest.mark.parametrize("number", [0, 7, 2**40])
async def test_a_create_reads_the_response_and_disconnects(server, provider, number):
    server.parts = [PLAIN.write([{**PLAIN.events[0], "sequence_number": number}])]
    server.then = "stalls"
    created = await provider.create(streamed())
    assert created == Snapshot(response_id="resp_1", status=ResponseStatus.QUEUED, sequence=number)
    async with asyncio.timeout(20):
        await server.left.wait()


async def test_a_create_that_receives_more_events_resumes_after_the_one_with_the_id(server, provider):
    server.parts = [b"".join(PLAIN.written)]
    assert (await provider.create(streamed())).sequence == 0


async def test_a_create_reads_an_event_that_arrives_in_parts(server, provider):
    first = PLAIN.written[0]
    server.parts = [first[at : at + 7] for at in range(0, len(first), 7)]
    server.then = "stalls"
    assert (await provider.create(streamed())).response_id == "resp_1"


BEFORE = {
    "a comment": b": ping\n\n",
    "a sign of life": b'event: keepalive\ndata: {"type": "keepalive", "sequence_number": 0}\n\n',
    "no JSON": b"data: {\n\n",
    "a list": b"data: []\n\n",
    "another event": b'data: {"type": "x", "sequence_number": 0, "response": 7}\n\n',
    "a response without an id": b'data: {"type": "x", "sequence_number": 0, "response": {"status": "queued"}}\n\n',
    "a response with a bad id": b'data: {"type": "x", "response": {"id": "..", "status": "queued"}}\n\n',
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
async def test_a_create_reads_until_the_response_is_known(server, provider, before):
    created = PLAIN.write([{**PLAIN.events[0], "sequence_number": 1}])
    server.parts, server.then = [before, created], "stalls"
    found = await provider.create(streamed())
    assert found == Snapshot(response_id="resp_1", status=ResponseStatus.QUEUED, sequence=1)
    assert len(server.requests) == 1


@pytest.mark.parametrize("number", [None, True, -1, 1.5, "0", 2**53])
async def test_a_response_whose_stream_has_no_numbers_is_read_completely(server, provider, number):
    server.parts = [PLAIN.write([{**PLAIN.events[0], "sequence_number": number}])]
    found = await provider.create(streamed())
    assert found == Snapshot(response_id="resp_1", status=ResponseStatus.QUEUED, sequence=None)


async def test_a_create_may_be_answered_without_a_stream(server, provider):
    body = json.dumps({"id": "resp_1", "status": "queued", "output": []}).encode()
    server.head = reply(200, body, content_type="application/json")
    assert await provider.create(streamed()) == Snapshot(response_id="resp_1", status=ResponseStatus.QUEUED)


@pytest.mark.parametrize(
    "parts", [[], [b": ping\n\n"], [PLAIN.written[0][:-2]]], ids=["nothing", "a ping", "a part"]
)
@pytest.mark.parametrize("then", ["end", "cut", "stalls", "goes on"])
async def test_a_create_without_an_id_in_its_stream_is_of_unknown_outcome(server, hasty, parts, then):
    server.parts, server.then = parts, then
    found = await hasty.create(streamed())
    assert isinstance(found, NotNow)
    assert found.unknown


REFUSALS = {400: "provider_rejected", 401: "provider_denied", 404: "model_not_found"}


@pytest.mark.parametrize(("status", "code"), REFUSALS.items())
async def test_a_refused_streamed_create_has_its_reason(server, provider, status, code):
    body = json.dumps({"error": {"message": "No.", "code": None, "param": None}}).encode()
    server.head = reply(status, body, content_type="application/json")
    found = await provider.create(streamed())
    assert isinstance(found, Refused)
    assert found.error.code == code
    assert "No." in found.error.message


@pytest.mark.parametrize(("status", "unknown"), [(429, False), (500, True), (503, True)])
async def test_a_deferred_streamed_create_is_tried_again(server, provider, status, unknown):
    server.head = reply(status, retry_after="7")
    found = await provider.create(streamed())
    assert (found.retry_after, found.unknown) == (timedelta(seconds=7), unknown)


async def test_a_create_that_reaches_no_server_has_created_nothing():
    async def nobody(_reader, writer):
        writer.close()

    listening = await asyncio.start_server(nobody, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    found = ResponsesProvider(Connection(base_url=f"http://127.0.0.1:{port}/v1", api_key="k"))
    reply = await found.create(streamed())
    assert (type(reply), reply.unknown) == (NotNow, False)
    assert isinstance(await found.slice("resp_1", 0), NotNow)
    await found.close()


# Slices.


async def test_a_slice_requests_the_events_that_follow(server, provider):
    await provider.slice("resp_1", 41)
    [sent] = server.requests
    assert (sent.method, sent.path) == ("GET", "/v1/responses/resp_1?stream=true&starting_after=41")
    assert sent.headers["accept"].startswith("text/event-stream")
    assert sent.headers["authorization"] == "Bearer k"
    assert sent.body == b""


@pytest.mark.parametrize("response_id", ["", ".", "..", "x" * 1025, "a\r\nb"])
async def test_a_slice_of_an_invalid_id_is_never_requested(server, provider, response_id):
    assert await provider.slice(response_id, 0) == NoStream()
    assert server.requests == []


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("size", [1, 97, 10**6])
async def test_a_slice_is_the_same_whatever_the_parts_of_the_stream(server, provider, name, size):
    sent = REFERENCES[name]
    written = b"".join(sent.written[1:-1])
    server.parts = [written[at : at + size] for at in range(0, len(written), size)]
    found = await provider.slice("resp_1", 0)
    assert isinstance(found, Slice)
    assert found.complete
    assert sent.streamed_text.startswith(found.text)
    # Half a character is left for the next slice.
    assert found.sequence == len(sent.events) - 2 or "\\ud83d" in json.dumps(sent.events[found.sequence + 1])
    server.parts = [b"".join(sent.written[found.sequence + 1 :])]
    ended = await provider.slice("resp_1", found.sequence)
    # The core keeps a text in the place of none.
    assert transcript.output_text(ended.final.output) == ("" if sent.textless else sent.text)


async def test_a_slice_ends_when_the_stream_pauses(server, pausing):
    server.parts, server.then = [b"".join(PLAIN.written[1:4])], "stalls"
    began = time.monotonic()
    found = await pausing.slice("resp_1", 0)
    assert (found.text, found.sequence, found.complete) == ("Once ", 3, True)
    assert time.monotonic() - began < 15
    async with asyncio.timeout(20):
        await server.left.wait()


async def test_a_slice_of_an_endless_stream_ends_after_its_budget(server):
    server.parts, server.then = [b"".join(PLAIN.written[1:4])], "goes on"
    async with provided(server, slice_budget=timedelta(seconds=1)) as provider:
        began = time.monotonic()
        async with asyncio.timeout(LONG.total_seconds()):
            while not (found := await provider.slice("resp_1", 0)).changed:
                # A busy machine was not fast enough.
                pass
            await server.left.wait()
        assert (found.text, found.sequence) == ("Once ", 3)
        assert time.monotonic() - began >= 1


async def test_the_wait_for_the_first_event_is_longer_than_a_pause(server):
    """A stream without new events is silent at first. One with new events sends them at once, or a moment later."""
    async with provided(server, slice_pause=timedelta(milliseconds=10), slice_budget=LONG) as provider:
        server.then = "goes on"
        asked = asyncio.create_task(provider.slice("resp_1", 0))
        done, _ = await asyncio.wait([asked], timeout=0.3)
        assert not done
        asked.cancel()
        with suppress(asyncio.CancelledError):
            await asked


@pytest.mark.parametrize("then", ["stalls", "end", "goes on"])
async def test_a_slice_without_events_is_empty(server, then):
    server.then = then
    async with provided(server, slice_budget=SHORT) as provider:
        assert await provider.slice("resp_1", 3) == Slice(response_id="resp_1", after=3, sequence=3)


async def test_a_server_that_does_not_answer_a_slice_is_tried_again_later(server, hasty):
    server.head, server.then = b"", "stalls"
    assert isinstance(await hasty.slice("resp_1", 0), NotNow)


@pytest.mark.parametrize("cut", ["inside an event", "inside a character"])
async def test_events_before_a_cut_are_kept(server, provider, cut):
    sent = stream(delta("Once "), delta("upon 漢"), output=[message("Once upon 漢")])
    third = sent.written[3]
    at = len(third) // 2 if cut == "inside an event" else third.index("漢".encode()) + 1
    server.parts, server.then = [*sent.written[1:3], third[:at]], "cut"
    found = await provider.slice("resp_1", 0)
    assert (found.text, found.sequence, found.complete) == ("Once ", 2, True)
    server.parts, server.then = list(sent.written[3:]), "end"
    ended = await provider.slice("resp_1", found.sequence)
    assert transcript.output_text(ended.final.output) == "Once upon 漢"


async def test_a_stream_that_is_cut_before_its_first_event_is_no_answer(server, provider):
    server.parts, server.then = [PLAIN.written[1][:-1]], "cut"
    assert isinstance(await provider.slice("resp_1", 0), NotNow)


def said(status: int, code: str = "provider_unavailable") -> RunError:
    return RunError(code, f"The provider answered HTTP {status}.")


REPLIES = {
    "too old": (reply(400, b'{"error": {"message": "more than 5 minutes old"}}'), NoStream()),
    "unknown": (reply(404), NoStream()),
    "gone": (reply(410), NoStream()),
    "not allowed": (reply(405), NoStream()),
    "moved": (reply(307, location="http://127.0.0.1:1/"), NoStream()),
    "too many": (reply(429, retry_after="7"), NotNow(said(429, "rate_limited"), timedelta(seconds=7))),
    "broken": (reply(500), NotNow(said(500))),
    "a bad gateway": (reply(502, b"<html>", content_type="text/html"), NotNow(said(502))),
}


@pytest.mark.parametrize(("head", "found"), REPLIES.values(), ids=REPLIES)
async def test_an_answer_without_a_stream_is_read_as_such(server, provider, head, found):
    server.head = head
    assert await provider.slice("resp_1", 0) == found


@pytest.mark.parametrize("status", [401, 403])
async def test_a_denied_slice_does_not_lose_the_stream(server, provider, status):
    server.head = reply(status)
    found = await provider.slice("resp_1", 0)
    assert isinstance(found, NotNow)
    assert found.error.code == "provider_denied"
    assert "credentials" in found.error.message


async def test_a_web_page_does_not_lose_the_stream(server, provider):
    server.head = reply(200, b"<html>Hello", content_type="text/html")
    assert isinstance(await provider.slice("resp_1", 0), NotNow)


async def test_the_response_may_come_instead_of_its_stream(server, provider):
    body = json.dumps(PLAIN.response).encode()
    server.head = reply(200, body, content_type="application/json")
    assert await provider.slice("resp_1", 0) == await provider.read("resp_1")


async def test_a_slice_of_a_stream_is_limited_in_size(server, provider, monkeypatch):
    monkeypatch.setattr(transport, "MAX_REPLY_BYTES", 10_000)
    many = stream(*[delta("x" * 1000)] * 100)
    server.parts, server.then = list(many.written[1:-1]), "stalls"
    found = await provider.slice("resp_1", 0)
    assert 10 <= found.sequence < 100
    assert found.text == "x" * 1000 * (found.sequence - 1)


async def test_a_long_delta_arrives_completely_and_soon(server, provider):
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 1000))) * 1_000
    sent = stream(delta(text), output=[message(text)])
    written = b"".join(sent.written[1:])
    server.parts = [written[at : at + 65_536] for at in range(0, len(written), 65_536)]
    began = time.process_time()
    found = await provider.slice("resp_1", 0)
    assert transcript.output_text(found.final.output) == text
    assert time.process_time() - began < 10


async def test_the_end_of_a_stream_counts_whatever_id_it_has(server, provider):
    """Some gateways send another id each time. The address has named the response, and its metadata the run."""
    other = stream(response_id="resp_2")
    last = {**other.events[-1], "sequence_number": 2}
    last["response"] = last["response"] | {"metadata": {"baton_run": "run_9"}}
    server.parts = [PLAIN.written[1], other.write([last])]
    found = await provider.slice("resp_1", 0)
    assert (found.final.response_id, found.final.run_id) == ("resp_1", "run_9")


async def test_a_stream_that_broke_is_read_no_further(server, provider):
    error = event("failed", response=None) | {"type": "error", "sequence_number": 3}
    server.parts = [PLAIN.write([error])]
    found = await provider.slice("resp_1", 2)
    assert (found.changed, found.complete) == (False, False)


# The emulator, which stands in for OpenAI's server.

TEXT = "Grüße aus dem Weltraum \U0001f680, 漢字\r\n\u2028data: x\n\n\x00. " * 12


@pytest.fixture
async def live(emulated: str, control: aiohttp.ClientSession) -> AsyncIterator[ResponsesProvider]:
    found = ResponsesProvider(Connection(base_url=f"{emulated}/v1", api_key="k"))
    yield found
    await found.close()


@pytest.fixture
async def patient(emulated: str, control: aiohttp.ClientSession) -> AsyncIterator[ResponsesProvider]:
    """A provider that receives all events, also on a busy machine."""
    pause = timedelta(seconds=1.5)
    found = ResponsesProvider(
        Connection(base_url=f"{emulated}/v1", api_key="k", slice_budget=LONG, slice_pause=pause)
    )
    yield found
    await found.close()


@pytest.fixture
async def brief(emulated: str, control: aiohttp.ClientSession) -> AsyncIterator[ResponsesProvider]:
    """A provider that receives a little at a time, so that there are many slices."""
    found = ResponsesProvider(
        Connection(base_url=f"{emulated}/v1", api_key="k", slice_budget=2 * SHORT, slice_pause=SHORT)
    )
    yield found
    await found.close()


async def push(control: aiohttp.ClientSession, **fault: Any) -> None:
    async with control.post("/_emulator/faults", json=fault) as reply:
        assert reply.status == 200, await reply.text()


async def withdrawn(control: aiohttp.ClientSession) -> int:
    """Remove the remaining faults, and return how often they were applied."""
    async with control.get("/_emulator/faults") as reply:
        hits = sum(fault["hits"] for fault in (await reply.json())["faults"])
    async with control.delete("/_emulator/faults") as reply:
        assert reply.status == 200
    return hits


def scripted(*turns: Json, **settings: Any) -> str:
    script = {"turns": turns, "queued_seconds": 0, **settings}
    return json.dumps([{"role": "user", "content": f"Go. [[script {json.dumps(script)}]]"}])


async def created(live: ResponsesProvider, *turns: Json, **settings: Any) -> Snapshot:
    found = await live.create(streamed(input=scripted(*turns, **settings)))
    assert isinstance(found, Snapshot)
    return found


async def to_its_end(live: ResponsesProvider, response: Snapshot) -> tuple[list[Slice], Snapshot]:
    """Read a stream slice by slice; return the slices with changes, and its end."""
    found, after = [], response.sequence
    async with asyncio.timeout(90):
        while True:
            each = await live.slice(response.response_id, after)
            assert isinstance(each, Slice)
            assert each.after == after
            if each.final:
                return found, each.final
            found += [each] if each.changed else []
            after = each.sequence


async def finished(live: ResponsesProvider, response: Snapshot) -> Snapshot:
    async with asyncio.timeout(90):
        while not (found := await live.read(response.response_id)).status.finished:
            pass
    return found


async def test_a_response_of_the_emulator_is_read_slice_by_slice(live):
    response = await created(live, {"text": TEXT, "deltas": 60}, seconds=4)
    assert (response.status, response.sequence) == (ResponseStatus.QUEUED, 0)
    found, final = await to_its_end(live, response)
    sent = "".join(each.text for each in found)
    assert len(found) > 1
    assert sent
    assert TEXT.startswith(sent)
    assert all(each.complete and each.status is ResponseStatus.IN_PROGRESS for each in found)
    changes = [change for each in found for change in each.changes]
    assert [change.kind for change in changes if isinstance(change, ItemStarted)] == ["message"]
    assert changes[0] == ItemStarted(0, "message")
    assert transcript.output_text(final.output) == TEXT
    assert await live.read(response.response_id) == final
    # After the end there are no events, and that is no gap.
    after = await live.slice(response.response_id, 10**6)
    assert after == Slice(response_id=response.response_id, after=10**6, sequence=10**6)


async def test_calls_of_the_emulator_arrive_with_the_end(live):
    turn = {"text": "Let me look.", "calls": [{"name": "look_up", "arguments": {"topic": "ice"}}]}
    response = await created(live, turn, seconds=1)
    found, final = await to_its_end(live, response)
    assert [(call.name, json.loads(call.arguments)) for call in final.calls] == [
        ("look_up", {"topic": "ice"})
    ]
    assert "Let me look.".startswith("".join(each.text for each in found))


async def test_a_response_that_fails_ends_with_its_stream(live):
    response = await created(
        live, {"text": "x", "status": "failed", "error": {"code": "server_error", "message": "m"}}
    )
    _, final = await to_its_end(live, response)
    assert final.status is ResponseStatus.FAILED
    assert final.error == RunError("server_error", "m", "server_error")


async def test_a_cancelled_response_ends_with_its_stream_and_has_none_after(live):
    response = await created(live, {"text": TEXT, "deltas": 60}, seconds=60)
    listening = asyncio.create_task(live.slice(response.response_id, 0))
    await live.cancel(response.response_id)
    # Read to its end, left before it, broken off before its first event, or requested too late.
    found = await listening
    assert isinstance(found, Slice | NoStream | NotNow)
    if isinstance(found, Slice) and found.final:
        assert found.final.status is ResponseStatus.CANCELLED
    assert await live.slice(response.response_id, 0) == NoStream()
    assert (await live.read(response.response_id)).status is ResponseStatus.CANCELLED


async def test_a_deleted_response_has_no_stream(live):
    response = await created(live, {"text": "x"})
    await finished(live, response)
    await live.delete(response.response_id)
    assert await live.slice(response.response_id, 0) == NoStream()
    assert await live.slice("resp_unknown", 0) == NoStream()


async def test_a_response_that_was_not_streamed_has_no_stream(live):
    found = await live.create(streamed(input=scripted({"text": "x"}), stream=False))
    assert found.sequence is None
    assert await live.slice(found.response_id, 0) == NoStream()


async def test_a_response_whose_stream_was_ignored_is_read_completely(live, control):
    await push(control, kind="stream_ignored")
    response = await created(live, {"text": "x"})
    assert response.sequence is None
    assert await live.slice(response.response_id, 0) == NoStream()
    assert transcript.output_text((await finished(live, response)).output) == "x"


async def test_a_stream_that_is_too_old_is_refused(live, control):
    response = await created(live, {"text": "x"})
    await push(control, kind="stream_refused")
    assert await live.slice(response.response_id, 0) == NoStream()
    assert (await to_its_end(live, response))[1].status is ResponseStatus.COMPLETED


async def tampered(live: ResponsesProvider, control: aiohttp.ClientSession, **fault: Any) -> Slice | NotNow:
    """Return the slice after event 4 of a complete stream, with a fault."""
    response = await created(live, {"text": "abcdefgh漢字漢字漢字漢字", "deltas": 16})
    await finished(live, response)
    await push(control, **fault)
    return await live.slice(response.response_id, 4)


@pytest.mark.parametrize("kind", ["stream_doubled", "stream_shuffled"])
async def test_doubled_or_swapped_events_of_the_emulator_change_nothing(live, control, kind):
    response = await created(live, {"text": TEXT, "deltas": 40}, seconds=4)
    await push(control, kind=kind, times=0)
    found, final = await to_its_end(live, response)
    sent = "".join(each.text for each in found)
    assert TEXT.startswith(sent)
    assert sent
    assert all(each.complete for each in found) or kind == "stream_shuffled"
    assert transcript.output_text(final.output) == TEXT


async def test_a_slice_ends_before_a_gap(patient, control):
    # The end must not be received: it has the complete response.
    response = await created(patient, {"text": TEXT, "deltas": 4}, seconds=100)
    for left_out in (0, 1):
        await push(control, kind="stream_gap", after=left_out)
        found = await patient.slice(response.response_id, 0)
        assert (found.sequence, found.complete) == (left_out, False)
    await patient.cancel(response.response_id)


@pytest.mark.parametrize("inside", ["event", "character"])
async def test_complete_events_before_a_cut_are_kept(patient, control, inside):
    found = await tampered(patient, control, kind="stream_cut", inside=inside, after=2)
    assert isinstance(found, Slice)
    assert (found.final, found.complete) == (None, True)
    assert found.text == (
        "bcdefgh"[: found.sequence - 4] if inside == "character" else "bc"[: found.sequence - 4]
    )
    assert found.sequence >= 6


@pytest.mark.parametrize("after", [1, 3])
async def test_a_stall_ends_a_slice(patient, control, after):
    found = await tampered(patient, control, kind="stream_stalls", after=after)
    assert (found.sequence, found.complete, found.final) == (4 + after, True, None)


@pytest.mark.parametrize("kind", ["stream_cut", "stream_stalls"])
async def test_a_create_whose_stream_breaks_after_the_first_event_loses_no_text(live, control, kind):
    await push(control, kind=kind, operation="create", after=1)
    response = await created(live, {"text": TEXT})
    assert transcript.output_text((await to_its_end(live, response))[1].output) == TEXT


FAULTS = [
    {"kind": "stream_refused"},
    {"kind": "stream_ignored"},
    {"kind": "stream_stalls", "operation": "create", "after": 1},
    *({"kind": "stream_cut", "after": after, "inside": "character"} for after in range(4)),
    *(
        {"kind": kind, "after": after}
        for kind in ("stream_cut", "stream_stalls", "stream_doubled", "stream_shuffled", "stream_gap")
        for after in range(4)
    ),
]


async def turn_of_the_timer(context: Context, run_id: str) -> None:
    """Poll the run if it is due by the machine's own clock, and do the work of each message."""
    due = await claim_due(context, shard_of(run_id))
    messages = list(due.messages)
    for owed in due.polls:
        messages += await poll(context, owed)
    for each in messages:
        await work(context, each)


@pytest.mark.parametrize("seed", range(2))
async def test_a_run_has_the_providers_text_whatever_faults_its_streams_have(brief, control, seed):
    """Use cases over memory tables, the real adapter, the emulator: three turns with a tool in each of two.

    The emulator writes in real time, so the run lives in real time too: its deadline is half an hour away.
    """
    luck, often = random.Random(seed), Schedule(SHORT, 2 * SHORT)
    world = World(brief, clock=SystemClock(), schedule=often, streaming=often)
    calls = [{"text": f"Look {n}: \U0001f680.", "calls": [{"name": "pay"}]} for n in range(2)]
    text = scripted(*calls, {"text": TEXT, "deltas": 40}, seconds=1)
    run = await world.start(stream=True, input=text)
    reader, hits = Reader(), 0
    async with asyncio.timeout(110):
        while not (stored := await world.run(run.id)).terminal:
            fault = luck.choice(FAULTS)
            operation = "create" if fault["kind"] == "stream_ignored" else "retrieve"
            await push(control, **{"operation": operation} | fault)
            await turn_of_the_timer(world.context, run.id)
            hits += await withdrawn(control)
            await follow(world, run.id, reader)
    assert stored.status is RunStatus.COMPLETED
    assert reader.text == TEXT
    assert set(world.agents.runs.values()) == {1}
    assert len(world.agents.runs) == 2
    assert reader.types[-1] == "run.completed"
    assert hits
