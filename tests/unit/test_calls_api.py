"""The calls of runs over HTTP: what clients see of them, and how they answer those that wait."""

import json
from dataclasses import replace

import pytest

from shared.core.input_items import InputRules
from shared.core.response import Snapshot
from shared.core.transcript import calls
from shared.web.runs_api import queries
from tests.support.client import Client
from tests.support.fakes import answer, asks
from tests.support.waiting import DAY, gives, waiting_world, waits, with_roles
from tests.support.world import World

CALLS = "/runs/{run_id}/calls"
MCP = {
    "type": "mcp_approval_request",
    "id": "mcpr_1",
    "server_label": "wiki",
    "name": "delete_page",
    "arguments": '{"page": 7}',
}


@pytest.fixture
def world() -> World:
    return waiting_world()


@pytest.fixture
def client(world) -> Client:
    return Client(world.context)


@pytest.fixture
async def run(world, client) -> dict:
    """A run that waits for an approval, and for what its caller runs."""
    return await waits(world, client, "pay", "ask")


async def read(client: Client, run: dict) -> dict:
    return (await client.get("/runs/{run_id}", run["id"])).json


async def hosted(world: World, client: Client) -> tuple[str, str]:
    """Return a call of a hosted MCP server that waits for an approval."""
    run = (await client.start()).json
    world.provider.state["resp_1"] = asked_by(MCP)
    await world.drive(2)
    [call] = (await client.get(CALLS, run["id"])).json["data"]
    return run["id"], call["id"]


def asked_by(*items: dict) -> Snapshot:
    output = json.dumps(items)
    return replace(answer("resp_1"), output=output, calls=calls(output))


async def test_a_run_that_waits_shows_what_it_requires(world, client, run):
    shown = await read(client, run)
    assert (shown["status"], shown["expires_at"], shown["progress"]["activity"]) == (
        "requires_action",
        None,
        "waiting for an approval",
    )
    assert shown["required_action"] == [
        {
            "type": kind,
            "id": call[1],
            "call_id": f"call_resp_1_{n}",
            "name": name,
            "server_label": None,
            "arguments": "{}",
            "expires_at": f"2026-01-0{day}T00:00:05.000Z",
        }
        for n, (call, kind, name, day) in enumerate(
            zip(run["calls"], ("approval", "output"), ("pay", "ask"), (3, 4), strict=True)
        )
    ]
    # A list shows no arguments: it would have to load them.
    [listed] = (await client.get("/runs", status="requires_action")).json["data"]
    assert [each["arguments"] for each in listed["required_action"]] == [None, None]
    assert [each["status"] for each in listed["tool_calls"]] == ["waiting", "waiting"]
    session = (await client.get("/sessions/{session_id}", run["session_id"])).json
    assert session["runs"] == [listed]


async def test_a_poll_of_a_waiting_run_is_not_modified(world, client, run):
    tag = (await client.get("/runs/{run_id}", run["id"])).headers["ETag"]
    await world.drive(3)
    world.table.taken()
    same = await client.get("/runs/{run_id}", run["id"], headers={"If-None-Match": tag})
    assert (same.status, world.table.taken()) == (304, {"get": 1})
    await gives(client, run["calls"][0], {"approve": False})
    changed = await client.get("/runs/{run_id}", run["id"], headers={"If-None-Match": tag})
    assert len(changed.json["required_action"]) == 1


async def test_the_calls_of_a_run_are_listed_with_arguments_and_answers(world, client, run):
    world.agents.unfit = {}
    await gives(client, run["calls"][0], {"approve": True, "arguments": {"amount": 20}})
    await gives(client, run["calls"][1], {"error": "There is no such ship."})
    pay, ask = (await client.get(CALLS, run["id"])).json["data"]
    assert pay == {
        "object": "call",
        "id": run["calls"][0][1],
        "call_id": "call_resp_1_0",
        "run_id": run["id"],
        "turn": 1,
        "name": "pay",
        "server_label": None,
        "status": "queued",
        "type": "approval",
        "arguments": "{}",
        "arguments_fixed": False,
        "waiting_since": "2026-01-01T00:00:05.000Z",
        "expires_at": "2026-01-03T00:00:05.000Z",
        "started_at": None,
        "completed_at": None,
        "answer": {
            "type": "approved",
            "by": "default",
            "by_name": None,
            "at": "2026-01-01T00:00:10.000Z",
            "reason": None,
            "arguments": {"amount": 20},
        },
    }
    assert (ask["type"], ask["status"], ask["answer"]["type"]) == ("output", "failed", "error")
    assert ask["answer"]["reason"] is None


