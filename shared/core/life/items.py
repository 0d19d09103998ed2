"""The log entries of a turn's output items.

Each item starts once and ends once, even if the provider sends it otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from shared.core import log
from shared.core.log import LogEntry
from shared.core.response import (
    ItemCompleted,
    ItemStarted,
    PartCompleted,
    PartStarted,
    StreamChange,
    TextAdded,
)
from shared.core.run import Content, OpenItem, Run
from shared.core.transcript import ItemOutline

# Limits of the log. Text beyond a limit is kept, in order, in the last item, part or delta within the limit.
MAX_ITEMS_PER_TURN = 100
MAX_PARTS_PER_ITEM = 20
MAX_DELTAS_PER_SLICE = 100


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
    # How many of the entries are deltas.
    _deltas: int = 0
    # The position of the last delta in `entries`.
    _last_delta: int = -1

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
                case ItemStarted(index, kind, name):
                    self._start(self.started if index is None else index, kind, name)
                case ItemCompleted(index):
                    self._complete(self._known(index))
                case PartStarted(index, kind):
                    self._start_part(self._known(index), kind)
                case PartCompleted(index):
                    self._complete_part(self._known(index))
                case TextAdded(index, text):
                    self._add_text(self._known(index), position, position + len(text), content)
                    position += len(text)
                case _:
                    assert_never(change)

    def finish(self, outline: Sequence[ItemOutline], written: int, *, with_text: bool) -> None:
        """Log the rest of a finished response: items, parts, and the text from character `written` on."""
        begin, logged = 0, self.started
        for position, item in enumerate(outline):
            # Text for an ended item may have started an extra item, under the index of one that was not
            # logged.
            index = position if position < logged else self.started
            if position >= logged:
                self._start(index, item.kind, item.name)
            for number, part in enumerate(item.parts):
                end = begin + part.characters
                known = self.open.get(index)
                if known and number >= known.parts:
                    self._start_part(index, part.kind)
                if with_text and end > max(begin, written):
                    self._add_text(index, max(begin, written), end, None)
                if known and self.open[index].parts == number + 1:
                    self._complete_part(index)
                begin = end
            self._complete(index)
        self.close()

    def close(self) -> None:
        """End the items that are still open."""
        for index in list(self.open):
            self._complete(index)

    def _known(self, index: int | None) -> int:
        """Return the index of the item that a change belongs to. Without one, it is the last open item."""
        return index if index is not None else next(reversed(self.open), self.started)

    def _start(self, index: int, kind: str, name: str = "") -> None:
        if index in self.open or index < self.started or self.started >= MAX_ITEMS_PER_TURN:
            return
        ordinal = self.first + self.started
        self.open[index] = OpenItem(index, ordinal)
        self.started += 1
        self.entries.append(log.ItemStarted(self.turn, ordinal, kind, name))

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

    def _add_text(self, index: int, start: int, end: int, content: Content | None) -> None:
        if start == end:
            return
        ordinal, part = self._place(index)
        last = self.entries[self._last_delta] if self._deltas else None
        adjacent = self._last_delta == len(self.entries) - 1
        if isinstance(last, log.TextDelta) and (
            (adjacent and (last.item, last.part) == (ordinal, part)) or self._deltas >= MAX_DELTAS_PER_SLICE
        ):
            self.entries[self._last_delta] = replace(last, end=end)
            return
        self._deltas, self._last_delta = self._deltas + 1, len(self.entries)
        self.entries.append(log.TextDelta(self.turn, ordinal, part, start, end, content))

    def _place(self, index: int) -> tuple[int, int]:
        """Return the ordinal and the part that text of an item belongs to. Start them when they are not open.

        Text of an item that has ended is added to the last open item. If no item is open, a new one is
        started for it.
        """
        self._start(index, "message")
        if index not in self.open:
            index = next(reversed(self.open), self.started)
            self._start(index, "message")
        item = self.open.get(index)
        if item is None:
            return self.first + self.started - 1, 0
        if not item.part_open:
            self._start_part(index, "output_text")
        return item.ordinal, self.open[index].parts - 1
