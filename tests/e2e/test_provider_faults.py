"""A faulty provider: each run has the expected outcome, and other runs go on."""

import pytest

from tests.e2e.site import Site, script, tool_call

PASSING = [
    {"kind": "status", "operation": "retrieve", "status": 429, "retry_after": 1, "times": 2},
    {"kind": "status", "operation": "retrieve", "status": 429, "retry_after": "date:1"},
    {"kind": "status", "operation": "retrieve", "status": 429, "retry_after": "-5"},
    {"kind": "status", "operation": "retrieve", "status": 429, "retry_after": "soon"},
    {"kind": "status", "operation": "retrieve", "status": 500, "times": 3},
    {"kind": "status", "operation": "retrieve", "status": 401, "times": 2},
    {"kind": "status", "operation": "retrieve", "status": 404, "times": 2},
    {"kind": "stall", "operation": "retrieve", "seconds": 3},
    {"kind": "cut", "operation": "retrieve"},
    {"kind": "lost_reply", "operation": "create"},
    {"kind": "status", "operation": "create", "status": 429, "retry_after": 1},
    {"kind": "status", "operation": "create", "status": 500},
    *(
        {"kind": "junk", "operation": "retrieve", "junk": junk, "times": 2}
        for junk in ("html", "list", "string", "null", "truncated", "empty", "no_output", "null_output", "text_output", "no_status", "no_id", "unknown_status")
    ),
    {"kind": "junk", "operation": "create", "junk": "html"},
]  # fmt: skip


def named(fault: dict[str, object]) -> str:
    return "-".join(str(value) for value in fault.values())


def test_a_temporary_fault_does_not_change_the_outcome(site: Site) -> None:
    """All faults at once, each for one run: a fault must not end its run, and must not delay the others."""
    runs = {}
    for n, fault in enumerate(PASSING):
        mark = f"fault-{n}-"
        site.fault(**fault, contains=mark)
        runs[named(fault)] = site.start(mark + script(turns=[{"text": f"text {n}"}], seconds=0.5))
    found = {name: site.outcome(run_id) for name, run_id in runs.items()}
    assert {name: (run["status"], run["output_text"]) for name, run in found.items()} == {
        name: ("completed", f"text {n}") for n, name in enumerate(runs)
    }


@pytest.mark.parametrize("stream", [False, True])
def test_a_create_whose_reply_was_lost_is_repeated_without_a_second_response(
    site: Site, stream: bool
) -> None:
    mark = f"repeated-{stream}-"
    with site.honouring_keys():
        before = site.provider_log()["counters"]["created"]
        site.fault(kind="lost_reply", operation="create", contains=mark, times=2)
        run = site.outcome(site.start(mark + script(turns=[{"text": "once"}]), stream=stream))
        assert (run["status"], run["output_text"]) == ("completed", "once")
        assert site.provider_log()["counters"]["created"] == before + 1


def test_an_unknown_item_is_kept(site: Site) -> None:
    odd = {"type": "quantum_call", "id": "qc_1", "x": [1]}
    run = site.outcome(site.start(script(turns=[{"items": [odd], "text": "fine"}])))
    assert run["status"] == "completed"
    assert "quantum_call" in {item["type"] for item in run["output"]}


@pytest.mark.parametrize(
    ("status", "code"), [(401, "provider_denied"), (403, "provider_denied"), (404, "model_not_found")]
)
def test_a_create_that_cannot_succeed_fails_at_once(site: Site, status: int, code: str) -> None:
    mark = f"create-{status}-"
    site.fault(kind="status", operation="create", status=status, contains=mark)
    reply = site.api("POST", "runs", {"agent": "scripted", "input": mark + script(turns=[{"text": "never"}])})
    assert (reply.status, reply.body["status"], reply.body["error"]["code"]) == (200, "failed", code)
    assert "local" not in reply.body["error"]["message"]


def test_a_key_that_is_refused_in_a_later_turn_is_tried_again(site: Site) -> None:
    mark = "rotated-"
    site.fault(kind="status", operation="create", status=401, nth=2, contains=mark)
    run = site.outcome(
        site.start(mark + script(turns=[{"calls": [tool_call("pay", "rot")]}, {"text": "in again"}]))
    )
    assert (run["status"], run["output_text"]) == ("completed", "in again")


def test_the_outcome_at_the_provider_is_the_outcome_of_the_run(site: Site) -> None:
    failed = site.start(
        script(
            turns=[
                {
                    "text": "half",
                    "status": "failed",
                    "error": {"code": "server_error", "message": "It broke."},
                }
            ]
        )
    )
    cut = site.start(script(turns=[{"text": "half", "status": "incomplete"}]))
    assert site.outcome(failed)["error"] == {
        "code": "server_error",
        "message": "It broke.",
        "provider_code": "server_error",
    }
    run = site.outcome(cut)
    assert (run["status"], run["incomplete_details"], run["output_text"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
        "half",
    )


def test_a_status_that_changes_after_the_end_does_not_change_the_run(site: Site) -> None:
    mark = "flip-"
    site.fault(kind="flip", operation="retrieve", to="completed", contains=mark)
    run_id = site.start(mark + script(turns=[{"text": "never"}], seconds=60))
    site.api("POST", f"runs/{run_id}/cancel")
    before = site.outcome(run_id)
    assert before["status"] == "cancelled"
    other = site.outcome(site.start(script(turns=[{"text": "a"}], seconds=2)))
    assert other["status"] == "completed"
    assert site.get(run_id) == before