async def test_calls_that_wait_for_nobody_are_listed_too(world, client):
    run = (await client.start()).json
    world.provider.state["resp_1"] = asks("resp_1", "look_up", "look_up")
    world.provider.state["resp_2"] = asks("resp_2", "pay")
    await world.drive(5)
    calls = (await client.get(CALLS, run["id"])).json["data"]
    assert [(each["turn"], each["name"], each["status"], each["type"]) for each in calls] == [
        (1, "look_up", "completed", None),
        (1, "look_up", "completed", None),
        (2, "pay", "waiting", "approval"),
    ]
    assert (await client.get(CALLS, (await client.start()).json["id"])).json == {"object": "list", "data": []}


async def test_a_refusal_and_a_timeout_are_shown(world, client, run):
    refused = await gives(client, run["calls"][0], {"approve": False, "reason": "Paid before. \U0001f680"})
    assert (refused.json["status"], refused.json["answer"]["reason"]) == (
        "refused",
        "Paid before. \U0001f680",
    )
    assert refused.json["run_status"] == "requires_action"
    await world.drive(1, 4 * DAY.total_seconds())
    _, late = (await client.get(CALLS, run["id"])).json["data"]
    assert (late["status"], late["answer"]) == (
        "timed_out",
        {
            "type": "timed_out",
            "by": None,
            "by_name": None,
            "at": late["completed_at"],
            "reason": None,
            "arguments": None,
        },
    )


async def test_an_answer_wakes_a_worker_and_the_run_goes_on(world, client, run):
    pay, ask = run["calls"]
    first = await gives(client, ask, {"output": {"mass_kg": 41_000}})
    assert (first.json["run_status"], first.json["status"]) == ("requires_action", "completed")
    second = await gives(client, pay, {"approve": True})
    assert (second.json["run_status"], second.messages) == ("in_progress", (run["id"],))
    assert second.headers["Cache-Control"] == "no-store"
    for message in second.messages:
        await world.work(message)
    world.provider.state["resp_2"] = answer("resp_2")
    await world.until_terminal(run["id"])
    shown = await read(client, run)
    assert (shown["status"], shown["required_action"]) == ("completed", None)
    assert shown["expires_at"] is not None
    assert [each["status"] for each in shown["tool_calls"]] == ["completed", "completed"]


async def test_the_same_answer_again_is_answered_alike_whoever_sends_it(world):
    ann = with_roles(world, "caller", "approver", name="Ann")
    run = await waits(world, ann, "pay", "ask")
    bob = with_roles(world, "approver", owner="key:bob", name="Bob")
    for call, body in zip(
        run["calls"], ({"approve": True, "arguments": {"b": 2, "a": 1}}, {"output": "1"}), strict=True
    ):
        first = await gives(ann, call, body)
        world.clock.pass_(7)
        again = await gives(ann, call, json.dumps(body, indent=4).encode())
        assert (again.status, again.json["answer"]) == (200, first.json["answer"])
    by_bob = await gives(
        bob, run["calls"][0], {"approve": True, "reason": None, "arguments": {"a": 1, "b": 2}}
    )
    assert (by_bob.status, by_bob.json["answer"]["by_name"]) == (200, "Ann")
    # Also after the run has ended.
    await world.drive(2)
    world.provider.state["resp_2"] = answer("resp_2")
    await world.until_terminal(run["id"])
    again = await gives(ann, run["calls"][1], {"output": "1"})
    assert (again.status, again.json["run_status"], again.messages) == (200, "completed", ())


async def test_the_same_answer_is_the_same_also_when_the_tool_has_changed(world, client, run):
    body = {"approve": True, "arguments": {"amount": 20}}
    assert (await gives(client, run["calls"][0], body)).status == 200
    world.agents.unfit = {'{"amount":20}': "amount was renamed."}
    assert (await gives(client, run["calls"][0], body)).status == 200


async def test_a_changed_answer_is_a_conflict_that_says_who_was_first(world):
    ann = with_roles(world, "caller", "approver", name="Ann")
    run = await waits(world, ann, "pay")
    [pay] = run["calls"]
    assert (await gives(ann, pay, {"approve": False})).status == 200
    for body in ({"approve": True}, {"approve": False, "reason": "No."}):
        refused = await gives(ann, pay, body)
        assert (refused.status, refused.json["code"], refused.messages) == (409, "call_answered", ())
        assert "refused by Ann" in refused.json["detail"]


