"""A Responses API, and Chat Completions, that use almost no CPU, so that a benchmark measures their client.

`python -m bench.stub` prints `ready URL` and serves until it is ended.
A response is `queued` when created, `in_progress` for `--unchanged-polls` reads and `completed`
after that. An id that was never created is served too, because a benchmark may write its rows itself.
Each request for a stream gets the next `--events` events, and the connection is closed. A chat completion is a stream
with so many deltas of its text.
"""

import argparse
import asyncio
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from bench import stream
from bench.framing import end_of_request
from dev.processes import ChildProcess

OUTPUT_TEXT = ("Beyond the last charted star the crew heard a voice. " * 40)[:2048]
NEVER = sys.maxsize

_REQUEST = re.compile(rb"(GET|POST|DELETE) /v1/responses(?:/([^/ ?]+))?(/cancel)?(?:\?(\S*))? HTTP/1\.1\r\n")
_CHAT = b"POST /v1/chat/completions HTTP/1.1\r\n"
_RESUMED = re.compile(rb"\bstarting_after=(\d+)")
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that differs from response to response only in the id."""

    before_id: bytes
    after_id: bytes

    @classmethod
    def of(cls, status: str, **fields: Any) -> Self:
        before, after = json.dumps(_response(status) | fields).encode().split(b"RESPONSE_ID")
        return cls(before, after)

    def to(self, response_id: bytes) -> bytes:
        length = len(self.before_id) + len(response_id) + len(self.after_id)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length
        return b"".join((head, self.before_id, response_id, self.after_id))


def _response(status: str) -> dict[str, Any]:
    return {
        "id": "RESPONSE_ID",
        "object": "response",
        "created_at": 1_767_225_600,
        "status": status,
        "background": True,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "stub",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }


def _completed() -> Reply:
    text = {"type": "output_text", "text": OUTPUT_TEXT, "annotations": [], "logprobs": []}
    message = {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [text],
    }
    usage = {
        "input_tokens": 40,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 400,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 440,
    }
    return Reply.of("completed", output=[message], usage=usage)


@dataclass(slots=True)
class Stub:
    """The replies of all responses, and how often each id was read."""

    unchanged_polls: int
    delay: timedelta = timedelta()
    events: int = 0
    event_gap: timedelta = timedelta()
    queued: Reply = field(default_factory=lambda: Reply.of("queued"))
    in_progress: Reply = field(default_factory=lambda: Reply.of("in_progress"))
    completed: Reply = field(default_factory=_completed)
    cancelled: Reply = field(default_factory=lambda: Reply.of("cancelled"))
    reads: Counter[bytes] = field(default_factory=Counter)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def reply(self, request: bytes) -> bytes | Sequence[bytes]:
        if request.startswith(_CHAT):
            return stream.chat_reply(self.events)
        match = _REQUEST.match(request)
        return self.answer(*match.groups()) if match else _NOT_FOUND

    def answer(
        self, method: bytes, response_id: bytes | None, cancel: bytes | None, query: bytes | None
    ) -> bytes | Sequence[bytes]:
        """Return a reply, that of a stream as chunks. The connection is closed after a stream."""
        match method, response_id, cancel:
            case b"POST", None, None:
                return self.queued.to(b"resp_%048d" % next(self.numbers))
            case b"POST", bytes() as known, bytes():
                return self.cancelled.to(known)
            case b"GET", bytes(), None if after := _RESUMED.search(query or b""):
                return stream.reply(int(after[1]), self.events)
            case b"GET", bytes() as known, None:
                self.reads[known] += 1
                finished = self.reads[known] > self.unchanged_polls
                return (self.completed if finished else self.in_progress).to(known)
        return _NOT_FOUND


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as far as the measured clients need it."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._delay_seconds = stub.delay.total_seconds()
        self._gap_seconds = stub.event_gap.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := end_of_request(self._buffer)) is not None:
            request, self._buffer = self._buffer[:end], self._buffer[end:]
            reply = self._stub.reply(request)
            if self._delay_seconds:
                self._loop.call_later(self._delay_seconds, self._send, reply)
            else:
                self._send(reply)

    def _send(self, reply: bytes | Sequence[bytes]) -> None:
        if isinstance(reply, bytes):
            self._transport.write(reply)
        elif self._gap_seconds:
            self._send_one_by_one(iter(reply))
        else:
            self._transport.writelines(reply)
            self._transport.close()

    def _send_one_by_one(self, chunks: Iterator[bytes]) -> None:
        if chunk := next(chunks, None):
            self._transport.write(chunk)
            self._loop.call_later(self._gap_seconds, self._send_one_by_one, chunks)
        else:
            self._transport.close()


@contextmanager
def provider(
    *,
    unchanged_polls: int = NEVER,
    delay: timedelta = timedelta(),
    events: int = 0,
    event_gap: timedelta = timedelta(),
) -> Iterator[str]:
    """Run the stub during the block and yield its base URL."""
    command = [sys.executable, "-m", "bench.stub", "--unchanged-polls", str(unchanged_polls)]
    command += ["--delay-ms", str(delay / timedelta(milliseconds=1)), "--events", str(events)]
    command += ["--event-gap-ms", str(event_gap / timedelta(milliseconds=1))]
    with ChildProcess("provider stub", command, cwd=Path(__file__).parents[1]) as child:
        yield child.wait_for(r"ready (http\S+)").group(1)


async def serve(stub: Stub, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stub), "127.0.0.1", port, backlog=8192)
    print(f"ready http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stub", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--unchanged-polls", type=int, default=NEVER, help="reads before it is completed")
    parser.add_argument("--delay-ms", type=float, default=0, help="time before each answer")
    parser.add_argument("--events", type=int, default=0, help="in each reply with a stream")
    parser.add_argument("--event-gap-ms", type=float, default=0, help="time between two events")
    options = parser.parse_args()
    stub = Stub(
        options.unchanged_polls,
        timedelta(milliseconds=options.delay_ms),
        options.events,
        timedelta(milliseconds=options.event_gap_ms),
    )
    asyncio.run(serve(stub, options.port))


if __name__ == "__main__":
    main()
