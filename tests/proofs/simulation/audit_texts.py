"""Compares the stored outputs of runs with what the provider sent."""

import zlib
from collections.abc import Mapping

from shared.core import transcript
from shared.core.response import ItemCompleted, ItemStarted, Snapshot, TextAdded
from shared.core.run import Content, Run
from tests.proofs.simulation.evidence import Evidence
from tests.proofs.simulation.responses import Response
from tests.proofs.simulation.scheduler import Invocation
from tests.support.memory_table import MemoryTable


class TextAuditor:
    """Checks each output when the pointer to it is written."""

    def __init__(self, evidence: Evidence, responses: Mapping[str, Response]) -> None:
        self._evidence, self._responses = evidence, responses
        self.content = MemoryTable()

    def saw(self, before: Run, run: Run, by: Invocation) -> None:
        """Check that a new output is stored, and that it is the provider's."""
        if run.generates or len(run.turns) <= len(before.turns):
            return
        require = self._evidence.require
        for content, response_id in zip(run.turns[len(before.turns) :], run.responses[-1:], strict=True):
            response = self._responses[response_id]
            digit = run.usage.total_tokens // 4**response.number % 4
            require(digit == 1, 7, run.id, f"the tokens of {response_id} are counted {digit} times")
            text = self.load(run.id, content)
            right = text is not None and any(_follows(text, one, response) for one in response.answers)
            require(right, 4, run.id, f"the text of {response_id} is not the provider's")
            items = transcript.parse(text or "[]")
            self._evidence.runs[run.id].outputs.append(items)
            response.stored_calls = transcript.calls_among(items)
            self._gives_nothing_up(before, items, response, by)

    def _gives_nothing_up(
        self, before: Run, items: list[transcript.Item], response: Response, by: Invocation
    ) -> None:
        """Check that what was streamed is not given up for nothing."""
        require = self._evidence.require
        kept = bool(transcript.text_of(items) or transcript.refusal_of(items) or not before.written)
        require(kept, 4, before.id, f"the streamed text of {response.id} was given up for nothing")
        received, continuation = by.slices.get(response.id), before.continuation
        if received is None or received.final is None or continuation is None:
            return
        if received.after != continuation.sequence:
            return
        streamed = [change.item for change in received.changes if isinstance(change, ItemCompleted)]
        stored = {item.get("call_id") for item in items}
        lost = [item["call_id"] for item in streamed if item and item.get("call_id", "") not in {*stored, ""}]
        require(not lost, 4, before.id, f"the streamed calls {lost} were given up for nothing")

    def load(self, run_id: str, content: Content) -> str | None:
        packed = content.inline
        if packed is None:
            rows = self.content._partitions[run_id]
            found = [rows[key] for key in sorted(rows) if key.startswith(f"{content.name}|")]
            if len(found) != content.chunks:
                return None
            packed = b"".join(row.values[name] for row in found for name in sorted(row.values))  # type: ignore[misc]
        return zlib.decompress(packed).decode()


def _follows(text: str, reported: Snapshot, response: Response) -> bool:
    """Return whether an output is what was reported, with streamed items in the place of nothing."""
    if text == reported.output:
        return True
    base, added = transcript.parse(reported.output), transcript.parse(text)
    for item in base:
        if item not in added:
            return False
        added.remove(item)
    streamed = [change.item for change in response.ending.changes if isinstance(change, ItemCompleted)]
    answered = transcript.text_of(base) or transcript.refusal_of(base)
    return all(
        item in streamed or _is_streamed_text(item, response)
        for item in added
        if item.get("type") != "message" or not answered
    ) and not (answered and any(item.get("type") == "message" for item in added))


def _is_streamed_text(item: transcript.Item, response: Response) -> bool:
    hidden, texts = set[int | None](), list[str]()
    for change in response.ending.changes:
        if isinstance(change, ItemStarted) and change.commentary:
            hidden.add(change.index)
        if isinstance(change, TextAdded) and change.index not in hidden:
            texts.append(change.text)
    text = transcript.text_of([item])
    return "".join(texts).startswith(text) and item == transcript.message_of(text)
