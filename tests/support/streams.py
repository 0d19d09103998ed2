"""Streams of responses as providers write them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from shared.adapters.http.sse import EventReader
from shared.adapters.responses_api.interpret import Interpreter, Received
from shared.core import transcript
from shared.core.text import representable

Json = dict[str, Any]

INTERPRETER = Interpreter(to_check="", secret=None, on_unknown_status=lambda _: None)


def delta(text: str, item: int | None = 0, part: int = 0) -> Json:
    return {"type": "response.output_text.delta", **_at(item, part), "delta": text}


def item_added(kind: str, at: int | None = None, **fields: object) -> Json:
    """Return the start of an item at a place in the response. Some providers name no place."""
    return {"type": "response.output_item.added", **_at(at), "item": {"type": kind, **fields}}


def item_done(at: int | None = None) -> Json:
    return {"type": "response.output_item.done", **_at(at)}


def part_added(at: int | None = None, part: int = 0, kind: str = "output_text") -> Json:
    return {"type": "response.content_part.added", **_at(at, part), "part": {"type": kind}}


def part_done(at: int | None = None, part: int = 0) -> Json:
    return {"type": "response.content_part.done", **_at(at, part)}


def _at(item: int | None, part: int | None = None) -> Json:
    places = {"output_index": item, "content_index": part}
    return {} if item is None else {name: place for name, place in places.items() if place is not None}


def event(kind: str, **fields: object) -> Json:
    return {"type": f"response.{kind}", **fields}


def message(*texts: str) -> Json:
    content = [{"type": "output_text", "text": text} for text in texts]
    return {"type": "message", "role": "assistant", "content": content}


def refusal(text: str) -> Json:
    return {"type": "message", "content": [{"type": "refusal", "refusal": text}]}


def item_events(item: Json, at: int, texts: Sequence[Sequence[str]] = ()) -> list[Json]:
    """Return the events of an item as OpenAI writes them; `texts` are the deltas of each of its texts."""
    named = {"name": item["name"]} if "name" in item else {}
    events, deltas = [item_added(item["type"], at, **named)], iter(texts)
    for number, part in enumerate(item.get("content", ())):
        events.append(part_added(at, number, part["type"]))
        if part["type"] == "output_text":
            events += [delta(text, at, number) for text in next(deltas, [part["text"]])]
            events.append(event("output_text.done", **_at(at, number), text=part["text"]))
        else:
            events.append(event("refusal.delta", **_at(at, number), delta=part.get("refusal", "")))
        events.append(part_done(at, number))
    if item["type"] == "function_call":
        events.append(event("function_call_arguments.delta", **_at(at), delta=item["arguments"]))
    return [*events, item_done(at)]


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
    """All events of a response's stream, numbered from 0. The first has the id of the response, the last is its end."""

    events: tuple[Json, ...]
    style: Style = field(default_factory=Style)
    # Whether it names all items and parts of the finished response, one after another.
    orderly: bool = False

    @property
    def response(self) -> Json:
        """The response that the last event has."""
        return dict(self.events[-1]["response"])

    @property
    def text(self) -> str:
        """The text that the run must have in the end."""
        return self.streamed_text if self.textless else transcript.text_of(self._output)

    @property
    def textless(self) -> bool:
        """Whether its response has nothing in the place of the text that was streamed, so that this is kept."""
        return bool(self.streamed_text) and not (
            transcript.text_of(self._output) or transcript.refusal_of(self._output)
        )

    @property
    def _output(self) -> list[Json]:
        return transcript.parse(representable(json.dumps(self.response["output"], ensure_ascii=False)))

    @property
    def streamed_text(self) -> str:
        """The text of all its deltas."""
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
    orderly: bool = False,
) -> Stream:
    """Return a complete stream around `events`; its last event has the items of `output`."""

    def response(kind: str, status: str, **fields: object) -> Json:
        return event(kind, response={"id": response_id, "status": status, "output": [], **fields})

    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    kind = "failed" if status == "cancelled" else status
    events = [
        response("created", "queued"),
        response("in_progress", "in_progress"),
        *events,
        response(kind, status, output=list(output), usage=usage),
    ]
    numbered = tuple({**one, "sequence_number": number} for number, one in enumerate(events))
    return Stream(numbered, style or Style(), orderly)


def as_received(received: bytes) -> Received:
    """Return the events of the bytes that a client received."""
    return Received(EventReader().feed(received))


def cut_in_units(text: str, sizes: Iterable[int]) -> list[str]:
    """Cut a text after so many UTF-16 units each, as JavaScript does: surrogate pairs may be cut in two."""
    units, parts = text.encode("utf-16-le", "surrogatepass"), []
    for size in sizes:
        parts.append(units[: 2 * size])
        units = units[2 * size :]
    return [one.decode("utf-16-le", "surrogatepass") for one in [*parts, units]]
