"""The auditor of the soak finds each kind of violation."""

from typing import Any

import pytest

from tests.proofs.soak.audit import audit
from tests.proofs.soak.orders import Order
from tests.support.oracle import Effects

ORDER = Order(number=1, seconds=10)
EFFECTS = ("charge n1.0 key-a 77 0.1", "look_up n1.0 key-b 77 0.1")


def run(**changes: Any) -> dict[str, Any]:
    calls = [{"name": name, "turn": 1, "status": "completed"} for name in ("charge", "look_up")]
    complete = {
        "id": "run_1",
        "status": "completed",
        "error": None,
        "output_text": ORDER.text,
        "tool_calls": calls,
    }
    return complete | changes


def calls(charge: str, look_up: str) -> list[dict[str, Any]]:
    return [
        {"name": "charge", "turn": 1, "status": charge},
        {"name": "look_up", "turn": 1, "status": look_up},
    ]


def kinds(found: dict[str, Any] | None, effects: tuple[str, ...] = EFFECTS) -> list[str]:
    runs = {} if found is None else {"run_1": found}
    return list(audit({"run_1": ORDER}, runs, Effects.parse(effects)).violations)


def test_a_run_that_keeps_every_promise_has_no_violation() -> None:
    verdict = audit({"run_1": ORDER}, {"run_1": run()}, Effects.parse(EFFECTS))
    assert (verdict.ended, verdict.unknown_calls, verdict.violations) == ({"completed": 1}, 0, {})


@pytest.mark.parametrize(
    ("number", "status", "kinds"),
    [
        (7, "cancelled", []),
        (7, "completed", ["wrong outcome"]),
        (9, "deleted", []),
        (9, "cancelled", ["deleted run is readable"]),
    ],
)
def test_a_run_that_a_client_ends_has_to_end_so(number: int, status: str, kinds: list[str]) -> None:
    order = Order(number=number, seconds=10)
    found = {"id": "run_1", "status": status, "error": None, "output_text": "", "tool_calls": []}
    assert list(audit({"run_1": order}, {"run_1": found}, Effects()).violations) == kinds


@pytest.mark.parametrize(
    ("number", "status", "effects", "kinds"),
    [
        (17, "completed", ("refund n17.0 key-c 77 0.1",), []),
        (17, "completed", (), ["tool call completed without effect"]),
        (17, "refused", (), ["wrong status of a tool call"]),
        (17, "completed", ("refund n17.0 key-c 77 0.1",) * 2, ["effect doubled"]),
        (5, "refused", (), []),
        (5, "refused", ("refund n5.0 key-c 77 0.1",), ["effect that nobody asked for"]),
        (5, "completed", (), ["wrong status of a tool call"]),
    ],
)
def test_a_call_that_waits_runs_only_if_it_is_approved(
    number: int, status: str, effects: tuple[str, ...], kinds: list[str]
) -> None:
    order = Order(number=number, seconds=10)
    others = [line.replace("n1.0", f"{order.mark}.0") for line in EFFECTS]
    called = [*calls("completed", "completed"), {"name": "refund", "turn": 1, "status": status}]
    found = run(output_text=order.text, tool_calls=called)
    verdict = audit({"run_1": order}, {"run_1": found}, Effects.parse([*others, *effects]))
    assert list(verdict.violations) == kinds


def test_a_repeated_idempotent_call_and_an_unknown_one_are_counted() -> None:
    unknown = run(tool_calls=calls("unknown", "completed"))
    verdict = audit({"run_1": ORDER}, {"run_1": unknown}, Effects.parse([*EFFECTS, EFFECTS[1]]))
    assert (verdict.unknown_calls, verdict.repeated_look_ups, verdict.violations) == (1, 1, {})


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (None, "lost"),
        (run(status="in_progress"), "lost"),
        (run(status="failed", output_text=""), "wrong outcome"),
        (run(output_text=ORDER.text[:-1]), "wrong text"),
        (run(tool_calls=[]), "wrong tool calls"),
        (run(tool_calls=calls("completed", "completed") * 2), "wrong tool calls"),
        (run(tool_calls=calls("failed", "completed")), "wrong status of a tool call"),
        (run(tool_calls=calls("completed", "unknown")), "wrong status of a tool call"),
    ],
)
def test_a_run_that_breaks_a_promise_is_found(found: dict[str, Any] | None, kind: str) -> None:
    assert kinds(found) == [kind]


@pytest.mark.parametrize(
    ("effects", "kind"),
    [
        (EFFECTS[1:], "tool call completed without effect"),
        ((*EFFECTS, EFFECTS[0]), "effect doubled"),
        ((*EFFECTS, "look_up n1.0 key-c 77 0.1"), "effect repeated with another key"),
        ((*EFFECTS, "charge n2.0 key-a 77 0.1"), "effect that nobody asked for"),
    ],
)
def test_effects_that_break_a_promise_are_found(effects: tuple[str, ...], kind: str) -> None:
    assert kinds(run(), effects) == [kind]
