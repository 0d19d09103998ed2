"""Streams of responses as providers write them, what can befall them on the way, and who reads the feed."""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from shared.adapters.http.sse import EventReader
from shared.adapters.responses_api.interpret import Interpreter, Received
from shared.core import log, transcript
from shared.core.log import LogEntry, LogLine
from shared.core.response import Slice, Snapshot, StreamChange
from shared.core.text import representable
from shared.steps.poll import poll
from shared.usecases.feed import read_feed
from tests.support.feed_text import text_after
from tests.support.world import CALLER, World

Json = dict[str, Any]

INTERPRETER = Interpreter(to_check="", secret=None, on_unknown_status=lambda _: None)


def delta(text: str, item: int | None = 0, part: int = 0) -> Json:
    return {"type": "response.output_text.delta", **_at(item, part), "delta": text}


def begun(kind: str, at: int | None = None, **fields: object) -> Json:
    """Say that an item has started, at a place in the response or, as some providers do, at none."""
    return {"type": "response.output_item.added", **_at(at), "item": {"type": kind, **fields}}


def ended(at: int | None = None) -> Json:
    return {"type": "response.output_item.done", **_at(at)}


def part_begun(at: int | None = None, part: int = 0, kind: str = "output_text") -> Json:
    return {"type": "response.content_part.added", **_at(at, part), "part": {"type": kind}}


def part_ended(at: int | None = None, part: int = 0) -> Json:
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


def told_item(item: Json, at: int, pieces: Sequence[Sequence[str]] = ()) -> list[Json]:
    """Return the events of an item as OpenAI writes them; `pieces` are the deltas of each of its texts."""
    named = {"name": item["name"]} if "name" in item else {}
    told, deltas = [begun(item["type"], at, **named)], iter(pieces)
    for number, part in enumerate(item.get("content", ())):
        told.append(part_begun(at, number, part["type"]))
        if part["type"] == "output_text":
            told += [delta(piece, at, number) for piece in next(deltas, [part["text"]])]
            told.append(event("output_text.done", **_at(at, number), text=part["text"]))
        else:
            told.append(event("refusal.delta", **_at(at, number), delta=part.get("refusal", "")))
        told.append(part_ended(at, number))
    if item["type"] == "function_call":
        told.append(event("function_call_arguments.delta", **_at(at), delta=item["arguments"]))
    return [*told, ended(at)]


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
    # Whether it names all its items and parts, one after another, as they are in the end.
    orderly: bool = False

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
    orderly: bool = False,
) -> Stream:
    """Return a whole stream around `events`; `output` are the items that its end says."""

    def says(kind: str, status: str, **fields: object) -> Json:
        return event(kind, response={"id": response_id, "status": status, "output": [], **fields})

    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    kind = "failed" if status == "cancelled" else status
    told = [
        says("created", "queued"),
        says("in_progress", "in_progress"),
        *events,
        says(kind, status, output=list(output), usage=usage),
    ]
    numbered = tuple({**one, "sequence_number": number} for number, one in enumerate(told))
    return Stream(numbered, style or Style(), orderly)


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
    output = [_some_item(seed) for _ in range(seed.choice([0, 1, 1, 1, 2, 3]))]
    if seed.random() < 0.3:
        output.append(call("call_1", "pay"))
    each = [told_item(item, at, _some_pieces(seed, item)) for at, item in enumerate(output)]
    told, orderly = _some_order(seed, each)
    if seed.random() < 0.1:
        output, orderly = [message("Something else.")], False
    return stream(
        *told,
        output=output,
        status=seed.choice(["completed"] * 5 + ["failed", "incomplete"]),
        style=Style(newline=seed.choice(["\n", "\r\n"]), escaped=seed.random() < 0.3),
        orderly=orderly,
    )


def _some_item(seed: random.Random) -> Json:
    match seed.random():
        case luck if luck < 0.15:
            return {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}
        case luck if luck < 0.2:
            return refusal("No.")
    texts = ("".join(seed.choices(_ALPHABET, k=seed.randrange(60))) for _ in range(seed.choice([1, 1, 1, 2])))
    return message(*texts)


