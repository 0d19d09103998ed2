"""The transport of every request of the adapter: pools, time limits, denials, and what it does not keep or follow."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.http import json_body
from shared.adapters.http.access import Access, Connection
from shared.adapters.http.answer import Answer, NoAnswer
from shared.core.response import Absent, NoStream, NotNow, Refused, ResponseStatus, RunError, Snapshot
from tests.support.loopback import Arrived, Loopback, always, reply
from tests.support.requests import ALL, Counting, Sending, get, provided
from tests.support.stream_samples import REFERENCES

PLAIN = REFERENCES["plain"]
EVENTS = b"".join(PLAIN.written[:3])

every = pytest.mark.parametrize("operation", ALL)


# The two pools.


@pytest.mark.parametrize(
    ("held", "waiting", "others"),
    [
        ("POST", ["create", "streamed create", "cancel"], ["read", "slice"]),
        ("GET", ["read", "slice", "read"], ["create", "streamed create", "cancel"]),
    ],
    ids=["long creates", "long polls"],
)
async def test_requests_of_one_pool_do_not_wait_for_those_of_the_other(held, waiting, others):
    """Each pool has two connections. In one pool, both are in use by requests that are not answered yet."""
    release = asyncio.Event()

    async def answering(arrived: Arrived) -> AsyncIterator[bytes]:
        if arrived.method == held:
            await release.wait()
        yield reply(200, json.dumps({"id": "resp_1", "status": "queued", "output": []}).encode())

    async with Loopback(answering) as server, provided(server, connections=2) as provider:
        asked = [asyncio.create_task(ALL[operation](provider)) for operation in waiting]
        await server.until(2)
        async with asyncio.timeout(20):
            for operation in others:
                assert isinstance(await ALL[operation](provider), Snapshot)
        # The third still has no connection.
        assert len([one for one in server.arrived if one.method == held]) == 2
        release.set()
        assert all(isinstance(found, Snapshot) for found in await asyncio.gather(*asked))


# Cookies, redirects and the environment have no effect.


@every
async def test_no_cookie_is_ever_sent_back(operation):
    answering = always(reply(200, json.dumps(PLAIN.response).encode(), set_cookie="session=1; Path=/"))
    # Clients keep no cookies of a host that is a bare address.
    async with Loopback(answering) as server, provided(server, "localhost") as provider:
        for other in ALL.values():
            await ALL[operation](provider)
            await other(provider)
    assert len(server.arrived) == 2 * len(ALL)
    assert not [one for one in server.arrived if "cookie" in one.headers]


@every
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(operation, status):
    async with Loopback(always(reply(status, location="/elsewhere"))) as server, provided(server) as provider:
        assert isinstance(await ALL[operation](provider), NotNow | Refused | NoStream)
    assert [one.path for one in server.arrived if one.path == "/elsewhere"] == []
    assert len(server.arrived) == 1


@every
async def test_the_environment_changes_no_request(operation, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login evil password evil\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in (
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_CUSTOM_HEADERS",
    ):
        monkeypatch.setenv(name, "X-Evil: evil")
    answering = always(reply(200, json.dumps(PLAIN.response).encode()))
    async with Loopback(answering) as server, provided(server) as provider:
        assert isinstance(await ALL[operation](provider), Snapshot | Absent)
    [arrived] = server.arrived
    assert (arrived.headers["user-agent"], arrived.headers["authorization"]) == ("baton", "Bearer k")
    assert not [name for name in arrived.headers if name.startswith(("openai-", "x-"))]


# The headers of the settings.

HEADERS = {"Ocp-Apim-Subscription-Key": "GatewayKey7", "x-team": "a", "user-agent": "mine/1.0"}


@every
async def test_every_request_carries_the_headers_of_the_settings(operation):
    answering = always(reply(200, json.dumps(PLAIN.response).encode()))
    async with (
        Loopback(answering) as server,
        provided(server) as plain,
        provided(server, headers=HEADERS) as provider,
    ):
        await ALL[operation](plain)
        await ALL[operation](provider)
        await ALL[operation](provider)
    without, *arrived = [one.headers for one in server.arrived]
    assert len(arrived) == 2
    for headers in arrived:
        assert headers == without | {name.lower(): value for name, value in HEADERS.items()}


async def test_no_header_of_the_settings_is_logged_or_shown(caplog):
    caplog.set_level(logging.DEBUG)
    statuses = iter([200, 400, 401, 500] * len(ALL))

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        yield reply(next(statuses), b"GatewayKey7")

    async with Loopback(answering) as server, provided(server, headers=HEADERS) as provider:
        found = [await operation(provider) for operation in ALL.values() for _ in range(4)]
        parts = (found, provider._connection, provider._interpreter, provider._transport, provider._access)
        shown = [repr(part) for part in parts]
    assert caplog.records
    logged = [f"{record.getMessage()} {record.args}" for record in caplog.records]
    assert "GatewayKey7" not in "\n".join(logged + shown)


# Time, tokens, denials.


class SlowAccess(Access):
    """Requests a token that never arrives."""

    def __init__(self) -> None:
        super().__init__(Connection(base_url="https://x/v1"))

        async def token() -> str:
            await asyncio.Event().wait()
            return ""

        self._new_token = token


@every
async def test_the_time_limit_covers_the_token_and_no_request_is_sent_without_one(operation):
    async with Loopback(always(b"")) as server:
        short = timedelta(milliseconds=20)
        async with provided(server, create_timeout=short, read_timeout=short, slice_budget=short) as provider:
            provider._transport._access = SlowAccess()
            error = RunError("provider_unreachable", "Microsoft Entra gave no token in time.")
            assert await ALL[operation](provider) == NotNow(error, unknown=False)
    assert server.arrived == []


async def test_the_time_limit_covers_the_wait_for_a_connection():
    release = asyncio.Event()

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        await release.wait()
        yield reply(200)

    async with Loopback(answering) as server, Sending(server) as sending:
        holding = [asyncio.create_task(sending.send(get(server))) for _ in range(3)]
        await server.until(3)
        found = await sending.send(get(server, within=timedelta(milliseconds=20)))
        assert found == NoAnswer(
            "the provider gave no answer: TimeoutError", may_be_done=True, timed_out=True
        )
        release.set()
        assert [each.status for each in await asyncio.gather(*holding)] == [200] * 3
    assert len(server.arrived) == 3


@every
async def test_denials_are_logged_when_they_begin_and_when_they_end(operation, caplog):
    statuses = iter([401, 403, 200, 200])

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        if (status := next(statuses)) == 200:
            yield reply(200, EVENTS, content_type="text/event-stream")
        else:
            yield reply(status)

    async with Loopback(answering) as server, provided(server) as provider:
        for _ in range(4):
            await ALL[operation](provider)
    logged = [(each.levelno, each.getMessage()) for each in caplog.records if each.name == "baton"]
    assert logged == [
        (logging.WARNING, 'provider.denied {"http_status": 401}'),
        (logging.WARNING, 'provider.admitted {"http_status": 200}'),
    ]


# Streams.


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Collects all bytes that are decoded from JSON."""
    found: list[bytes] = []
    read_json = json_body.read_json

    def reading(body: bytes) -> Any:
        found.append(body)
        return read_json(body)

    monkeypatch.setattr(json_body, "read_json", reading)
    return found


