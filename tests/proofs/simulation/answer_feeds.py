"""Holds what readers of feeds were told against each other, and against the outcome."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tests.proofs.simulation.evidence import Evidence
from tests.support.feeds import text_after

_ENCODER = json.JSONEncoder(sort_keys=True)


class FeedAuditor:
    """Knows every event that anybody was ever told of a run."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        # By run and number: each event, and its JSON text, which tells 1 from true.
        self._events: dict[str, dict[int, tuple[str, Mapping[str, Any]]]] = defaultdict(dict)
        # The text of each run that has ended, as a read of its status told it.
        self._outcomes: dict[str, str] = {}
        self._finished: set[str] = set()

    def read(self, run_id: str, output_text: str) -> None:
        self._outcomes[run_id] = output_text
        self._ended_rightly(run_id)

    def told(self, run_id: str, after: int, feed: Mapping[str, Any]) -> None:
        """Take the answer to who had all events up to `after`."""
        known, require = self._events[run_id], self._evidence.require
        ids = [event["id"] for event in feed["data"]]
        require(ids == list(range(after + 1, after + 1 + len(ids))), 4, run_id, f"its feed goes {ids}")
        for event in feed["data"]:
            text = _ENCODER.encode(event)
            same, _ = known.setdefault(event["id"], (text, event))
            require(same == text, 4, run_id, f"event {event['id']} was another one")
        if feed["done"]:
            require(not ids or max(known) == ids[-1], 4, run_id, "its feed went on after its end")
            self._finished.add(run_id)
            self._ended_rightly(run_id)

    def _ended_rightly(self, run_id: str) -> None:
        """Whoever has read to the end holds the text of the outcome."""
        events = self._events[run_id]
        if run_id not in self._finished or run_id not in self._outcomes or len(events) < max(events):
            return
        text = ""
        for number in sorted(events):
            text = text_after(text, events[number][1])
        wanted = self._outcomes[run_id]
        self._evidence.require(
            text == wanted, 4, run_id, f"its feed comes to {text[:40]!r}, not to {wanted[:40]!r}"
        )
