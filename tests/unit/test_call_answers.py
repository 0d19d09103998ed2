"""Answers to calls that wait, over HTTP: each that is none is refused with a code and the field, and changes nothing."""

import pytest

from shared.ports.tables import Put
from tests.support.client import DOCUMENT, Client, conform
from tests.support.fakes import answer, asks
from tests.support.waiting import DAY, gives, waiting_world, waits
from tests.support.world import World

CALLS = "/runs/{run_id}/calls"


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


async def test_an_answer_is_told_although_the_run_is_deleted_right_after_it(world, client, run, monkeypatch):
    write = world.table.write

    async def write_and_delete(partition, writes):
        tag = await write(partition, writes)
        if any(isinstance(each, Put) and each.row.key.startswith("answer|") for each in writes):
            monkeypatch.undo()
            await client.delete("/runs/{run_id}", run["id"])
            await world.drive(5)
        return tag

    monkeypatch.setattr(world.table, "write", write_and_delete)
    reply = await gives(client, run["calls"][0], {"approve": True})
    assert (reply.status, reply.json["answer"]["type"]) == (200, "approved")
    assert (await client.get("/runs/{run_id}", run["id"])).status == 404
