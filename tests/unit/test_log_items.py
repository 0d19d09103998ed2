"""The items of a run in its log: each starts once and ends once, and its text is between, however a turn ends.

How torn streams come to the same items is in test_stream.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from shared.core import log, transcript
from shared.core.life.items import (
    MAX_DELTAS_PER_SLICE,
    MAX_ITEMS_PER_TURN,
    MAX_PARTS_PER_ITEM,
    ItemLog,
)
from shared.core.life.polling import MISSING_GRACE
from shared.core.log import LogEntry, LogLine
from shared.core.response import (
    Absent,
    ItemCompleted,
    ItemStarted,
    NoStream,
    PartCompleted,
    PartStarted,
    ResponseStatus,
    RunError,
    Snapshot,
    StreamChange,
    TextAdded,
)
from shared.core.run import Content, OpenItem, Run, RunStatus, Step
from shared.core.slices import StreamEvent, gather
from shared.core.transcript import ItemOutline, PartOutline
from shared.usecases.cancel import cancel
from shared.usecases.feed import read_feed
from tests.support.feeds import ItemsSeen, Reader, follow
from tests.support.runs import a_run
from tests.support.streams import call, message, refusal
from tests.support.world import CALLER, World, brings

SLICE = Content(name="slice-1", chunks=1)
MANY = 10_000


@dataclass
class Turn:
    """The items of the first turn of a run."""

    seen: ItemsSeen = field(default_factory=lambda: ItemsSeen(turn=1))
    entries: list[LogEntry] = field(default_factory=list)
    text: str = ""
    run: Run = field(default_factory=lambda: a_run(step=Step.POLL))

    def brings(self, *changes: StreamChange) -> list[LogEntry]:
        """Apply a slice, and return what it adds to the log."""
        text = "".join(change.text for change in changes if isinstance(change, TextAdded))
        items = ItemLog.of(self.run)
        items.follow(changes, SLICE)
        self._keep(items, text)
        self.run = replace(self.run, written=self.run.written + len(text))
        return items.entries

    def ends(self, *outline: ItemOutline, agrees: bool = True) -> list[LogEntry]:
        """Finish the response with these items, and return what that adds to the log."""
        text = "".join(
            chr(0x4E00 + n) for n in range(sum(part.characters for item in outline for part in item.parts))
        )
        items = ItemLog.of(self.run)
        items.finish(outline, written=self.run.written, commented=0, with_text=agrees)
        self._keep(items, text)
        assert not self.run.open_items
        assert not agrees or self.text[self.run.written :] == text[self.run.written :]
        return items.entries

    def _keep(self, items: ItemLog, text: str) -> None:
        """Read the entries as a reader does."""
        for entry in items.entries:
            part_text = text[entry.start : entry.end] if isinstance(entry, log.TextDelta) else ""
            self.text += part_text
            self.seen.see(entry, part_text)
        self.entries += items.entries
        self.run = items.into(self.run)
        assert {item.ordinal for item in self.run.open_items} == set(self.seen.open)
        assert self.run.items == self.run.turn_items == len(self.seen.items)


def started(item: int, kind: str = "message", name: str = "") -> LogEntry:
    return log.ItemStarted(1, item, kind, name)


def completed(item: int) -> LogEntry:
    return log.ItemCompleted(1, item)


def part_started(item: int, part: int = 0, kind: str = "output_text") -> LogEntry:
    return log.PartStarted(1, item, part, kind)


def part_completed(item: int, part: int = 0) -> LogEntry:
    return log.PartCompleted(1, item, part)


def sliced(item: int, part: int, start: int, end: int) -> LogEntry:
    """Return the entry of a text from a slice."""
    return log.TextDelta(1, item, part, start, end, SLICE)


def added(item: int, part: int, start: int, end: int) -> LogEntry:
    """Return the entry of a text that only the finished response has."""
    return log.TextDelta(1, item, part, start, end)


def outline(kind: str, *characters: int, name: str = "") -> ItemOutline:
    return ItemOutline(kind, name, tuple(PartOutline("output_text", count) for count in characters))


# Slices.

BROUGHT: dict[str, tuple[Sequence[StreamChange], Sequence[LogEntry]]] = {
    "an item with two parts": (
        [
            ItemStarted(0, "message"),
            PartStarted(0, "output_text"),
            TextAdded(0, "one"),
            PartCompleted(0),
            PartStarted(0, "refusal"),
            PartCompleted(0),
            ItemCompleted(0),
        ],
        [
            started(0),
            part_started(0),
            sliced(0, 0, 0, 3),
            part_completed(0),
            part_started(0, 1, "refusal"),
            part_completed(0, 1),
            completed(0),
        ],
    ),
    "text alone": ([TextAdded(0, "one")], [started(0), part_started(0), sliced(0, 0, 0, 3)]),
    "text without a place": ([TextAdded(None, "one")], [started(0), part_started(0), sliced(0, 0, 0, 3)]),
    "text without a part": (
        [ItemStarted(0, "message"), TextAdded(0, "one")],
        [started(0), part_started(0), sliced(0, 0, 0, 3)],
    ),
    "text after its part": (
        [TextAdded(0, "one"), PartCompleted(0), TextAdded(0, "two")],
        [
            started(0),
            part_started(0),
            sliced(0, 0, 0, 3),
            part_completed(0),
            part_started(0, 1),
            sliced(0, 1, 3, 6),
        ],
    ),
    "text after its item": (
        [TextAdded(0, "one"), ItemCompleted(0), TextAdded(0, "two"), TextAdded(0, "three")],
        [
            started(0),
            part_started(0),
            sliced(0, 0, 0, 3),
            part_completed(0),
            completed(0),
            started(1),
            part_started(1),
            sliced(1, 0, 3, 11),
        ],
    ),
    "text after its item, where another is open": (
        [TextAdded(0, "one"), ItemCompleted(0), ItemStarted(1, "message"), TextAdded(0, "two")],
        [
            started(0),
            part_started(0),
            sliced(0, 0, 0, 3),
            part_completed(0),
            completed(0),
            started(1),
            part_started(1),
            sliced(1, 0, 3, 6),
        ],
    ),
    "text of two items in turn": (
        [TextAdded(0, "a"), TextAdded(1, "b"), TextAdded(0, "c"), TextAdded(0, "d")],
        [
            started(0),
            part_started(0),
            sliced(0, 0, 0, 1),
            started(1),
            part_started(1),
            sliced(1, 0, 1, 2),
            sliced(0, 0, 2, 4),
        ],
    ),
    "a call among texts": (
        [TextAdded(0, "a"), ItemStarted(1, "function_call", "pay"), TextAdded(0, "b"), ItemCompleted(1)],
        [
            started(0),
            part_started(0),
            sliced(0, 0, 0, 1),
            started(1, "function_call", "pay"),
            sliced(0, 0, 1, 2),
            completed(1),
        ],
    ),
    "items without places": (
        [
            ItemStarted(None, "reasoning"),
            ItemStarted(None, "message"),
            PartStarted(None, "output_text"),
            TextAdded(None, "a"),
            ItemCompleted(None),
            ItemCompleted(None),
        ],
        [
            started(0, "reasoning"),
            started(1),
            part_started(1),
            sliced(1, 0, 0, 1),
            part_completed(1),
            completed(1),
            completed(0),
        ],
    ),
    "an item that starts and ends twice": (
        [*[ItemStarted(0, "message")] * 2, *[ItemCompleted(0)] * 2, ItemStarted(0, "message")],
        [started(0), completed(0)],
    ),
    "a part that starts and ends twice": (
        [ItemStarted(0, "message"), *[PartStarted(0, "output_text")] * 2, *[PartCompleted(0)] * 2],
        [started(0), part_started(0), part_completed(0), part_started(0, 1), part_completed(0, 1)],
    ),
    "ends of what has not started": ([ItemCompleted(0), PartCompleted(4), PartCompleted(None)], []),
    "a part of no item": ([PartStarted(0, "output_text")], []),
    "an item that ends with its part open": (
        [TextAdded(0, "a"), ItemCompleted(0)],
        [started(0), part_started(0), sliced(0, 0, 0, 1), part_completed(0), completed(0)],
    ),
    "items in the wrong order": (
        [ItemStarted(2, "message"), ItemStarted(1, "reasoning"), ItemCompleted(2), ItemCompleted(1)],
        [started(0), started(1, "reasoning"), completed(0), completed(1)],
    ),
    "no text": ([TextAdded(0, "")], []),
}


@pytest.mark.parametrize(("changes", "entries"), BROUGHT.values(), ids=BROUGHT)
def test_a_slice_adds_its_items_to_the_log(changes, entries):
    assert Turn().brings(*changes) == entries


@pytest.mark.parametrize(("changes", "entries"), BROUGHT.values(), ids=BROUGHT)
def test_slices_of_one_change_each_lead_to_the_same_items(changes, entries):
    turn = Turn()
    for change in changes:
        turn.brings(change)
    complete = Turn()
    complete.brings(*changes)
    assert [one for one in turn.entries if not isinstance(one, log.TextDelta)] == [
        one for one in entries if not isinstance(one, log.TextDelta)
    ]
    assert (turn.run, turn.text, turn.seen.texts) == (complete.run, complete.text, complete.seen.texts)


def test_items_of_a_run_count_on_from_turn_to_turn():
    turn = Turn()
    turn.run = replace(turn.run, turn=2, items=7, turn_items=2, open_items=(OpenItem(1, 6),))
    items = ItemLog.of(turn.run)
    items.follow([ItemStarted(2, "message"), ItemCompleted(1), ItemCompleted(2)], None)
    assert items.entries == [
        log.ItemStarted(2, 7, "message"),
        log.ItemCompleted(2, 6),
        log.ItemCompleted(2, 7),
    ]
    after = items.into(turn.run)
    assert (after.items, after.turn_items, after.open_items) == (8, 3, ())


# The finished response.

# Then missing items cannot be distinguished from those that have ended.
WRONG_ORDER = "items had come in the wrong order"

ENDS: dict[str, tuple[Sequence[StreamChange], Sequence[ItemOutline], Sequence[LogEntry]]] = {
    "nothing came before": (
        [],
        [outline("reasoning"), outline("message", 3, 0, 4), outline("function_call", name="pay")],
        [
            started(0, "reasoning"),
            completed(0),
            started(1),
            part_started(1),
            added(1, 0, 0, 3),
            part_completed(1),
            part_started(1, 1),
            part_completed(1, 1),
            part_started(1, 2),
            added(1, 2, 3, 7),
            part_completed(1, 2),
            completed(1),
            started(2, "function_call", "pay"),
            completed(2),
        ],
    ),
    "nothing at all": ([], [], []),
    "all came before": (
        [TextAdded(0, "one"), PartCompleted(0), ItemCompleted(0)],
        [outline("message", 3)],
        [],
    ),
    "all text came before": (
        [TextAdded(0, "one")],
        [outline("message", 3)],
        [part_completed(0), completed(0)],
    ),
    "the part goes on": (
        [TextAdded(0, "one")],
        [outline("message", 5)],
        [added(0, 0, 3, 5), part_completed(0), completed(0)],
    ),
    "another part follows": (
        [TextAdded(0, "one"), PartCompleted(0)],
        [outline("message", 3, 2)],
        [part_started(0, 1), added(0, 1, 3, 5), part_completed(0, 1), completed(0)],
    ),
    "another item follows": (
        [TextAdded(0, "one"), ItemCompleted(0)],
        [outline("message", 3), outline("message", 2)],
        [started(1), part_started(1), added(1, 0, 3, 5), part_completed(1), completed(1)],
    ),
    "an item had only started": (
        [ItemStarted(0, "message")],
        [outline("message", 2)],
        [part_started(0), added(0, 0, 0, 2), part_completed(0), completed(0)],
    ),
    "a part goes on that had ended": (
        [TextAdded(0, "one"), PartCompleted(0)],
        [outline("message", 5)],
        [part_started(0, 1), added(0, 1, 3, 5), part_completed(0, 1), completed(0)],
    ),
    "an item goes on that had ended": (
        [TextAdded(0, "one"), ItemCompleted(0)],
        [outline("message", 5), outline("function_call", name="pay")],
        [
            started(1),
            part_started(1),
            added(1, 0, 3, 5),
            started(2, "function_call", "pay"),
            completed(2),
            part_completed(1),
            completed(1),
        ],
    ),
    "the end has fewer items": (
        [TextAdded(0, "one"), ItemStarted(1, "message"), PartStarted(1, "output_text")],
        [outline("message", 3)],
        [part_completed(0), completed(0), part_completed(1), completed(1)],
    ),
    "two items were open": (
        [ItemStarted(0, "reasoning"), ItemStarted(1, "message"), TextAdded(1, "a")],
        [outline("reasoning"), outline("message", 3)],
        [completed(0), added(1, 0, 1, 3), part_completed(1), completed(1)],
    ),
    WRONG_ORDER: (
        [TextAdded(2, "a"), ItemStarted(0, "message")],
        [outline("message", 1), outline("message", 1), outline("message", 1)],
        [
            started(1),
            part_started(1),
            added(1, 0, 1, 2),
            part_completed(1),
            completed(1),
            added(0, 0, 2, 3),
            part_completed(0),
            completed(0),
        ],
    ),
}


@pytest.mark.parametrize(("changes", "complete", "entries"), ENDS.values(), ids=ENDS)
def test_the_finished_response_adds_the_missing_items_to_the_log(changes, complete, entries):
    turn = Turn()
    turn.brings(*changes)
    assert turn.ends(*complete) == entries
    assert len(turn.text) == sum(part.characters for item in complete for part in item.parts)


@pytest.mark.parametrize(("changes", "complete"), [case[:2] for case in ENDS.values()], ids=ENDS)
def test_a_response_with_another_text_adds_its_items_without_text(changes, complete):
    turn = Turn()
    turn.brings(*changes)
    held = turn.text
    added_entries = turn.ends(*complete, agrees=False)
    assert turn.text == held
    assert not any(isinstance(entry, log.TextDelta) for entry in added_entries)
    anew = [(entry.kind, entry.name) for entry in added_entries if isinstance(entry, log.ItemStarted)]
    assert anew == [(item.kind, item.name) for item in complete[len(complete) - len(anew) :]]
    assert turn.run.items >= len(complete) - (changes == ENDS[WRONG_ORDER][0])


def test_open_items_can_be_closed():
    turn = Turn()
    turn.brings(ItemStarted(0, "reasoning"), TextAdded(1, "a"))
    items = ItemLog.of(turn.run)
    items.close()
    assert items.entries == [completed(0), part_completed(1), completed(1)]
    assert items.into(turn.run).open_items == ()


# Beyond the limits.


def count(entries: Sequence[LogEntry], kind: type[LogEntry]) -> int:
    return sum(isinstance(entry, kind) for entry in entries)


def many_items(number: int) -> list[StreamChange]:
    return [
        change
        for n in range(number)
        for change in (ItemStarted(n, "message"), TextAdded(n, f"{n} "), ItemCompleted(n))
    ]


def many_parts(number: int) -> list[StreamChange]:
    parts = (
        change
        for n in range(number)
        for change in (PartStarted(0, "output_text"), TextAdded(0, f"{n} "), PartCompleted(0))
    )
    return [ItemStarted(0, "message"), *parts, ItemCompleted(0)]


def many_turns(number: int) -> list[StreamChange]:
    """Return texts that alternate between two items."""
    return [TextAdded(n % 2, f"{n} ") for n in range(number)]


def many_restarts(number: int) -> list[StreamChange]:
    """Return texts that follow the end of their item, again and again."""
    return [change for n in range(number) for change in (TextAdded(0, f"{n} "), ItemCompleted(n))]


HORDES = {"items": many_items, "parts": many_parts, "turns": many_turns, "restarts": many_restarts}
TEXT = "".join(f"{n} " for n in range(MANY))


@pytest.mark.parametrize("horde", HORDES.values(), ids=HORDES)
@pytest.mark.parametrize("slices", [1, 3])
def test_many_changes_lead_to_a_bounded_log_with_all_of_the_text(horde, slices):
    turn, changes = Turn(ItemsSeen(strict=False, turn=1)), horde(MANY)
    size = -(-len(changes) // slices)
    for start in range(0, len(changes), size):
        entries = turn.brings(*changes[start : start + size])
        assert count(entries, log.TextDelta) <= MAX_DELTAS_PER_SLICE
    assert turn.text == TEXT
    assert len(turn.seen.items) <= MAX_ITEMS_PER_TURN
    parts = [entry.item for entry in turn.entries if isinstance(entry, log.PartStarted)]
    assert max(map(parts.count, set(parts))) <= MAX_PARTS_PER_ITEM
    turn.ends(outline("message", len(TEXT)))
    assert turn.text == TEXT


def test_the_limits_are_reached():
    assert count(Turn(ItemsSeen(False, 1)).brings(*many_items(MANY)), log.ItemStarted) == MAX_ITEMS_PER_TURN
    assert count(Turn(ItemsSeen(False, 1)).brings(*many_parts(MANY)), log.PartStarted) == MAX_PARTS_PER_ITEM
    assert count(Turn(ItemsSeen(False, 1)).brings(*many_turns(MANY)), log.TextDelta) == MAX_DELTAS_PER_SLICE


@pytest.mark.parametrize(
    ("horde", "most"),
    [
        (many_items, MAX_ITEMS_PER_TURN),
        (many_parts, MAX_PARTS_PER_ITEM),
        (many_turns, MAX_DELTAS_PER_SLICE),
    ],
)
def test_up_to_the_limits_every_text_has_its_own_part(horde, most):
    turn = Turn()
    turn.brings(*horde(most))
    assert count(turn.entries, log.TextDelta) == most


def test_text_beyond_a_limit_is_in_the_last_part_within_it():
    turn = Turn(ItemsSeen(strict=False, turn=1))
    within = turn.brings(*many_items(MAX_ITEMS_PER_TURN))
    last = within[-3]
    assert turn.brings(TextAdded(MAX_ITEMS_PER_TURN, "more")) == [sliced(last.item, last.part, 0, 4)]
    turn = Turn(ItemsSeen(strict=False, turn=1))
    turn.brings(*many_parts(MAX_PARTS_PER_ITEM)[:-1])
    assert turn.brings(PartStarted(0, "output_text"), TextAdded(0, "more")) == [
        sliced(0, MAX_PARTS_PER_ITEM - 1, 0, 4)
    ]


def test_the_next_turn_has_items_of_its_own():
    turn = Turn()
    turn.brings(*many_items(MAX_ITEMS_PER_TURN))
    next_turn = replace(turn.run, turn=2, turn_items=0)
    items = ItemLog.of(next_turn)
    items.follow([ItemStarted(0, "message")], None)
    assert items.entries == [log.ItemStarted(2, MAX_ITEMS_PER_TURN, "message")]


@pytest.mark.parametrize("agrees", [True, False])
def test_a_finished_response_of_many_items_and_parts_is_bounded(agrees):
    for complete in ([outline("message", 1)] * MANY, [outline("message", *[1] * MANY)]):
        turn = Turn(ItemsSeen(strict=False, turn=1))
        entries = turn.ends(*complete, agrees=agrees)
        assert len(turn.text) == MANY * agrees
        assert len(entries) <= 4 * MAX_ITEMS_PER_TURN + 2 * MAX_PARTS_PER_ITEM + MAX_DELTAS_PER_SLICE


def seconds(work: Callable[[], object]) -> float:
    """Return the least processor time of several runs of some work."""

    def once() -> float:
        begun = time.process_time()
        work()
        return time.process_time() - begun

    return min(once() for _ in range(5))


@pytest.mark.parametrize("horde", HORDES.values(), ids=HORDES)
def test_twice_as_much_takes_twice_as_long(horde):
    def work(number: int) -> Callable[[], object]:
        changes = horde(number)
        changed = [StreamEvent(n, change) for n, change in enumerate(changes, 1)]

        def take() -> None:
            brought = gather("resp_1", 0, changed)
            items = ItemLog.of(Turn().run)
            items.follow(brought.changes, SLICE)

        return take

    # Squared, it would be 64 times.
    assert seconds(work(8 * 2_000)) < 24 * seconds(work(2_000))


# Complete runs.


def finished(number: int, *output: dict, status: ResponseStatus = ResponseStatus.COMPLETED) -> Snapshot:
    text = json.dumps(output, ensure_ascii=False)
    return Snapshot(response_id=f"resp_{number}", status=status, output=text, calls=transcript.calls(text))


FIRST = (
    {"type": "reasoning", "summary": []},
    message("Let me ", "look."),
    refusal("No."),
    call("c1", "look_up"),
    call("c2", "pay"),
)
LAST = ({"type": "web_search_call"}, message("Found: 🚀"), message(""), message(" and more."))
KINDS = ["reasoning", "message", "message", "function_call", "function_call"]
KINDS += ["web_search_call", "message", "message", "message"]


def check_both_turns(reader: Reader) -> None:
    seen = reader.seen
    assert [item.item for item in seen.items] == list(range(9))
    assert [item.turn for item in seen.items] == [1] * 5 + [2] * 4
    assert [item.kind for item in seen.items] == KINDS
    assert [item.name for item in seen.items if item.name] == ["look_up", "pay"]
    assert [(part.item, part.part, part.kind) for part in seen.parts] == [
        (1, 0, "output_text"),
        (1, 1, "output_text"),
        (2, 0, "refusal"),
        (6, 0, "output_text"),
        (7, 0, "output_text"),
        (8, 0, "output_text"),
    ]
    assert seen.texts == {(1, 0): "Let me ", (1, 1): "look.", (6, 0): "Found: 🚀", (8, 0): " and more."}
    assert (reader.text, reader.replaced) == ("Found: 🚀 and more.", 0)


async def test_turns_that_are_not_streamed_have_all_their_items(world):
    run = await world.start()
    world.provider.state = {"resp_1": finished(1, *FIRST), "resp_2": finished(2, *LAST)}
    await world.until_terminal(run.id)
    check_both_turns(await follow(world, run.id))


async def test_a_plain_answer_has_five_entries(world):
    run = await world.start()
    world.provider.state["resp_1"] = finished(1, message("Once"))
    await world.until_terminal(run.id)
    assert [(line.entry, line.text) for line in await lines(world, run.id)][2:] == [
        (log.ItemStarted(1, 0, "message"), ""),
        (log.PartStarted(1, 0, 0, "output_text"), ""),
        (log.TextDelta(1, 0, 0, 0, 4), "Once"),
        (log.PartCompleted(1, 0, 0), ""),
        (log.ItemCompleted(1, 0), ""),
        (log.RunEnded("completed"), ""),
    ]


async def lines(world: World, run_id: str) -> list[LogLine]:
    return (await read_feed(world.context, CALLER, run_id, after=0, limit=1000)).lines


@pytest.mark.parametrize("cut", range(13))
async def test_a_stream_lost_at_any_event_has_the_items_of_the_response(world, cut):
    run = await world.start(stream=True)
    changes = [
        ItemStarted(0, "reasoning"),
        ItemCompleted(0),
        ItemStarted(1, "message"),
        PartStarted(1, "output_text"),
        TextAdded(1, "Let "),
        TextAdded(1, "me "),
        PartCompleted(1),
        PartStarted(1, "output_text"),
        TextAdded(1, "look."),
        ItemCompleted(1),
        ItemStarted(2, "message"),
        PartStarted(2, "refusal"),
    ]
    if cut:
        await brings(world, *changes[:cut])
    await brings(world, final=finished(1, *FIRST))
    for change in (ItemStarted(0, "web_search_call"), ItemStarted(1, "message"), TextAdded(1, "Found: 🚀")):
        await brings(world, change)
    await brings(world, final=finished(2, *LAST))
    check_both_turns(await follow(world, run.id))


async def half_written(**changes: object) -> tuple[World, str]:
    """Return a world with a run that was cut off in its second item."""
    world = World()
    run = await world.start(stream=True, **changes)
    await brings(world, ItemStarted(0, "reasoning"), ItemStarted(1, "message"), TextAdded(1, "Once "))
    return world, run.id


CLOSED = ["item.completed", "part.completed", "item.completed"]


async def is_cancelled(world: World, run_id: str) -> None:
    world.provider.cancel_replies["resp_1"] = finished(1, status=ResponseStatus.CANCELLED)
    await cancel(world.context, CALLER, run_id)


async def expires(world: World, run_id: str) -> None:
    await world.drive(1, 3600)


async def fails(world: World, run_id: str) -> None:
    failed = finished(1, status=ResponseStatus.FAILED)
    failed = world.provider.state["resp_1"] = replace(failed, error=RunError("a", "b"))
    await brings(world, final=failed)


async def is_lost(world: World, run_id: str) -> None:
    world.provider.slice_replies = [NoStream() for _ in range(3)]
    world.provider.state["resp_1"] = Absent()
    await world.drive(3, MISSING_GRACE.total_seconds())


@pytest.mark.parametrize(
    ("ends", "status", "tail"),
    [
        (is_cancelled, RunStatus.CANCELLED, CLOSED),
        (expires, RunStatus.EXPIRED, [*CLOSED, "text.replaced"]),
        (fails, RunStatus.FAILED, CLOSED),
        (is_lost, RunStatus.FAILED, [*CLOSED, "text.replaced"]),
    ],
)
async def test_a_run_that_ends_in_the_middle_of_an_item_leaves_none_open(ends, status, tail):
    world, run_id = await half_written()
    assert len((await world.run(run_id)).open_items) == 2
    await ends(world, run_id)
    run, reader = await world.run(run_id), await follow(world, run_id)
    assert (run.status, run.open_items, reader.seen.open) == (status, (), {})
    assert reader.types[-len(tail) - 1 :] == [*tail, f"run.{status}"]
    kept = "" if "text.replaced" in tail else "Once "
    assert (reader.text, len(reader.seen.items)) == (kept, 2)


async def test_a_run_cancelled_in_the_middle_of_an_item_keeps_what_its_response_has():
    world, run_id = await half_written()
    kept = finished(1, {"type": "reasoning"}, message("Once upon"), status=ResponseStatus.CANCELLED)
    world.provider.cancel_replies["resp_1"] = kept
    await cancel(world.context, CALLER, run_id)
    reader = await follow(world, run_id)
    assert (reader.text, reader.seen.texts) == ("Once upon", {(1, 0): "Once upon"})
    assert reader.types[-6:] == [
        "run.cancelling",
        "item.completed",
        "text.delta",
        "part.completed",
        "item.completed",
        "run.cancelled",
    ]


async def test_a_stream_that_disagrees_with_its_end_has_the_items_of_the_end_without_their_text():
    world, run_id = await half_written()
    final = finished(1, {"type": "reasoning"}, message("Twice", "!"), message("Bye."))
    world.provider.state["resp_1"] = final
    await brings(world, final=final)
    reader = await follow(world, run_id)
    assert (reader.text, reader.replaced) == ("Twice!Bye.", 1)
    assert reader.types[-11:] == [
        "text.replaced",
        "item.completed",
        "part.completed",
        "part.started",
        "part.completed",
        "item.completed",
        "item.started",
        "part.started",
        "part.completed",
        "item.completed",
        "run.completed",
    ]
    assert [item.kind for item in reader.seen.items] == ["reasoning", "message", "message"]
    assert [(part.item, part.part) for part in reader.seen.parts] == [(1, 0), (1, 1), (2, 0)]


async def test_texts_of_one_slice_are_cut_out_of_what_it_brought(world):
    run = await world.start(stream=True)
    pieces = [TextAdded(n % 3, text) for n, text in enumerate(["a🚀", "漢", "\x00", "bb", "", "é"])]
    await brings(world, *pieces)
    await brings(world, TextAdded(0, "more"))
    assert await world.content_table.query(run.id, "slice-", "slice-~") != []
    reader = await follow(world, run.id)
    assert reader.seen.texts == {(0, 0): "a🚀bbmore", (1, 0): "漢", (2, 0): "\x00é"}
    assert reader.text == "a🚀漢\x00bbémore"
    # The texts of slices are compared with the answer in the order of the log.
    await brings(world, final=finished(1, message(reader.text)))
    assert (await follow(world, run.id)).replaced == 0


@pytest.mark.parametrize("horde", HORDES.values(), ids=HORDES)
async def test_a_log_of_many_changes_can_be_stored(world, horde):
    run = await world.start(stream=True)
    await brings(world, *horde(MANY))
    reader = await follow(world, run.id, Reader(seen=ItemsSeen(strict=False)))
    assert reader.text == TEXT
    await brings(world, final=finished(1, *map(message, [TEXT, *"abc" * 1000])))
    await follow(world, run.id, reader)
    assert (reader.text, reader.replaced) == (TEXT + "abc" * 1000, 0)
    assert (await world.run(run.id)).items <= MAX_ITEMS_PER_TURN
