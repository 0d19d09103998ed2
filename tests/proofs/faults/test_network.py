"""The network itself: what happens to a request and its reply with each fault."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.proofs.faults.network import Fault, FaultRule, Network

BODY = b"0123456789"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n"
)
NO_CONTENT = b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"
# Both replies have this head when their framing is removed.
HEAD = b"HTTP/1.1 %s\r\nX: y\r\n"

Send = Callable[..., Awaitable[bytes]]


class Server:
    """Sends one reply to every request, and keeps the bodies that it received."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.reply = CHUNKED

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.got.append(await reader.readexactly(1))
                writer.write(self.reply)
        except asyncio.IncompleteReadError:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    network = Network()
    yield network
    await network.close()


@pytest.fixture
async def send(network: Network, server: Server) -> Send:
    """Sends one body over a connection of its own, and returns all bytes until the connection ends.

    It closes its own side of the connection at once, unless it waits for a reply that may never come.
    """
    address = await network.link("server", f"http://127.0.0.1:{server.port}/path")
    port = int(address.removesuffix("/path").rpartition(":")[2])

    async def send(body: bytes, *, waits: bool = False) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /path HTTP/1.1\r\nContent-Length: 1\r\n\r\n" + body)
        if not waits:
            writer.write_eof()
        try:
            async with asyncio.timeout(0.1 if waits else 60):
                return await reader.read()
        finally:
            writer.close()

    return send


def head(status: bytes, *more: bytes) -> bytes:
    return HEAD % status + b"\r\n".join([*more, b"", b""])


CUT = {
    Fault.LOST: b"",
    Fault.CUT_HEAD: head(b"200 OK")[:12],
    Fault.CUT_BODY: head(b"200 OK", b"Content-Length: 10") + BODY[:5],
    Fault.CUT_UNSEEN: head(b"200 OK", b"Connection: close") + BODY[:5],
    Fault.BROKEN: b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 7\r\n\r\nBroken.",
}


@pytest.mark.parametrize("fault", CUT)
async def test_a_request_may_arrive_and_its_reply_not(network, server, send, fault):
    network.inject(rule := FaultRule(fault))
    assert await send(b"a") == CUT[fault]
    assert (server.got, rule.applied, network.seen[0].answered) == ([b"a"], 1, 200)


@pytest.mark.parametrize(
    ("fault", "received"),
    [
        (Fault.HUNG_UP, b""),
        (Fault.BUSY, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nBusy."),
    ],
)
async def test_a_request_may_not_arrive(network, server, send, fault, received):
    network.inject(rule := FaultRule(fault))
    assert await send(b"a") == received
    assert (server.got, rule.applied, network.seen[0].answered) == ([], 1, None)


async def test_a_connection_may_be_reset(network, server, send):
    network.inject(FaultRule(Fault.RESET))
    with pytest.raises(ConnectionResetError):
        await send(b"a")
    assert server.got == []


@pytest.mark.parametrize(("fault", "got"), [(Fault.STALLED_BEFORE, []), (Fault.STALLED_AFTER, [b"a"])])
async def test_a_stall_lasts_until_the_client_stops_waiting(network, server, send, fault, got):
    network.inject(rule := FaultRule(fault))
    with pytest.raises(TimeoutError):
        await send(b"a", waits=True)
    while not rule.applied:  # noqa: ASYNC110  (the network has no event to wait for)
        await asyncio.sleep(0)
    assert server.got == got


async def test_a_late_request_arrives_after_the_next_one_or_when_the_network_settles(network, server, send):
    network.inject(rule := FaultRule(Fault.LATE, times=2))
    assert await send(b"a") == b""
    assert await send(b"b") == b""
    assert server.got == []
    await send(b"c")
    assert (server.got, rule.applied) == ([b"c", b"a", b"b"], 2)
    network.inject(FaultRule(Fault.LATE))
    await send(b"d")
    await network.settle()
    assert server.got[3:] == [b"d"]


async def test_a_reply_without_a_body_can_still_declare_one(network, server, send):
    server.reply = NO_CONTENT
    network.inject(FaultRule(Fault.CUT_BODY))
    assert await send(b"a") == head(b"204 No Content", b"Content-Length: 64")


async def test_a_rule_applies_only_to_the_requests_that_match(network, server, send):
    network.inject(FaultRule(Fault.LOST, nth=2, times=2, matches=lambda request: b"x" in request.raw))
    replies = [bool(await send(body)) for body in (b"a", b"x", b"x", b"a", b"x", b"x")]
    assert replies == [True, True, False, True, False, True]
    assert [str(request) for request in network.seen[:1]] == ["server POST /path"]
