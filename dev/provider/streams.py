"""Faults in a stream of server-sent events: what reaches the client of what the engine sends."""

import asyncio
import re
from collections.abc import Iterator

from dev.provider.engine import Message, Send
from dev.provider.faults import Fault

_END = b"\n\n"
_SEQUENCE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")


class ConnectionCutError(Exception):
    """The connection was closed on purpose; nothing more is to be sent."""


class SpoiledStream:
    """Passes a stream on as its fault leaves it; the first `after` events go through unharmed."""

    def __init__(self, fault: Fault, send: Send) -> None:
        self._fault = fault
        self._send = send
        self._passed = 0
        self._hit = False
        self._held = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
            return
        for event in _events(message.get("body", b"")):
            await self._pass(self._spoil(event))
        if not message.get("more_body"):
            await self._send({**message, "body": self._held})

    def _spoil(self, event: bytes) -> bytes:
        self._passed += 1
        if self._passed <= self._fault.after:
            return event
        match self._fault.kind:
            case "stream_cut" | "stream_stalls":
                return self._begun(event)
            case "stream_doubled":
                return event * 2
            case "stream_shuffled" if self._held:
                event, self._held = event + self._held, b""
                return event
            case "stream_shuffled":
                self._held = event
                return b""
            case "stream_gap" if not self._hit:
                self._hit = True
                return b""
            case _:
                return event

    def _begun(self, event: bytes) -> bytes:
        """Return as much of an event as is sent before the stream breaks off."""
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
            # The engine gives the stream up, and with it this, when the client goes.
            await asyncio.Event().wait()


def _events(body: bytes) -> Iterator[bytes]:
    """Split whole events; `body` never ends inside one."""
    for block in body.split(_END):
        if block:
            yield block + _END
