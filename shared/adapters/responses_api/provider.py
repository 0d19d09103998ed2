"""OpenAI's Responses API, at OpenAI, at Azure OpenAI, or wherever else it is spoken, as a `Provider`."""

import asyncio
import json
import logging
import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import aiohttp
from yarl import URL

from shared.adapters.http.access import Access, Connection, NoToken
from shared.adapters.http.sse import EventReader
from shared.adapters.responses_api.decode import is_response_id
from shared.adapters.responses_api.interpret import MAX_REPLY_BYTES, Answer, Heard, Interpreter, NoAnswer
from shared.agent import RESERVED_OPTIONS
from shared.core.response import (
    Absent,
    CancelReply,
    CreateReply,
    DeleteReply,
    NoStream,
    ReadReply,
    SliceReply,
)
from shared.core.text import representable
from shared.log import log_event
from shared.ports.providers import ResponseRequest

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONNECT_TIMEOUT = timedelta(seconds=5)
# Longer than most pauses between two ticks, so that a tick finds its connections open.
KEEP_ALIVE = timedelta(seconds=60)
# Larger than most replies, so that they are read in one piece.
READ_BUFFER_BYTES = 1024 * 1024
# Of each unknown status one word is said, up to this many: a provider may make up a new one each time.
MAX_STATUSES_REPORTED = 100

# Faults after which no byte of a request can have reached the provider.
_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
# What runs stand on, and what would make a reply something else than one background response.
_NOT_OPTIONS = RESERVED_OPTIONS | {"stream_options"}


class ResponsesProvider:
    """One for each process. It opens by itself in the running event loop; close it in the same one.

    Reads and streams go over aiohttp itself. They are what a tick consists of, and the SDK, which is used for everything
    else, makes a read cost four times as much: docs/decisions/0006-lean-polls.md. Proxies that the
    environment names are used by neither: looking for them costs more than a read.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._access = Access(connection)
        self._responses = connection.base_url.rstrip("/") + "/responses"
        self._interpreter = Interpreter(
            to_check=connection.to_check, secret=connection.api_key, on_unknown_status=self._unknown_status
        )
        self._session: aiohttp.ClientSession | None = None
        self._sdk: AsyncOpenAI | None = None
        self._statuses_reported: set[str] = set()
        self._denied = False

    async def create(self, request: ResponseRequest) -> CreateReply:
        timeout, body = self._connection.create_timeout, create_body(request)
        if request.stream:
            until = _Created(self._interpreter)
            heard = await self._listen("POST", self._responses, timeout, until, body)
            return self._interpreter.create_stream(request, heard, datetime.now(UTC))
        answer = await self._send("POST", "/responses", timeout, body)
        return self._interpreter.create(request, answer, datetime.now(UTC))

    async def read(self, response_id: str) -> ReadReply:
        if not is_response_id(response_id):
            return Absent()
        answer = await self._get(f"{self._responses}/{response_id}")
        return self._interpreter.read(response_id, answer, datetime.now(UTC))

    async def slice(self, response_id: str, after: int) -> SliceReply:
        if not is_response_id(response_id):
            return NoStream()
        url = f"{self._responses}/{response_id}?stream=true&starting_after={after}"
        within = self._connection.slice_budget + self._connection.read_timeout
        heard = await self._listen("GET", url, within, _Slice(self._connection))
        return self._interpreter.slice(response_id, after, heard, datetime.now(UTC))

    async def cancel(self, response_id: str) -> CancelReply:
        if not is_response_id(response_id):
            return Absent()
        answer = await self._send("POST", f"/responses/{response_id}/cancel", self._connection.read_timeout)
        return self._interpreter.cancel(response_id, answer, datetime.now(UTC))

    async def delete(self, response_id: str) -> DeleteReply:
        if not is_response_id(response_id):
            return Absent()
        answer = await self._send("DELETE", f"/responses/{response_id}", self._connection.read_timeout)
        return self._interpreter.delete(answer, datetime.now(UTC))

    async def close(self) -> None:
        session, self._session = self._session, None
        sdk, self._sdk = self._sdk, None
        if session:
            await session.close()
        if sdk:
            await sdk.close()
        await self._access.close()

    async def _get(self, url: str) -> Answer | NoAnswer:
        session = self._session or self._open_session()
        try:
            headers = {"Authorization": f"Bearer {await self._access.token()}"}
            async with session.get(URL(url, encoded=True), headers=headers, allow_redirects=False) as reply:
                answer = Answer(reply.status, reply.headers, await _body(reply))
        except (aiohttp.ClientError, TimeoutError, NoToken) as fault:
            return _no_answer(fault)
        self._note_denial(answer)
        return answer

    async def _listen(
        self, method: str, url: str, within: timedelta, until: "_Until", body: bytes | None = None
    ) -> Heard | Answer | NoAnswer:
        """Return the events of a stream `until` it is enough, or the answer when it is no stream."""
        session = self._session or self._open_session()
        limits = aiohttp.ClientTimeout(
            total=within.total_seconds(), sock_connect=CONNECT_TIMEOUT.total_seconds()
        )
        events: list[bytes] = []
        try:
            headers = {
                "Authorization": f"Bearer {await self._access.token()}",
                "Accept": "text/event-stream, application/json",
                "Content-Type": "application/json",
            }
            async with session.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                timeout=limits,
            ) as reply:
                if reply.status != 200 or reply.content_type != "text/event-stream":
                    answer = Answer(reply.status, reply.headers, await _body(reply))
                    self._note_denial(answer)
                    return answer
                await _hear(reply.content, until, events)
        except (aiohttp.ClientError, TimeoutError, NoToken) as fault:
            # What came before is as good as if the stream had ended there.
            return Heard(events) if events else _no_answer(fault)
        return Heard(events)

    async def _send(
        self, method: str, path: str, within: timedelta, body: bytes | None = None
    ) -> Answer | NoAnswer:
        # Slow to import, and not needed for reads.
        import httpx2  # noqa: PLC0415
        import openai  # noqa: PLC0415

        sdk = self._sdk or self._open_sdk()
        # Else the SDK would take these two from the environment, and reads would go out without them.
        headers: dict[str, str | openai.Omit] = {
            "OpenAI-Organization": openai.Omit(),
            "OpenAI-Project": openai.Omit(),
        }
        if body:
            headers["Content-Type"] = "application/json"
        send = sdk.post if method == "POST" else sdk.delete
        try:
            async with asyncio.timeout(within.total_seconds()):
                reply = await send(path, content=body, cast_to=httpx2.Response, options={"headers": headers})
        except openai.APIStatusError as refusal:
            reply = refusal.response
        except (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, TimeoutError, NoToken) as fault:
            return _no_answer(fault)
        content = reply.content
        answer = Answer(
            reply.status_code, reply.headers, content if len(content) <= MAX_REPLY_BYTES else None
        )
        self._note_denial(answer)
        return answer

    def _open_session(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connection.connections, keepalive_timeout=KEEP_ALIVE.total_seconds()
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "baton"},
            timeout=aiohttp.ClientTimeout(
                total=self._connection.read_timeout.total_seconds(),
                sock_connect=CONNECT_TIMEOUT.total_seconds(),
            ),
            read_bufsize=READ_BUFFER_BYTES,
        )
        return self._session

    def _open_sdk(self) -> "AsyncOpenAI":
        import httpx2  # noqa: PLC0415
        import openai  # noqa: PLC0415

        total, connect = self._connection.create_timeout.total_seconds(), CONNECT_TIMEOUT.total_seconds()
        self._sdk = openai.AsyncOpenAI(
            base_url=self._connection.base_url,
            api_key=self._access.token,
            # A repeated create would start the work a second time.
            max_retries=0,
            timeout=httpx2.Timeout(total, connect=connect),
            http_client=openai.DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=self._connection.connections),
                trust_env=False,
                follow_redirects=False,
            ),
        )
        return self._sdk

    def _note_denial(self, answer: Answer) -> None:
        """Say when the provider begins to turn us away, and when it stops: probably a key was changed."""
        if answer.denied is not self._denied:
            self._denied = answer.denied
            event = "provider.denied" if answer.denied else "provider.admitted"
            log_event(event, level=logging.WARNING, http_status=answer.status)

    def _unknown_status(self, status: str) -> None:
        if status not in self._statuses_reported and len(self._statuses_reported) < MAX_STATUSES_REPORTED:
            self._statuses_reported.add(status)
            log_event("response.unknown_status", level=logging.WARNING, response_status=status[:64])


class _Until(Protocol):
    """When to stop listening."""

    def wait(self, heard: Sequence[bytes]) -> float | None:
        """Return how many seconds to wait for more after the events `heard`; None when they are enough."""
        ...


class _Created:
    """Until an event says which response was created: mostly the first."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter

    def wait(self, heard: Sequence[bytes]) -> float | None:
        return None if any(map(self._interpreter.created, heard)) else math.inf