@pytest.mark.parametrize(
    ("theirs", "mine", "same"),
    [
        ({"n": 1}, {"n": 1.5}, False),
        ({"n": 1}, {"n": True}, False),
        ({"n": 0}, {"n": False}, False),
        ({"n": None}, {}, False),
        ({"n": 1, "m": [2]}, {"m": [2], "n": 1}, True),
    ],
    ids=str,
)
async def test_arguments_are_changed_only_if_they_differ_as_json(world, client, theirs, mine, same):
    run = (await client.start()).json
    item = {"type": "function_call", "call_id": "c", "name": "pay", "arguments": json.dumps(theirs)}
    world.provider.state["resp_1"] = asked_by(item)
    await world.drive(2)
    [call] = (await client.get(CALLS, run["id"])).json["data"]
    approved = await gives(client, (run["id"], call["id"]), {"approve": True, "arguments": mine})
    assert approved.json["answer"]["arguments"] == (None if same else mine)
    ran = []
    world.agents.during = lambda call: ran.append(json.loads(call.arguments))
    await world.work(*approved.messages)
    assert json.dumps(ran, sort_keys=True) == json.dumps([mine], sort_keys=True)


# Calls of hosted MCP servers.


async def test_a_hosted_call_is_approved_as_it_is(world, client):
    call = await hosted(world, client)
    shown = (await client.get(CALLS, call[0])).json["data"][0]
    assert (shown["type"], shown["server_label"], shown["arguments_fixed"]) == ("approval", "wiki", True)
    assert shown["arguments"] == '{"page": 7}'
    [required] = (await client.get("/runs/{run_id}", call[0])).json["required_action"]
    assert (required["server_label"], required["arguments"]) == ("wiki", '{"page": 7}')
    changed = await gives(client, call, {"approve": True, "arguments": {"page": 8}})
    assert (changed.status, changed.json["code"], changed.json["field"]) == (
        422,
        "arguments_fixed",
        "arguments",
    )
    approved = await gives(client, call, {"approve": True})
    assert (approved.json["status"], approved.json["run_status"]) == ("completed", "in_progress")
    await world.work(*approved.messages)
    assert json.loads(world.provider.creates[-1].input) == [
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    ]


async def test_an_approval_in_a_start_is_refused_also_when_everything_is_an_input(world):
    client = Client(world.context, input_rules=InputRules(anything=True, ids=True))
    call = await hosted(world, client)
    session_id = (await client.get("/runs/{run_id}", call[0])).json["session_id"]
    item = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    for fields in ({}, {"session_id": session_id}):
        reply = await client.start(input=[item], **fields)
        assert (reply.status, reply.json["code"], reply.json["field"]) == (422, "input_not_allowed", "input")
    assert (await client.get("/runs/{run_id}", call[0])).json["status"] == "requires_action"


# Tools of the caller.


TOOL = {"type": "function", "name": "look_up_ship"}


async def test_tools_of_a_start_are_sent_and_their_calls_wait_for_outputs(world, client):
    parameters = {"type": "object", "properties": {"name": {"type": "string"}}}
    tools = [TOOL | {"description": "Look.", "parameters": parameters, "strict": True}, TOOL | {"name": "b"}]
    run = await waits(world, client, "look_up_ship", tools=tools)
    sent = json.loads(world.provider.creates[0].tools)
    assert sent == [
        TOOL | {"description": "Look.", "parameters": parameters, "strict": True},
        TOOL
        | {
            "name": "b",
            "description": "",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        },
    ]
    [required] = (await read(client, run))["required_action"]
    assert (required["type"], required["name"]) == ("output", "look_up_ship")
    # Nobody approves it, and nobody but its caller sees it.
    assert (await client.get("/waits")).json["data"] == []


@pytest.mark.parametrize("tools", [None, []])
async def test_no_tools_are_no_tools(world, client, tools):
    await client.start(tools=tools, caller_calls=None)
    assert world.provider.creates[0].tools == "[]"


async def test_calls_that_are_handed_over_are_answered_by_the_next_run(world, client):
    run = (await client.start(tools=[TOOL], caller_calls="end")).json
    world.provider.state["resp_1"] = asks("resp_1", "look_up_ship", "look_up")
    await world.until_terminal(run["id"])
    shown = await read(client, run)
    assert (shown["status"], shown["required_action"]) == ("completed", None)
    assert [each["status"] for each in shown["tool_calls"]] == ["handed_over", "completed"]
    session = {"session_id": run["session_id"]}
    call = (run["id"], shown["tool_calls"][0]["id"])
    late = await gives(client, call, {"output": "41 t"})
    assert (late.status, late.json["code"]) == (409, "call_not_waiting")
    [listed, _] = (await client.get(CALLS, run["id"])).json["data"]
    assert (listed["status"], listed["type"], listed["answer"]) == ("handed_over", None, None)
    missing = await client.start(**session)
    assert (missing.status, missing.json["code"], missing.json["field"]) == (422, "output_missing", "input")
    item = {"type": "function_call_output", "call_id": "call_resp_1_0", "output": "41 t"}
    for forged in ([item, item], [item | {"call_id": "call_resp_1_1"}], [item, item | {"call_id": "c"}]):
        refused = await client.start(input=forged, **session)
        assert (refused.status, refused.json["field"]) == (422, "input")
    assert (await client.start(input=[item], **session)).status == 202


