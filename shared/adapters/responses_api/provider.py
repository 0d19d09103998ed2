"""A `Provider` for the Responses API: at OpenAI, at Azure OpenAI, or at any other service that has it."""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from shared.adapters.http.access import Access, Connection
from shared.adapters.http.answer import Answer, NoAnswer
from shared.adapters.http.json_body import MAX_REPLY_MARKS
from shared.adapters.http.transport import Pool, Request, Transport
from shared.adapters.responses_api.decode import is_response_id
from shared.adapters.responses_api.interpret import Interpreter, Received
from shared.core.response import (
    Absent,
    CancelReply,
    CreateReply,
    DeleteReply,
    NoStream,
    ReadReply,
    SliceReply,
    Snapshot,
)
from shared.core.structure import marks_at_most
from shared.core.text import representable
from shared.log import log_event
from shared.ports.providers import RESERVED_OPTIONS, ResponseRequest

# Each unknown status is logged once, up to this many: a provider may send a new one each time.
MAX_STATUSES_REPORTED = 100

# How many events the stream of a create may have before one that names its response.
MAX_OPENING_EVENTS = 1_000
# How many events one slice reads. The next slice reads the events that follow.
MAX_SLICE_EVENTS = 20_000

_JSON = {"Content-Type": "application/json"}
# How long an event that names another response than `response.created` may come before that one.
CREATED_PATIENCE = timedelta(seconds=1)
# The statuses with which a service refuses `include` in a read or a slice.
_INCLUDE_REFUSED = frozenset({400, 422})

# A server may answer a request for a stream with the response itself.
_STREAM = {"Accept": "text/event-stream, application/json"}


class ResponsesProvider:
    """Builds the requests of the port, sends them, and has the answers interpreted.

    A process has one. It opens by itself in the running event loop; close it in the same one.
    """

    def __init__(self, connection: Connection, transport: Transport | None = None) -> None:
        self._connection = connection
        self._access = Access(connection)
        self._transport = transport or Transport(self._access, connection.connections)
        self._responses = connection.base_url.rstrip("/") + "/responses"
        self._interpreter = Interpreter(
            to_check=connection.to_check, secret=connection.secrets, on_unknown_status=self._unknown_status
        )
        self._statuses_reported: set[str] = set()

    async def create(self, request: ResponseRequest) -> CreateReply:
        create = Request(
            method="POST",
            url=self._responses,
            pool=Pool.WORK,
            within=self._connection.create_timeout,
            headers=_create_headers(request),
            body=create_body(request),
        )
        if not request.stream:
            return self._interpreter.create(request, await self._transport.send(create), datetime.now(UTC))
        listener = _UntilCreated(self._interpreter)
        answer = await self._transport.listen(create, listener)
        return listener.named or self._interpreter.create_stream(
            request, answer, listener.error, datetime.now(UTC)
        )

    async def read(
        self, response_id: str, *, include: Sequence[str] = (), within: timedelta | None = None
    ) -> ReadReply:
        if not is_response_id(response_id):
            return Absent()
        read = self._request("GET", response_id, pool=Pool.POLLS, include=include, within=within)
        answer = await self._transport.send(read)
        if include and isinstance(answer, Answer) and answer.status in _INCLUDE_REFUSED:
            # A service may know `include` in creates only.
            read = self._request("GET", response_id, pool=Pool.POLLS, within=within)
            answer = await self._transport.send(read)
        return self._interpreter.read(response_id, answer, datetime.now(UTC))

    async def slice(self, response_id: str, after: int, *, include: Sequence[str] = ()) -> SliceReply:
        if not is_response_id(response_id):
            return NoStream()
        received = await self._received(response_id, after, include)
        if include and isinstance(received, Answer) and received.status in _INCLUDE_REFUSED:
            received = await self._received(response_id, after)
        return self._interpreter.slice(response_id, after, received, datetime.now(UTC))

    async def _received(
        self, response_id: str, after: int, include: Sequence[str] = ()
    ) -> Received | Answer | NoAnswer:
        query = f"stream=true&starting_after={after}"
        request = Request(
            method="GET",
            url=f"{self._url(response_id)}?{query}{'&' if include else ''}{_include(include)}",
            pool=Pool.POLLS,
            within=self._connection.slice_budget + self._connection.read_timeout,
            headers=_STREAM,
        )
        listener = _UntilPause(self._connection)
        answer = await self._transport.listen(request, listener)
        return Received(listener.events) if answer is None else answer

    async def cancel(self, response_id: str) -> CancelReply:
        if not is_response_id(response_id):
            return Absent()
        answer = await self._transport.send(self._request("POST", response_id, "/cancel", pool=Pool.WORK))
        return self._interpreter.cancel(response_id, answer, datetime.now(UTC))

    async def delete(self, response_id: str) -> DeleteReply:
        if not is_response_id(response_id):
            return Absent()
        answer = await self._transport.send(self._request("DELETE", response_id, pool=Pool.WORK))
        return self._interpreter.delete(answer, datetime.now(UTC))

    async def close(self) -> None:
        await self._transport.close()
        await self._access.close()

    def _request(
        self,
        method: str,
        response_id: str,
        action: str = "",
        *,
        pool: Pool,
        include: Sequence[str] = (),
        within: timedelta | None = None,
    ) -> Request:
        query = f"?{_include(include)}" if include else ""
        return Request(
            method=method,
            url=f"{self._url(response_id)}{action}{query}",
            pool=pool,
            within=within or self._connection.read_timeout,
        )

    def _url(self, response_id: str) -> str:
        return f"{self._responses}/{quote(response_id, safe='')}"

    def _unknown_status(self, status: str) -> None:
        if status not in self._statuses_reported and len(self._statuses_reported) < MAX_STATUSES_REPORTED:
            self._statuses_reported.add(status)
            log_event("response.unknown_status", level=logging.WARNING, response_status=status)


