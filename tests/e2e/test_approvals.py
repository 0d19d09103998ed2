"""Runs that wait for people: approved, refused, changed, too late, cancelled, and through the death of hosts."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import NewSite
from tests.e2e.site import ROOT, Answer, Site, call, script, wait_until

Json = dict[str, Any]
METER = {"type": "function", "name": "read_clock", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def clerk(new_site: NewSite, tmp_path: Path) -> Site:
    """The app with the refund clerk. Refunds are files in a folder of the site."""
    made = new_site(ROOT / "agents", REFUNDS_FOLDER=str(tmp_path / "refunds"))
    made.add_host()
    return made


def refunds(site: Site) -> list[Json]:
    folder = Path(site.changes["REFUNDS_FOLDER"])
    return [json.loads(file.read_text()) for file in folder.rglob("*.json")]


def asked(site: Site, run_id: str) -> list[Json]:
    """Return what a run waits for, once it waits."""
    wait_until(lambda: site.get(run_id)["status"] == "requires_action", f"{run_id} waits")
    actions: list[Json] = site.get(run_id)["required_action"]
    return actions


def answer(site: Site, run_id: str, action: Json, body: Json, *, host: int = 0) -> Answer:
    return site.api("POST", f"runs/{run_id}/calls/{action['id']}", body, host=host)


def one_call(name: str, **arguments: object) -> str:
    """Return the input of a run that calls a tool, and then ends."""
    return script(turns=[{"calls": [{"name": name, "arguments": arguments}]}, {"text": "done"}])


def told(site: Site, run_id: str) -> list[str]:
    """Return what the model got as outputs and decisions, as the provider has stored it."""
    last = [event for event in site.events(run_id) if event["type"] == "turn.started"][-1]
    conversation = site.provider_sees(last["response_id"])["conversation"]
    texts = {"function_call_output": "output", "mcp_approval_response": "reason"}
    return [str(item.get(texts[item["type"]])) for item in conversation if item["type"] in texts]


def test_a_refund_is_made_once_although_the_host_dies_while_it_waits(clerk: Site) -> None:
    run_id = clerk.start("Refund 120 euros of order A-1002.", agent="refund_clerk")
    [action] = asked(clerk, run_id)
    assert (action["type"], action["name"]) == ("approval", "refund")
    assert json.loads(action["arguments"]) == {"order": "A-1002", "euros": 120}
    clerk.crash(0)
    run = clerk.get(run_id)
    assert (run["status"], run["required_action"], run["expires_at"]) == ("requires_action", [action], None)
    assert refunds(clerk) == []
    replies = [answer(clerk, run_id, action, {"approve": True}) for _ in range(3)]
    assert [reply.status for reply in replies] == [200] * 3
    assert clerk.outcome(run_id)["output_text"] == "120.00 euros of order A-1002 were refunded."
    assert [(each["order"], each["euros"]) for each in refunds(clerk)] == [("A-1002", 120)]
    assert answer(clerk, run_id, action, {"approve": False}).body["code"] == "call_answered"


def test_a_small_refund_asks_nobody(clerk: Site) -> None:
    run = clerk.outcome(clerk.start("Refund 50 euros of order A-1002.", agent="refund_clerk"))
    assert run["output_text"] == "50.00 euros of order A-1002 were refunded."
    assert len(refunds(clerk)) == 1


def test_an_answer_to_another_host_is_carried_out_there(clerk: Site) -> None:
    run_id = clerk.start("Refund 120 euros of order A-1002.", agent="refund_clerk")
    [action] = asked(clerk, run_id)
    clerk.add_host()
    with clerk.standing_still(0):
        assert answer(clerk, run_id, action, {"approve": True}, host=1).status == 200
        wait_until(
            lambda: clerk.api("GET", f"runs/{run_id}", host=1).body["status"] == "completed", "it has ended"
        )
    assert len(refunds(clerk)) == 1


def test_an_answer_survives_the_host_that_took_it(clerk: Site) -> None:
    clerk.add_host()
    run_id = clerk.start("Refund 120 euros of order A-1002.", agent="refund_clerk")
    [action] = asked(clerk, run_id)
    assert answer(clerk, run_id, action, {"approve": True}, host=1).status == 200
    clerk.hosts[1].kill()
    assert clerk.outcome(run_id)["output_text"] == "120.00 euros of order A-1002 were refunded."
    assert len(refunds(clerk)) == 1


def test_the_model_is_told_why_a_call_was_refused(clerk: Site) -> None:
    run_id = clerk.start("Refund 120 euros of order A-1002.", agent="refund_clerk")
    [action] = asked(clerk, run_id)
    reply = answer(clerk, run_id, action, {"approve": False, "reason": "The chair was \u201cas new\u201d."})
    assert (reply.status, reply.body["status"]) == (200, "refused")
    text = clerk.outcome(run_id)["output_text"]
    assert text.startswith("I have not refunded 120.00 euros of order A-1002.")
    assert "The chair was \u201cas new\u201d." in text
    assert refunds(clerk) == []


def test_a_call_runs_with_the_arguments_that_the_approver_sent(clerk: Site) -> None:
    run_id = clerk.start("Refund 120 euros of order A-1002.", agent="refund_clerk")
    [action] = asked(clerk, run_id)
    wrong = answer(clerk, run_id, action, {"approve": True, "arguments": {"order": "A-1002", "euros": "all"}})
    assert (wrong.status, wrong.body["code"]) == (422, "invalid_arguments")
    changed = {"order": "A-1002", "euros": 80}
    reply = answer(clerk, run_id, action, {"approve": True, "arguments": changed})
    assert reply.body["answer"]["arguments"] == changed
    assert json.loads(reply.body["arguments"]) == {"order": "A-1002", "euros": 120}
    text = clerk.outcome(run_id)["output_text"]
    assert text == "80.00 euros of order A-1002 were refunded. I had asked for 120.00 euros."
    assert [each["euros"] for each in refunds(clerk)] == [80]


def test_nobody_answers_in_time(site: Site) -> None:
    run_id = site.start(one_call("hurry", mark="late"), agent="asking")
    [action] = asked(site, run_id)
    run = site.outcome(run_id)
    assert (run["status"], run["tool_calls"][0]["status"]) == ("completed", "timed_out")
    assert "Nobody answered within 2 seconds." in told(site, run_id)[0]
    assert not site.traces()
    assert answer(site, run_id, action, {"approve": True}).body["code"] == "wait_ended"


def test_a_run_that_waits_can_be_cancelled_and_deleted(site: Site) -> None:
    text = one_call("transfer", mark="never", euros=60)
    runs = [site.start(text, agent="asking") for _ in range(2)]
    actions = [asked(site, run_id)[0] for run_id in runs]
    cancelled, deleted = runs
    assert site.api("POST", f"runs/{cancelled}/cancel").status == 200
    run = site.outcome(cancelled)
    assert (run["status"], run["tool_calls"][0]["status"]) == ("cancelled", "cancelled")
    assert site.api("DELETE", f"runs/{deleted}").status == 204
    replies = [
        answer(site, run_id, action, {"approve": True}) for run_id, action in zip(runs, actions, strict=True)
    ]
    assert [reply.body["code"] for reply in replies] == ["run_ended", "run_not_found"]
    assert not site.traces()
    listed = site.api("GET", "waits").body["data"]
    assert not {each["run_id"] for each in listed} & set(runs)


def mixed(mark: str) -> str:
    """Return the input of a run whose turn has calls of all kinds."""
    calls = [
        {"name": "note", "arguments": {"mark": mark}},
        {"name": "transfer", "arguments": {"mark": mark, "euros": 60}},
        {"name": "read_meter", "arguments": {}},
        {"name": "read_clock", "arguments": {}},
    ]
    return script(turns=[{"calls": calls}, {"text": f"done {mark}"}])


def test_own_calls_approvals_and_calls_of_the_caller_in_one_turn(site: Site) -> None:
    run_id = site.start(mixed("all"), agent="asking", tools=[METER])
    actions = asked(site, run_id)
    assert [(each["name"], each["type"]) for each in actions] == [
        ("transfer", "approval"),
        ("read_meter", "output"),
        ("read_clock", "output"),
    ]
    # What needs nobody has run meanwhile.
    assert site.traces() == {"all": 1}
    transfer, meter, clock = actions
    assert answer(site, run_id, meter, {"approve": True}).body["code"] == "answer_does_not_fit"
    assert answer(site, run_id, meter, {"output": {"kWh": 7}}).status == 200
    assert answer(site, run_id, clock, {"error": "It has stopped."}).status == 200
    assert [each["name"] for each in asked(site, run_id)] == ["transfer"]
    assert answer(site, run_id, transfer, {"approve": True}).status == 200
    assert site.outcome(run_id)["output_text"] == "done all"
    assert site.traces() == {"all": 1, "all:60": 1}
    outputs = told(site, run_id)
    assert outputs[:2] == ["noted all", "transferred 60"]
    assert json.loads(outputs[2]) == {"kWh": 7}
    assert json.loads(outputs[3])["error"]["message"] == "It has stopped."


def test_a_caller_that_comes_back_with_the_outputs_in_a_new_run(site: Site) -> None:
    run_id = site.start(mixed("end"), agent="asking", tools=[METER], caller_calls="end")
    # The call that needs an approval comes first: the run ends when only the caller's calls are left.
    [action] = asked(site, run_id)
    assert answer(site, run_id, action, {"approve": True}).status == 200
    run = site.outcome(run_id)
    assert run["status"] == "completed"
    statuses = [each["status"] for each in run["tool_calls"]]
    assert statuses == ["completed", "completed", "handed_over", "handed_over"]
    outputs = [
        {"type": "function_call_output", "call_id": each["call_id"], "output": f"from {each['name']}"}
        for each in run["tool_calls"][2:]
    ]
    body = {"agent": "asking", "session_id": run["session_id"], "tools": [METER], "caller_calls": "end"}
    missing = site.api("POST", "runs", {**body, "input": outputs[:1]})
    assert (missing.status, missing.body["code"]) == (422, "output_missing")
    following = site.api("POST", "runs", {**body, "input": outputs})
    assert following.status == 202
    assert site.outcome(following.body["id"])["output_text"] == "done end"
    assert sorted(told(site, following.body["id"])) == [
        "from read_clock",
        "from read_meter",
        "noted end",
        "transferred 60",
    ]
    assert site.traces() == {"end": 1, "end:60": 1}


def forget(site: Site, run_id: str) -> None:
    """Delete all responses of a run at the provider, so that it no longer knows the chain."""
    for event in site.events_so_far(run_id):
        if event["type"] == "turn.started":
            url = f"{site.provider}/responses/{event['response_id']}"
            assert call("DELETE", url, headers={"authorization": "Bearer local"}).status == 200


@pytest.mark.parametrize("agent", ["asking", "hosted"])
def test_an_answer_survives_a_provider_that_no_longer_knows_the_chain(site: Site, agent: str) -> None:
    text = {"asking": one_call("transfer", mark="chain", euros=60), "hosted": "Tell me about comets."}[agent]
    run_id = site.start(text, agent=agent)
    [action] = asked(site, run_id)
    forget(site, run_id)
    assert answer(site, run_id, action, {"approve": True}).status == 200
    run = site.outcome(run_id)
    said = {"asking": "done", "hosted": "search of wiki has found three pages about comets."}[agent]
    assert (run["status"], run["output_text"]) == ("completed", said)
    assert site.traces() == ({"chain:60": 1} if agent == "asking" else {})


def test_a_hosted_server_asks_and_is_answered(site: Site) -> None:
    runs = [site.start("Tell me about comets.", agent="hosted") for _ in range(2)]
    approved, refused = [(run_id, asked(site, run_id)[0]) for run_id in runs]
    assert (approved[1]["type"], approved[1]["name"]) == ("approval", "search")
    fixed = answer(site, *approved, {"approve": True, "arguments": {"query": "moons"}})
    assert (fixed.status, fixed.body["code"]) == (422, "arguments_fixed")
    assert answer(site, *approved, {"approve": True}).status == 200
    assert answer(site, *refused, {"approve": False, "reason": "Not today."}).status == 200
    texts = [site.outcome(run_id)["output_text"] for run_id in runs]
    assert texts == [
        "search of wiki has found three pages about comets.",
        "I have not called search of wiki. I was told: Not today.",
    ]


ROLES = {"shop": ["caller"], "anna": ["approver"], "ben": ["approver"], "eve": ["reader"]}
KEYS = [
    {"name": name, "roles": roles, "sha256": hashlib.sha256(f"key-of-{name}".encode()).hexdigest()}
    for name, roles in ROLES.items()
]


def test_of_two_approvers_the_second_is_told_who_was_first(new_site: NewSite) -> None:
    site = new_site(AUTH="callers", API_KEYS=json.dumps(KEYS))
    site.add_host()

    def ask(who: str, method: str, path: str, body: object = None) -> Answer:
        return call(method, f"{site.bases[0]}/api/{path}", body, {"Authorization": f"Bearer key-of-{who}"})

    body = {"agent": "asking", "input": one_call("transfer", mark="two", euros=60)}
    run_id = ask("shop", "POST", "runs", body).body["id"]
    wait_until(lambda: ask("shop", "GET", f"runs/{run_id}").body["status"] == "requires_action", run_id)
    [waiting] = ask("anna", "GET", "waits").body["data"]
    assert (waiting["run_id"], waiting["owner"], waiting["agent"]) == (run_id, "key:shop", "asking")
    assert json.loads(waiting["arguments"]) == {"mark": "two", "euros": 60}
    path = f"runs/{run_id}/calls/{waiting['id']}"
    assert ask("shop", "POST", path, {"approve": True}).body["code"] == "role_missing"
    assert ask("eve", "POST", path, {"approve": True}).status in {403, 404}
    assert ask("anna", "GET", f"runs/{run_id}").status == 403
    first = ask("anna", "POST", path, {"approve": True})
    assert (first.status, first.body["answer"]["by"]) == (200, "key:anna")
    same = ask("ben", "POST", path, {"approve": True})
    assert (same.status, same.body["answer"]["by"]) == (200, "key:anna")
    other = ask("ben", "POST", path, {"approve": False})
    assert (other.status, other.body["code"]) == (409, "call_answered")
    assert "anna" in other.body["detail"]
    wait_until(lambda: ask("shop", "GET", f"runs/{run_id}").body["status"] == "completed", run_id)
    assert site.traces() == {"two:60": 1}
    assert ask("ben", "GET", "waits").body["data"] == []


PAGE = (ROOT / "docs/approvals.md").read_text()
BODIES = [json.loads(body) for body in re.findall(r"^curl -s \$CALL .* -d '(.*)'$", PAGE, re.MULTILINE)]
[START] = re.findall(r"/api/runs -H .* -d '(\{.*?)'\n```", PAGE, re.DOTALL)


def test_each_answer_of_the_page_is_taken(clerk: Site) -> None:
    assert len(BODIES) == 5
    refund = {"agent": "refund_clerk", "input": "Refund 120 euros of order A-1002."}
    for body in BODIES:
        start = refund if "approve" in body else json.loads(START)
        run_id = clerk.api("POST", "runs", start).body["id"]
        [action] = asked(clerk, run_id)
        assert answer(clerk, run_id, action, body).status == 200, body
        run = clerk.outcome(run_id)
        assert run["status"] == "completed"
        [given] = told(clerk, run_id)[-1:]
        if body.get("approve") is False:
            [documented] = re.findall(r'\| `(\{"error": \{"code": "refused".*)` \|', PAGE)
            assert given == documented.replace("...", body["reason"])
        elif "output" in body:
            assert json.loads(given) == body["output"]
        elif "error" in body:
            assert json.loads(given) == {"error": {"code": "tool_error", "message": body["error"]}}
    assert sorted(each["euros"] for each in refunds(clerk)) == [80, 120]
