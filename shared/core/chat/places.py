"""Where the items of a turn that is generated are in its log: the reasoning first, then the message."""

from dataclasses import dataclass, replace

from shared.core import transcript
from shared.core.response import ItemCompleted, ItemStarted, PartStarted, Snapshot, StreamChange, TextAdded
from shared.core.run import Run
from shared.core.text import json_text


def reasoned(run: Run) -> bool:
    """Return whether the log has a reasoning item of the turn. It comes before the message."""
    return run.turn_items > (1 if run.written else 0)


@dataclass
class Places:
    """What the log has of the turn: whether a reasoning item, and the number of the message."""

    reasoned: bool
    message: int | None

    @classmethod
    def of(cls, run: Run) -> "Places":
        return cls(reasoned(run), run.turn_items - 1 if run.written else None)

    def changes(self, text: str, *, reasons: bool) -> list[StreamChange]:
        """Return the changes of the log for new text."""
        changes: list[StreamChange] = []
        if reasons and not self.reasoned and self.message is None:
            self.reasoned = True
            changes.append(ItemStarted(0, "reasoning"))
        if text and self.message is None:
            self.message = int(self.reasoned)
            if self.reasoned:
                changes.append(ItemCompleted(0))
            changes += [ItemStarted(self.message, "message"), PartStarted(self.message, "output_text")]
        if text:
            changes.append(TextAdded(self.message, text))
        return changes

    def aligned(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot whose output has a reasoning item if, and only if, the log has one before its message."""
        items = transcript.parse(snapshot.output)
        reasoning = [item for item in items if item.get("type") == "reasoning"]
        others = [item for item in items if item.get("type") != "reasoning"]
        if self.reasoned:
            reasoning = reasoning or [{"type": "reasoning", "summary": []}]
        elif self.message is not None:
            reasoning = []
        return replace(snapshot, output=json_text([*reasoning, *others]))
