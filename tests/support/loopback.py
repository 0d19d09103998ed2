"""A server on this machine that answers each request as a test says, and closes the connection after it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Arrived:
    """A request as it came, its headers' names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answering = Callable[[Arrived], AsyncIterator[bytes]]


@dataclass
class Loopback:
    answering: Answering
    port: int = 0
    arrived: list[Arrived] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def until(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with self.came, asyncio.timeout(30):
            await self.came.wait_for(lambda: len(self.arrived) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            arrived = await _request(reader)
            async with self.came:
                self.arrived.append(arrived)
                self.came.notify_all()
            async for piece in self.answering(arrived):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def close(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> Arrived:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    return Arrived(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@asynccontextmanager
async def loopback(answering: Answering) -> AsyncIterator[Loopback]:
    server = Loopback(answering)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.close()


def says(reply: bytes) -> Answering:
    """Answer every request with the same."""

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        yield reply

    return answering


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return a whole HTTP reply."""
    fields = {"content_length": str(len(body)), "connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + body
