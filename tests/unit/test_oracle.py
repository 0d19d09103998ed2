"""The oracle finds each kind of fault, and none in a run that is right."""

from dataclasses import replace

import pytest

from tests.support.fakes import answer, asks
from tests.support.oracle import (
    Effects,
    Expected,
    Seen,
    judge_answers,
    judge_effects,
    judge_rows,
    judge_run,
    judge_session,
    read_as_client,
)

EVENTS = [
    {"id": 1, "type": "run.queued"},
    {"id": 2, "type": "turn.started", "turn": 1},
    {"id": 3, "type": "text.delta", "text": "The "},
    {"id": 4, "type": "text.delta", "text": "end."},
    {"id": 5, "type": "run.completed"},
]
RUN = {"status": "completed", "output_text": "The end.", "usage": {"total_tokens": 3}}
CALLS = ("pay rent", "look_up map")
EXPECTED = Expected(text="The end.", total_tokens=3, calls=CALLS)
SEEN = Seen(
    name="first",
    run=RUN,
    events=EVENTS,
    calls=[(call, "completed") for call in CALLS],
    responses=["completed", "completed"],
)
EFFECTS = Effects.parse(["pay rent key-1", "look_up map key-2 and more"])
DELETED = Expected(status=None)
GONE = Seen(name="first", answer=404, run=None, responses=["Absent"])


def kinds(findings) -> list[str]:
    return [finding.kind for finding in findings]


@pytest.mark.parametrize(("expected", "seen"), [(EXPECTED, SEEN), (DELETED, GONE)])
def test_a_run_that_is_right_has_no_finding(expected, seen):
    assert kinds(judge_run(expected, seen, EFFECTS)) == []


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"answer": 404, "run": None}, "lost"),
        ({"run": RUN | {"status": "in_progress"}}, "lost"),
        ({"run": RUN | {"status": "failed"}}, "wrong outcome"),
        ({"run": RUN | {"usage": {"total_tokens": 6}}}, "wrong usage"),
        ({"events": [EVENTS[0], *EVENTS[2:]]}, "gap in the feed"),
        ({"events": EVENTS[:3] + [event | {"id": event["id"] - 1} for event in EVENTS[4:]]}, "wrong text in the feed"),
        ({"events": EVENTS[:4]}, "wrong end of the feed"),
        ({"events": [*EVENTS[:2], EVENTS[1] | {"id": 3}, *(e | {"id": e["id"] + 1} for e in EVENTS[2:])]}, "repeated event in the feed"),
        ({"responses": ["completed", "cancelled"]}, "wrong responses at the provider"),
        ({"responses": []}, "wrong responses at the provider"),
        ({"calls": SEEN.calls[:1]}, "wrong tool calls"),
        ({"calls": [*SEEN.calls, SEEN.calls[0]]}, "wrong tool calls"),
        ({"calls": [("pay rent", "failed"), SEEN.calls[1]]}, "wrong status of a tool call"),
        ({"calls": [("pay rent", "unknown"), SEEN.calls[1]]}, "wrong status of a tool call"),
        ({"interrupted": ["pay rent"]}, "wrong status of a tool call"),
        ({"calls": [SEEN.calls[0], ("look_up map", "unknown")], "interrupted": None}, "wrong status of a tool call"),
    ],
)  # fmt: skip
def test_a_run_that_is_wrong_is_found(changes, kind):
    assert kinds(judge_run(EXPECTED, replace(SEEN, **changes), EFFECTS)) == [kind]


def test_a_text_that_is_not_the_providers_is_found():
    assert kinds(judge_run(replace(EXPECTED, text="The start."), SEEN, EFFECTS)) == ["wrong text"]


def test_a_deleted_run_that_is_still_there_is_found():
    left = replace(GONE, answer=200, responses=["completed"])
    assert kinds(judge_run(DELETED, left, EFFECTS)) == [
        "deleted run is readable",
        "wrong responses at the provider",
    ]


def test_a_completed_call_without_an_effect_is_found():
    assert kinds(judge_run(EXPECTED, SEEN, Effects())) == ["tool call completed without effect"] * 2


@pytest.mark.parametrize(
    ("call", "interrupted", "status"),
    [
        ("pay rent", ["pay rent"], "unknown"),
        ("pay rent", None, "unknown"),
        ("pay rent", None, "completed"),
        ("look_up map", ["look_up map"], "completed"),
    ],
)
def test_the_right_status_of_an_interrupted_call_is_no_finding(call, interrupted, status):
    seen = replace(SEEN, calls=[(call, status)], interrupted=interrupted)
    assert kinds(judge_run(replace(EXPECTED, calls=[call]), seen, EFFECTS)) == []


