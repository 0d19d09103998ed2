"""Readers of event feeds, who know nothing of how a feed is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.core import log
from shared.core.log import LogEntry, LogLine
from shared.usecases.feed import read_feed
from tests.support.world import CALLER, World


def text_after(text: str, event: Mapping[str, Any]) -> str:
    """Return the text of a reader who had `text` and reads `event`."""
    match event["type"]:
        case "turn.started":
            return ""
        case "text.delta":
            return text + str(event["text"])
        case "text.replaced":
            return str(event["text"])
    return text


@dataclass
class ItemsSeen:
    """Checks that items and parts start once, end once and nest, and that text is in an open part."""

    # Text of items and parts beyond a limit has no open part.
    strict: bool = True
    turn: int = 0
    # What has started in the run.
    items: list[log.ItemStarted] = field(default_factory=list)
    parts: list[log.PartStarted] = field(default_factory=list)
    # The items that have not ended: how many parts of each have started, and whether the last of them is open.
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
    """Reads a feed from its beginning, and checks that no event is missing and none comes twice."""

    text: str = ""
    last_id: int = 0
    replaced: int = 0
    types: list[str] = field(default_factory=list)
    done: bool = False
    seen: ItemsSeen = field(default_factory=ItemsSeen)

    def read(self, event: Mapping[str, Any]) -> None:
        """Read an event as the API sends it."""
        assert event["id"] == self.last_id + 1
        self.last_id = event["id"]
        self.types.append(event["type"])
        assert event["type"] != "text.delta" or event["text"]
        self.replaced += event["type"] == "text.replaced"
        self.text = text_after(self.text, event)

    def read_page(self, page: Mapping[str, Any]) -> None:
        """Read a page of the feed as the API sends it."""
        for event in page["data"]:
            self.read(event)
        assert page["last_id"] == self.last_id
        self.done = page["done"]

    def read_line(self, line: LogLine) -> None:
        """Read a line of the log."""
        self.seen.see(line.entry, line.text)
        self.read({"id": line.number, "type": line.entry.type, "text": line.text})


async def follow(world: World, run_id: str, reader: Reader | None = None, limit: int = 1000) -> Reader:
    """Read the feed of a run from where a reader is to its end."""
    reader, more = reader or Reader(), True
    while more:
        feed = await read_feed(world.context, CALLER, run_id, after=reader.last_id, limit=limit)
        for line in feed.lines:
            reader.read_line(line)
        more = feed.more
        assert feed.last_number == reader.last_id
    return reader
