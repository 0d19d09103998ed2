"""The calls of the fake API that wait for people: their lists, and the answers to them."""

from typing import Any
from urllib.parse import urlencode

from tests.browser.fake_run import OVER, FakeRun

Answer = tuple[int, Any]
STATUS = {"approved": "queued", "refused": "refused", "output": "completed", "error": "failed"}


def listing(calls: list[dict[str, Any]], path: str, query: dict[str, str]) -> Answer:
    begin, limit = int(query.get("cursor", 0)), int(query["limit"])
    assert 1 <= limit <= 100
    body: dict[str, Any] = {"object": "list", "data": calls[begin : begin + limit]}
    if len(calls) > begin + limit:
        body["nextLink"] = f"http://elsewhere.invalid/api/{path}?{urlencode({'cursor': begin + limit})}"
    return 200, body


def waits(runs: list[FakeRun], owners: dict[str, str], me: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the waiting approvals of all runs, oldest first. Those without an owner are the caller's."""
    found = [
        asked | {"agent": run.agent, "owner": owners.get(run.id, me["owner"])}
        for run in runs
        for asked in run.asked
        if asked["status"] == "waiting" and asked["type"] == "approval"
    ]
    return sorted(found, key=lambda asked: str(asked["waiting_since"]))


def answer(run: FakeRun, call_id: str, body: dict[str, Any], me: dict[str, Any]) -> Answer:
    asked = next((one for one in run.asked if one["id"] == call_id), None)
    if asked is None:
        return problem(404, "call_not_found", "There is no such call.")
    kind = "output" if body.keys() & {"output", "error"} else "approval"
    needed = "caller" if kind == "output" else "approver"
    if needed not in me["roles"]:
        return problem(403, "role_missing", f"This needs the role {needed}.")
    given = _given(body)
    if asked["answer"] is not None:
        if all(asked["answer"][name] == value for name, value in given.items()):
            return 200, asked | {"run_status": run.status}
        return problem(409, "call_answered", "Another answer was given.")
    if run.status in OVER:
        return problem(409, "run_ended", "The run has ended.")
    if run.status == "cancelling":
        return problem(409, "run_cancelling", "The run is being cancelled.")
    run.settle(asked, STATUS[given["type"]], by=me["owner"], by_name=me["name"], **given)
    return 200, asked | {"run_status": run.status}


def _given(body: dict[str, Any]) -> dict[str, Any]:
    match body:
        case {"approve": True}:
            return {"type": "approved", "arguments": body.get("arguments")}
        case {"approve": False}:
            return {"type": "refused", "reason": body.get("reason")}
        case {"output": _}:
            return {"type": "output"}
    return {"type": "error"}


def problem(status: int, code: str, detail: str, **more: Any) -> Answer:
    return status, {"title": "No", "status": status, "detail": detail, "code": code} | more
