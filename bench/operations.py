"""Counts a client's requests to Table Storage, by a proxy between the two."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.framing import end_of_request
from bench.measure import Meter

_TABLE_ENDPOINT = re.compile(r"(TableEndpoint=http://127\.0\.0\.1:)(\d+)")
_POINT_READ = re.compile(rb"GET [^ ?]*\(PartitionKey=")
_BATCHED = re.compile(rb"\r\n(?:POST|PUT|MERGE|PATCH|DELETE) \S+ HTTP/1\.1\r\n")
_CHUNK_BYTES = 65_536


@dataclass(slots=True)
class Operations:
    """HTTP requests by kind. A group transaction is one write, of several rows."""

    point_reads: int = 0
    queries: int = 0
    writes: int = 0
    rows_written: int = 0

    def add(self, request: bytes) -> None:
        if _POINT_READ.match(request):
            self.point_reads += 1
        elif request.startswith(b"GET"):
            self.queries += 1
        else:
            self.writes += 1
            batch = request.partition(b"\r\n")[0].find(b"/$batch") >= 0
            self.rows_written += len(_BATCHED.findall(request)) if batch else 1


@asynccontextmanager
async def counted(storage: str) -> AsyncIterator[tuple[str, Operations]]:
    """Yield a connection string whose table requests are counted and passed on to `storage`.

    Clients must be closed inside the block: leaving it waits for their connections to end.
    """
    endpoint = _TABLE_ENDPOINT.search(storage)
    assert endpoint is not None, "no local TableEndpoint in the connection string"
    operations = Operations()
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            connections.add(task)
        replies, upstream = await asyncio.open_connection("127.0.0.1", int(endpoint[2]))
        await asyncio.gather(_pass_on(reader, upstream, operations), _pass_on(replies, writer))

    server = await asyncio.start_server(connected, "127.0.0.1")
    try:
        port = server.sockets[0].getsockname()[1]
        yield _TABLE_ENDPOINT.sub(rf"\g<1>{port}", storage), operations
    finally:
        server.close()
        await asyncio.gather(*connections)


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, operations: Operations | None = None
) -> None:
    buffer = b""
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        if operations:
            buffer += data
            while (end := end_of_request(buffer)) is not None:
                operations.add(buffer[:end])
                buffer = buffer[end:]
    writer.close()


async def count(meter: Meter, operations: Operations, action: Callable[[], Awaitable[object]]) -> None:
    """Run `action` once, and add its storage operations to the measurement."""
    before = Operations(**_fields(operations))
    with meter.measuring(count=1):
        await action()
        for name, number in _fields(operations).items():
            meter.notes[name.replace("_", " ")] = number - getattr(before, name)


def _fields(operations: Operations) -> dict[str, int]:
    return {name: getattr(operations, name) for name in Operations.__slots__}
