"""Servers on this machine that answer each request as a test decides."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Arrived:
    """A request that arrived. The names of its headers are in lower case, and repeated ones are joined."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass
class Server:
    """A server that listens within a block. A subclass handles its connections."""

    port: int = field(default=0, kw_only=True)
    # A task for each connection that was ever made.
    _open: set[asyncio.Task[None]] = field(default_factory=set, kw_only=True)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.handle(reader, writer)
        writer.close()

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


Answering = Callable[[Arrived], AsyncIterator[bytes]]


@dataclass
class Loopback(Server):
    """Answers one request on each connection."""

    answering: Answering
    arrived: list[Arrived] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with self.came, asyncio.timeout(30):
            await self.came.wait_for(lambda: len(self.arrived) >= count)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived = await read_request(reader)
        async with self.came:
            self.arrived.append(arrived)
            self.came.notify_all()
        async for part in self.answering(arrived):
            writer.write(part)
            await writer.drain()


async def read_request(reader: asyncio.StreamReader) -> Arrived:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers: dict[str, str] = {}
    for name, _, value in (line.partition(": ") for line in lines if line):
        before = headers.get(name.lower())
        headers[name.lower()] = value if before is None else f"{before}, {value}"
    return Arrived(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


def always(reply: bytes) -> Answering:
    """Give every request the same reply."""

    async def answering(_: Arrived) -> AsyncIterator[bytes]:
        yield reply

    return answering


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return a complete HTTP reply, after which the connection closes."""
    fields = {"content_length": str(len(body)), "connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + body
