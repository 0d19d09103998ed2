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
        if one.get("object") == "call":
            _check_call(one)
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
    waits = status == "requires_action"
    assert (run["required_action"] is not None) == waits, (
        "exactly a run that waits for people names its calls"
    )
    assert (run["expires_at"] is None) == waits, (
        "exactly the clock of a run that waits for people stands still"
    )
    waiting = {call["id"]: call["status"] for call in run["tool_calls"]}
    for call in run["required_action"] or ():
        assert waiting.get(call["id"]) == "waiting", "what a run requires is about calls that wait"
    if waits:
        assert list(waiting.values()).count("waiting") == len(run["required_action"])
    assert not run["incomplete_details"] or status == "incomplete", "only an incomplete run has its details"


def _check_call(call: dict[str, Any]) -> None:
    answer, has_waited = call["answer"], call["type"] is not None
    assert (call["waiting_since"] is not None) == has_waited, "a call that waits has done so since a time"
    assert (call["expires_at"] is not None) == has_waited, "each wait has an end"
    assert has_waited or (answer is None and call["status"] != "waiting"), (
        "only a call that waits has an answer"
    )
    assert not (answer and call["status"] == "waiting"), "a call with an answer does not wait"
    if answer:
        assert (answer["type"] == "refused") == (call["status"] == "refused")
        assert (answer["type"] == "timed_out") == (call["status"] == "timed_out")
        assert not answer["reason"] or answer["type"] == "refused", "only a refusal has a reason"
        assert answer["arguments"] is None or answer["type"] == "approved", (
            "only an approval changes arguments"
        )
