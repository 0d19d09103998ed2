"""Sends requests to a provider and reads its replies as bytes, up to a limit. No other module does."""

import asyncio
import io
import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum, auto
from typing import Protocol, Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from shared.adapters.http.access import Access, NoToken
from shared.adapters.http.answer import DENIED, MAX_ERROR_BYTES, MAX_REPLY_BYTES, Answer, NoAnswer
from shared.adapters.http.sse import MAX_EVENTS, EventReader
from shared.log import log_event

CONNECT_TIMEOUT = timedelta(seconds=5)
# Longer than most pauses between two ticks, so that a tick finds its connections open.
KEEP_ALIVE = timedelta(seconds=60)
# Larger than most replies, so that one read is enough. When a reply arrives, or decompresses, faster than it is read,
# aiohttp holds up to three times as much and leaves the rest in the socket.
READ_BUFFER_BYTES = 256 * 1024

# A reply that is longer than this waits until few enough others are, so that many at once do not use up the memory.
LARGE_BYTES = 512 * 1024
LARGE_REPLIES = 4

# Faults after which no byte of a request can have reached the provider.
_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_FAULTS = (aiohttp.ClientError, TimeoutError, NoToken)


class Pool(Enum):
    """The pool of connections that a request uses. Requests of one pool never wait for those of another."""

    POLLS = auto()
    WORK = auto()
    # Each of its requests has a connection of its own. Some servers close one after a stream without saying so, and the
    # next request on it would fail.
    STREAMS = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. The Authorization header, if there is one, is added when it is sent."""

    method: str
    # Sent unchanged, so it must be encoded already.
    url: str
    pool: Pool
    # The time limit for the access token, the wait for a free connection and the complete reply together.
    within: timedelta
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


class Listener(Protocol):
    """Receives the events of a stream, and decides when to stop reading."""

    def receive(self, data: bytes) -> None:
        """Take the data of one event."""
        ...

    def patience(self) -> float | None:
        """Return how many seconds to wait for more bytes, which may be infinite; None to stop reading."""
        ...


@dataclass
class Slot:
    """The turn of a reply among the large ones, from the moment when it is large until it was read."""

    _turns: asyncio.Semaphore
    _taken: bool = False

    def __enter__(self) -> Self:
        return self

    async def take(self) -> None:
        if not self._taken:
            await self._turns.acquire()
            self._taken = True

    def __exit__(self, *_: object) -> None:
        if self._taken:
            self._turns.release()


class ByteStream:
    """The body of a successful reply while it arrives. It has no limits; who reads it has them."""

    def __init__(self, content: aiohttp.StreamReader, large: Slot) -> None:
        self._content = content
        self._large = large

    async def read(self, seconds: float) -> bytes | NoAnswer:
        """Return the next bytes; none at the end. NoAnswer: it broke off, or `slow`, no byte came for so long."""
        try:
            async with asyncio.timeout(seconds):
                return await self._content.read(READ_BUFFER_BYTES)
        except _FAULTS as fault:
            reason = f"the connection broke: {type(fault).__name__}"
            return NoAnswer(reason, may_be_done=True, slow=isinstance(fault, TimeoutError))

    async def keep(self, size: int) -> None:
        """Wait for a turn among the large replies, if this one is kept in memory and as large as that."""
        if size > LARGE_BYTES:
            await self._large.take()


class Transport:
    """Sends requests to one provider, over at most `connections` connections in each pool.

    It opens by itself in the running event loop; close it in the same one. It keeps no cookies and follows no
    redirects. It ignores the proxies that the environment names, because looking for them costs more than a poll.
    """

    def __init__(self, access: Access, connections: int) -> None:
        self._access = access
        self._connections = connections
        self._sessions: dict[Pool, aiohttp.ClientSession] = {}
        self._denied = False
        self._large = asyncio.Semaphore(LARGE_REPLIES)

    async def send(self, request: Request) -> Answer | NoAnswer:
        begun = False
        try:
            ends = _ends(request)
            token = await self._access.token(ends)
            async with asyncio.timeout_at(ends), await self._reply(request, token) as reply:
                begun = True
                return self._struck(await _answer(reply, self._large))
        except _FAULTS as fault:
            return _no_answer(fault, begun=begun)

    async def listen(self, request: Request, listener: Listener) -> Answer | NoAnswer | None:
        """Pass the events of a stream to `listener` until it stops. Return the answer if it is not a stream.

        A stream that breaks after an event counts as one that ended there, so NoAnswer means that no event came.
        """
        reader, received, begun = EventReader(), False, False
        try:
            ends = _ends(request)
            token = await self._access.token(ends)
            async with asyncio.timeout_at(ends), await self._reply(request, token) as reply:
                if reply.status != 200 or reply.content_type != "text/event-stream":
                    begun = True
                    return self._struck(await _answer(reply, self._large))
                with Slot(self._large) as large:
                    async for chunk in _chunks(reply.content, listener, large):
                        for data in reader.feed(chunk):
                            received = True
                            listener.receive(self._access.struck(data))
                        if reader.count >= MAX_EVENTS:
                            break
        except _FAULTS as fault:
            return None if received else _no_answer(fault, begun=begun)
        return None

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[ByteStream | Answer | NoAnswer]:
        """Send a request, and give its reply while it arrives, or the answer if it reports no success.

        `request.within` covers the time until the headers have come, and an answer that reports no success.
        Leaving the block closes the connection.
        """
        async with AsyncExitStack() as opened:
            reply = await self._open_stream(request, opened)
            # Its body may have megabytes.
            del request
            yield reply

    async def _open_stream(self, request: Request, opened: AsyncExitStack) -> ByteStream | Answer | NoAnswer:
        begun = False
        try:
            ends = _ends(request)
            token = await self._access.token(ends)
            async with asyncio.timeout_at(ends):
                reply = await opened.enter_async_context(await self._reply(request, token))
                if 200 <= reply.status < 300:
                    return ByteStream(reply.content, opened.enter_context(Slot(self._large)))
                begun = True
                return self._struck(await _answer(reply, self._large))
        except _FAULTS as fault:
            return _no_answer(fault, begun=begun)

    async def close(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def _reply(self, request: Request, token: str | None) -> aiohttp.ClientResponse:
        """Send a request, and return its reply when the headers have arrived."""
        session = self._sessions.get(request.pool) or self._open(request.pool)
        reply = await session.request(
            request.method,
            URL(request.url, encoded=True),
            headers={**request.headers, "Authorization": f"Bearer {token}"} if token else request.headers,
            data=request.body,
            allow_redirects=False,
        )
        self._note_denial(reply.status)
        return reply

    def _struck(self, answer: Answer) -> Answer:
        body = self._access.struck(answer.body) if answer.body else answer.body
        return answer if body is answer.body else replace(answer, body=body)

    def _open(self, pool: Pool) -> aiohttp.ClientSession:
        # glibc maps a new memory area for each buffer that asyncio receives into, until a larger block has been freed.
        # That costs 10 microseconds a poll, so a larger block is freed here.
        bytes(4 * READ_BUFFER_BYTES)
        headers = CIMultiDict({"User-Agent": "baton", "Accept": "application/json"})
        headers.update(self._access.headers)
        if pool is Pool.STREAMS:
            connector = aiohttp.TCPConnector(limit=self._connections, force_close=True)
        else:
            connector = aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=KEEP_ALIVE.total_seconds()
            )
        self._sessions[pool] = session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT.total_seconds()),
            read_bufsize=READ_BUFFER_BYTES,
        )
        return session

    def _note_denial(self, status: int) -> None:
        """Log when the provider begins to refuse the credentials, and when it accepts them again.

        The cause is probably a key that was changed.
        """
        denied = status in DENIED
        if denied is not self._denied:
            self._denied = denied
            event = "provider.denied" if denied else "provider.admitted"
            named = {"provider": self._access.provider} if self._access.provider else {}
            log_event(event, level=logging.WARNING, **named, http_status=status)


def _ends(request: Request) -> float:
    """Return when the event loop's clock reaches the time limit of a request that is sent now."""
    return asyncio.get_running_loop().time() + request.within.total_seconds()


