"""Streams to test with: one of each kind, and random ones."""

import random
from collections.abc import Iterator

from tests.support.streams import (
    Json,
    Stream,
    Style,
    call,
    cut_in_units,
    delta,
    event,
    item_added,
    item_done,
    item_events,
    message,
    part_added,
    part_done,
    refusal,
    stream,
)

_ALPHABET = 'ab \n"\\<é漢\u2028\x00\U0001f680\U0001f469\u200d\U0001f680\u0301'


def random_stream(seed: random.Random) -> Stream:
    """Return a stream of messages, reasoning and calls. Sometimes its end has another text than its deltas."""
    output = [_some_item(seed) for _ in range(seed.choice([0, 1, 1, 1, 2, 3]))]
    if seed.random() < 0.3:
        output.append(call("call_1", "pay"))
    each = [item_events(item, at, _some_pieces(seed, item)) for at, item in enumerate(output)]
    events, orderly = _some_order(seed, each)
    if seed.random() < 0.1:
        output, orderly = [message("Something else.")], False
    return stream(
        *events,
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
    return [cut_in_units(text, [seed.randrange(6) for _ in range(seed.randrange(16))]) for text in texts]


_DELTA = "response.output_text.delta"


def _some_order(seed: random.Random, each: list[list[Json]]) -> tuple[list[Json], bool]:
    """Return the events of some items in the order of one of many providers, and whether that order is right."""
    events = [one for events in each for one in events]
    match seed.random():
        case luck if luck < 0.45:
            return events, True
        case luck if luck < 0.55:
            return [_without_places(one) for one in events], False
        case luck if luck < 0.65:
            return [one for one in events if one["type"] == _DELTA], False
        case luck if luck < 0.75:
            return [one for one in events if one["type"] == _DELTA or seed.random() < 0.7], False
        case luck if luck < 0.85:
            return [
                one for one in events for _ in range(1 if one["type"] == _DELTA else seed.choice([1, 2]))
            ], False
        case luck if luck < 0.9:
            return [_without_places(one) if seed.random() < 0.3 else one for one in events], False
        case luck if luck < 0.95:
            return list(_interleaved(seed, each)), False
    # Text comes before its item, or after it.
    return sorted(events, key=lambda one: seed.random() if one["type"] != _DELTA else 0.5), False


def _without_places(event: Json) -> Json:
    return {name: value for name, value in event.items() if name not in {"output_index", "content_index"}}


def _interleaved(seed: random.Random, each: list[list[Json]]) -> Iterator[Json]:
    left = [list(events) for events in each if events]
    while left:
        events = seed.choice(left)
        yield events.pop(0)
        left = [events for events in left if events]


def damaged(seed: random.Random, stream: Stream, after: int) -> bytes:
    """Return the bytes that a client receives after an event: events may be missing, doubled, swapped or cut."""
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
    complete = b"".join(stream.written[n] for n in numbers)
    # The last event has most of the bytes, and most slices are short.
    return complete[: int(len(complete) * seed.random() ** 1.5)] if seed.random() < 0.95 else complete


def _as_openai_writes_it(*output: Json) -> Stream:
    events = [one for at, item in enumerate(output) for one in item_events(item, at)]
    return stream(*events, output=output, orderly=True)


REFERENCES: dict[str, Stream] = {
    "plain": stream(
        item_added("message"), delta("Once "), delta("upon a time"), output=[message("Once upon a time")]
    ),
    "not ASCII": stream(delta("Grüße, 漢"), delta("字 🚀"), output=[message("Grüße, 漢字 🚀")]),
    "escaped": stream(delta("Grüße 🚀"), output=[message("Grüße 🚀")], style=Style(escaped=True)),
    "a pair of surrogates in two deltas": stream(
        delta("go \ud83d"), delta("\ude80!"), output=[message("go \U0001f680!")]
    ),
    "every pair in two deltas": stream(
        *map(delta, cut_in_units("\U0001f680" * 4, [1, 2, 2, 2])), output=[message("\U0001f680" * 4)]
    ),
    "nothing between the halves of a pair": stream(
        delta("\ud83d"), delta(""), item_added("reasoning"), delta("\ude80"), output=[message("\U0001f680")]
    ),
    "halves that have no other half": stream(
        delta("a\ud83d"), delta("b\ude80"), delta("\ud83d"), output=[message("a\ud83db\ude80\ud83d")]
    ),
    "CR LF": stream(delta("a"), delta("\r\n"), output=[message("a\r\n")], style=Style(newline="\r\n")),
    "CR": stream(delta("a"), delta("b"), output=[message("ab")], style=Style(newline="\r")),
    "several items": stream(
        item_added("message"),
        delta("one, "),
        item_added("message"),
        delta("two", 1),
        output=[message("one, "), message("two")],
    ),
    "text and calls": stream(
        delta("Let me look."),
        item_added("function_call", name="look_up", call_id="c"),
        event("function_call_arguments.delta", delta='{"topic": "ice"}'),
        output=[message("Let me look."), call("c", "look_up", '{"topic": "ice"}')],
    ),
    "calls alone": stream(item_added("function_call", name="pay"), output=[call("c", "pay")]),
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
        item_added("reasoning"),
        event("reasoning_summary_text.delta", delta="hm"),
        item_added("web_search_call"),
        event("web_search_call.searching"),
        delta("Found."),
        output=[{"type": "reasoning"}, {"type": "web_search_call"}, message("Found.")],
    ),
    "an end with another text": stream(delta("draft"), delta("ed"), output=[message("The final text.")]),
    "an end with less text": stream(delta("draft"), delta("ed"), output=[message("draft")]),
    "an end with more text": stream(delta("draft"), output=[message("drafted")]),
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
        item_added("message", 0),
        delta("a"),
        item_added("message", 1),
        delta("b", 1),
        delta("a"),
        item_done(0),
        delta("b", 1),
        item_done(1),
        output=[message("aa"), message("bb")],
    ),
    "no places": stream(
        *map(_without_places, [*item_events(message("one", ", "), 0), *item_events(message("two"), 1)]),
        output=[message("one", ", "), message("two")],
    ),
    "items that never end": stream(
        item_added("reasoning", 0),
        item_added("message", 1),
        part_added(1),
        delta("a", 1),
        part_added(1, 1),
        delta("b", 1, 1),
        output=[{"type": "reasoning"}, message("a", "b")],
    ),
    "everything ends twice": stream(
        item_added("message", 0),
        part_added(0),
        delta("a"),
        *[part_done(0)] * 2,
        *[item_done(0)] * 2,
        item_added("message", 1),
        delta("b", 1),
        *[item_done(1)] * 2,
        output=[message("a"), message("b")],
    ),
    "everything begins twice": stream(
        *[item_added("message", 0)] * 2,
        *[part_added(0)] * 2,
        delta("a"),
        item_done(0),
        item_added("message", 0),
        output=[message("a")],
    ),
    "text after its item": stream(
        *item_events(message("a"), 0),
        delta("b"),
        *item_events(message("c"), 1),
        output=[message("ab"), message("c")],
    ),
    "text after its part": stream(
        item_added("message", 0),
        part_added(0),
        delta("a"),
        part_done(0),
        delta("b"),
        item_done(0),
        output=[message("ab")],
    ),
    "an item longer in the end than when it ended": stream(
        *item_events(message("a"), 0), output=[message("ab"), call("c", "pay")]
    ),
    "items in the wrong order": stream(
        item_added("message", 3),
        delta("a", 3),
        item_added("message", 1),
        delta("b", 1),
        item_done(3),
        delta("c", 0),
        output=[message("a"), message("b"), message("c")],
    ),
    "a place that nothing has": stream(
        item_added("message", 9999), delta("a", 10_000), delta("b", -1), output=[message("ab")]
    ),
}
