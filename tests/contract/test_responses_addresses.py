"""What the adapter sends over real HTTP: the ids in addresses, the fields to include, the keys of creates."""

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from shared.adapters.responses_api.provider import ResponsesProvider
from shared.core.response import Absent, NoStream, NotNow, Slice, Snapshot
from tests.support.loopback import Arrived, Loopback, always, reply
from tests.support.requests import provided, request

IDS = [
    "resp_1",
    "cmVzcF8xOjQyOm9wZW5haQ==",
    "openai/v1/../resp_1",
    "100%-resp%2F1",
    "resp_1?stream=true&a=b#c",
    " resp 1 ",
    "réponse-漢字-\U0001f680",
    "...",
    "a\\b:;,@!$'()*+[]{}|^`~\"<>",
    "r" * 1024,
    "漢" * 1024,
]
# The ends of the addresses, after the id.
ENDS = {"read": "", "slice": "?stream=true&starting_after=0", "cancel": "/cancel", "delete": ""}
BODY = {"id": "another", "status": "in_progress", "output": []}


def json_reply(body: Any, status: int = 200, **headers: str) -> bytes:
    return reply(status, json.dumps(body).encode(), content_type="application/json", **headers)


async def requested(provider: ResponsesProvider, operation: str, response_id: str) -> Any:
    further = (0,) if operation == "slice" else ()
    return await getattr(provider, operation)(response_id, *further)


@pytest.mark.parametrize("operation", ENDS)
@pytest.mark.parametrize("response_id", IDS, ids=[each[:12] for each in IDS])
async def test_an_id_is_one_part_of_the_address_and_arrives_unchanged(operation, response_id):
    async with Loopback(always(json_reply(BODY))) as server, provided(server) as provider:
        found = await requested(provider, operation, response_id)
    [sent] = server.arrived
    path = sent.path.removesuffix(ENDS[operation])
    assert sent.path == path + ENDS[operation]
    *folders, encoded = path.split("/")
    assert folders == ["", "v1", "responses"]
    assert re.fullmatch(r"([A-Za-z0-9_.~-]|%[0-9A-F]{2})+", encoded)
    assert unquote(encoded, errors="strict") == response_id
    if operation != "delete":
        assert found.response_id == response_id


@pytest.mark.parametrize("operation", ENDS)
@pytest.mark.parametrize("bad", ["", ".", "..", "a\r\nb", "a\tb", "\x00", "a\x7f", "a\ud800", "r" * 1025])
async def test_an_id_that_nobody_can_have_is_never_requested(operation, bad):
    async with Loopback(always(json_reply(BODY))) as server, provided(server) as provider:
        assert await requested(provider, operation, bad) == (NoStream() if operation == "slice" else Absent())
    assert server.arrived == []


@pytest.mark.parametrize("response_id", IDS, ids=[each[:12] for each in IDS])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_id_of_a_create_is_taken_as_it_is(response_id, stream):
    created = {"id": response_id, "status": "queued"}
    event = json.dumps({"type": "response.created", "sequence_number": 0, "response": created})
    answers = {
        False: json_reply(created),
        True: reply(200, f"data: {event}\n\n".encode(), content_type="text/event-stream"),
    }
    async with Loopback(always(answers[stream])) as server, provided(server) as provider:
        assert (await provider.create(request(stream=stream))).response_id == response_id


# Fields to include.

FIELDS = ("reasoning.encrypted_content", "a b/c&d=é")
EVENT = json.dumps({"type": "response.created", "sequence_number": 1, "response": BODY}).encode()
STREAM = reply(200, b"data: " + EVENT + b"\n\n", content_type="text/event-stream")


def refusing(status: int, otherwise: bytes) -> Callable[[Arrived], AsyncIterator[bytes]]:
    """Answer a request that includes something with this status."""

    async def answering(arrived: Arrived) -> AsyncIterator[bytes]:
        refusal = {"error": {"message": "Unknown parameter: 'include'."}}
        yield json_reply(refusal, status) if "include" in arrived.path else otherwise

    return answering


