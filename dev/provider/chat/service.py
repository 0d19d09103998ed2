"""The operation of chat completions: as a stream, or as one JSON object."""

import asyncio
import secrets
import time
from collections import deque
from typing import Any

from dev.provider.chat.answer import Writing, joined
from dev.provider.chat.request import ChatTurn, read_request
from dev.provider.chat.stream import ChatStream, StreamEndedError, watch
from dev.provider.engine import Receive, Send
from dev.provider.faults import Fault
from dev.provider.handler import Model, Pace, Writer
from dev.provider.plan import Plan
from dev.provider.wire import ApiError, Json, encode

KEPT = 10_000
"""How many requests are kept."""


class ChatService:
    """Answers in memory. Nothing is left of an answer when it was sent, or when its client has left."""

    def __init__(self, *, seconds: float, writer: Writer | None = None) -> None:
        self.requests: deque[Json] = deque(maxlen=KEPT)
        self._model = Model(_no_plan, seconds, writer)

    def admit(self, request: Any, fault: Fault | None) -> Writing:
        """Check a request, and return what is written for it. Raises ApiError."""
        turn = read_request(request)
        writing = Writing(turn, self._model, echoes=fault is not None and fault.kind == "chat_echo")
        writing.check()
        self.requests.append(request)
        return writing

    async def complete(self, writing: Writing, receive: Receive) -> bytes:
        """Return the complete answer. Raises ApiError where its turn fails."""
        gone = asyncio.Event()
        watching = asyncio.create_task(watch(receive, gone))
        try:
            deltas = [delta async for delta in writing.deltas(gone)]
        finally:
            watching.cancel()
        if (error := writing.error) is not None:
            raise ApiError(500, error["message"], code=error["code"], type=error["type"])
        choice = {
            "index": 0,
            "message": joined(deltas),
            "finish_reason": writing.finish_reason,
            "logprobs": None,
        }
        return encode({**_head(writing.turn, "chat.completion"), "choices": [choice], "usage": writing.usage})

    async def stream(self, writing: Writing, receive: Receive, send: Send, fault: Fault | None) -> None:
        gone = asyncio.Event()
        watching = asyncio.create_task(watch(receive, gone))
        stream = ChatStream(send, fault, gone)
        try:
            await stream.begin()
            await self._send(writing, stream, gone, fault.kind if fault else "")
        except StreamEndedError:
            pass
        finally:
            watching.cancel()
        await stream.end()

    async def _send(self, writing: Writing, stream: ChatStream, gone: asyncio.Event, fault: str) -> None:
        head = _head(writing.turn, "chat.completion.chunk")

        async def choose(delta: Json, finish_reason: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
            usage = {"usage": None} if writing.turn.wants_usage else {}
            await stream.event({**head, "choices": [choice], **usage})

        queued = writing.turn.plan.in_progress_at - time.time()
        if not await Pace(queued, gone).wait(1):
            return
        await choose({"role": "assistant", "content": ""})
        async for delta in writing.deltas(gone):
            await choose(delta)
        if gone.is_set():
            return
        if (error := writing.error) is not None:
            await stream.event({"error": error})
            return
        if fault != "chat_no_finish":
            await choose({}, writing.finish_reason)
        if writing.turn.wants_usage and fault != "chat_no_usage":
            await stream.event({**head, "choices": [], "usage": writing.usage})
        await stream.done()


def _head(turn: ChatTurn, kind: str) -> Json:
    plan: Plan = turn.plan
    return {
        "id": "chatcmpl-" + secrets.token_hex(12),
        "object": kind,
        "created": int(plan.created),
        "model": turn.request["model"],
    }


def _no_plan(_: str) -> Plan:
    raise LookupError("a chat completion has a plan of its own")
