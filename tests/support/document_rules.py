"""Rules of answers that openapi.json does not state as schemas, because generators of clients cannot read conditions."""

from collections.abc import Collection
from typing import Any

from shared.core.run import TERMINAL

_ENDED = {status.value for status in TERMINAL}


def check_rules(answer: dict[str, Any], event_types: Collection[str]) -> None:
    """Raise AssertionError unless each run in an answer keeps the rules, and each event has one of the types."""
    for one in (answer, *answer.get("data", ()), *answer.get("runs", ())):
        if one.get("object") == "run":
            _check_run(one)
        if "at" in one:
            assert one["type"] in event_types


def _check_run(run: dict[str, Any]) -> None:
    status, ended = run["status"], run["status"] in _ENDED
    assert (run["completed_at"] is not None) == ended, "exactly a run that has ended has a time of its end"
    assert (run["duration_seconds"] is not None) == ended, "exactly a run that has ended has a duration"
    assert (run["progress"] is None) == ended, "exactly a pending run has progress"
    assert not (ended and run["waiting_for"]), "only a pending run waits"
    assert run["error"] or status != "failed", "a failed run has an error"
    assert not run["error"] or status in {"failed", "expired"}, "only a failed or expired run has an error"
    assert not run["incomplete_details"] or status == "incomplete", "only an incomplete run has its details"
