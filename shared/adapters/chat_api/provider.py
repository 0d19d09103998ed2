"""A `ChatProvider` for chat completions: at any service that has `/chat/completions`."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

from shared.adapters.chat_api import broken
from shared.adapters.chat_api.body import Resume, chat_body
from shared.adapters.chat_api.ids import has_other_ids, with_made_ids
from shared.adapters.chat_api.reader import AnswerReader
from shared.adapters.http.access import Access, Connection
from shared.adapters.http.answer import Answer, NoAnswer
from shared.adapters.http.failures import Failures
from shared.adapters.http.transport import ByteStream, Pool, Request, Transport
from shared.environment import URL, is_url
from shared.log import log_event
from shared.ports.chat import ChatBroken, ChatEnd, ChatEvent, ChatRequest

# A connection without a byte for so long counts as dead. Azure drops one after about 230 seconds.
SILENCE = timedelta(seconds=200)
# Providers keep a connection open with comments while a request waits for its turn. It may wait for so long.
IDLE = timedelta(minutes=10)
# When the answer is complete, the usage and the end of the stream may follow within this time.
AFTER_FINISH = timedelta(seconds=10)

# The statuses with which a service refuses a field that it does not know, or what is in it.
_FIELD_REFUSED = frozenset({400, 422})
# What such an error has in it: one of these names, or what Mistral's models say of an id.
_USAGE = (b"stream_options", b"include_usage")
_OTHER_IDS = b"with a length of 9"
_HEADERS = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a provider differs from others."""

    resume: Resume = Resume.RESTART
    # Whether it repeats the text that it is to continue.
    echoes: bool = False
    # The time limits for a connection that brings nothing.
    silence: timedelta = SILENCE
    idle: timedelta = IDLE
    after_finish: timedelta = AFTER_FINISH


