"""What a slice takes of a response's stream.

A stream is numbered densely. It may repeat itself, swap its events, leave some out and end anywhere. A slice takes the part
without a gap that follows what is stored.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from shared.core.response import ResponseStatus, Slice, Snapshot, StreamChange, TextAdded
from shared.core.text import representable

_HIGH_SURROGATES = ("\ud800", "\udbff")


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a stream, under its number. A delta may hold half of a character: JSON can cut a surrogate pair in two."""

    sequence: int
    change: StreamChange | None = None
    # The finished response, if the stream ends with it here.
    final: Snapshot | None = None
    # It says that the response waits to be worked on.
    idle: bool = False
    # It says that nothing useful follows.
    broken: bool = False


def gather(response_id: str, after: int, events: Iterable[StreamEvent]) -> Slice:
    """Return what `events` add to a stream that is stored up to and including the event `after`."""
    fresh: dict[int, StreamEvent] = {}
    for event in events:
        if event.sequence > after:
            fresh.setdefault(event.sequence, event)
    if final := next((event.final for event in fresh.values() if event.final), None):
        # It says everything, whatever is missing before it.
        return Slice(response_id=response_id, after=after, sequence=after, final=final)
    taken = _without_gap(after, fresh)
    complete = len(taken) == len(fresh)
    taken = _with_whole_characters(taken)
    return Slice(
        response_id=response_id,
        after=after,
        sequence=taken[-1].sequence if taken else after,
        status=ResponseStatus.QUEUED if all(event.idle for event in taken) else ResponseStatus.IN_PROGRESS,
        changes=tuple(_changes(taken)),
        complete=complete,
    )


def _without_gap(after: int, events: Mapping[int, StreamEvent]) -> list[StreamEvent]:
    """Return what follows `after` in the stream, up to what is missing or is an error."""
    taken: list[StreamEvent] = []
    while (event := events.get(after + 1 + len(taken))) and not event.broken:
        taken.append(event)
    return taken


def _with_whole_characters(events: list[StreamEvent]) -> list[StreamEvent]:
    """Leave for the next slice what ends in half a character."""
    end = len(events)
    for number in reversed(range(len(events))):
        if text := _text(events[number]):
            if not _ends_in_half(text):
                break
            # The delta before it may end in a half as well.
            end = number
    return events[:end]


def _text(event: StreamEvent) -> str:
    return event.change.text if isinstance(event.change, TextAdded) else ""


def _ends_in_half(text: str) -> bool:
    return _HIGH_SURROGATES[0] <= text[-1] <= _HIGH_SURROGATES[1]


def _changes(events: Iterable[StreamEvent]) -> Iterator[StreamChange]:
    """Yield the changes in order; text is valid Unicode, and joined where deltas of an item follow each other."""
    changes = _with_halves_joined(event.change for event in events if event.change)
    for _, group in groupby(
        changes, lambda change: change.index if isinstance(change, TextAdded) else object()
    ):
        first, *rest = group
        if not isinstance(first, TextAdded):
            yield first
        elif text := "".join(change.text for change in (first, *rest) if isinstance(change, TextAdded)):
            yield TextAdded(first.index, representable(text))


def _with_halves_joined(changes: Iterable[StreamChange]) -> Iterator[StreamChange]:
    """Move half a character at the end of a delta to the beginning of the next delta, whatever is in between."""
    half = ""
    for change in changes:
        if isinstance(change, TextAdded):
            text = half + change.text
            half = text[-1] if _ends_in_half(text) else ""
            yield TextAdded(change.index, text.removesuffix(half))
        else:
            yield change