async def test_a_create_decodes_each_event_once(decoded):
    """It does so until an event names the response, however the stream is cut."""
    before = [b'data: {"type": "keepalive", "number": %d}\n\n' % number for number in range(40)]

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n"
        for part in before:
            yield part
        yield EVENTS
        await asyncio.Event().wait()

    async with Loopback(answering) as server, provided(server) as provider:
        created = await ALL["streamed create"](provider)
    assert created == Snapshot(response_id="resp_1", status=ResponseStatus.QUEUED, sequence=0)
    assert len(decoded) == len(before) + 1


async def test_a_slice_decodes_each_event_once(decoded):
    answering = always(reply(200, EVENTS, content_type="text/event-stream"))
    async with Loopback(answering) as server, provided(server) as provider:
        assert (await provider.slice("resp_1", -1)).sequence == 2
    assert len(decoded) == 3


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (EVENTS, None),
        (b"data: 1\n", NoAnswer("the provider gave no answer: ClientPayloadError", may_be_done=True)),
    ],
    ids=["after an event", "before the first"],
)
async def test_a_broken_stream_counts_as_ended_if_an_event_arrived(body, found):
    broken = reply(200, body, content_type="text/event-stream", content_length="999999")
    async with Loopback(always(broken)) as server, Sending(server) as sending:
        listener = Counting()
        assert await sending.listen(get(server), listener) == found
    assert listener.count == (3 if found is None else 0)


async def test_an_answer_has_the_bytes_that_were_sent():
    sent = reply(418, b"\xff\x00", retry_after="7", content_type="text/event-stream")
    async with Loopback(always(sent)) as server, Sending(server) as sending:
        for found in (await sending.send(get(server)), await sending.listen(get(server), Counting())):
            assert isinstance(found, Answer)
            assert (found.status, found.body, found.headers["RETRY-AFTER"]) == (418, b"\xff\x00", "7")
