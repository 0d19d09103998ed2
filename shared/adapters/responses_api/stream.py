"""Read the events of a response's stream, in OpenAI's format. Pure. No input raises an exception."""

from collections.abc import Callable, Mapping
from typing import Any

from shared.core.response import (
    ItemCompleted,
    ItemStarted,
    PartCompleted,
    PartStarted,
    Snapshot,
    StreamChange,
    TextAdded,
)
from shared.core.slices import StreamEvent
from shared.core.transcript import FINAL_ANSWER, name_of, part_kind

_ENDS = frozenset({"response.completed", "response.failed", "response.incomplete", "response.cancelled"})
# The events before the provider starts to work on the response.
_IDLE = frozenset({"response.created", "response.queued"})
# More output items than any response has.
_MAX_INDEX = 10_000

# Returns the Snapshot of a finished response, or None when the object is not a response.
ReadResponse = Callable[[object], Snapshot | None]


def sequence_of(value: object) -> int | None:
    """Return the number of an event, or None."""
    number = value.get("sequence_number") if isinstance(value, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    return number if 0 <= number < 2**53 else None


def stream_event(value: object, read: ReadResponse) -> StreamEvent | None:
    """Return the event in a JSON value, or None when it is not an event with a number."""
    sequence = sequence_of(value)
    kind = value.get("type") if isinstance(value, dict) else None
    if sequence is None or not isinstance(value, dict) or not isinstance(kind, str):
        return None
    return StreamEvent(
        sequence,
        change=_change(kind, value),
        final=read(value.get("response")) if kind in _ENDS else None,
        idle=kind in _IDLE,
        broken=kind == "error",
    )


def _change(kind: str, data: Mapping[str, Any]) -> StreamChange | None:
    """Return what an event changes. Text is that of the answer, without reasoning, arguments and refusals."""
    index = _index(data.get("output_index"))
    match kind:
        case "response.output_text.delta":
            delta = data.get("delta")
            return TextAdded(index, delta) if isinstance(delta, str) and delta else None
        case "response.output_item.added":
            item = _object(data.get("item"))
            kind = name_of(item.get("type"))
            commentary = kind == "message" and item.get("phase") not in (None, FINAL_ANSWER)
            return ItemStarted(index, kind, name_of(item.get("name"), ""), commentary)
        case "response.output_item.done":
            return ItemCompleted(index, _object(data.get("item")) or None)
        case "response.content_part.added":
            return PartStarted(index, part_kind(_object(data.get("part"))))
        case "response.content_part.done":
            return PartCompleted(index)
    return None


def _index(value: object) -> int | None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return value if is_integer and 0 <= value < _MAX_INDEX else None  # type: ignore[return-value, operator]


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