def _some_pieces(seed: random.Random, item: Json) -> list[list[str]]:
    texts = [part["text"] for part in item.get("content", ()) if part["type"] == "output_text"]
    return [in_units(text, [seed.randrange(6) for _ in range(seed.randrange(16))]) for text in texts]


_DELTA = "response.output_text.delta"


def _some_order(seed: random.Random, each: list[list[Json]]) -> tuple[list[Json], bool]:
    """Return the events of some items as one of many providers writes them, and whether that is as it should be."""
    told = [one for events in each for one in events]
    match seed.random():
        case luck if luck < 0.45:
            return told, True
        case luck if luck < 0.55:
            return [_without_places(one) for one in told], False
        case luck if luck < 0.65:
            return [one for one in told if one["type"] == _DELTA], False
        case luck if luck < 0.75:
            return [one for one in told if one["type"] == _DELTA or seed.random() < 0.7], False
        case luck if luck < 0.85:
            return [
                one for one in told for _ in range(1 if one["type"] == _DELTA else seed.choice([1, 2]))
            ], False
        case luck if luck < 0.9:
            return [_without_places(one) if seed.random() < 0.3 else one for one in told], False
        case luck if luck < 0.95:
            return list(_interleaved(seed, each)), False
    # Text comes before its item, or after it.
    return sorted(told, key=lambda one: seed.random() if one["type"] != _DELTA else 0.5), False


def _without_places(event: Json) -> Json:
    return {name: value for name, value in event.items() if name not in {"output_index", "content_index"}}


def _interleaved(seed: random.Random, each: list[list[Json]]) -> Iterator[Json]:
    left = [list(events) for events in each if events]
    while left:
        events = seed.choice(left)
        yield events.pop(0)
        left = [events for events in left if events]


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
class ItemsSeen:
    """Sees that items and parts start once, end once and lie in one another, and that text lies in an open part."""

    # Items and parts that go beyond a limit have no place of their own for their text.
    strict: bool = True
    turn: int = 0
    # What has started in the run.
    items: list[log.ItemStarted] = field(default_factory=list)
    parts: list[log.PartStarted] = field(default_factory=list)
    # What has started and not ended: the parts of each item so far, and whether the last of them is open.
    open: dict[int, tuple[int, bool]] = field(default_factory=dict)
    # The text of each part, by item and part.
    texts: dict[tuple[int, int], str] = field(default_factory=dict)

    def see(self, entry: LogEntry, text: str = "") -> None:
        match entry:
            case log.TurnStarted(turn):
                assert not self.open
                self.turn = turn
            case log.ItemStarted(turn, item):
                assert (turn, item) == (self.turn, len(self.items))
                self.items.append(entry)
                self.open[item] = 0, False
            case log.ItemCompleted(turn, item):
                assert turn == self.turn
                _, part_open = self.open.pop(item)
                assert not part_open
            case log.PartStarted(turn, item, part):
                assert (turn, self.open[item]) == (self.turn, (part, False))
                self.parts.append(entry)
                self.open[item] = part + 1, True
            case log.PartCompleted(turn, item, part):
                assert (turn, self.open[item]) == (self.turn, (part + 1, True))
                self.open[item] = part + 1, False
            case log.TextDelta(turn, item, part):
                self._see_text(entry, text)
            case log.RunEnded() | log.TurnCompleted():
                assert not self.open

    def _see_text(self, entry: log.TextDelta, text: str) -> None:
        assert entry.turn == self.turn
        assert len(text) == entry.end - entry.start > 0
        assert not self.strict or self.open.get(entry.item) == (entry.part + 1, True)
        place = entry.item, entry.part
        self.texts[place] = self.texts.get(place, "") + text


@dataclass
class Reader:
    """Follows a feed as a client does that knows nothing of how it is made."""

    text: str = ""
    last_id: int = 0
    replaced: int = 0
    types: list[str] = field(default_factory=list)
    seen: ItemsSeen = field(default_factory=ItemsSeen)

    def read(self, id: int, type: str, data: Json) -> None:  # noqa: A002  (as the feed calls them)
        assert id == self.last_id + 1
        self.last_id = id
        self.types.append(type)
        assert type != "text.delta" or data["text"]
        self.replaced += type == "text.replaced"
        self.text = text_after(self.text, data | {"type": type})

    def read_line(self, line: LogLine) -> None:
        self.seen.see(line.entry, line.text)
        self.read(line.number, line.entry.type, {"text": line.text})


