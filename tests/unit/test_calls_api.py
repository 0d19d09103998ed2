"""The calls of runs over HTTP: what clients see of them, and how they answer those that wait."""

import json
from dataclasses import replace

import pytest

from shared.core.input_items import InputRules
from shared.core.response import Snapshot
from shared.core.transcript import calls
from shared.web.runs_api import queries
from tests.support.client import DOCUMENT, Client, conform
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


# Answers that are refused.


LONG_REASON, LONG_OUTPUT = "x" * 2_001, "漢" * 400_000
PAY, ASK = 0, 1
REFUSED = {
    "nothing": (PAY, {}, 422, "invalid_answer", "approve"),
    "approve null": (PAY, {"approve": None}, 422, "invalid_answer", "approve"),
    "approve 1": (PAY, {"approve": 1}, 422, "invalid_answer", "approve"),
    "approve a text": (PAY, {"approve": "true"}, 422, "invalid_answer", "approve"),
    "approve a list": (PAY, {"approve": []}, 422, "invalid_answer", "approve"),
    "approve an object": (PAY, {"approve": {}}, 422, "invalid_answer", "approve"),
    "arguments alone": (PAY, {"arguments": {}}, 422, "invalid_answer", "approve"),
    "reason alone": (PAY, {"reason": "no"}, 422, "invalid_answer", "approve"),
    "approved with a reason": (PAY, {"approve": True, "reason": "ok"}, 422, "invalid_answer", "reason"),
    "refused with arguments": (PAY, {"approve": False, "arguments": {}}, 422, "invalid_answer", "arguments"),
    "approved and put out": (PAY, {"approve": True, "output": 1}, 422, "invalid_answer", "output"),
    "approved and failed": (PAY, {"approve": True, "error": ""}, 422, "invalid_answer", "error"),
    "put out and failed": (ASK, {"output": 1, "error": ""}, 422, "invalid_answer", "error"),
    "put out with a reason": (ASK, {"output": 1, "reason": "x"}, 422, "invalid_answer", "reason"),
    "failed with arguments": (ASK, {"error": "", "arguments": {}}, 422, "invalid_answer", "arguments"),
    "everything": (
        PAY,
        {"approve": True, "arguments": {}, "reason": "", "output": 1, "error": ""},
        422,
        "invalid_answer",
        "output",
    ),
    "arguments a list": (PAY, {"approve": True, "arguments": []}, 422, "invalid_arguments", "arguments"),
    "arguments a text": (PAY, {"approve": True, "arguments": "{}"}, 422, "invalid_arguments", "arguments"),
    "arguments 0": (PAY, {"approve": True, "arguments": 0}, 422, "invalid_arguments", "arguments"),
    "arguments false": (PAY, {"approve": True, "arguments": False}, 422, "invalid_arguments", "arguments"),
    "arguments that do not fit": (
        PAY,
        {"approve": True, "arguments": {"n": "x"}},
        422,
        "invalid_arguments",
        "arguments",
    ),
    "reason a number": (PAY, {"approve": False, "reason": 0}, 422, "invalid_answer", "reason"),
    "reason a list": (PAY, {"approve": False, "reason": []}, 422, "invalid_answer", "reason"),
    "reason an object": (PAY, {"approve": False, "reason": {}}, 422, "invalid_answer", "reason"),
    "reason false": (PAY, {"approve": False, "reason": False}, 422, "invalid_answer", "reason"),
    "reason too long": (PAY, {"approve": False, "reason": LONG_REASON}, 422, "reason_too_long", "reason"),
    "reason of a mebibyte": (
        PAY,
        {"approve": False, "reason": "x" * 2**20},
        422,
        "reason_too_long",
        "reason",
    ),
    "error null": (ASK, {"error": None}, 422, "invalid_answer", "error"),
    "error an object": (ASK, {"error": {"code": 1}}, 422, "invalid_answer", "error"),
    "error too long": (ASK, {"error": LONG_REASON}, 422, "error_too_long", "error"),
    "output too long": (ASK, {"output": LONG_OUTPUT}, 413, "output_too_long", "output"),
    "output too long in parts": (
        ASK,
        {"output": [{"type": "input_text", "text": LONG_OUTPUT}]},
        413,
        "output_too_long",
        "output",
    ),
    "output with a picture nearby": (
        ASK,
        {"output": [{"type": "input_image", "image_url": "https://10.0.0.4/"}]},
        422,
        "output_not_allowed",
        "output",
    ),
    "output with a text that is none": (
        ASK,
        {"output": [{"type": "input_text", "text": 7}]},
        422,
        "output_not_allowed",
        "output",
    ),
    "output of much structure": (ASK, {"output": [[]] * 30_000}, 413, "too_many_values", None),
    "an output for an approval": (PAY, {"output": "1"}, 422, "answer_does_not_fit", "output"),
    "an error for an approval": (PAY, {"error": "1"}, 422, "answer_does_not_fit", "error"),
    "an approval for an output": (ASK, {"approve": True}, 422, "answer_does_not_fit", "approve"),
    "a refusal for an output": (ASK, {"approve": False}, 422, "answer_does_not_fit", "approve"),
    "a field more": (PAY, {"approve": True, "note": "x"}, 422, "unknown_field", "note"),
    "a field in capitals": (PAY, {"Approve": True}, 422, "unknown_field", "Approve"),
    "a very long field": (PAY, {"a" * 100_000: True}, 422, "unknown_field", "a" * 64),
    "a list": (PAY, [{"approve": True}], 400, "not_an_object", None),
    "a text": (PAY, "approve", 400, "not_an_object", None),
    "true": (PAY, True, 400, "not_an_object", None),
    "an empty body": (PAY, b"", 400, "not_json", None),
    "NaN": (ASK, b'{"output": NaN}', 400, "not_json", None),
    "a number out of range": (ASK, b'{"output": 1e999}', 400, "not_json", None),
    "a key twice": (PAY, b'{"approve": false, "approve": true}', 400, "duplicate_key", "approve"),
    "arguments with a key twice": (
        PAY,
        b'{"approve": true, "arguments": {"n": 1, "n": 2}}',
        400,
        "duplicate_key",
        "n",
    ),
    "arguments nested too deep": (
        PAY,
        b'{"approve": true, "arguments": ' + b'{"a": ' * 70 + b"1" + b"}" * 70 + b"}",
        400,
        "nested_too_deep",
        None,
    ),
    "Latin-1": (PAY, '{"approve": false, "reason": "é"}'.encode("latin-1"), 400, "not_utf8", None),
}


