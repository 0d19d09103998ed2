"""A server on this machine that answers with a stream of server-sent events."""

import asyncio
from dataclasses import dataclass, field

from tests.support.loopback import Arrived, Server, read_request

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class StreamServer(Server):
    """Answers each request with `head` and then `parts`, each sent separately; `then` it ends, cuts, stalls or goes on."""

    head: bytes = HEAD
    parts: list[bytes] = field(default_factory=list)
    then: str = "end"
    requests: list[Arrived] = field(default_factory=list)
    # Set when a request has come.
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    # Set when an answer is over. One that stalls or goes on is over when the client has left.
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await read_request(reader))
            self.asked.set()
            await self._answer(reader, writer)
        finally:
            self.left.set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.head)
        for part in self.parts:
            await self._send(writer, part)
        if self.then == "end" and self.head is HEAD:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        while self.then == "goes on" and not reader.at_eof():
            await self._send(writer, b": ping\n\n")
            await asyncio.sleep(0.01)
        if self.then == "stalls":
            await reader.read()

    async def _send(self, writer: asyncio.StreamWriter, part: bytes) -> None:
        if part:
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
