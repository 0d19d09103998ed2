"""No reply takes more memory than the limit, whatever its size and its encoding."""

import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.adapters.http import transport
from shared.adapters.http.answer import NoAnswer
from shared.core.response import Absent, NoStream, NotNow, Refused, Snapshot
from tests.support.loopback import Arrived, Loopback, always, reply
from tests.support.requests import ALL, Counting, Sending, get, provided
from tests.support.stream_samples import REFERENCES
from tests.support.streams import delta, stream

LIMIT = 8 * 2**20
PIECE = 64 * 1024
# BytesIO grows by an eighth. aiohttp, the bytes that a read returns and this test's own server need the rest.
AT_MOST = 1.125 + 8 * transport.READ_BUFFER_BYTES / LIMIT

PLAIN = REFERENCES["plain"]
every = pytest.mark.parametrize("operation", ALL)


def plain(size: int, _: str) -> Iterator[bytes]:
    """Send a body without Content-Length."""
    yield b"\r\n"
    for _ in range(size // PIECE):
        yield b" " * PIECE


def counted(size: int, _: str) -> Iterator[bytes]:
    yield b"content-length: %d\r\n" % size
    yield from plain(size, _)


def chunked(size: int, _: str) -> Iterator[bytes]:
    yield b"transfer-encoding: chunked\r\n\r\n"
    for _ in range(size // PIECE):
        yield b"%x\r\n%s\r\n" % (PIECE, b" " * PIECE)
    yield b"0\r\n\r\n"


def compressed(size: int, encoding: str) -> Iterator[bytes]:
    packed = BOMBS[encoding, size]
    yield b"content-encoding: %s\r\ncontent-length: %d\r\n\r\n%s" % (encoding.encode(), len(packed), packed)


def pack(size: int, window: int) -> bytes:
    packing = zlib.compressobj(9, wbits=window)
    return b"".join([*(packing.compress(b" " * PIECE) for _ in range(size // PIECE)), packing.flush()])


BOMBS = {("gzip", 8 * LIMIT): pack(8 * LIMIT, 31), ("deflate", 8 * LIMIT): pack(8 * LIMIT, 15)}
WAYS: dict[str, tuple[Callable[[int, str], Iterator[bytes]], str]] = {
    "until the connection ends": (plain, ""),
    "with a length": (counted, ""),
    "chunked": (chunked, ""),
    "gzip": (compressed, "gzip"),
    "deflate": (compressed, "deflate"),
}


def sends(
    status: int, way: str, size: int, kind: str = "application/json"
) -> Callable[[Arrived], AsyncIterator[bytes]]:
    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        write, encoding = WAYS[way]
        yield b"HTTP/1.1 %d Said\r\nconnection: close\r\ncontent-type: %s\r\n" % (status, kind.encode())
        for part in write(size, encoding):
            yield part

    return answering


@contextmanager
def memory_at_most(times_the_limit: float) -> Iterator[None]:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (peak - before) / LIMIT < times_the_limit


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_REPLY_BYTES", LIMIT)


# What a reply that is too long leads to.
TOO_LONG: dict[tuple[str, int], Any] = {
    ("create", 200): NotNow,
    ("streamed create", 200): NotNow,
    ("read", 200): Snapshot,
    ("slice", 200): Snapshot,
    ("cancel", 200): Snapshot,
    ("delete", 200): Absent,
    ("create", 400): Refused,
    ("streamed create", 400): Refused,
    ("read", 400): NotNow,
    ("slice", 400): NoStream,
    ("cancel", 400): Refused,
    ("delete", 400): Refused,
    **{(operation, 503): NotNow for operation in ALL},
}


@every
@pytest.mark.parametrize("status", [200, 400, 503])
@pytest.mark.parametrize("way", WAYS)
async def test_no_reply_takes_more_memory_than_the_limit(limited, operation, status, way):
    async with Loopback(sends(status, way, 8 * LIMIT)) as server, provided(server) as provider:
        with memory_at_most(AT_MOST):
            found = await ALL[operation](provider)
        assert type(found) is TOO_LONG[operation, status]
        assert len(server.arrived) == 1
        if isinstance(found, Snapshot):
            assert found.error.code == "output_too_large"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("operation", ["streamed create", "slice"])
async def test_no_stream_takes_more_memory_than_the_limit(limited, operation, way):
    """An event that never ends: blanks without a line end."""
    answering = sends(200, way, 8 * LIMIT, "text/event-stream")
    async with Loopback(answering) as server, provided(server) as provider:
        with memory_at_most(AT_MOST):
            found = await ALL[operation](provider)
        assert isinstance(found, NotNow) or found.sequence == 0


async def test_the_events_of_a_stream_take_no_more_memory_than_the_limit(limited):
    many = stream(*[delta("x" * 1000)] * 2000)
    events = [b"".join(many.written[at : at + 50]) for at in range(1, len(many.written) - 1, 50)]
    passes = 8 * LIMIT // sum(map(len, events))

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n"
        for _ in range(passes):
            for part in events:
                yield part

    async with Loopback(answering) as server, Sending(server) as sending:
        listener = Counting()
        with memory_at_most(AT_MOST):
            assert await sending.listen(get(server), listener) is None
        assert LIMIT / 1200 < listener.count < 1.2 * LIMIT / 1000


async def test_a_long_event_is_copied_once(limited):
    event = b"data: " + b" " * (LIMIT - 100) + b"\n\n"

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n"
        for at in range(0, len(event), PIECE):
            yield event[at : at + PIECE]

    async with Loopback(answering) as server, Sending(server) as sending:
        listener = Counting()
        with memory_at_most(1 + AT_MOST):
            assert await sending.listen(get(server), listener) is None
        assert listener.count == 1


@pytest.mark.parametrize("way", ["until the connection ends", "with a length", "chunked"])
async def test_a_body_of_exactly_the_limit_is_read_once_and_not_copied(limited, way):
    async with Loopback(sends(200, way, LIMIT)) as server, Sending(server) as sending:
        with memory_at_most(AT_MOST):
            found = await sending.send(get(server))
        assert (found.status, len(found.body), found.body[:9]) == (200, LIMIT, b" " * 9)
    async with Loopback(sends(200, way, LIMIT + PIECE)) as server, Sending(server) as sending:
        assert (await sending.send(get(server))).body is None


async def test_a_wrong_content_length_is_not_trusted(limited):
    """A short body with a long Content-Length is not too long. It was cut."""
    async with (
        Loopback(always(reply(503, b"{}", content_length=str(8 * LIMIT)))) as server,
        Sending(server) as sending,
    ):
        assert await sending.send(get(server)) == NoAnswer(
            "the provider gave no answer: ClientPayloadError", may_be_done=True
        )


@every
@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "no-such-charset", '"', "../x"])
async def test_the_charset_of_a_reply_is_not_used(operation, charset):
    body = json.dumps(PLAIN.response | {"error": {"message": "Grüße"}}, ensure_ascii=False).encode()
    answering = always(reply(200, body, content_type=f"application/json; charset={charset}"))
    async with Loopback(answering) as server, provided(server) as provider:
        found = await ALL[operation](provider)
    assert found == Absent() or found.error.message == "Grüße"
