"""Streams of responses as providers write them, what can befall them on the way, and who reads the feed."""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from shared.adapters.http.sse import EventReader
from shared.adapters.responses_api.interpret import Interpreter, Received
from shared.core import transcript
from shared.core.text import representable
from tests.support.feed_text import text_after

Json = dict[str, Any]

INTERPRETER = Interpreter(to_check="", secret=None, on_unknown_status=lambda _: None)


def delta(text: str, item: int = 0) -> Json:
    return {"type": "response.output_text.delta", "output_index": item, "content_index": 0, "delta": text}


def begun(kind: str, **fields: object) -> Json:
    return {"type": "response.output_item.added", "item": {"type": kind, **fields}}


def event(kind: str, **fields: object) -> Json:
    return {"type": f"response.{kind}", **fields}


def message(text: str) -> Json:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def call(call_id: str, name: str, arguments: str = "{}") -> Json:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


@dataclass(frozen=True)
class Style:
    """How a provider writes an event: `newline`, `escaped` as ASCII, `indented` over several lines, with more `lines`."""

    newline: str = "\n"
    escaped: bool = False
    indented: bool = False
    space: bool = True
    lines: tuple[str, ...] = ()

    def write(self, event: Json) -> bytes:
        try:
            return self._write(event, self.escaped)
        except UnicodeEncodeError:
            # UTF-8 has no lone surrogates.
            return self._write(event, escaped=True)

    def _write(self, event: Json, escaped: bool) -> bytes:
        text = json.dumps(event, ensure_ascii=escaped, indent=1 if self.indented else None)
        data = [f"data:{' ' * self.space}{line}" for line in text.split("\n")]
        return (self.newline.join([*self.lines, f"event: {event['type']}", *data, "", ""])).encode()


@dataclass(frozen=True)
class Stream:
    """All events of a response's stream, numbered from 0, of which the first says its id and the last is its end."""

    events: tuple[Json, ...]
    style: Style = field(default_factory=Style)

    @property
    def response(self) -> Json:
        """The response as the stream ends with it."""
        return dict(self.events[-1]["response"])

    @property
    def text(self) -> str:
        """The text that the run must have in the end."""
        return transcript.output_text(representable(json.dumps(self.response["output"], ensure_ascii=False)))

    @property
    def told(self) -> str:
        """The text that its deltas come to."""
        return representable(
            "".join(one.get("delta", "") for one in self.events if one["type"] == delta("")["type"])
        )

    def after(self, sequence: int) -> tuple[Json, ...]:
        return self.events[sequence + 1 :]

    @cached_property
    def written(self) -> tuple[bytes, ...]:
        """Its events as the provider writes them."""
        return tuple(map(self.style.write, self.events))

    def write(self, events: Iterable[Json]) -> bytes:
        return b"".join(map(self.style.write, events))


def stream(
    *events: Json,
    output: Sequence[Json] = (),
    status: str = "completed",
    style: Style | None = None,
    response_id: str = "resp_1",
) -> Stream:
    """Return a whole stream around `events`; `output` are the items that its end says."""

    def says(kind: str, status: str, **fields: object) -> Json:
        return event(kind, response={"id": response_id, "status": status, "output": [], **fields})

    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    ended = "failed" if status == "cancelled" else status
    told = [
        says("created", "queued"),
        says("in_progress", "in_progress"),
        *events,
        says(ended, status, output=list(output), usage=usage),
    ]
    numbered = tuple({**one, "sequence_number": number} for number, one in enumerate(told))
    return Stream(numbered, style or Style())


def heard(received: bytes) -> Received:
    """Return what a client makes of the bytes that reached it."""
    return Received(EventReader().feed(received))


def in_units(text: str, sizes: Iterable[int]) -> list[str]:
    """Cut a text after so many UTF-16 units each, as JavaScript does: surrogate pairs may be cut in two."""
    units, pieces = text.encode("utf-16-le", "surrogatepass"), []
    for size in sizes:
        pieces.append(units[: 2 * size])
        units = units[2 * size :]
    return [piece.decode("utf-16-le", "surrogatepass") for piece in [*pieces, units]]


_ALPHABET = 'ab \n"\\<é漢\u2028\x00\U0001f680\U0001f469\u200d\U0001f680\u0301'


def some_stream(seed: random.Random) -> Stream:
    """Return a stream of messages, reasoning and calls; now and then its end says something else than it did."""
    told: list[Json] = []
    output: list[Json] = []
    for index in range(seed.choice([0, 1, 1, 1, 2, 3])):
        if seed.random() < 0.3:
            told += [begun("reasoning"), event("reasoning_text.delta", delta="hm")]
        text = "".join(seed.choices(_ALPHABET, k=seed.randrange(40)))
        pieces = in_units(text, [seed.randrange(6) for _ in range(seed.randrange(12))])
        told += [begun("message"), *(delta(piece, index) for piece in pieces), event("output_item.done")]
        output.append(message(text))
    if seed.random() < 0.3:
        told += [begun("function_call", name="pay"), event("function_call_arguments.delta", delta="{}")]
        output.append(call("call_1", "pay"))
    if seed.random() < 0.1:
        output = [message("Something else.")]
    style = Style(newline=seed.choice(["\n", "\r\n"]), escaped=seed.random() < 0.3)
    return stream(
        *told, output=output, status=seed.choice(["completed"] * 5 + ["failed", "incomplete"]), style=style
    )