async def _answer(reply: aiohttp.ClientResponse, turns: asyncio.Semaphore) -> Answer:
    """Read an answer. Reading stops when the body is too long. A large one takes one of the `turns`."""
    limit = MAX_REPLY_BYTES if 200 <= reply.status < 300 else MAX_ERROR_BYTES
    # Unlike a join of chunks, BytesIO returns its content without a copy.
    body = io.BytesIO()
    with Slot(turns) as large:
        while chunk := await reply.content.read(READ_BUFFER_BYTES):
            body.write(chunk)
            size = body.tell()
            if size > LARGE_BYTES:
                await large.take()
            if size > limit:
                return Answer(reply.status, reply.headers, None)
    return Answer(reply.status, reply.headers, body.getvalue())


async def _chunks(content: aiohttp.StreamReader, listener: Listener, large: Slot) -> AsyncIterator[bytes]:
    """Yield the chunks of a stream until it ends, pauses for too long or is too long, or `listener` stops."""
    size = 0
    while size <= MAX_REPLY_BYTES and (seconds := listener.patience()) is not None:
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                chunk = await content.read(READ_BUFFER_BYTES)
        except TimeoutError:
            return
        if not chunk:
            return
        size += len(chunk)
        if size > LARGE_BYTES:
            await large.take()
        yield chunk


def _no_answer(fault: Exception, *, begun: bool = False) -> NoAnswer:
    """Return the outcome of a request that failed. `begun`: the answer had begun to arrive."""
    if isinstance(fault, NoToken):
        return NoAnswer(str(fault), may_be_done=False, denied=fault.refused)
    return NoAnswer(
        f"the provider gave no answer: {type(fault).__name__}",
        may_be_done=not isinstance(fault, _NOT_SENT),
        slow=begun and isinstance(fault, TimeoutError),
        timed_out=isinstance(fault, TimeoutError) and not isinstance(fault, _NOT_SENT),
    )
