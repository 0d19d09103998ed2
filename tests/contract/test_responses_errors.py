"""The adapter over real HTTP: slow replies, the beginnings of streams, and secrets that errors repeat."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.responses_api import provider as adapter
from shared.core.response import (
    Absent,
    ChainBroken,
    KeyRefused,
    NotNow,
    Refused,
    ResponseStatus,
    RunError,
    Slice,
    Snapshot,
)
from tests.support.loopback import Answering, Arrived, Loopback, always, reply
from tests.support.requests import ALL, Operation, provided, request

Json = dict[str, Any]
SHORT = timedelta(milliseconds=100)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def sent(event: Json) -> bytes:
    return f"data: {json.dumps(event)}\n\n".encode()


def naming(kind: str, number: int, response_id: str) -> bytes:
    response = {"id": response_id, "status": "in_progress", "output": []}
    return sent({"type": f"response.{kind}", "sequence_number": number, "response": response})


def saying(*parts: bytes | float, then: float = 60) -> Answering:
    """Send parts with pauses of so many seconds, then keep the connection open."""

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        for part in parts:
            if isinstance(part, bytes):
                yield part
            else:
                await asyncio.sleep(part)
        await asyncio.sleep(then)

    return answering


# Slow replies.


@pytest.mark.parametrize("operation", ALL)
async def test_a_reply_that_is_not_complete_in_time_was_slow(operation):
    whole = reply(200, b'{"id": "resp_1", "status": "queued"}', content_type="application/json")
    limits = dict.fromkeys(("create_timeout", "read_timeout", "slice_budget"), SHORT)
    async with Loopback(saying(whole[:-1])) as server, provided(server, **limits) as provider:
        found = await ALL[operation](provider)
    assert isinstance(found, NotNow)
    assert found.error == RunError("response_slow", "The provider gave no answer: TimeoutError.")
    assert found.unknown is (operation in {"create", "streamed create", "cancel"})


@pytest.mark.parametrize("operation", ALL)
async def test_a_reply_that_has_not_begun_in_time_is_no_answer(operation):
    limits = dict.fromkeys(("create_timeout", "read_timeout", "slice_budget"), SHORT)
    async with Loopback(saying()) as server, provided(server, **limits) as provider:
        found = await ALL[operation](provider)
    assert found.error == RunError("provider_unreachable", "The provider gave no answer: TimeoutError.")


@pytest.mark.parametrize("operation", ALL)
async def test_a_reply_that_is_cut_was_not_slow(operation):
    whole = reply(200, b'{"id": "resp_1", "status": "queued"}', content_type="application/json")
    async with Loopback(always(whole[:-1])) as server, provided(server) as provider:
        found = await ALL[operation](provider)
    assert found.error.code == "provider_unreachable"


# The beginning of a stream.

CANDIDATE = naming("in_progress", 1, "resp_other")
CREATED = naming("created", 0, "resp_1")
STREAMED: Operation = lambda provider: provider.create(request(stream=True))  # noqa: E731


async def test_the_event_created_decides_when_another_one_comes_before_it():
    async with Loopback(saying(STREAM_HEAD, CANDIDATE, 0.1, CREATED)) as server, provided(server) as provider:
        found = await STREAMED(provider)
    assert (found.response_id, found.sequence) == ("resp_1", 0)


BEGINNINGS = {
    "silence": saying(STREAM_HEAD, CANDIDATE),
    "signs of life": saying(
        STREAM_HEAD, CANDIDATE, *(each for _ in range(500) for each in (b": ping\n\n", 0.02))
    ),
    "created too late": saying(STREAM_HEAD, CANDIDATE, 1.0, CREATED),
    "an error": saying(
        STREAM_HEAD, CANDIDATE, sent({"type": "error", "code": "server_error", "message": "m"})
    ),
    "another candidate": saying(STREAM_HEAD, CANDIDATE, naming("queued", 2, "resp_third")),
    "a created without an id": saying(
        STREAM_HEAD, CANDIDATE, sent({"type": "response.created", "response": {}})
    ),
}


@pytest.mark.parametrize("name", BEGINNINGS)
async def test_another_event_names_the_response_when_created_does_not_follow_soon(name, monkeypatch):
    monkeypatch.setattr(adapter, "CREATED_PATIENCE", timedelta(milliseconds=200))
    async with Loopback(BEGINNINGS[name]) as server, provided(server) as provider:
        began = time.monotonic()
        found = await STREAMED(provider)
    assert (found.response_id, found.sequence) == ("resp_other", 1)
    assert 0.1 < time.monotonic() - began < 20


async def test_the_end_of_the_stream_ends_the_wait_for_created():
    async with Loopback(always(STREAM_HEAD + CANDIDATE)) as server, provided(server) as provider:
        began = time.monotonic()
        assert (await STREAMED(provider)).response_id == "resp_other"
    assert time.monotonic() - began < adapter.CREATED_PATIENCE.total_seconds()


async def test_a_read_that_ends_a_stream_has_the_changes_before_its_end():
    events = [
        {"type": "response.output_text.delta", "sequence_number": 1, "output_index": 0, "delta": "Once"},
        {
            "type": "response.completed",
            "sequence_number": 2,
            "response": {"id": "x", "status": "completed", "output": []},
        },
    ]
    async with (
        Loopback(always(STREAM_HEAD + b"".join(map(sent, events)))) as server,
        provided(server) as provider,
    ):
        found = await provider.slice("resp_1", 0)
    assert isinstance(found, Slice)
    assert found.text == "Once"
    assert found.final.status is ResponseStatus.COMPLETED


# Secrets. None of them looks like a key.

KEY = "a.test.key"
HEADERS = {"api-key": "a.gateway+key (2)", "x-team": "abc"}
ECHO = f"{KEY}, {HEADERS['api-key']}, team {HEADERS['x-team']}!"
SHOWN = "[secret], [secret], team [secret]!"


def http(status: int, body: Any) -> bytes:
    return reply(status, json.dumps(body).encode(), content_type="application/json")


def error(code: str | None = None, message: str = ECHO, **fields: Any) -> Json:
    return {"error": {"message": message, "type": "x", "param": None, "code": code} | fields}


def failed(**fields: Any) -> Json:
    return {"id": "resp_1", "status": "failed", "output": []} | fields


KEYED: Operation = lambda provider: provider.create(request(idempotency_key="k-1"))  # noqa: E731
CHAINED: Operation = lambda provider: provider.create(request(previous_response_id="resp_0"))  # noqa: E731

ERRORS = {
    **{f"create {status}": (ALL["create"], http(status, error())) for status in (400, 401, 404, 409, 429, 503)},
    **{f"read {status}": (ALL["read"], http(status, error())) for status in (400, 401, 429, 503)},
    **{f"slice {status}": (ALL["slice"], http(status, error())) for status in (401, 429, 503)},
    **{f"cancel {status}": (ALL["cancel"], http(status, error())) for status in (400, 401, 409, 503)},
    **{f"delete {status}": (ALL["delete"], http(status, error())) for status in (400, 403, 503)},
    "no object": (ALL["create"], http(400, {"error": ECHO})),
    "a gateway": (ALL["create"], http(400, {"statusCode": 400, "message": ECHO})),
    "a model": (ALL["create"], http(404, error("model_not_found"))),
    "a quota": (ALL["create"], http(429, error("insufficient_quota"))),
    "a chain": (CHAINED, http(400, error("previous_response_not_found"))),
    "a success": (ALL["create"], http(200, error("server_error"))),
    "an event": (STREAMED, STREAM_HEAD + sent({"type": "error", "code": "server_error", "message": ECHO})),
    "an object in an event": (STREAMED, STREAM_HEAD + sent({"type": "error"} | error("server_error"))),
    "a failure without an id": (STREAMED, STREAM_HEAD + sent({"type": "response.failed", "response": failed(id=None) | error()})),
    "a failed create": (ALL["create"], http(200, failed() | error())),
    "a failed response": (ALL["read"], http(200, failed() | error())),
    "a failed response in a cancel": (ALL["cancel"], http(200, failed() | error())),
    "the end of a stream": (ALL["slice"], STREAM_HEAD + sent({"type": "response.failed", "sequence_number": 1, "response": failed() | error()})),
    "a named failure": (STREAMED, STREAM_HEAD + sent({"type": "response.failed", "sequence_number": 1, "response": failed() | error()})),
}  # fmt: skip


def error_of(found: Any) -> RunError:
    if isinstance(found, Slice):
        found = found.final
    assert isinstance(found, NotNow | Refused | ChainBroken | Snapshot)
    assert found.error
    return found.error


@pytest.mark.parametrize("name", ERRORS)
async def test_no_message_has_the_key_or_a_header_of_the_settings(name):
    operation, answer = ERRORS[name]
    async with Loopback(always(answer)) as server, provided(server, api_key=KEY, headers=HEADERS) as provider:
        found = await operation(provider)
    assert error_of(found).message.endswith(SHOWN)
    assert not [secret for secret in (KEY, *HEADERS.values()) if secret in repr(found)]


async def test_the_reason_of_a_refused_key_has_no_secret():
    answer = http(400, error("idempotency_error"))
    async with Loopback(always(answer)) as server, provided(server, api_key=KEY, headers=HEADERS) as provider:
        assert await KEYED(provider) == KeyRefused(SHOWN)


@pytest.mark.parametrize("secret", [KEY, "another.key"])
async def test_a_code_that_is_a_secret_is_not_shown(secret):
    incomplete = {
        "id": "resp_1",
        "status": "incomplete",
        "output": [],
        "incomplete_details": {"reason": secret},
    }
    headers = {"api-key": "another.key"}
    for operation, answer in {
        "create": http(400, error(secret, "No.")),
        "read": http(200, failed() | error(secret, "No.")),
        "slice": http(200, incomplete),
    }.items():
        async with (
            Loopback(always(answer)) as server,
            provided(server, api_key=KEY, headers=headers) as provider,
        ):
            found = await ALL[operation](provider)
        assert not isinstance(found, Absent)
        assert secret not in repr(found)


async def test_a_key_that_is_part_of_many_words_changes_no_word():
    """Local servers are given keys such as "x"."""
    incomplete = {"id": "resp_1", "status": "incomplete", "output": []}
    incomplete["incomplete_details"] = {"reason": "max_output_tokens"}
    async with Loopback(always(http(200, incomplete))) as server, provided(server, api_key="x") as provider:
        assert (await provider.read("resp_1")).incomplete_reason == "max_output_tokens"
    answer = http(400, error("max_exceeded", "The maximum is exceeded for key x."))
    async with Loopback(always(answer)) as server, provided(server, api_key="x") as provider:
        found = await ALL["create"](provider)
    assert found.error == RunError(
        "provider_rejected", "The maximum is exceeded for key [secret].", "max_exceeded"
    )


async def test_a_secret_is_removed_before_a_long_message_is_cut():
    answer = http(400, error(message="x" * 240 + KEY + "z" * 20_000 + KEY + "y" * 240))
    async with Loopback(always(answer)) as server, provided(server, api_key=KEY) as provider:
        message = error_of(await ALL["create"](provider)).message
    assert message == "x" * 240 + "[secret]" + " … " + "[secret]" + "y" * 240
