"""The state of a run, from its event feed: text, status, and what changed since it was last shown. No IO."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dev.client import Refused

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0

_ENDINGS = {f"run.{status}" for status in ("completed", "failed", "cancelled", "incomplete", "expired")}
_STATUSES = {*_ENDINGS, "run.queued", "run.in_progress", "run.requires_action", "run.cancelling"}


@dataclass(frozen=True)
class Changes:
    """What a reader has not shown yet. `text` follows the text shown so far; with `replaces` it takes its place."""

    text: str = ""
    replaces: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class WaitingCall:
    """A call that somebody has to answer. `id` is part of its address, `wait` is approval or output."""

    id: str
    name: str
    wait: str
    arguments: str


class Reader:
    """The state of one run, from its first event on. An event that comes twice is counted once."""

    def __init__(self) -> None:
        self.last_id = 0
        self.status = "queued"
        self.turn = 0
        self.ended = False
        self._waits: dict[str, WaitingCall] = {}
        self._started_at: datetime | None = None
        self._last_at: datetime | None = None
        self._activity = "waiting"
        self._running_tools: dict[str, tuple[str, datetime]] = {}
        self._text: list[str] = []
        self._shown = ""
        self._replaced = False
        self._notes: list[str] = []

    @property
    def text(self) -> str:
        self._text = ["".join(self._text)]
        return self._text[0]

    @property
    def waits(self) -> tuple[WaitingCall, ...]:
        """The calls that somebody has to answer now."""
        return () if self.ended or self.status == "cancelling" else tuple(self._waits.values())

    @property
    def activity(self) -> str:
        if self.waits and not self._running_tools:
            return "waiting for an answer: " + ", ".join(call.name for call in self.waits)
        if self._running_tools and not self.ended:
            return "running " + ", ".join(name for name, _ in self._running_tools.values())
        return self._activity

    def elapsed(self, now: datetime) -> float:
        """Return the seconds that the run has taken."""
        end = self._last_at if self.ended and self._last_at else now
        return 0.0 if self._started_at is None else max(0.0, (end - self._started_at).total_seconds())

    def read(self, page: Mapping[str, Any]) -> None:
        for event in page["data"]:
            if event["id"] > self.last_id:
                self._read_event(event)
        self.last_id = max(self.last_id, page["last_id"])

    def changes(self) -> Changes:
        """Return what changed since the last call."""
        text, shown, notes = self.text, self._shown, tuple(self._notes)
        self._shown, self._notes = text, []
        if text.startswith(shown):
            return Changes(text[len(shown) :], notes=notes)
        why = "the provider's answer differs from what it streamed" if self._replaced else f"turn {self.turn}"
        return Changes(text, replaces=True, notes=(*notes, f"{why}: the text starts again"))

    def _read_event(self, event: Mapping[str, Any]) -> None:
        self.last_id, self._last_at = event["id"], datetime.fromisoformat(event["at"])
        self._started_at = self._started_at or self._last_at
        kind = event["type"]
        if kind in _STATUSES:
            self.status = kind.removeprefix("run.")
            self.ended = kind in _ENDINGS
            if self.ended or kind == "run.cancelling":
                self._activity = self.status
        elif kind == "run.waiting":
            self._notes.append(f"waiting: {event['message']}")
        elif kind == "refusal":
            self._notes.append(f"the model refuses: {event['refusal']}")
        elif kind == "commentary.delta":
            self._mark_in_progress()
            self._activity = "commenting"
        elif kind.startswith("text."):
            self._mark_in_progress()
            self._read_text(kind, event["text"])
        elif kind.startswith("turn."):
            self._read_turn(kind, event)
        elif kind.startswith("tool."):
            self._read_tool(kind, event, self._last_at)
        elif kind.startswith("call."):
            self._read_wait(kind, event)

    def _mark_in_progress(self) -> None:
        """Text, or the end of a turn, shows that the run has begun: `run.in_progress` may come later, or never."""
        if self.status == "queued":
            self.status = "in_progress"

    def _read_text(self, kind: str, text: str) -> None:
        self._replaced = kind == "text.replaced"
        if self._replaced:
            self._text = []
        self._text.append(text)
        self._activity = "writing"

    def _read_turn(self, kind: str, event: Mapping[str, Any]) -> None:
        self.turn = event["turn"]
        match kind:
            case "turn.started":
                self._text, self._replaced, self._activity = [], False, "thinking"
            case "turn.joined":
                join = event["join"].replace("_", " ")
                self._notes.append(f"the text goes on after {event['characters']:,} characters: {join}")
            case "turn.completed":
                self._mark_in_progress()
                self._activity = "calling tools" if event.get("tool_calls") else "finishing"

    def _read_tool(self, kind: str, event: Mapping[str, Any], at: datetime) -> None:
        call_id, name = event["call_id"], event["name"]
        if kind == "tool.started":
            self._running_tools[call_id] = (name, at)
        elif kind == "tool.completed":
            _, started = self._running_tools.pop(call_id, (name, at))
            seconds = (at - started).total_seconds()
            self._notes.append(f"{name}: {event['status']} after {seconds:.1f} s")
            self._activity = "sending the tool outputs"

    def _read_wait(self, kind: str, event: Mapping[str, Any]) -> None:
        call, name = event["call"], event["name"]
        if kind == "call.waiting":
            self._waits[call] = WaitingCall(call, name, event["wait"], event.get("arguments", ""))
        elif kind == "call.answered":
            self._waits.pop(call, None)
            who = f" by {event.get('by_name') or event['by']}" if event.get("by") else ""
            why = f": {event['reason']}" if event.get("reason") else ""
            self._notes.append(f"{name}: {event['answer'].replace('_', ' ')}{who}{why}")
            self._activity = "sending the answers"
            if not self._waits and self.status == "requires_action":
                self.status = "in_progress"


@dataclass(frozen=True)
class Refresh:
    """What to show now, and the seconds to wait before the next one."""

    changes: Changes
    pause: float
    unreachable: bool = False


def follow(reader: Reader, fetch: Callable[[int], Mapping[str, Any]]) -> Iterator[Refresh]:
    """Read a feed to its end, and try again while the host does not answer.

    `fetch` returns the page after an event. Raises Refused where another try would not help.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            page = fetch(reader.last_id)
        except (OSError, Refused) as error:
            if isinstance(error, Refused) and not error.temporary:
                raise
            yield Refresh(Changes(), pause, unreachable=True)
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
            continue
        pause = FIRST_PAUSE_SECONDS
        reader.read(page)
        if page["done"]:
            yield Refresh(reader.changes(), 0)
            return
        # More pages are stored. Only the state after the last one is shown, so replaced text never appears.
        if page["retry_ms"]:
            yield Refresh(reader.changes(), page["retry_ms"] / 1000)