class _UntilCreated:
    """Listens until `response.created` names the response. Usually it is the first event.

    Another event that names a response counts only when `response.created` does not follow it soon.
    """

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self.named: Snapshot | None = None
        self.error: Mapping[str, Any] | None = None
        self._ends = math.inf
        self._received = self._marks = 0

    def receive(self, data: bytes) -> None:
        self._received += 1
        self._marks += marks_at_most(data)
        if self._received > MAX_OPENING_EVENTS or self._marks > MAX_REPLY_MARKS:
            self._ends = -math.inf
        if self._ends == -math.inf:
            return
        event = self._interpreter.opening(data)
        if event.created:
            self.named, self._ends = event.named, -math.inf
        elif event.named and not self.named:
            self.named, self._ends = event.named, time.monotonic() + CREATED_PATIENCE.total_seconds()
        elif event.error and not self.named and not self.error:
            # `response.created` may follow all the same.
            self.error, self._ends = event.error, time.monotonic() + CREATED_PATIENCE.total_seconds()

    def patience(self) -> float | None:
        left = self._ends - time.monotonic()
        return left if left > 0 else None


class _UntilPause:
    """Listens until the stream pauses, because all earlier events have come then, or the slice's time is over."""

    def __init__(self, connection: Connection) -> None:
        self.events: list[bytes] = []
        self._marks, self._full = 0, False
        self._pause = connection.slice_pause.total_seconds()
        self._ends = time.monotonic() + connection.slice_budget.total_seconds()

    def receive(self, data: bytes) -> None:
        self._marks += marks_at_most(data)
        if not self._full:
            self.events.append(data)
        # Parsed, all events of a slice are kept. The next slice has the others.
        self._full = len(self.events) >= MAX_SLICE_EVENTS or self._marks > MAX_REPLY_MARKS

    def patience(self) -> float | None:
        left = self._ends - time.monotonic()
        if left <= 0 or self._full:
            return None
        return min(left, self._pause) if self.events else left


def _create_headers(request: ResponseRequest) -> Mapping[str, str]:
    headers = _JSON | _STREAM if request.stream else _JSON
    key = request.idempotency_key
    return headers | {"Idempotency-Key": key} if key else headers


def _include(include: Sequence[str]) -> str:
    return "&".join(f"include[]={quote(each, safe='')}" for each in include)


def create_body(request: ResponseRequest) -> bytes:
    """Return the body of a create. Input and tools are JSON texts already, and may be megabytes long.

    Raises ValueError for an option that Baton sets itself; an `Agent` cannot have one.
    """
    if reserved := sorted(RESERVED_OPTIONS & request.options.keys()):
        raise ValueError(f"options cannot set {', '.join(reserved)}: Baton sets this itself")
    fields = dict(request.options)
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
