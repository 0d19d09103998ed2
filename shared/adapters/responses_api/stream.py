"""What the events of a response's stream come to: pure, and total over whatever they hold.

A stream is numbered densely. It may repeat itself, swap its events, leave some out and end anywhere; what is
taken from it is the part without a gap that follows what is stored.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.core.response import ResponseStatus, Slice, Snapshot
from shared.core.text import representable

# The text of the answer. What else streams (reasoning, arguments, refusals) is no part of it.
TEXT = "response.output_text.delta"

_ENDS = frozenset({"response.completed", "response.failed", "response.incomplete", "response.cancelled"})
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ACTIVITIES = {
    "message": "writing",
    "reasoning": "thinking",
    "web_search_call": "searching the web",
    "file_search_call": "searching files",
    "code_interpreter_call": "running code",
    "image_generation_call": "drawing",
}
_CALLS = frozenset({"function_call", "mcp_call", "custom_tool_call"})
_HIGH_SURROGATES = ("\ud800", "\udbff")

# Makes a Snapshot of the object of a finished response; None when it is none.
ReadResponse = Callable[[object], Snapshot | None]


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event, as its stream numbers it."""

    sequence: int
    type: str
    data: Mapping[str, Any]


def stream_event(value: object) -> StreamEvent | None:
    """Return the event in a value of JSON, or None when it is not one that has a number."""
    if not isinstance(value, dict):
        return None
    sequence, kind = value.get("sequence_number"), value.get("type")
    if not isinstance(sequence, int) or isinstance(sequence, bool) or not isinstance(kind, str):
        return None
    return StreamEvent(sequence, kind, value) if 0 <= sequence < 2**53 else None


def gather(response_id: str, after: int, events: Iterable[StreamEvent], read: ReadResponse) -> Slice:
    """Return what `events` add to a stream that is stored up to and with `after`."""
    fresh: dict[int, StreamEvent] = {}
    for event in events:
        if event.sequence > after:
            fresh.setdefault(event.sequence, event)
    if final := _final(fresh.values(), read):
        return Slice(response_id=response_id, after=after, sequence=after, final=final)
    taken = _without_gap(after, fresh)
    broken = len(taken) < len(fresh)
    taken = _with_whole_characters(taken)
    begun = [event.data.get("item") for event in taken if event.type == "response.output_item.added"]
    return Slice(
        response_id=response_id,
        after=after,
        sequence=taken[-1].sequence if taken else after,
        status=_status(taken),
        text=representable("".join(_text(event) for event in taken)),
        items=len(begun),
        activity=next((found for item in reversed(begun) if (found := _activity(item))), ""),
        whole=not broken,
    )


def _final(events: Iterable[StreamEvent], read: ReadResponse) -> Snapshot | None:
    """Return the response that the stream ended with. It says everything, whatever is missing before it."""
    for event in events:
        if event.type in _ENDS and (snapshot := read(event.data.get("response"))):
            return snapshot
    return None


def _without_gap(after: int, events: Mapping[int, StreamEvent]) -> list[StreamEvent]:
    """Return what follows `after` in the stream, up to what is missing or is an error."""
    taken: list[StreamEvent] = []
    while (event := events.get(after + 1 + len(taken))) and event.type != "error":
        taken.append(event)
    return taken


def _with_whole_characters(events: list[StreamEvent]) -> list[StreamEvent]:
    """Leave for the next slice what ends in half a character: JSON can cut a surrogate pair in two."""
    end = len(events)
    for number in reversed(range(len(events))):
        if text := _text(events[number]):
            if not _HIGH_SURROGATES[0] <= text[-1] <= _HIGH_SURROGATES[1]:
                break
            # The delta before it may end in a half as well.
            end = number
    return events[:end]


def _text(event: StreamEvent) -> str:
    if event.type != TEXT:
        return ""
    delta = event.data.get("delta")
    return delta if isinstance(delta, str) else ""


def _status(events: Iterable[StreamEvent]) -> ResponseStatus:
    """Return IN_PROGRESS once anything shows that the response is at work."""
    idle = {"response.created", "response.queued"}
    return (
        ResponseStatus.QUEUED if all(event.type in idle for event in events) else ResponseStatus.IN_PROGRESS
    )


def _activity(item: object) -> str:
    """Return what the model is at when it begins an item, in a few words."""
    if not isinstance(item, dict) or not isinstance(kind := item.get("type"), str):
        return ""
    name = item.get("name")
    if kind in _CALLS and isinstance(name, str) and _NAME.fullmatch(name):
        return f"calling {name}"
    return _ACTIVITIES.get(kind, "working")
