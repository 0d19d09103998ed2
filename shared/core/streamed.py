"""What a stream brought of a response, compared with the finished response.

The finished response counts. But a text or a call that was streamed is not given up for a response that has
nothing in its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.core import transcript
from shared.core.response import ItemCompleted, ItemStarted, ResponseStatus, Slice, Snapshot, TextAdded
from shared.core.text import json_text
from shared.core.transcript import Item


@dataclass(frozen=True, slots=True)
class Streamed:
    """What the stream of a response brought, as far as it was read."""

    # The text of the answer.
    text: str = ""
    # The output items that have ended, as far as the stream brought them complete.
    items: tuple[Item, ...] = ()
    # Whether an output item has started.
    begun: bool = False

    def contains(self, other: "Streamed") -> bool:
        """Return whether this is at least what another read of the stream brought."""
        return self.text.startswith(other.text) and len(self.items) >= len(other.items)

    def denied_by(self, snapshot: Snapshot) -> bool:
        """Return whether a finished response does not contain what was streamed."""
        if not (self.begun or self.text or self.items):
            return False
        output = transcript.parse(snapshot.output)
        if not output:
            return True
        return not transcript.text_of(output).startswith(self.text) or bool(self._missing(output))

    def kept_in(self, snapshot: Snapshot) -> Snapshot:
        """Return a finished response, with what was streamed in the place of nothing."""
        output = transcript.parse(snapshot.output)
        kept = self._restored(output)
        if kept == output:
            return snapshot
        may_call = snapshot.status in {ResponseStatus.COMPLETED, ResponseStatus.INCOMPLETE}
        return replace(
            snapshot,
            output=json_text(kept),
            calls=transcript.calls_among(kept) if may_call else (),
            unanswerable=may_call and transcript.ends_unanswered(kept),
        )

    def _restored(self, output: list[Item]) -> list[Item]:
        if not output and self.items and transcript.text_of(self.items).startswith(self.text):
            return list(self.items)
        restored = output + self._missing(output)
        if not self.text or transcript.text_of(output) or transcript.refusal_of(output):
            return restored
        messages = [item for item in self.items if item.get("type") == "message"]
        if not transcript.text_of(messages).startswith(self.text):
            messages = [transcript.message_of(self.text)]
        return [*messages, *restored]

    def _missing(self, output: Sequence[Item]) -> list[Item]:
        """Return the calls that were streamed and are not in `output`. Without output, that is every other item."""
        known = {item["call_id"] for item in output if isinstance(item.get("call_id"), str)}
        return [
            item
            for item in self.items
            if item.get("type") != "message"
            and (not output or (isinstance(item.get("call_id"), str) and item["call_id"] not in known))
        ]


def streamed_by(received: Slice, before: str = "", commentary: frozenset[int] = frozenset()) -> Streamed:
    """Return what a slice brought, after the text `before`.

    `commentary` holds the indexes of open items that are not the answer.
    """
    hidden, texts, items = set(commentary), [before], []
    for change in received.changes:
        match change:
            case ItemCompleted(item=item) if item is not None:
                items.append(dict(item))
            case TextAdded(index, text) if index not in hidden:
                texts.append(text)
            case ItemStarted(index=int() as index, commentary=True):
                hidden.add(index)
    return Streamed("".join(texts), tuple(items), begun=bool(before or received.changes))