@pytest.mark.parametrize(("number", "body", "status", "code", "field"), REFUSED.values(), ids=REFUSED)
async def test_an_answer_that_is_none_is_refused_and_changes_nothing(
    world, number, body, status, code, field
):
    client = Client(world.context, owner="ann")
    run = await waits(world, client, "pay", "ask")
    world.agents.unfit = {'{"n":"x"}': "n has to be a number."}
    before = await read(client, run)
    world.table.taken()
    world.content_table.taken()
    reply = await gives(client, run["calls"][number], body)
    assert (reply.status, reply.json["code"], reply.json.get("field")) == (status, code, field)
    assert reply.messages == ()
    assert len(reply.text) < 1000
    assert "write" not in world.table.taken() | world.content_table.taken()
    assert await read(client, run) == before


IN_NO_SCHEMA = {"answer_does_not_fit", "output_not_allowed", "output_too_long", "too_many_values"}
LOOSER = {
    # One schema is for approvals and refusals, because generated clients know no conditions.
    "approved with a reason",
    "refused with arguments",
    "arguments that do not fit",
}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, (_, body, _, code, _) in REFUSED.items()
        if not isinstance(body, bytes) and code not in IN_NO_SCHEMA and name not in LOOSER
    ],
)
def test_the_documented_schema_refuses_it_too(name):
    with pytest.raises(AssertionError):
        conform(DOCUMENT["components"]["schemas"]["NewAnswer"], REFUSED[name][1])