@pytest.mark.parametrize(
    ("effects", "interrupted", "found"),
    [
        (["pay rent a", "look_up map b"], (), []),
        (["look_up map b", "look_up map b"], ["look_up map"], []),
        (["look_up map b", "look_up map b", "look_up map b"], None, []),
        (["look_up map b", "look_up map b"], (), ["effect doubled"]),
        (["look_up map b", "look_up map b", "look_up map b"], ["look_up map"], ["effect doubled"]),
        (["pay rent a", "pay rent a"], ["pay rent"], ["effect doubled"]),
        (["pay rent a", "pay rent a"], None, ["effect doubled"]),
        (["look_up map b", "look_up map c"], None, ["effect repeated with another key"]),
        (["pay rent a", "look_up map a"], (), ["one key for several calls"]),
        (["pay fuel a"], (), ["effect that nobody asked for"]),
    ],
)
def test_effects_are_counted_by_call_and_key(effects, interrupted, found):
    assert kinds(judge_effects(Effects.parse(effects), [EXPECTED], interrupted)) == found


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("pending|", []),
        ("event|run_1|00000001", []),
        ("session|ses_1", []),
        ("pending|run_1", ["row left over"]),
        ("pending~2026|run_1|x", ["row left over"]),
        ("delivery|run_1|x", ["row left over"]),
        ("event|run_2|00000001", ["row left over"]),
        ("tool|run_2|01|x", ["row left over"]),
        ("answer|run_1|01|x", []),
        ("answer|run_2|01|x", ["row left over"]),
        ("paused|2026|run_1", ["row left over"]),
        ("pending~2026|run_1|wait", ["row left over"]),
        ("run|run_3", ["wrong runs in storage"]),
    ],
)
def test_rows_that_nothing_needs_are_found(key, found):
    assert kinds(judge_rows(["run|run_1", "run|run_2", key], ["run_1", "run_2"], ["run_2"])) == found


def test_texts_and_runs_that_are_missing_or_left_over_are_found():
    assert kinds(judge_rows([], ["run_1"], [], 1)) == ["wrong runs in storage", "text left over"]


@pytest.mark.parametrize("changes", [{"deleted": True}, {"held_by": "run_1"}, {"runs": 2}])
def test_a_session_that_is_wrong_is_found(changes):
    right = {"deleted": False, "held_by": None, "runs": 1, "owner": "me"}
    assert kinds(judge_session(right, 1)) == []
    assert kinds(judge_session(right | changes, 1)) == ["wrong session"]


def given(asked: str, answer: int, /, name: str = "first", **body: str) -> dict[str, object]:
    return {"name": name, "asked": asked, "status": answer, "body": body or None}


ENDED = given("get", 200, id="run_1", status="completed")


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([given("start", 202, id="run_1", status="queued"), ENDED, ENDED, given("delete", 204), given("get", 404)], []),
        ([ENDED, given("delete", 204), ENDED], ["deleted run comes back"]),
        ([ENDED, given("delete_session", 204, name=""), ENDED], ["deleted run comes back"]),
        ([ENDED, given("get", 200, id="run_1", status="failed")], ["outcome changed"]),
        ([ENDED, given("get", 200, id="run_1", status="queued"), ENDED], ["outcome changed"]),
        ([given("start", 202, id="run_1", status="queued"), given("start", 202, id="run_2", status="queued")], ["several runs for one Idempotency-Key"]),
    ],
)  # fmt: skip
def test_answers_that_do_not_fit_together_are_found(answers, found):
    assert kinds(judge_answers(answers)) == found


async def test_a_run_is_read_with_its_complete_feed(world, client):
    run_id = (await client.start()).json["id"]
    world.provider.state["resp_1"] = asks("resp_1", "pay")
    world.provider.state["resp_2"] = answer("resp_2", "The end.")
    await world.until_terminal(run_id)
    [(call_id, effects)] = world.agents.runs.items()
    call = f"pay {call_id}"
    seen = await read_as_client(client, run_id, name="first", calls=[(call, "completed")])
    assert seen.events[-1]["type"] == "run.completed"
    expected = Expected(text="The end.", calls=[call], total_tokens=22)
    assert kinds(judge_run(expected, seen, Effects({call: ["key"] * effects}))) == []