async def test_a_read_and_a_slice_request_the_further_fields():
    async with Loopback(always(json_reply(BODY))) as server, provided(server) as provider:
        await provider.read("resp_1", include=FIELDS)
        await provider.slice("resp_1", 7, include=FIELDS)
        await provider.read("resp_1")
        await provider.slice("resp_1", 7)
    queries = [parse_qs(urlsplit(sent.path).query) for sent in server.arrived]
    named, stream = {"include[]": list(FIELDS)}, {"stream": ["true"], "starting_after": ["7"]}
    assert queries == [named, stream | named, {}, stream]
    assert "include[]=" in server.arrived[0].path


@pytest.mark.parametrize("status", [400, 422])
async def test_a_service_that_refuses_the_further_fields_is_asked_without_them(status):
    async with Loopback(refusing(status, json_reply(BODY))) as server, provided(server) as provider:
        assert isinstance(await provider.read("resp_1", include=FIELDS), Snapshot)
    assert [sent.path for sent in server.arrived][1:] == ["/v1/responses/resp_1"]
    async with Loopback(refusing(status, STREAM)) as server, provided(server) as provider:
        found = await provider.slice("resp_1", 0, include=FIELDS)
    assert isinstance(found, Slice)
    assert found.sequence == 1
    assert [sent.path for sent in server.arrived][1:] == ["/v1/responses/resp_1?stream=true&starting_after=0"]


@pytest.mark.parametrize("status", [401, 404, 405, 429, 500])
async def test_no_other_answer_is_a_reason_to_ask_again(status):
    async with Loopback(refusing(status, json_reply(BODY))) as server, provided(server) as provider:
        assert not isinstance(await provider.read("resp_1", include=FIELDS), Snapshot)
        await provider.slice("resp_1", 0, include=FIELDS)
    assert len(server.arrived) == 2


async def test_a_request_that_includes_nothing_is_not_repeated():
    async with Loopback(always(json_reply({}, 400))) as server, provided(server) as provider:
        assert isinstance(await provider.read("resp_1"), NotNow)
        assert await provider.slice("resp_1", 0) == NoStream()
    assert len(server.arrived) == 2


# Keys of creates.


@pytest.mark.parametrize("stream", [False, True])
async def test_a_create_has_its_key_in_a_header(stream):
    async with Loopback(always(json_reply(BODY))) as server, provided(server) as provider:
        await provider.create(request(stream=stream, idempotency_key="run_7-2-0"))
        await provider.create(request(stream=stream))
        for operation in ENDS:
            await requested(provider, operation, "resp_1")
    keys = [sent.headers.get("idempotency-key") for sent in server.arrived]
    assert keys == ["run_7-2-0", *[None] * 5]
    assert b"run_7-2-0" not in server.arrived[0].body


async def test_a_repeated_create_is_the_same_byte_for_byte():
    """A service that keeps keys compares the requests, and refuses a key with another one."""
    options = {"temperature": 0.1, "reasoning": {"effort": "low"}, "include": ["a", "b"], "text": {"ü": "漢"}}
    made = request(
        stream=True,
        idempotency_key="run_7-2-0",
        previous_response_id="resp_0",
        instructions="Write 漢 \ud800.",
        tools='[{"type": "function", "name": "f"}]',
        options=options,
    )
    async with Loopback(always(json_reply(BODY))) as server:
        for _ in range(2):
            async with provided(server) as provider:
                await provider.create(replace(made, options=dict(options)))
    first, second = server.arrived
    assert first.body == second.body
    assert (first.path, first.headers) == (second.path, second.headers)


# The time limit of a read.


async def test_a_read_may_have_more_time_than_usual_or_less():
    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        whole = json_reply(BODY)
        yield whole[:-1]
        async with server.came:
            await server.came.wait_for(lambda: released)
        yield whole[-1:]

    released, short = [], timedelta(milliseconds=50)
    async with Loopback(answering) as server:
        async with provided(server) as provider:
            found = await provider.read("resp_1", within=short)
            assert found.error.code == "response_slow"
        released.append(True)
        async with provided(server, read_timeout=timedelta()) as provider:
            assert isinstance(await provider.read("resp_1", within=timedelta(seconds=30)), Snapshot)