class _Slice:
    """Until the stream has caught up, which a pause shows, or the time for a slice is over."""

    def __init__(self, connection: Connection) -> None:
        self._pause = connection.slice_pause.total_seconds()
        self._ends = time.monotonic() + connection.slice_budget.total_seconds()

    def wait(self, heard: Sequence[bytes]) -> float | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            return None
        return min(left, self._pause) if heard else left


async def _hear(content: aiohttp.StreamReader, until: _Until, events: list[bytes]) -> None:
    reader, size = EventReader(), 0
    while size <= MAX_REPLY_BYTES and (seconds := until.wait(events)) is not None:
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                piece = await content.readany()
        except TimeoutError:
            return
        if not piece:
            return
        size += len(piece)
        events += reader.feed(piece)


def create_body(request: ResponseRequest) -> bytes:
    """Return the body of a create. Input and tools are texts of JSON already, and may be megabytes."""
    fields = {name: value for name, value in request.options.items() if name not in _NOT_OPTIONS}
    fields |= {
        "model": request.model,
        "instructions": request.instructions,
        "background": True,
        "store": True,
        "metadata": {"baton_run": request.run_id, "baton_turn": str(request.turn)},
    }
    if request.stream:
        fields["stream"] = True
    if request.previous_response_id:
        fields["previous_response_id"] = request.previous_response_id
    head = json.dumps(fields, ensure_ascii=False)
    return representable(f'{head[:-1]}, "input": {request.input}, "tools": {request.tools}}}').encode()


async def _body(reply: aiohttp.ClientResponse) -> bytes | None:
    """Return the body, or None once it is too long; the rest is then not read."""
    pieces, size = [], 0
    while piece := await reply.content.readany():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_REPLY_BYTES:
            return None
    return b"".join(pieces)


def _no_answer(fault: BaseException) -> NoAnswer:
    if isinstance(fault, NoToken):
        return NoAnswer(str(fault), may_be_done=False, denied=fault.refused)
    # The SDK wraps what its transport raised, which wraps what aiohttp raised.
    chain = [fault]
    while cause := chain[-1].__cause__:
        chain.append(cause)
    found = next((one for one in chain if isinstance(one, aiohttp.ClientError)), fault)
    return NoAnswer(f"no answer: {type(found).__name__}", may_be_done=not isinstance(found, _NOT_SENT))
