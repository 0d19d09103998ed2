"""The ASGI application: routing, authentication, faults, and a record of every request."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs

from dev.provider.chat.request import chat_items
from dev.provider.chat.service import ChatService
from dev.provider.control import Control
from dev.provider.conversation import input_items
from dev.provider.engine import Message, Receive, Send
from dev.provider.faults import (
    Fault,
    FaultBook,
    RequestFacts,
    chaining_refusal,
    damage,
    error_reply,
    stream_refusal,
)
from dev.provider.idempotency import IdempotencyKeys
from dev.provider.journal import Journal, Record
from dev.provider.routes import authenticate, parse_body, route
from dev.provider.service import Service
from dev.provider.streams import ConnectionCutError, DamagedStream
from dev.provider.wire import ApiError, Reply

_WITH_BODY = frozenset({"create", "chat"})
# Faults that replace the complete reply.
_REPLACING = frozenset({"status", "junk", "override"})
_STREAM_TYPE = [(b"content-type", b"text/event-stream; charset=utf-8")]


@dataclass(frozen=True)
class Call:
    """One request to the API, parsed as far as its operation."""

    operation: str
    response_id: str | None
    query: str
    body: bytes
    receive: Receive
    send: Send
    request: Any = None
    """The parsed body of a create or a chat completion."""
    key: str | None = None
    """The Idempotency-Key."""

    @property
    def wants_stream(self) -> bool:
        if self.operation in _WITH_BODY:
            return isinstance(self.request, dict) and self.request.get("stream") is True
        return self.operation == "retrieve" and parse_qs(self.query).get("stream", [""])[-1].lower() == "true"


class Emulator:
    """The ASGI app. `cut` closes the connection of the current request without a reply."""

    def __init__(
        self, service: Service, chats: ChatService, cut: Callable[[], None], keys: IdempotencyKeys
    ) -> None:
        self._service = service
        self._chats = chats
        self._keys = keys
        self._cut = cut
        self._faults = FaultBook()
        self._journal = Journal()
        self._control = Control(service, chats, self._faults, self._journal, keys)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        body = await _read_body(receive)
        query = scope["query_string"].decode("latin-1")
        if path.startswith("/_emulator/") and ip_address(scope["client"][0]).is_loopback:
            await _send(send, await self._control.reply(method, path, query, body))
            return
        try:
            operation, response_id = route(method, path)
        except ApiError as error:
            await _send(send, error.reply())
            return
        headers = _headers(scope)
        call = Call(operation, response_id, query, body, receive, send, key=headers.get("idempotency-key"))
        record = self._journal.open(operation, response_id)
        try:
            await self._serve(call, headers, record)
        except ConnectionCutError:
            self._cut()
        finally:
            record.close()

    async def _serve(self, call: Call, headers: dict[str, str], record: Record) -> None:
        fault = None
        try:
            authenticate(headers)
            if call.operation in _WITH_BODY:
                call = replace(call, request=parse_body(call.body))
            fault = self._faults.take(self._facts(call))
            record.fault = fault.kind if fault else None
            reply = await self._before(fault, call)
            if reply is None:
                reply = await self._execute(call, fault, record)
        except ApiError as error:
            reply = error.reply()
        if reply is not None:
            await self._answer(call, reply, fault, record)

    def _facts(self, call: Call) -> RequestFacts:
        entries = self._service.ledger.entries
        if call.operation == "chat":
            messages = call.request.get("messages") if isinstance(call.request, dict) else None
            items = chat_items(messages) if isinstance(messages, list) else []
            return RequestFacts("chat", None, items, streamed=call.wants_stream)
        if call.operation != "create":
            entry = entries.get(call.response_id or "")
            conversation = entry.conversation if entry else ()
            return RequestFacts(call.operation, call.response_id, conversation, streamed=call.wants_stream)
        request = call.request if isinstance(call.request, dict) else {}
        previous = entries.get(str(request.get("previous_response_id")))
        new = request.get("input", "")
        return RequestFacts(
            "create",
            None,
            [*(previous.conversation if previous else ()), *input_items(new)],
            chained=bool(previous),
            streamed=call.wants_stream,
        )

    async def _before(self, fault: Fault | None, call: Call) -> Reply | None:
        """Apply what a fault does before the request is carried out. A reply returned here is sent instead."""
        match fault:
            case Fault(kind="status", executed=False):
                return error_reply(fault)
            case Fault(kind="slow"):
                await asyncio.sleep(fault.seconds)
            case Fault(kind="stall"):
                await _until_disconnected(call.receive)
                raise ConnectionCutError
            case Fault(kind="azure_chaining_400"):
                return chaining_refusal(input_items(call.request["input"])).reply()
            case Fault(kind="stream_refused"):
                raise stream_refusal()
            case Fault(kind="stream_ignored"):
                call.request.update(stream=False, stream_options=None)
            case Fault(kind="forget"):
                self._service.ledger.entries.pop(call.response_id or "", None)
            case Fault(kind="flip"):
                self._service.ledger.find(call.response_id or "").flipped_to = fault.to
        return None

    async def _execute(self, call: Call, fault: Fault | None, record: Record) -> Reply | None:
        """Carry out the request and return its reply, or None when the reply was streamed."""
        service, response_id = self._service, call.response_id or ""
        match call.operation:
            case "create":
                body = await self._create(call, fault, record)
                if body is None:
                    return None
            case "chat":
                writing = self._chats.admit(call.request, fault)
                if call.wants_stream and not (fault and fault.kind in _REPLACING):
                    sender = self._sender(call, fault, record)
                    await self._chats.stream(writing, call.receive, sender, fault)
                    return None
                body = await self._chats.complete(writing, call.receive)
            case "retrieve" if call.wants_stream:
                sender = self._sender(call, fault, record)
                await service.replay_stream(response_id, call.query, call.receive, sender)
                return None
            case "retrieve":
                body = await service.retrieve(response_id)
            case "cancel":
                body = await service.cancel(response_id)
            case "delete":
                body = await service.delete(response_id)
            case _:
                body = await service.input_items(response_id, call.query)
        return _after(fault, Reply(200, body))

    async def _create(self, call: Call, fault: Fault | None, record: Record) -> bytes | None:
        """Create a response, or find the one that the same create made before. None when it was streamed."""
        service = self._service
        with self._keys.using(call.key, call.body) as use:
            if use.response_id is not None:
                record.response_id = use.response_id
                if not call.wants_stream:
                    return await service.retrieve(use.response_id)
                sender = self._sender(call, fault, record)
                await service.replay_stream(use.response_id, "stream=true", call.receive, sender)
                return None
            entry = await service.admit(call.request)
            record.response_id = entry.id
            self._journal.created += 1
            if not call.wants_stream:
                body = await service.create(entry)
                use.response_id = entry.id
                return body
            use.response_id = entry.id
            await service.create_stream(entry, call.receive, self._sender(call, fault, record))
            return None

    def _sender(self, call: Call, fault: Fault | None, record: Record) -> Send:
        """Return what sends a stream: unchanged, or as the fault changes it."""

        async def send(message: Message) -> None:
            if fault is not None and fault.kind == "lost_reply":
                # The engine begins with the first event, not with the head, so the connection is cut only then.
                if message["type"] == "http.response.body":
                    raise ConnectionCutError
                return
            if message["type"] == "http.response.start":
                record.status = message["status"]
                if message["status"] == 200:
                    message = {**message, "headers": _STREAM_TYPE + _identity(record)}
            await call.send(message)
            if fault is not None and fault.kind == "cut" and message["type"] == "http.response.body":
                raise ConnectionCutError

        if fault is not None and fault.kind.startswith("stream_") and call.operation != "chat":
            return DamagedStream(fault, send)
        return send

    async def _answer(self, call: Call, reply: Reply, fault: Fault | None, record: Record) -> None:
        kind = fault.kind if fault else None
        if kind == "lost_reply":
            raise ConnectionCutError
        record.status = reply.status
        if kind == "cut":
            await _send(call.send, reply, _identity(record), upto=len(reply.body) // 2)
            raise ConnectionCutError
        await _send(call.send, reply, _identity(record))


def _after(fault: Fault | None, reply: Reply) -> Reply:
    match fault:
        case Fault(kind="status"):
            return error_reply(fault)
        case Fault(kind="junk" | "override"):
            return damage(fault, reply)
        case _:
            return reply


def _headers(scope: Any) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _identity(record: Record) -> list[tuple[bytes, bytes]]:
    took = int((time.monotonic() - record.started) * 1000)
    return [
        (b"x-request-id", record.request_id.encode()),
        (b"openai-version", b"2020-10-01"),
        (b"openai-processing-ms", str(took).encode()),
    ]


async def _send(
    send: Send, reply: Reply, extra: list[tuple[bytes, bytes]] | None = None, *, upto: int | None = None
) -> None:
    """Send a reply, or only the first `upto` bytes of its body."""
    headers = {"content-type": "application/json", **reply.headers, "content-length": str(len(reply.body))}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": pairs + (extra or [])})
    await send({"type": "http.response.body", "body": reply.body[:upto], "more_body": upto is not None})


async def _read_body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
