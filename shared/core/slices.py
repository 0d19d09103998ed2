"""Make a slice of the events that were read of a response's stream.

The events are numbered without gaps. A read may bring events twice, in another order or not at all, and it
may end anywhere. A slice holds the events that follow the stored ones without a gap.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from shared.core.response import ResponseStatus, Slice, Snapshot, StreamChange, TextAdded
from shared.core.text import representable

_HIGH_SURROGATES = ("\ud800", "\udbff")


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a stream.

    A text may begin or end with half a character, because JSON can split a surrogate pair between two deltas.
    """

    # The number of the event.
    sequence: int
    change: StreamChange | None = None
    # The finished response, if this is the event that ends the stream.
    final: Snapshot | None = None
    # The provider has not started to work on the response.
    idle: bool = False
    # The stream failed here. The events after it cannot be used.
    broken: bool = False


def gather(response_id: str, after: int, events: Iterable[StreamEvent]) -> Slice:
    """Return the slice that `events` add to a stream of which the events up to `after` are stored."""
    new: dict[int, StreamEvent] = {}
    for event in events:
        if event.sequence > after:
            new.setdefault(event.sequence, event)
    if final := next((event.final for event in new.values() if event.final), None):
        # The finished response should contain everything, so gaps before it do not matter.
        changes = tuple(_changes(new[sequence] for sequence in sorted(new)))
        return Slice(response_id=response_id, after=after, sequence=after, changes=changes, final=final)
    usable = _without_gap(after, new)
    complete = len(usable) == len(new)
    usable = _with_complete_characters(usable)
    return Slice(
        response_id=response_id,
        after=after,
        sequence=usable[-1].sequence if usable else after,
        status=ResponseStatus.QUEUED if all(event.idle for event in usable) else ResponseStatus.IN_PROGRESS,
        changes=tuple(_changes(usable)),
        complete=complete,
    )


def _without_gap(after: int, events: Mapping[int, StreamEvent]) -> list[StreamEvent]:
    """Return the events that follow `after`, up to the first that is missing or is an error."""
    usable: list[StreamEvent] = []
    while (event := events.get(after + 1 + len(usable))) and not event.broken:
        usable.append(event)
    return usable


def _with_complete_characters(events: list[StreamEvent]) -> list[StreamEvent]:
    """Leave trailing deltas that end in half a character to the next slice."""
    end = len(events)
    for number in reversed(range(len(events))):
        if text := _text(events[number]):
            if not _ends_in_half(text):
                break
            # The delta before this one may end in half a character too.
            end = number
    return events[:end]


def _text(event: StreamEvent) -> str:
    return event.change.text if isinstance(event.change, TextAdded) else ""


def _ends_in_half(text: str) -> bool:
    return _HIGH_SURROGATES[0] <= text[-1] <= _HIGH_SURROGATES[1]


def _changes(events: Iterable[StreamEvent]) -> Iterator[StreamChange]:
    """Yield the changes in order. Text is valid Unicode. Consecutive deltas of one item become one change."""
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
    """Move half a character at the end of a delta to the beginning of the next delta."""
    half = ""
    for change in changes:
        if isinstance(change, TextAdded):
            text = half + change.text
            half = text[-1] if _ends_in_half(text) else ""
            yield TextAdded(change.index, text.removesuffix(half))
        else:
            yield change
