"""Faults in a stream of server-sent events: they change what the client receives."""

import asyncio
import re
from collections.abc import Iterator

from dev.provider.engine import Message, Send
from dev.provider.faults import Fault

_END = b"\n\n"
_SEQUENCE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")


class ConnectionCutError(Exception):
    """The connection was closed on purpose; nothing more is to be sent."""


class DamagedStream:
    """Sends a stream with its fault applied; the first `after` events are unchanged."""

    def __init__(self, fault: Fault, send: Send) -> None:
        self._fault = fault
        self._send = send
        self._passed = 0
        self._hit = False
        self._delayed = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
            return
        for event in _events(message.get("body", b"")):
            await self._pass(self._damage(event))
        if not message.get("more_body"):
            await self._send({**message, "body": self._delayed})

    def _damage(self, event: bytes) -> bytes:
        self._passed += 1
        if self._passed <= self._fault.after:
            return event
        match self._fault.kind:
            case "stream_cut" | "stream_stalls":
                return self._first_part(event)
            case "stream_doubled":
                return event * 2
            case "stream_shuffled" if self._delayed:
                event, self._delayed = event + self._delayed, b""
                return event
            case "stream_shuffled":
                self._delayed = event
                return b""
            case "stream_gap" if not self._hit:
                self._hit = True
                return b""
            case _:
                return event

    def _first_part(self, event: bytes) -> bytes:
        """Return the part of an event that is sent before the stream is cut or stalls."""
        if self._fault.kind == "stream_stalls":
            self._hit = True
            return b""
        if self._fault.inside == "event":
            self._hit = True
            return event[: len(event) // 2]
        found = _SEQUENCE.search(event)
        self._hit = found is not None
        return event if found is None else event[: found.start() + 1]

    async def _pass(self, body: bytes) -> None:
        if body:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        if self._hit and self._fault.kind == "stream_cut":
            raise ConnectionCutError
        if self._hit and self._fault.kind == "stream_stalls":
            # When the client disconnects, the engine cancels the stream, and with it this wait.
            await asyncio.Event().wait()


def _events(body: bytes) -> Iterator[bytes]:
    """Split `body` into events; it never ends inside one."""
    for block in body.split(_END):
        if block:
            yield block + _END
