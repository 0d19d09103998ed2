"""Sends the events of a chat completion, with the fault of the request."""

import asyncio
from contextlib import suppress

from dev.provider.engine import Message, Receive, Send
from dev.provider.faults import Fault
from dev.provider.streams import ConnectionCutError, DamagedStream
from dev.provider.wire import Json, encode

DONE = b"data: [DONE]\n\n"
_COMMENT = b": keep-alive\n\n"
_ERROR = {"message": "The engine failed.", "type": "server_error", "param": None, "code": "server_error"}


class StreamEndedError(Exception):
    """The stream ended early, as a fault wants it."""


class ChatStream:
    """Sends one stream. `gone` is set when the client has left."""

    def __init__(self, send: Send, fault: Fault | None, gone: asyncio.Event) -> None:
        self._fault = fault
        self._gone = gone
        self._kind = fault.kind if fault else ""
        self._send = send
        if fault is not None and self._kind == "stream_cut" and fault.bytes is None:
            self._send = DamagedStream(fault, send)
        self._events = self._bytes = 0

    async def begin(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": []})

    async def event(self, value: Json) -> None:
        """Send an event. Raises StreamEndedError where the stream is over for the client, and ConnectionCutError."""
        await self._write(b"data: " + encode(value) + b"\n\n")

    async def done(self) -> None:
        if self._kind != "chat_no_done":
            await self._write(DONE)

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, event: bytes) -> None:
        fault = self._fault
        hit = fault is not None and self._events >= fault.after
        self._events += 1
        if hit and self._kind == "stream_stalls":
            await self._gone.wait()
            raise ConnectionCutError
        if hit and self._kind == "chat_no_end":
            raise StreamEndedError
        if hit and fault is not None and self._kind == "chat_error":
            await self._body(b"data: " + encode(_error(fault)) + b"\n\n")
            raise StreamEndedError
        if hit and self._kind == "chat_comments":
            event = _COMMENT + event
        if hit and self._kind == "chat_bytes":
            for at in range(len(event)):
                await self._body(event[at : at + 1])
        else:
            await self._body(event)

    async def _body(self, body: bytes) -> None:
        if self._gone.is_set():
            raise StreamEndedError
        message: Message = {"type": "http.response.body", "body": body, "more_body": True}
        limit = self._fault.bytes if self._fault and self._kind == "stream_cut" else None
        if limit is not None and self._bytes + len(body) >= limit:
            if body := body[: limit - self._bytes]:
                await self._send({**message, "body": body})
            raise ConnectionCutError
        self._bytes += len(body)
        await self._send(message)


def _error(fault: Fault) -> Json:
    if fault.inside == "choices":
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": _ERROR}
        return {"object": "chat.completion.chunk", "choices": [choice]}
    return {"error": _ERROR}


async def watch(receive: Receive, gone: asyncio.Event) -> None:
    """Set `gone` when the client disconnects."""
    with suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
