"""What the event feed of a run says: its text so far, and where it stands. Events in, news out; no IO."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dev.client import Refused

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0

_ENDINGS = {f"run.{status}" for status in ("completed", "failed", "cancelled", "incomplete", "expired")}
_STATUSES = {*_ENDINGS, "run.queued", "run.in_progress", "run.cancelling"}


@dataclass(frozen=True)
class News:
    """`text` goes on where the last news ended; with `anew` it stands in place of all that came before."""

    text: str = ""
    anew: bool = False
    notes: tuple[str, ...] = ()


class Reader:
    """Follows one run from its first event on. An event that comes again changes nothing."""

    def __init__(self) -> None:
        self.last_id = 0
        self.status = "queued"
        self.turn = 0
        self.ended = False
        self._began: datetime | None = None
        self._latest: datetime | None = None
        self._activity = "waiting"
        self._at_work: dict[str, tuple[str, datetime]] = {}
        self._text: list[str] = []
        self._told = ""
        self._replaced = False
        self._notes: list[str] = []

    @property
    def text(self) -> str:
        self._text = ["".join(self._text)]
        return self._text[0]

    @property
    def activity(self) -> str:
        if self._at_work and not self.ended:
            return "running " + ", ".join(name for name, _ in self._at_work.values())
        return self._activity

    def elapsed(self, now: datetime) -> float:
        """Return the seconds that the run has taken."""
        end = self._latest if self.ended and self._latest else now
        return 0.0 if self._began is None else max(0.0, (end - self._began).total_seconds())

    def take(self, page: Mapping[str, Any]) -> None:
        for event in page["data"]:
            if event["id"] > self.last_id:
                self._take(event)
        self.last_id = max(self.last_id, page["last_id"])

    def news(self) -> News:
        """Return what came since the last call."""
        text, told, notes = self.text, self._told, tuple(self._notes)
        self._told, self._notes = text, []
        if text.startswith(told):
            return News(text[len(told) :], notes=notes)
        why = "the provider's answer differs from what it streamed" if self._replaced else f"turn {self.turn}"
        return News(text, anew=True, notes=(*notes, f"{why}: the text begins anew"))

    def _take(self, event: Mapping[str, Any]) -> None:
        self.last_id, self._latest = event["id"], datetime.fromisoformat(event["at"])
        self._began = self._began or self._latest
        kind = event["type"]
        if kind in _STATUSES:
            self.status = kind.removeprefix("run.")
            self.ended = kind in _ENDINGS
            if self.ended or kind == "run.cancelling":
                self._activity = self.status
        elif kind.startswith("text."):
            self._under_way()
            self._take_text(kind, event["text"])
        elif kind.startswith("turn."):
            self._take_turn(kind, event)
        elif kind.startswith("tool."):
            self._take_tool(kind, event, self._latest)

    def _under_way(self) -> None:
        """A run whose model has begun is no longer queued; not every way there has an event of its own."""
        if self.status == "queued":
            self.status = "in_progress"

    def _take_text(self, kind: str, text: str) -> None:
        self._replaced = kind == "text.replaced"
        if self._replaced:
            self._text = []
        self._text.append(text)
        self._activity = "writing"

    def _take_turn(self, kind: str, event: Mapping[str, Any]) -> None:
        self.turn = event["turn"]
        match kind:
            case "turn.started":
                self._text, self._replaced, self._activity = [], False, "thinking"
            case "turn.completed":
                self._under_way()
                self._activity = "calling tools" if event.get("tool_calls") else "finishing"

    def _take_tool(self, kind: str, event: Mapping[str, Any], at: datetime) -> None:
        call_id, name = event["call_id"], event["name"]
        if kind == "tool.started":
            self._at_work[call_id] = (name, at)
        elif kind == "tool.completed":
            _, began = self._at_work.pop(call_id, (name, at))
            seconds = (at - began).total_seconds()
            self._notes.append(f"{name}: {event['status']} after {seconds:.1f} s")
            self._activity = "handing in what the tools said"


@dataclass(frozen=True)
class Moment:
    """What is to be shown now, and how long to wait until the next."""

    news: News
    pause: float
    away: bool = False


def follow(reader: Reader, fetch: Callable[[int], Mapping[str, Any]]) -> Iterator[Moment]:
    """Read a feed to its end, through any absence of the host.

    `fetch` returns the page after an event. Raises Refused where asking again would not help.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            page = fetch(reader.last_id)
        except (OSError, Refused) as error:
            if isinstance(error, Refused) and not error.passing:
                raise
            yield Moment(News(), pause, away=True)
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
            continue
        pause = FIRST_PAUSE_SECONDS
        reader.take(page)
        if page["done"]:
            yield Moment(reader.news(), 0)
            return
        # On the way to the present nothing is shown: what was taken back since need not be seen.
        if page["retry_ms"]:
            yield Moment(reader.news(), page["retry_ms"] / 1000)
