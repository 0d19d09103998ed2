"""A network with faults: proxies on loopback that pass requests on, except those that get a fault."""

import asyncio
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self
from urllib.parse import urlsplit

# Longer than any line or head that is sent here.
_LINE_BYTES = 1024 * 1024
# A server closes a connection that was idle for some seconds. It is closed here before, so that this is no fault.
_IDLE_SECONDS = 1.0
_RESET = struct.pack("ii", 1, 0)


class Fault(StrEnum):
    """What happens to a request and its reply."""

    HUNG_UP = "hung_up"
    RESET = "reset"
    BUSY = "busy_503"
    STALLED_BEFORE = "stalled_before"
    # The connection is closed, but the request still arrives later: after the next request.
    LATE = "late"
    LOST = "reply_lost"
    BROKEN = "broken_500"
    STALLED_AFTER = "stalled_after"
    CUT_HEAD = "head_cut"
    # The body is shorter than its Content-Length.
    CUT_BODY = "body_cut"
    # There is no Content-Length, so the end of the connection looks like the end of the body.
    CUT_UNSEEN = "body_cut_unseen"

    @property
    def arrives(self) -> bool:
        """Whether the request is carried out before its sender sees the fault."""
        return self in _ARRIVING

    @property
    def keeps_open(self) -> bool:
        """Whether the connection can be used again, as after any complete reply."""
        return self in {Fault.BUSY, Fault.BROKEN}

    @property
    def stalls(self) -> bool:
        return self in {Fault.STALLED_BEFORE, Fault.STALLED_AFTER}


_ARRIVING = frozenset(
    {Fault.LOST, Fault.BROKEN, Fault.STALLED_AFTER, Fault.CUT_HEAD, Fault.CUT_BODY, Fault.CUT_UNSEEN}
)


@dataclass
class Request:
    """A request that the network has seen. `answered` and `reply` are the server's, if the request arrived there."""

    link: str
    method: str
    path: str
    raw: bytes = field(repr=False)
    fault: Fault | None = None
    answered: int | None = None
    reply: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        return f"{self.link} {self.method} {self.path}"


@dataclass
class FaultRule:
    """A fault for the requests that `matches` selects: for the `nth`, and in all for `times` of them."""

    fault: Fault
    nth: int = 1
    # None is for all that follow.
    times: int | None = 1
    matches: Callable[[Request], bool] = lambda _: True
    # How many senders have seen the fault.
    applied: int = 0
    _seen: int = 0

    def applies_to(self, request: Request) -> bool:
        if not self.matches(request):
            return False
        self._seen += 1
        return self._seen >= self.nth and (self.times is None or self._seen < self.nth + self.times)