async def follow(world: World, run_id: str, reader: Reader | None = None, limit: int = 1000) -> Reader:
    """Read the feed on from where a reader is, to its end."""
    reader, more = reader or Reader(), True
    while more:
        feed = await read_feed(world.context, CALLER, run_id, after=reader.last_id, limit=limit)
        for line in feed.lines:
            reader.read_line(line)
        more = feed.more
        assert feed.last_number == reader.last_id
    return reader


async def brings(world: World, *changes: StreamChange, final: Snapshot | None = None) -> None:
    """Let the stream of the one run that is owed a poll bring something."""
    [owed] = await world.owed()
    response_id, after = owed.continuation.response_id, owed.continuation.sequence
    sequence = after + bool(changes)
    world.provider.slice_replies = [
        Slice(response_id=response_id, after=after, sequence=sequence, changes=changes, final=final)
    ]
    for one in await poll(world.context, owed):
        await world.work(one)


def _as_openai_writes_it(*output: Json) -> Stream:
    told = [one for at, item in enumerate(output) for one in told_item(item, at)]
    return stream(*told, output=output, orderly=True)


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
        output=[refusal("No.")],
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
    "as OpenAI writes it": _as_openai_writes_it(
        {"type": "reasoning"}, message("Let me ", "look. "), call("c", "look_up"), message("Found.")
    ),
    "a refusal among texts": _as_openai_writes_it(
        {
            "type": "message",
            "content": [
                {"type": "output_text", "text": "I could, "},
                {"type": "refusal", "refusal": "No."},
                {"type": "output_text", "text": "but no."},
            ],
        }
    ),
    "a part of reasoning": _as_openai_writes_it(
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}, message("Yes.")
    ),
    "two items at once": stream(
        begun("message", 0),
        delta("a"),
        begun("message", 1),
        delta("b", 1),
        delta("a"),
        ended(0),
        delta("b", 1),
        ended(1),
        output=[message("aa"), message("bb")],
    ),
    "no places": stream(
        *map(_without_places, [*told_item(message("one", ", "), 0), *told_item(message("two"), 1)]),
        output=[message("one", ", "), message("two")],
    ),
    "items that never end": stream(
        begun("reasoning", 0),
        begun("message", 1),
        part_begun(1),
        delta("a", 1),
        part_begun(1, 1),
        delta("b", 1, 1),
        output=[{"type": "reasoning"}, message("a", "b")],
    ),
    "everything ends twice": stream(
        begun("message", 0),
        part_begun(0),
        delta("a"),
        *[part_ended(0)] * 2,
        *[ended(0)] * 2,
        begun("message", 1),
        delta("b", 1),
        *[ended(1)] * 2,
        output=[message("a"), message("b")],
    ),
    "everything begins twice": stream(
        *[begun("message", 0)] * 2,
        *[part_begun(0)] * 2,
        delta("a"),
        ended(0),
        begun("message", 0),
        output=[message("a")],
    ),
    "text after its item": stream(
        *told_item(message("a"), 0),
        delta("b"),
        *told_item(message("c"), 1),
        output=[message("ab"), message("c")],
    ),
    "text after its part": stream(
        begun("message", 0),
        part_begun(0),
        delta("a"),
        part_ended(0),
        delta("b"),
        ended(0),
        output=[message("ab")],
    ),
    "an item longer in the end than when it ended": stream(
        *told_item(message("a"), 0), output=[message("ab"), call("c", "pay")]
    ),
    "items in the wrong order": stream(
        begun("message", 3),
        delta("a", 3),
        begun("message", 1),
        delta("b", 1),
        ended(3),
        delta("c", 0),
        output=[message("a"), message("b"), message("c")],
    ),
    "a place that nothing has": stream(
        begun("message", 9999), delta("a", 10_000), delta("b", -1), output=[message("ab")]
    ),
}
