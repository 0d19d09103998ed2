"""What the model writes in a response, and what the provider makes of it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from shared.core import transcript
from shared.core.response import (
    ItemCompleted,
    ItemStarted,
    PartCompleted,
    PartStarted,
    ResponseStatus,
    Snapshot,
    StreamChange,
    TextAdded,
    Usage,
)
from shared.ports.providers import ResponseRequest
from tests.proofs.simulation.faults import Faults
from tests.proofs.simulation.responses import Ending

if TYPE_CHECKING:
    from tests.proofs.simulation.waiting import Plan

# Text of a stream that is not in the finished response.
STRAY = "text of nothing that will be"
# The most deltas of one text.
_DELTAS = 30
_CALLS = frozenset({"function_call", "mcp_approval_request"})
# Calls that nobody in the app can answer.
_UNANSWERABLE: tuple[dict[str, Any], ...] = (
    {"type": "custom_tool_call", "call_id": "custom_1", "name": "draw", "input": "a line"},
    {"type": "computer_call", "call_id": "computer_1", "action": {"type": "click"}},
    # Without an id, nobody can answer it.
    {"type": "mcp_approval_request", "name": "pay", "arguments": "{}"},
)


class Endings:
    """Draws how responses end."""

    def __init__(self, random: Random, faults: Faults, long_text: str) -> None:
        self._random, self._faults, self._long_text = random, faults, long_text
        # What waits for people, in the seeds that have it.
        self.plan: Plan | None = None

    def draw(self, response_id: str, request: ResponseRequest, number: int) -> tuple[Ending, bool]:
        """Return how a response ends, and whether it takes long."""
        random = self._random
        items = self._items(response_id, request)
        # Each response is one digit of the sum, which shows how often it was counted.
        tokens = 4**number
        usage = Usage(tokens, 0, tokens, tokens, tokens)
        full = _with_output(
            Snapshot(response_id=response_id, status=ResponseStatus.COMPLETED, usage=usage), items
        )
        changes = tuple(_stream(items)) if request.stream else ()
        ending = Ending(full, full, full, changes=changes, emptied=random.random() < 0.5)
        kind = self._faults.draw("response")
        if kind is None and request.stream:
            kind = self._faults.draw("streamed")
        return self._marred(ending, items, kind), kind == "late"

    def _items(self, response_id: str, request: ResponseRequest) -> list[transcript.Item]:
        random = self._random
        calls = self._calls(response_id, request)
        text = f"text of {response_id}" + (self._long_text if random.random() < 0.02 else "")
        goes_on = request.turn == 1 and request.previous_response_id is not None
        match self._faults.draw("shape_of_next" if goes_on else "shape"):
            case "commentary":
                plan = _message(f"plan of {response_id}", "commentary")
                return [plan, *calls, _message(text, transcript.FINAL_ANSWER)]
            case "only_commentary":
                return [_message(text, "commentary"), *calls]
            case "refusal":
                refusal = {"type": "refusal", "refusal": f"no to {response_id}"}
                kept = [{"type": "output_text", "text": text}] if random.random() < 0.5 else []
                return [
                    *calls,
                    {"type": "message", "role": "assistant", "content": [*kept, refusal]},
                ]
            case "unanswerable":
                return [*calls, _message(text), random.choice(_UNANSWERABLE)]
        return [*calls, _message(text)]

    def _calls(self, response_id: str, request: ResponseRequest) -> list[transcript.Item]:
        random, names = self._random, list[str]()
        if self.plan:
            names = self.plan.names(random, request.tools, first=request.turn == 1)
            return [self.plan.item(name, f"call_{response_id}_{n}", random) for n, name in enumerate(names)]
        if random.random() < (0.7 if request.turn == 1 else 0.35):
            names = random.choices(
                ("pay", "look_up", "no_such_tool"), weights=(6, 4, 1), k=random.randint(1, 3)
            )
        return [
            {"type": "function_call", "call_id": f"call_{response_id}_{n}", "name": name, "arguments": "{}"}
            for n, name in enumerate(names)
        ]

    def _marred(self, ending: Ending, items: list[transcript.Item], kind: str | None) -> Ending:
        """Return the ending with a fault of this kind."""
        random, full = self._random, ending.full
        empty = replace(full, output="[]", calls=(), unanswerable=False)
        match kind:
            case "slow":
                return replace(ending, slow=random.choice((3.0, 5.0, 9.0)))
            case "contradicts_itself":
                return replace(ending, later=self._contradiction(full))
            case "ends_badly":
                return self._ended_badly(ending)
            case "ends_by_itself":
                bad = replace(full, status=ResponseStatus.CANCELLED, calls=(), unanswerable=False)
                return replace(ending, full=bad, final=bad, last_event=bad)
            case "stream_strays":
                return replace(ending, changes=tuple(_stream(_strayed(items, random.randrange(8)))))
            case "stream_end_empty":
                return replace(ending, last_event=empty)
            case "output_empty":
                return replace(ending, final=empty, last_event=empty)
            case "call_lost":
                left = [item for item in items if item.get("type") not in _CALLS]
                lost = _with_output(full, left)
                return replace(ending, final=lost, last_event=lost)
        return ending

    def _ended_badly(self, ending: Ending) -> Ending:
        status = self._random.choice((ResponseStatus.FAILED, ResponseStatus.INCOMPLETE))
        bad = replace(ending.full, status=status, incomplete_reason="max_output_tokens")
        if status is ResponseStatus.FAILED:
            bad = replace(bad, calls=(), unanswerable=False)
        short = replace(bad, output="[]", calls=(), unanswerable=False) if ending.emptied else bad
        return replace(ending, full=bad, final=short, last_event=short)

    def _contradiction(self, full: Snapshot) -> Snapshot:
        """Return another state of a response, for reads after its finished state was read."""
        status = self._random.choice(
            (ResponseStatus.COMPLETED, ResponseStatus.IN_PROGRESS, ResponseStatus.FAILED)
        )
        return replace(_with_output(full, [_message("Otherwise.")]), status=status)


def foreign(response_id: str, status: ResponseStatus = ResponseStatus.COMPLETED) -> Snapshot:
    """Return a response that belongs to another run."""
    return Snapshot(
        response_id=response_id,
        status=status,
        output=json.dumps([_message("text of another run")]),
        usage=Usage(4**20, 0, 4**20, 4**20, 4**20),
        run_id="run_of_another",
    )


def _message(text: str, phase: str | None = None) -> transcript.Item:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    return item | {"phase": phase} if phase else item


def _with_output(snapshot: Snapshot, items: list[transcript.Item]) -> Snapshot:
    return replace(
        snapshot,
        output=json.dumps(items),
        calls=transcript.calls_among(items),
        unanswerable=transcript.ends_unanswered(items),
    )


def _strayed(items: Sequence[transcript.Item], after: int) -> list[transcript.Item]:
    """Return the items, with other text after so many characters."""
    return [
        item | {"content": [_other_text(part, after) for part in item["content"]]}
        if item["type"] == "message"
        else item
        for item in items
    ]


def _other_text(part: dict[str, Any], after: int) -> dict[str, Any]:
    return part | {"text": part["text"][:after] + STRAY} if "text" in part else part


def _stream(items: Sequence[transcript.Item]) -> Iterator[StreamChange]:
    """Yield the changes that bring these items."""
    for index, item in enumerate(items):
        phase = item.get("phase")
        commentary = phase is not None and phase != transcript.FINAL_ANSWER
        yield ItemStarted(index, item["type"], item.get("name", ""), commentary)
        for part in item.get("content", ()):
            yield PartStarted(index, part["type"])
            text = part.get("text", "")
            size = max(1, -(-len(text) // _DELTAS))
            for start in range(0, len(text), size):
                yield TextAdded(index, text[start : start + size])
            yield PartCompleted(index)
        yield ItemCompleted(index, item)
