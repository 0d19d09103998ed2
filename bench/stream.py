"""A response's stream as OpenAI sends it, as prepared bytes: text deltas only, without end."""

import json
from functools import cache

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


@cache
def reply(after: int, events: int) -> tuple[bytes, ...]:
    """Return an HTTP reply with so many events after the event `after`: the head, each event, the end."""
    numbers = range(after + 1, after + 1 + events)
    return (_HEAD, *(_chunk(_event(number)) for number in numbers), _LAST_CHUNK)


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