def received(seed: random.Random, stream: Stream, after: int) -> bytes:
    """Return what reaches a client that takes the stream up after an event: nothing of it may be taken on trust."""
    numbers = []
    for n in range(after + 1, len(stream.events)):
        match seed.random():
            case luck if luck < 0.05:
                numbers += [n, n]
            case luck if luck < 0.15 and numbers:
                numbers.insert(-1, n)
            case luck if luck < 0.98:
                numbers.append(n)
    if seed.random() < 0.1:
        # A server that does not know starting_after.
        numbers = [*range(seed.randrange(after + 2)), *numbers]
    whole = b"".join(stream.written[n] for n in numbers)
    # Most of the bytes are those of the last event, and most slices bring a little.
    return whole[: int(len(whole) * seed.random() ** 1.5)] if seed.random() < 0.95 else whole


@dataclass
class Reader:
    """Follows a feed as a client does that knows nothing of how it is made."""

    text: str = ""
    last_id: int = 0
    replaced: int = 0
    types: list[str] = field(default_factory=list)

    def read(self, id: int, type: str, data: Json) -> None:  # noqa: A002  (as the feed calls them)
        assert id == self.last_id + 1
        self.last_id = id
        self.types.append(type)
        assert type != "text.delta" or data["text"]
        self.replaced += type == "text.replaced"
        self.text = text_after(self.text, data | {"type": type})


REFERENCES: dict[str, Stream] = {
    "plain": stream(
        begun("message"), delta("Once "), delta("upon a time"), output=[message("Once upon a time")]
    ),
    "not ASCII": stream(delta("Grüße, 漢"), delta("字 🚀"), output=[message("Grüße, 漢字 🚀")]),
    "escaped": stream(delta("Grüße 🚀"), output=[message("Grüße 🚀")], style=Style(escaped=True)),
    "a pair of surrogates in two deltas": stream(
        delta("go \ud83d"), delta("\ude80!"), output=[message("go \U0001f680!")]
    ),
    "every pair in two deltas": stream(
        *map(delta, in_units("\U0001f680" * 4, [1, 2, 2, 2])), output=[message("\U0001f680" * 4)]
    ),
    "nothing between the halves of a pair": stream(
        delta("\ud83d"), delta(""), begun("reasoning"), delta("\ude80"), output=[message("\U0001f680")]
    ),
    "halves that have no other half": stream(
        delta("a\ud83d"), delta("b\ude80"), delta("\ud83d"), output=[message("a\ud83db\ude80\ud83d")]
    ),
    "CR LF": stream(delta("a"), delta("\r\n"), output=[message("a\r\n")], style=Style(newline="\r\n")),
    "CR": stream(delta("a"), delta("b"), output=[message("ab")], style=Style(newline="\r")),
    "several items": stream(
        begun("message"),
        delta("one, "),
        begun("message"),
        delta("two", 1),
        output=[message("one, "), message("two")],
    ),
    "text and calls": stream(
        delta("Let me look."),
        begun("function_call", name="look_up", call_id="c"),
        event("function_call_arguments.delta", delta='{"topic": "ice"}'),
        output=[message("Let me look."), call("c", "look_up", '{"topic": "ice"}')],
    ),
    "calls alone": stream(begun("function_call", name="pay"), output=[call("c", "pay")]),
    "a refusal": stream(
        event("refusal.delta", delta="No."),
        output=[{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}],
    ),
    "empty deltas": stream(delta(""), delta("a"), delta(""), delta("b"), delta(""), output=[message("ab")]),
    "comments and ids": stream(
        delta("ab"),
        delta("cd"),
        output=[message("abcd")],
        style=Style(lines=(": ping", "id: 7", "retry: 10", "data", "other: data: x", ":")),
    ),
    "data of several lines": stream(
        delta("a b"), delta("c"), output=[message("a bc")], style=Style(indented=True)
    ),
    "no space after the colon": stream(delta(" a"), output=[message(" a")], style=Style(space=False)),
    "looks like the protocol": stream(
        delta("data: x\n\ndata: {}\n\n"),
        delta("\u2028\x00id: 1"),
        output=[message("data: x\n\ndata: {}\n\n\u2028\x00id: 1")],
    ),
    "reasoning and a search": stream(
        begun("reasoning"),
        event("reasoning_summary_text.delta", delta="hm"),
        begun("web_search_call"),
        event("web_search_call.searching"),
        delta("Found."),
        output=[{"type": "reasoning"}, {"type": "web_search_call"}, message("Found.")],
    ),
    "an end that says something else": stream(
        delta("draft"), delta("ed"), output=[message("The final text.")]
    ),
    "an end that says less": stream(delta("draft"), delta("ed"), output=[message("draft")]),
    "an end that says more": stream(delta("draft"), output=[message("drafted")]),
    "no deltas": stream(output=[message("All at once.")]),
    "incomplete": stream(delta("Once u"), output=[message("Once u")], status="incomplete"),
    "failed": stream(delta("Once u"), status="failed"),
    "cancelled": stream(delta("Once u"), status="cancelled"),
}