ACCEPTED = {
    "approved": (PAY, {"approve": True}),
    "approved with nulls": (PAY, {"approve": True, "arguments": None, "reason": None}),
    "approved with no arguments": (PAY, {"approve": True, "arguments": {}}),
    "approved with odd arguments": (PAY, {"approve": True, "arguments": {"": None, "é\x00": [[], {}]}}),
    "refused": (PAY, {"approve": False}),
    "refused with nulls": (PAY, {"approve": False, "arguments": None, "reason": None}),
    "refused without a reason": (PAY, {"approve": False, "reason": ""}),
    "refused with a long reason": (PAY, {"approve": False, "reason": "漢" * 2_000}),
    "an empty output": (ASK, {"output": ""}),
    "the output null": (ASK, {"output": None}),
    "the output false": (ASK, {"output": False}),
    "an output of a mebibyte": (ASK, {"output": "x" * 2**20}),
    "an output of parts": (ASK, {"output": [{"type": "input_text", "text": "a"}]}),
    "an output of objects": (ASK, {"output": [{"type": "output_text"}, 1, None]}),
    "an empty error": (ASK, {"error": ""}),
    "a long error": (ASK, {"error": "\U0001f680" * 2_000}),
    "a lone surrogate": (ASK, b'{"output": "\\ud800"}'),
}


@pytest.mark.parametrize(("number", "body"), ACCEPTED.values(), ids=ACCEPTED)
async def test_an_answer_is_accepted_and_the_run_reaches_its_end(world, number, body):
    client = Client(world.context, owner="ann")
    run = await waits(world, client, "pay", "ask")
    for call, given in ((number, body), *[(1 - number, {"approve": False} if number else {"output": "1"})]):
        reply = await gives(client, run["calls"][call], given)
        assert reply.status == 200, reply
        again = await gives(client, run["calls"][call], given)
        assert (again.status, again.json["answer"]) == (200, reply.json["answer"])
    await world.drive(2)
    world.provider.state["resp_2"] = answer("resp_2")
    assert (await world.until_terminal(run["id"])).status == "completed"


@pytest.mark.parametrize(
    ("change", "code"),
    [("cancel", "run_ended"), ("time", "wait_ended"), ("end", "wait_ended")],
)
async def test_an_answer_that_comes_too_late_is_a_conflict(world, client, run, change, code):
    match change:
        case "cancel":
            await client.post("/runs/{run_id}/cancel", run["id"])
        case "time":
            world.clock.pass_(2 * DAY.total_seconds())
        case "end":
            await world.drive(2, 4 * DAY.total_seconds())
    reply = await gives(client, run["calls"][0], {"approve": True})
    assert (reply.status, reply.json["code"], reply.messages) == (409, code, ())


async def test_a_call_that_waits_for_nobody_cannot_be_answered(world, client):
    run = (await client.start()).json
    world.provider.state["resp_1"] = asks("resp_1", "look_up")
    await world.drive(2)
    [call] = (await client.get(CALLS, run["id"])).json["data"]
    for body in ({"approve": True}, {"output": "1"}):
        reply = await gives(client, (run["id"], call["id"]), body)
        assert (reply.status, reply.json["code"]) == (409, "call_not_waiting")


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "call_1",
        "call_resp_1_0",
        "call_01_" + "0" * 31,
        "call_01_" + "0" * 33,
        "call_01_" + "G" * 32,
        "call_1_" + "0" * 32,
        "call_\u0660\u0661_" + "0" * 32,
        "call_01_" + "0" * 32 + "\n",
        "../" * 9,
        "x" * 100_000,
        "\udc80",
    ],
    ids=lambda odd: ascii(odd)[:30],
)
async def test_an_id_that_is_none_is_not_found(world, client, run, odd):
    world.table.taken()
    reply = await gives(client, (run["id"], odd), {"approve": True})
    assert (reply.status, reply.json["code"], reply.json["field"]) == (404, "call_not_found", "call_id")
    assert world.table.taken() == {}


async def test_the_id_of_a_call_of_another_run_is_not_found(world, client, run):
    other = (await client.start()).json
    reply = await gives(client, (other["id"], run["calls"][0][1]), {"approve": True})
    assert (reply.status, reply.json["code"]) == (404, "call_not_found")


# Calls of hosted MCP servers.


async def test_a_hosted_call_is_approved_as_it_is(world, client):
    call = await hosted(world, client)
    shown = (await client.get(CALLS, call[0])).json["data"][0]
    assert (shown["type"], shown["server_label"], shown["arguments_fixed"]) == ("approval", "wiki", True)
    assert shown["arguments"] == '{"page": 7}'
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
