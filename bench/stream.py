"""Streams as OpenAI sends them, as prepared bytes.

That of a response has text deltas only, without end. That of a chat completion is complete.
"""

import json
from functools import cache
from typing import Any

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
_LAST_CHUNK = b"0\r\n\r\n"
_WORDS = ("Beyond", " the", " last", " charted", " star", " the", " crew", " heard", " a", " voice", ".", " ")
_TYPE = "response.output_text.delta"


def text(after: int, events: int) -> str:
    """Return the text of so many events after the event `after`."""
    return "".join(_word(number) for number in range(after + 1, after + 1 + events))


def thousands(streams: int, events: int) -> int:
    """Return how many thousand events all of the streams have."""
    whole, rest = divmod(streams * events, 1000)
    assert not rest, "figures are for each 1,000 events"
    return whole


@cache
def reply(after: int, events: int) -> tuple[bytes, ...]:
    """Return an HTTP reply with so many events after the event `after`: the head, each event, the end."""
    numbers = range(after + 1, after + 1 + events)
    return (_HEAD, *(_chunk(_event(number)) for number in numbers), _LAST_CHUNK)


@cache
def chat_reply(events: int) -> tuple[bytes, ...]:
    """Return an HTTP reply with a chat completion: the head, each of so many deltas of its text, the end."""
    deltas = (_chat_event([_choice(content=_word(number))]) for number in range(1, 1 + events))
    usage = {"prompt_tokens": 40, "completion_tokens": events, "total_tokens": 40 + events}
    return (
        _HEAD,
        _chunk(_chat_event([_choice(role="assistant", content="")])),
        *map(_chunk, deltas),
        _chunk(_chat_event([{**_choice(), "finish_reason": "stop"}])),
        _chunk(_chat_event([], usage=usage)),
        _chunk(b"data: [DONE]\n\n"),
        _LAST_CHUNK,
    )


def _choice(**delta: str) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}


def _chat_event(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
    data = {
        "id": "chatcmpl-0123456789abcdef0123456789abc",
        "object": "chat.completion.chunk",
        "created": 1_767_225_600,
        "model": "stub",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": choices,
        "usage": usage,
    }
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _event(number: int) -> bytes:
    data = {
        "type": _TYPE,
        "sequence_number": number,
        "item_id": "msg_0123456789abcdef0123456789abcdef0123456789abcdef",
        "output_index": 0,
        "content_index": 0,
        "delta": _word(number),
        "logprobs": [],
        # Padding that makes all events about as long; OpenAI sends it by default (include_obfuscation).
        "obfuscation": "x" * (12 - len(_word(number))),
    }
    return f"event: {_TYPE}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _word(number: int) -> str:
    return _WORDS[number % len(_WORDS)]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