class ChatCompletionsProvider:
    """Sends the request of the port, and reads the answer as it is written.

    A process has one for each provider. It opens by itself in the running event loop; close it in the same one.
    """

    def __init__(
        self, connection: Connection, dialect: Dialect = Dialect(), transport: Transport | None = None
    ) -> None:
        """Raises ValueError for an address that is none."""
        if not is_url(connection.base_url):
            raise ValueError(f"the address of a provider is not {URL}")
        self._dialect = dialect
        self._access = Access(connection)
        self._transport = transport or Transport(self._access, connection.connections)
        self._url = connection.base_url.rstrip("/") + "/chat/completions"
        self._failures = Failures(to_check=connection.to_check, secret=connection.secrets)
        self._manner = _Manner()

    async def generate(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Raises ValueError for a request that no provider of this dialect may get: see `chat_body`."""
        clock = asyncio.get_running_loop().time
        ends = clock() + request.within.total_seconds()
        model, reader = request.model, self._reader(request)
        async with AsyncExitStack() as opened:
            reply = await self._reply(request, ends, opened)
            # A conversation may have megabytes, and an answer may take half an hour.
            del request
            if isinstance(reply, ByteStream):
                reading = Reading(reply, reader, self._dialect, clock, ends)
                while (outcome := reading.outcome) is None:
                    for event in await reading.next():
                        yield event
            else:
                outcome = broken.refused(self._failures, model, reply, datetime.now(UTC))
        yield outcome

    async def close(self) -> None:
        await self._transport.close()
        await self._access.close()

    async def _reply(
        self, request: ChatRequest, ends: float, opened: AsyncExitStack
    ) -> ByteStream | Answer | NoAnswer:
        first = manner = self._manner
        reply = await self._opened(self._request(request, ends, manner), opened)
        while (other := manner.other(request, reply)) is not None:
            manner = other
            reply = await self._opened(self._request(request, ends, manner), opened)
        # Some errors repeat the whole request, so that the first refusal may have had another reason.
        if manner != first and isinstance(reply, ByteStream):
            self._manner = manner
            log_event("chat.adapted", usage=manner.usage, made_ids=manner.made_ids)
        return reply

    async def _opened(self, sent: Request, opened: AsyncExitStack) -> ByteStream | Answer | NoAnswer:
        return await opened.enter_async_context(self._transport.stream(sent))

    def _request(self, request: ChatRequest, ends: float, manner: "_Manner") -> Request:
        if manner.made_ids:
            request = replace(request, messages=with_made_ids(request.messages))
        left = timedelta(seconds=max(ends - asyncio.get_running_loop().time(), 0.0))
        return Request(
            method="POST",
            url=self._url,
            pool=Pool.STREAMS,
            within=min(self._dialect.silence, left),
            headers=_HEADERS,
            body=chat_body(request, self._dialect.resume, usage=manner.usage),
        )

    def _reader(self, request: ChatRequest) -> AnswerReader:
        explain = partial(broken.reported, self._failures, request.model)
        return AnswerReader(self._access.struck, explain, request.prefix if self._dialect.echoes else "")


class Bytes(Protocol):
    """The bytes of a reply. See `ByteStream`."""

    async def read(self, seconds: float) -> bytes | NoAnswer: ...

    async def keep(self, size: int) -> None: ...


class Reading:
    """Reads the bytes of one reply, and waits for them no longer than the dialect allows."""

    def __init__(
        self,
        reply: Bytes,
        reader: AnswerReader,
        dialect: Dialect,
        clock: Callable[[], float],
        ends: float = math.inf,
    ) -> None:
        """`ends`: when nobody may wait any longer, by the clock."""
        self._reply = reply
        self._reader = reader
        self._dialect = dialect
        self._clock = clock
        self._ends = ends
        # Since when nothing of the answer came. None: something has just come.
        self._idle_since: float | None = None

    @property
    def outcome(self) -> ChatEnd | ChatBroken | None:
        return self._reader.outcome

    async def next(self) -> list[ChatEvent]:
        """Return what the next bytes bring. It may be nothing."""
        reader, finish_reason = self._reader, self._reader.finish_reason
        limit, seconds = self._patience()
        received = await self._reply.read(seconds)
        if isinstance(received, NoAnswer):
            return reader.end(self._why(received, limit))
        if not received:
            return reader.end()
        events = reader.feed(received)
        await self._reply.keep(reader.kept)
        if events or reader.finish_reason != finish_reason:
            self._idle_since = None
        return events

    def _why(self, received: NoAnswer, limit: float) -> ChatBroken:
        if not received.slow:
            return broken.cut(received.reason)
        return broken.over() if self._clock() >= self._ends else broken.stalled(limit)

    def _patience(self) -> tuple[float, float]:
        """Return the time limit of the provider that ends first, and how many seconds may be waited."""
        now, dialect = self._clock(), self._dialect
        if self._idle_since is None:
            self._idle_since = now
        finished = self._reader.finish_reason is not None
        idle = (dialect.after_finish if finished else dialect.idle).total_seconds()
        silence, left = dialect.silence.total_seconds(), self._idle_since + idle - now
        limit, seconds = (silence, silence) if silence < left else (idle, left)
        return limit, max(min(seconds, self._ends - now), 0.0)


@dataclass(frozen=True, slots=True)
class _Manner:
    """What some providers refuse, as they say when they are asked for the first time."""

    # Whether streams are asked for their usage.
    usage: bool = True
    # Whether all ids of calls have the one form that Mistral's models accept.
    made_ids: bool = False

    def other(self, request: ChatRequest, reply: ByteStream | Answer | NoAnswer) -> "_Manner | None":
        """Return how to repeat a request that was refused for its manner. None when it was not."""
        if not isinstance(reply, Answer) or reply.status not in _FIELD_REFUSED:
            return None
        body = reply.body or b""
        if self.usage and any(name in body for name in _USAGE):
            return replace(self, usage=False)
        if not self.made_ids and _OTHER_IDS in body and has_other_ids(request.messages):
            return replace(self, made_ids=True)
        return None