@dataclass(frozen=True)
class Reply:
    """A complete HTTP reply. The headers have no framing: `body` is decoded, and its length is not declared."""

    status: int
    headers: tuple[bytes, ...]
    body: bytes

    @property
    def bodiless(self) -> bool:
        return self.status in {204, 304}

    def head(self, *framing: bytes) -> bytes:
        return b"\r\n".join([*self.headers, *framing, b"", b""])

    def complete(self) -> bytes:
        return self.head() if self.bodiless else self.head(b"Content-Length: %d" % len(self.body)) + self.body

    def cut(self, fault: Fault) -> bytes:
        """Return the bytes of the reply that are sent before the connection ends."""
        half = self.body[: len(self.body) // 2]
        match fault:
            case Fault.CUT_HEAD:
                head = self.head()
                return head[: len(head) // 2]
            case Fault.CUT_BODY:
                return self.head(b"Content-Length: %d" % (len(self.body) or 64)) + half
            case Fault.CUT_UNSEEN:
                return self.head(b"Connection: close") + half
        return b""


class Network:
    """The links between an app and the servers that it calls, and the faults on them."""

    def __init__(self) -> None:
        # All requests since the last `inject`.
        self.seen: list[Request] = []
        self.rule: FaultRule | None = None
        self._late: list[tuple[Link, Request]] = []
        self._links: list[Link] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def link(self, name: str, upstream: str) -> str:
        """Return an address that stands for `upstream`."""
        link = Link(self, name, upstream)
        self._links.append(link)
        return await link.open()

    def inject(self, rule: FaultRule | None) -> None:
        """Count requests from here, and apply `rule` to them."""
        self.seen, self.rule = [], rule

    async def settle(self) -> None:
        """Deliver the requests that are late."""
        late, self._late = self._late, []
        for link, request in late:
            await link.deliver(request)

    def admit(self, link: "Link", request: Request) -> None:
        """Note a request, and decide whether it gets the fault."""
        self.seen.append(request)
        if self.rule and self.rule.applies_to(request):
            request.fault = self.rule.fault
            if request.fault is Fault.LATE:
                self._late.append((link, request))

    async def close(self) -> None:
        for link in self._links:
            await link.close()


class Link:
    """One proxy. For each connection to it, it opens one to its server."""

    def __init__(self, network: Network, name: str, upstream: str) -> None:
        url = urlsplit(upstream)
        self._network, self._name, self._path = network, name, url.path
        self._address = (url.hostname, url.port)
        self._open: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=_LINE_BYTES)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._path}"

    async def close(self) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        # A closed or aborted transport is removed in the next iteration of the event loop.
        await asyncio.sleep(0.01)

    async def deliver(self, request: Request) -> None:
        """Send a request to the server, and drop the reply."""
        with Upstream(self._address) as upstream:
            await upstream.send(request)

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        try:
            with Upstream(self._address) as upstream, suppress(OSError, asyncio.IncompleteReadError):
                while request := await _read_request(self._name, reader):
                    self._network.admit(self, request)
                    if request.fault:
                        await self._apply_fault(request, upstream, reader, writer)
                        if not request.fault.keeps_open:
                            break
                        continue
                    reply = await self._pass(request, upstream)
                    writer.write(reply.complete())
                    await writer.drain()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()

    async def _pass(self, request: Request, upstream: "Upstream") -> Reply:
        reply = await upstream.send(request)
        await self._network.settle()
        return reply

    async def _apply_fault(
        self, request: Request, upstream: "Upstream", reader: StreamReader, writer: StreamWriter
    ) -> None:
        fault, rule = request.fault, self._network.rule
        reply = await self._pass(request, upstream) if fault and fault.arrives else None
        if rule:
            rule.applied += 1
        match fault:
            case Fault.RESET:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
            case Fault.BUSY:
                writer.write(Reply(503, (b"HTTP/1.1 503 Service Unavailable",), b"Busy.").complete())
            case Fault.BROKEN:
                writer.write(Reply(500, (b"HTTP/1.1 500 Internal Server Error",), b"Broken.").complete())
            case Fault.STALLED_BEFORE | Fault.STALLED_AFTER:
                await reader.read()
            case Fault.CUT_HEAD | Fault.CUT_BODY | Fault.CUT_UNSEEN if reply:
                writer.write(reply.cut(fault))


class Upstream:
    """A connection to a server, which opens when a request needs it."""

    def __init__(self, address: tuple[str | None, int | None]) -> None:
        self._address = address
        self._streams: tuple[StreamReader, StreamWriter] | None = None
        self._used = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    async def send(self, request: Request) -> Reply:
        """Send a request to the server, and note and return its reply."""
        reply = await self._send(request)
        request.answered, request.reply = reply.status, reply.body
        return reply

    async def _send(self, request: Request) -> Reply:
        now = asyncio.get_running_loop().time()
        if self._streams and now - self._used > _IDLE_SECONDS:
            self._close()
        if not self._streams:
            self._streams = await asyncio.open_connection(*self._address, limit=_LINE_BYTES)
        reader, writer = self._streams
        writer.write(request.raw)
        reply, stays_open = await _read_reply(reader)
        self._used = now
        if not stays_open:
            self._close()
        return reply

    def _close(self) -> None:
        streams, self._streams = self._streams, None
        if streams:
            streams[1].close()


async def _read_request(link: str, reader: StreamReader) -> Request | None:
    """Return the next request of a connection, or None at its end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, _, rest = head.partition(b"\r\n")
    method, path, _ = first.decode("ascii").split(" ")
    headers = _named(rest.split(b"\r\n"))
    assert b"transfer-encoding" not in headers, "chunked requests are not supported"
    body = await reader.readexactly(int(headers.get(b"content-length", 0)))
    return Request(link, method, path, head + body)


async def _read_reply(reader: StreamReader) -> tuple[Reply, bool]:
    """Return a reply, and whether its connection can be used again."""
    lines = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n").split(b"\r\n")
    headers, status = _named(lines[1:]), int(lines[0].split(b" ")[1])
    kept = [line for line in lines[1:] if line.partition(b":")[0].lower() not in _HOP_BY_HOP]
    reply = Reply(status, (lines[0], *kept), b"")
    stays_open = headers.get(b"connection", b"").lower() != b"close"
    if reply.bodiless:
        return reply, stays_open
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers[b"content-length"]))
    return Reply(status, reply.headers, body), stays_open


async def _read_chunks(reader: StreamReader) -> bytes:
    chunks = []
    while size := int(await reader.readline(), 16):
        chunks.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(chunks)


_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"content-length"})


def _named(lines: list[bytes]) -> dict[bytes, bytes]:
    return {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
