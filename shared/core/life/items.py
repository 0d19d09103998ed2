"""The log entries of a turn's output items.

Each item starts once and ends once, even if the provider sends it otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from shared.core import log
from shared.core.log import Delta, LogEntry
from shared.core.response import (
    ItemCompleted,
    ItemStarted,
    PartCompleted,
    PartStarted,
    StreamChange,
    TextAdded,
)
from shared.core.run import Content, OpenItem, Run
from shared.core.transcript import ItemOutline, PartOutline

# Limits of the log. Text beyond a limit is kept, in order, in the last item, part or delta within the limit.
MAX_ITEMS_PER_TURN = 100
MAX_PARTS_PER_ITEM = 20
MAX_DELTAS_PER_SLICE = 100


_MESSAGE = ItemStarted(None, "message")


@dataclass
class ItemLog:
    """Collects the entries of one transition.

    `of` reads the state from the run, and `into` writes it back.
    """

    turn: int
    # The ordinal of the turn's first item.
    first: int
    started: int
    open: dict[int, OpenItem]
    entries: list[LogEntry] = field(default_factory=list)
    # How many characters of the answer, and of commentary, these entries hold.
    written: int = 0
    commented: int = 0
    # How many of the entries are deltas.
    _deltas: int = 0
    # The position in `entries` of the last delta of each kind.
    _last: dict[type[Delta], int] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> "ItemLog":
        open_items = {item.index: item for item in run.open_items}
        return cls(run.turn, run.items - run.turn_items, run.turn_items, open_items)

    def into(self, run: Run) -> Run:
        return replace(
            run,
            items=self.first + self.started,
            turn_items=self.started,
            open_items=tuple(self.open.values()),
        )

    def follow(self, changes: Sequence[StreamChange], content: Content | None) -> None:
        """Add the changes of a slice. `content` points to its stored text."""
        position = 0
        for change in changes:
            match change:
                case ItemStarted(index):
                    self._start(self.started if index is None else index, change)
                case ItemCompleted(index):
                    self._complete(self._known(index))
                case PartStarted(index, kind):
                    self._start_part(self._known(index), kind)
                case PartCompleted(index):
                    self._complete_part(self._known(index))
                case TextAdded(index, text):
                    self._add_streamed(self._known(index), position, position + len(text), content)
                    position += len(text)
                case _:
                    assert_never(change)

    def finish(
        self, outline: Sequence[ItemOutline], *, written: int, commented: int, with_text: bool
    ) -> None:
        """Log the rest of a finished response: items, parts, and the texts of its parts.

        `written` characters of its text and `commented` ones of its commentary are logged already.
        """
        # Where the next part begins in each of the response's texts, and up to where that text is logged.
        begins: dict[type[Delta], int] = dict.fromkeys((log.TextDelta, log.Commentary, log.Refusal), 0)
        done: dict[type[Delta], int] = {log.TextDelta: written, log.Commentary: commented, log.Refusal: 0}
        logged = self.started
        for position, item in enumerate(outline):
            # Text for an ended item may have started an extra item, under the index of one that was not
            # logged.
            index = position if position < logged else self.started
            if position >= logged:
                self._start(index, ItemStarted(index, item.kind, item.name, item.commentary))
            for number, part in enumerate(item.parts):
                kind = _entry_of(item, part)
                begin, end = begins[kind], begins[kind] + part.characters
                begins[kind] = end
                known = self.open.get(index)
                if known and number >= known.parts:
                    self._start_part(index, part.kind)
                start = max(begin, done[kind])
                if kind is log.Refusal:
                    self._add_refusal(index, number, start, end)
                elif end > start and (with_text or kind is not log.TextDelta):
                    self._add_text(kind, index, start, end)
            self._complete(index)
        self.close()

    def close(self) -> None:
        """End the items that are still open."""
        for index in list(self.open):
            self._complete(index)

    def _known(self, index: int | None) -> int:
        """Return the index of the item that a change belongs to. Without one, it is the last open item."""
        return index if index is not None else next(reversed(self.open), self.started)

    def _start(self, index: int, item: ItemStarted = _MESSAGE) -> None:
        if index in self.open or index < self.started or self.started >= MAX_ITEMS_PER_TURN:
            return
        ordinal = self.first + self.started
        self.open[index] = OpenItem(index, ordinal, commentary=item.commentary)
        self.started += 1
        self.entries.append(log.ItemStarted(self.turn, ordinal, item.kind, item.name, item.commentary))

    def _complete(self, index: int) -> None:
        self._complete_part(index)
        if item := self.open.pop(index, None):
            self.entries.append(log.ItemCompleted(self.turn, item.ordinal))

    def _start_part(self, index: int, kind: str) -> None:
        self._complete_part(index)
        item = self.open.get(index)
        if item is None or item.parts >= MAX_PARTS_PER_ITEM:
            return
        self.open[index] = replace(item, parts=item.parts + 1, part_open=True)
        self.entries.append(log.PartStarted(self.turn, item.ordinal, item.parts, kind))

    def _complete_part(self, index: int) -> None:
        item = self.open.get(index)
        if item and item.part_open:
            self.open[index] = replace(item, part_open=False)
            self.entries.append(log.PartCompleted(self.turn, item.ordinal, item.parts - 1))

    def _add_streamed(self, index: int, start: int, end: int, content: Content | None) -> None:
        item = self.open.get(index)
        if item and item.commentary:
            self.commented += self._add_text(log.Commentary, index, start, end, content)
        else:
            self.written += self._add_text(log.TextDelta, index, start, end, content)

    def _add_text(
        self, kind: type[Delta], index: int, start: int, end: int, content: Content | None = None
    ) -> int:
        """Log the characters from `start` to before `end` of a text, and return how many were logged."""
        if start == end:
            return 0
        ordinal, part = self._place(index)
        position = self._last.get(kind)
        last: Any = None if position is None else self.entries[position]
        full = self._deltas >= MAX_DELTAS_PER_SLICE
        same = last is not None and last.end == start
        beside = position == len(self.entries) - 1 and (last.item, last.part) == (ordinal, part)
        if position is not None and same and (beside or full):
            self.entries[position] = replace(last, end=end)
        elif last is None or not full:
            self._deltas, self._last[kind] = self._deltas + 1, len(self.entries)
            self.entries.append(kind(self.turn, ordinal, part, start, end, content))
        else:
            # The last delta would get text of another kind. The finished response brings the rest.
            return 0
        return end - start

    def _add_refusal(self, index: int, part: int, start: int, end: int) -> None:
        """Log a refusal in its part. It is not streamed, so its part, or its item, may have ended already."""
        if start == end or self._deltas >= MAX_DELTAS_PER_SLICE:
            return
        item = self.open.get(index)
        ordinal = item.ordinal if item else self.first + min(index, self.started - 1)
        self._deltas += 1
        self.entries.append(log.Refusal(self.turn, ordinal, min(part, MAX_PARTS_PER_ITEM - 1), start, end))

    def _place(self, index: int) -> tuple[int, int]:
        """Return the ordinal and the part that text of an item belongs to. Start them when they are not open.

        Text of an item that has ended is added to the last open item. If no item is open, a new one is
        started for it.
        """
        self._start(index)
        if index not in self.open:
            index = next(reversed(self.open), self.started)
            self._start(index)
        item = self.open.get(index)
        if item is None:
            return self.first + self.started - 1, 0
        if not item.part_open:
            self._start_part(index, "output_text")
        return item.ordinal, self.open[index].parts - 1


def _entry_of(item: ItemOutline, part: PartOutline) -> type[Delta]:
    """Return the type of the entries for the text of a part."""
    if part.kind == "refusal":
        return log.Refusal
    return log.Commentary if item.commentary else log.TextDelta