# Lists in pages.


async def pages(client: Client, template: str, *ids: str, **query: str) -> list[list[dict]]:
    found, page = [], await client.get(template, *ids, **query)
    while True:
        found.append(page.json["data"])
        assert len(found) < 50
        if "nextLink" not in page.json:
            return found
        page = await client.follow(page.json["nextLink"])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_the_calls_of_a_run_come_in_pages(world, client, limit):
    run = await waits(world, client, *["pay", "look_up", "ask"] * 2, "pay")
    found = await pages(client, CALLS, run["id"], limit=str(limit))
    assert [each["id"] for page in found for each in page] == [call for _, call in run["calls"]]
    assert {len(page) for page in found[:-1]} <= {limit}
    assert found[-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_waiting_approvals_come_in_pages_the_oldest_first(world, limit):
    runs = []
    for owner, names in (
        ("ann", ["pay", "pay"]),
        ("bob", ["ask"]),
        ("bob", ["pay", "ask", "pay"]),
        ("ann", ["pay"]),
    ):
        runs.append(await waits(world, with_roles(world, "caller", owner=f"key:{owner}"), *names))
    approver = with_roles(world, "approver", owner="key:eve")
    found = await pages(approver, "/waits", limit=str(limit))
    expected = [call for run in (runs[0], runs[2], runs[3]) for call in run["calls"]]
    del expected[3]
    assert [(each["run_id"], each["id"]) for page in found for each in page] == expected
    assert all(len(page) <= limit for page in found)
    owners = [each["owner"] for page in found for each in page]
    assert owners == ["key:ann", "key:ann", "key:bob", "key:bob", "key:ann"]


async def test_a_page_goes_on_where_it_ended_although_calls_were_answered(world, client):
    run = await waits(world, client, *["pay"] * 4)
    later = await waits(world, client, "pay")
    first = await client.get("/waits", limit="2")
    await gives(client, run["calls"][1], {"approve": False})
    await gives(client, run["calls"][2], {"approve": False})
    rest = await pages_from(client, first.json["nextLink"])
    assert rest == [run["calls"][3][1], later["calls"][0][1]]
    # Also when the run that the link names waits no more.
    await gives(client, run["calls"][0], {"approve": False})
    await gives(client, run["calls"][3], {"approve": False})
    assert await pages_from(client, first.json["nextLink"]) == [later["calls"][0][1]]


async def pages_from(client: Client, link: str) -> list[str]:
    found, page = [], await client.follow(link)
    while True:
        found += [each["id"] for each in page.json["data"]]
        if "nextLink" not in page.json:
            return found
        page = await client.follow(page.json["nextLink"])


AT = "2026-01-01T00:00:05.000000Z"
RUN_ID, CALL_ID = "run_0f" + "0" * 26, "call_01_" + "0" * 32
BAD_CURSORS = {
    "empty": "",
    "a number": "7",
    "a run": RUN_ID,
    "two parts": f"{AT}~{RUN_ID}",
    "four parts": f"{AT}~{RUN_ID}~{CALL_ID}~x",
    "no time": f"now~{RUN_ID}~{CALL_ID}",
    "a time without a zone": f"2026-01-01T00:00:05~{RUN_ID}~{CALL_ID}",
    "a time at the edge": f"9999-12-31T23:59:59Z~{RUN_ID}~{CALL_ID}",
    "the year 1": f"0001-01-01T00:00:00+14:00~{RUN_ID}~{CALL_ID}",
    "another kind of id": f"{AT}~{RUN_ID.replace('run', 'ses')}~{CALL_ID}",
    "the provider's id": f"{AT}~{RUN_ID}~call_1",
    "a key of a row": f"{AT}|{RUN_ID}",
    "very long": "2" * 1_000_000,
    "NUL": "\x00",
    "a surrogate": f"{AT}~{RUN_ID}~\udc80",
}


@pytest.mark.parametrize("cursor", BAD_CURSORS.values(), ids=BAD_CURSORS)
async def test_a_cursor_of_waits_that_is_none_is_refused(world, client, run, cursor):
    reply = await client.get("/waits", cursor=cursor)
    assert (reply.status, reply.json["code"], reply.json["field"]) == (400, "invalid_cursor", "cursor")


async def test_a_cursor_of_a_run_that_does_not_wait_is_a_position(world, client, run):
    for at, count in (
        ("2026-01-01T00:00:04Z", 1),
        ("2026-01-01T02:00:04+02:00", 1),
        ("2026-01-02T00:00:00Z", 0),
    ):
        page = (await client.get("/waits", cursor=f"{at}~{RUN_ID}~{CALL_ID}")).json
        assert len(page["data"]) == count


@pytest.mark.parametrize("cursor", ["", "-1", "1.5", "x", "\u0661", "12345", "1 ", "9" * 5000, RUN_ID])
async def test_a_cursor_of_calls_that_is_none_is_refused(client, run, cursor):
    reply = await client.get(CALLS, run["id"], cursor=cursor)
    assert (reply.status, reply.json["code"], reply.json["field"]) == (400, "invalid_cursor", "cursor")


async def test_a_cursor_behind_the_last_call_is_an_empty_page(client, run):
    assert (await client.get(CALLS, run["id"], cursor="9999")).json == {"object": "list", "data": []}


@pytest.mark.parametrize("limit", ["0", "101", "-1", "", "all", "9" * 5000])
async def test_a_limit_that_is_none_is_refused(client, run, limit):
    for template, ids in ((CALLS, [run["id"]]), ("/waits", [])):
        reply = await client.get(template, *ids, limit=limit)
        assert (reply.status, reply.json["code"], reply.json["field"]) == (422, "invalid_limit", "limit")


async def test_a_page_holds_as_many_as_it_does_by_default(world, client):
    run = await waits(world, client, *["pay"] * (queries.DEFAULT_PAGE + 1))
    for template, ids in ((CALLS, [run["id"]]), ("/waits", [])):
        assert [len(page) for page in await pages(client, template, *ids)] == [queries.DEFAULT_PAGE, 1]


# The feed and the health.


async def test_the_feed_tells_who_waits_and_who_answered(world):
    ann = with_roles(world, "caller", "approver", name="Ann")
    run = await waits(world, ann, "pay", "ask")
    pay, ask = (call for _, call in run["calls"])
    await gives(ann, run["calls"][0], {"approve": False, "reason": "Paid."})
    await gives(ann, run["calls"][1], {"output": "1"})
    events = (await ann.get("/runs/{run_id}/events", run["id"])).json["data"]
    shown = [
        {name: value for name, value in each.items() if name not in {"id", "at", "turn"}}
        for each in events
        if each["type"].startswith(("run.req", "call.", "tool."))
    ]
    named = {"call_id": "call_resp_1_0", "name": "pay"}
    ran = {"call_id": "call_resp_1_1", "name": "ask"}
    by = {"by": "key:ann", "by_name": "Ann"}
    waiting = {"type": "call.waiting", "arguments": "{}"}
    refused = json.dumps(
        {
            "error": {
                "code": "refused",
                "message": "A person refused this call, so it did not run. The reason: Paid.",
            }
        }
    )
    assert shown == [
        waiting | named | {"call": pay, "wait": "approval", "expires_at": "2026-01-03T00:00:05.000Z"},
        waiting | ran | {"call": ask, "wait": "output", "expires_at": "2026-01-04T00:00:05.000Z"},
        {"type": "run.requires_action"},
        {"type": "call.answered", **named, "call": pay, "answer": "refused", **by, "reason": "Paid."},
        {"type": "tool.completed", **named, "status": "refused", "output": refused},
        {"type": "call.answered", **ran, "call": ask, "answer": "output", **by},
        {"type": "tool.completed", **ran, "status": "completed", "output": "1"},
    ]


async def test_health_shows_an_admin_since_when_somebody_waits(world, client):
    await waits(world, client, "ask")
    assert (await client.get("/health")).json["oldest_wait_at"] is None
    run = await waits(world, client, "pay")
    await waits(world, client, "pay")
    assert (await client.get("/health")).json["oldest_wait_at"] == "2026-01-01T00:00:15.000Z"
    assert (await client.get("/health")).json["pending"] == 0
    await client.post("/runs/{run_id}/cancel", run["id"])
    assert (await client.get("/health")).json["oldest_wait_at"] == "2026-01-01T00:00:25.000Z"
    world.clock.pass_(30 * DAY.total_seconds())
    # A run whose clock stands still is not overdue.
    assert (await client.get("/health")).json["overdue"] == 0
