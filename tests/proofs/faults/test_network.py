"""The network itself: what becomes of a request and its reply for each fault."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.proofs.faults.network import Fault, Network, Trouble

BODY = b"0123456789"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n"
)
NO_CONTENT = b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"
# Both replies have this head once they are out of their frames.
HEAD = b"HTTP/1.1 %s\r\nX: y\r\n"

Ask = Callable[..., Awaitable[bytes]]


class Server:
    """Gives one reply to everything, and remembers the bodies it was sent."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.says = CHUNKED

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.got.append(await reader.readexactly(1))
                writer.write(self.says)
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
async def ask(network: Network, server: Server) -> Ask:
    """Sends one body over a connection of its own, and returns what comes until the connection ends.

    Its own end is told at once, unless it waits for what may never come.
    """
    address = await network.link("server", f"http://127.0.0.1:{server.port}/path")
    port = int(address.removesuffix("/path").rpartition(":")[2])

    async def ask(body: bytes, *, waits: bool = False) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /path HTTP/1.1\r\nContent-Length: 1\r\n\r\n" + body)
        if not waits:
            writer.write_eof()
        try:
            async with asyncio.timeout(0.1 if waits else 60):
                return await reader.read()
        finally:
            writer.close()

    return ask


def said(status: bytes, *more: bytes) -> bytes:
    return HEAD % status + b"\r\n".join([*more, b"", b""])


CUT = {
    Fault.LOST: b"",
    Fault.CUT_HEAD: said(b"200 OK")[:12],
    Fault.CUT_BODY: said(b"200 OK", b"Content-Length: 10") + BODY[:5],
    Fault.CUT_UNSEEN: said(b"200 OK", b"Connection: close") + BODY[:5],
    Fault.BROKEN: b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 7\r\n\r\nBroken.",
}


@pytest.mark.parametrize("fault", CUT)
async def test_a_request_may_arrive_and_its_reply_not(network, server, ask, fault):
    network.expect(trouble := Trouble(fault))
    assert await ask(b"a") == CUT[fault]
    assert (server.got, trouble.delivered, network.seen[0].answered) == ([b"a"], 1, 200)


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        (Fault.HUNG_UP, b""),
        (Fault.BUSY, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nBusy."),
    ],
)
async def test_a_request_may_not_arrive(network, server, ask, fault, heard):
    network.expect(trouble := Trouble(fault))
    assert await ask(b"a") == heard
    assert (server.got, trouble.delivered, network.seen[0].answered) == ([], 1, None)


async def test_a_connection_may_be_reset(network, server, ask):
    network.expect(Trouble(Fault.RESET))
    with pytest.raises(ConnectionResetError):
        await ask(b"a")
    assert server.got == []


@pytest.mark.parametrize(("fault", "got"), [(Fault.UNHEARD, []), (Fault.SILENT, [b"a"])])
async def test_silence_lasts_until_the_client_has_had_enough(network, server, ask, fault, got):
    network.expect(trouble := Trouble(fault))
    with pytest.raises(TimeoutError):
        await ask(b"a", waits=True)
    while not trouble.delivered:  # noqa: ASYNC110  (the network has no event to wait for)
        await asyncio.sleep(0)
    assert server.got == got


async def test_what_is_late_arrives_after_the_next_one_or_when_all_is_over(network, server, ask):
    network.expect(trouble := Trouble(Fault.LATE, times=2))
    assert await ask(b"a") == b""
    assert await ask(b"b") == b""
    assert server.got == []
    await ask(b"c")
    assert (server.got, trouble.delivered) == ([b"c", b"a", b"b"], 2)
    network.expect(Trouble(Fault.LATE))
    await ask(b"d")
    await network.settle()
    assert server.got[3:] == [b"d"]


async def test_a_reply_without_a_body_can_still_promise_one(network, server, ask):
    server.says = NO_CONTENT
    network.expect(Trouble(Fault.CUT_BODY))
    assert await ask(b"a") == said(b"204 No Content", b"Content-Length: 64")


async def test_trouble_is_for_the_requests_that_it_is_meant_for(network, server, ask):
    network.expect(Trouble(Fault.LOST, nth=2, times=2, like=lambda request: b"x" in request.raw))
    replies = [bool(await ask(body)) for body in (b"a", b"x", b"x", b"a", b"x", b"x")]
    assert replies == [True, True, False, True, False, True]
    assert [str(request) for request in network.seen[:1]] == ["server POST /path"]
