"""What each role may do, and that nothing in a request changes it."""

import pytest

from shared.core.caller import Role, granted
from shared.web.runs_api import handlers
from shared.web.runs_api.permissions import NEEDS, Need
from tests.support.client import Client, routes
from tests.support.fakes import answer
from tests.support.waiting import gives, waiting_world, waits, with_roles
from tests.unit.test_caller_keys import CALLERS, KEY

READS = {"get_runs", "get_run", "get_events", "get_session", "get_agents", "get_calls"}
CHANGES = {"start_run", "retry_run", "cancel_run", "delete_run", "delete_session"}
OPEN = {"get_health", "get_openapi", "get_dashboard"}
ALLOWED = {
    "reader": READS,
    "caller": READS | CHANGES | {"post_answer"},
    "approver": {"get_calls", "post_answer", "get_waits"},
    "admin": set(),
}


NO_CALL = "call_01_" + "0" * 32
NEEDED = {
    "get_calls": "reader or approver",
    "post_answer": "caller or approver",
    "get_waits": "approver",
}


def test_each_operation_of_the_app_has_its_need():
    assert set(NEEDS) == {route.handler for route in routes()}
    assert {name for name, need in NEEDS.items() if need is Need.NOTHING} == OPEN - {"get_health"}


async def test_a_handler_that_is_not_listed_answers_nobody(world):
    async def get_secrets(*_: object) -> None:
        raise AssertionError

    with pytest.raises(KeyError):
        await handlers.answer(get_secrets, Client(world.context)._api, None)


@pytest.fixture
async def run(world) -> dict:
    """A run of ann that has ended."""
    run = (await with_roles(world, "caller").start()).json
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(run["id"])
    return run


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("route", routes(), ids=lambda route: route.handler)
async def test_a_role_may_do_what_it_is_for_and_nothing_else(world, run, role, route):
    client = with_roles(world, role)
    ids = [
        value
        for part, value in (
            ("{run_id}", run["id"]),
            ("{call_id}", NO_CALL),
            ("{session_id}", run["session_id"]),
        )
        if part in route.template
    ]
    bodies = {"start_run": b'{"agent": "writer", "input": "hi"}', "post_answer": b'{"approve": true}'}
    body = bodies.get(route.handler, b"")
    before = world.table.taken()
    reply = await client.ask(route.method, route.template, *ids, body=body)
    if route.handler in ALLOWED[role] | OPEN | {"get_me"}:
        # A run that has ended cannot be cancelled, and has no call that an approver could see.
        assert reply.status in {200, 202, 204, 404, 409}, (before, reply)
    else:
        needed = NEEDED.get(route.handler) or ("caller" if route.handler in CHANGES else "reader")
        assert (reply.status, reply.json["code"]) == (403, "role_missing")
        assert f"needs the role {needed}" in reply.json["detail"]
        assert world.table.taken() == {}


def test_a_caller_is_a_reader_and_nobody_else_gets_more():
    assert granted(["caller"]) == {Role.CALLER, Role.READER}
    for role in (Role.READER, Role.APPROVER, Role.ADMIN):
        assert granted([role]) == {role}
    assert granted(["Caller", "owner", "ADMIN", "reader ", "\uff52eader", ""]) == frozenset()


async def test_an_approver_sees_no_runs_of_others(world, run):
    approver = with_roles(world, "approver", owner="key:bob")
    assert (await approver.get("/runs/{run_id}", run["id"])).status == 403
    both = with_roles(world, "approver", "admin", "reader", owner="key:bob")
    assert (await both.get("/runs/{run_id}", run["id"])).json["code"] == "run_not_found"
    assert (await both.get("/runs")).json["data"] == []


# Who sees and answers calls that wait.


@pytest.fixture
def town():
    """A world whose agent has a tool that needs an approval, and one that the caller runs."""
    return waiting_world()


async def test_an_approver_answers_approvals_of_all_owners_and_sees_nothing_else_of_them(town):
    run = await waits(town, with_roles(town, "caller"), "pay", "ask")
    bob = with_roles(town, "approver", "caller", owner="key:bob", name="Bob")
    pay, ask = run["calls"]
    for template, own in (
        ("/runs/{run_id}", "id"),
        ("/runs/{run_id}/events", "id"),
        ("/sessions/{session_id}", "session_id"),
    ):
        assert (await bob.get(template, run[own])).status == 404
    for template in ("/runs/{run_id}/cancel", "/runs/{run_id}/retry"):
        assert (await bob.post(template, run["id"])).json["code"] == "run_not_found"
    assert (await bob.delete("/runs/{run_id}", run["id"])).json["code"] == "run_not_found"
    assert (await bob.get("/runs")).json["data"] == []
    listed = (await bob.get("/runs/{run_id}/calls", run["id"])).json["data"]
    assert [(each["name"], each["arguments"], each["status"]) for each in listed] == [
        ("pay", "{}", "waiting")
    ]
    for body in ({"output": "1"}, {"error": "1"}, {"approve": True}):
        assert (await gives(bob, ask, body)).json["code"] == "call_not_found"
    [waiting] = (await bob.get("/waits")).json["data"]
    assert (waiting["id"], waiting["owner"], waiting["agent"]) == (pay[1], "key:ann", "writer")
    approved = await gives(bob, pay, {"approve": True})
    assert (approved.status, approved.json["run_status"]) == (200, "in_progress")
    assert (approved.json["answer"]["by"], approved.json["answer"]["by_name"]) == ("key:bob", "Bob")
    assert (await bob.get("/waits")).json["data"] == []
    assert (await bob.get("/runs/{run_id}/calls", run["id"])).json["data"] == []


async def test_a_run_without_approvals_does_not_exist_for_an_approver(town):
    run = await waits(town, with_roles(town, "caller"), "ask")
    bob = with_roles(town, "approver", owner="key:bob")
    assert (await bob.get("/runs/{run_id}/calls", run["id"])).json["code"] == "run_not_found"
    for call in (run["calls"][0], (run["id"], NO_CALL)):
        for body in ({"approve": True}, {"output": "1"}):
            reply = await gives(bob, call, body)
            assert (reply.status, reply.json["code"], reply.json["field"]) == (404, "run_not_found", "run_id")
    assert (await bob.get("/waits")).json["data"] == []


async def test_nobody_approves_without_the_role(town):
    ann = with_roles(town, "caller")
    run = await waits(town, ann, "pay", "ask")
    pay, ask = run["calls"]
    refused = await gives(ann, pay, {"approve": True})
    assert (refused.status, refused.json["code"]) == (403, "role_missing")
    assert "approver" in refused.json["detail"]
    assert not town.agents.runs
    # Nor does one who approves send outputs.
    own = with_roles(town, "approver", "reader")
    assert (await gives(own, ask, {"output": "1"})).json["code"] == "role_missing"
    assert (await gives(own, pay, {"approve": False})).status == 200
    assert (await gives(ann, ask, {"output": "1"})).status == 200
    # A caller of another owner sees nothing.
    other = with_roles(town, "caller", owner="key:bob")
    for call in (pay, ask):
        assert (await gives(other, call, {"output": "1"})).json["code"] == "run_not_found"
    assert (await other.get("/runs/{run_id}/calls", run["id"])).json["code"] == "run_not_found"


async def test_whom_a_proxy_names_approves_own_runs_only(town):
    ann, bob = Client(town.context, owner="ann"), Client(town.context, owner="bob")
    run = await waits(town, ann, "pay")
    [call] = run["calls"]
    assert (await bob.get("/waits")).json["data"] == []
    assert (await gives(bob, call, {"approve": True})).json["code"] == "run_not_found"
    assert (await bob.get("/runs/{run_id}/calls", run["id"])).json["code"] == "run_not_found"
    assert [each["id"] for each in (await ann.get("/waits")).json["data"]] == [call[1]]
    assert (await gives(ann, call, {"approve": True})).json["answer"]["by"] == "ann"


async def test_without_owners_the_only_one_approves(town):
    client = Client(town.context)
    run = await waits(town, client, "pay")
    assert len((await client.get("/waits")).json["data"]) == 1
    assert (await gives(client, run["calls"][0], {"approve": True})).status == 200


async def test_a_deleted_run_has_no_calls(town):
    ann, bob = with_roles(town, "caller"), with_roles(town, "approver", owner="key:bob")
    run = await waits(town, ann, "pay")
    assert (await ann.delete("/runs/{run_id}", run["id"])).status == 204
    for client in (ann, bob):
        assert (await gives(client, run["calls"][0], {"approve": True})).json["code"] == "run_not_found"
        assert (await client.get("/runs/{run_id}/calls", run["id"])).json["code"] == "run_not_found"
    assert (await bob.get("/waits")).json["data"] == []


async def test_counts_are_for_admins(world, run):
    for role in Role:
        body = (await with_roles(world, role).get("/health")).json
        assert ("pending" in body) is (role is Role.ADMIN)


async def test_no_part_of_a_request_gives_a_role(world):
    headers = {
        "api-key": "a-reader",
        "x-role": "admin",
        "x-roles": "caller",
        "roles": "caller",
        "x-owner": "key:nightly",
        "x-ms-client-principal-id": "key:nightly",
    }
    client = Client.with_callers(world.context, CALLERS, headers)
    body = b'{"agent": "writer", "input": "hi", "roles": ["caller"]}'
    for query in ({}, {"role": "caller", "roles": "caller", "owner": "key:nightly"}):
        reply = await client.ask("POST", "/runs", query=query, body=body)
        assert (reply.status, reply.json["code"]) == (403, "role_missing")
        me = (await client.ask("GET", "/me", query=query)).json
        assert (me["owner"], me["roles"]) == ("key:reader", ["reader"])
    allowed = Client.with_callers(world.context, CALLERS, {"api-key": KEY})
    reply = await allowed.post("/runs", body={"agent": "writer", "input": "hi", "roles": ["admin"]})
    assert (reply.status, reply.json["code"]) == (422, "unknown_field")


# `GET /api/me`.


async def test_me_of_a_host_key_is_the_only_owner_with_all_roles(world):
    assert (await Client(world.context).get("/me")).json == {
        "object": "caller",
        "owner": "default",
        "roles": ["reader", "caller", "approver", "admin"],
        "name": None,
        "recognised_by": "host_key",
    }


async def test_me_of_an_owner_header_is_that_owner(world):
    me = (await Client(world.context, owner="ann").get("/me")).json
    assert (me["owner"], me["recognised_by"], len(me["roles"])) == ("ann", "owner_header", 4)
    assert (await Client(world.context, owner="").get("/me")).json["code"] == "owner_missing"


async def test_me_of_a_key_names_it(world):
    me = (await Client.with_callers(world.context, CALLERS, {"api-key": KEY}).get("/me")).json
    assert me == {
        "object": "caller",
        "owner": "key:nightly",
        "roles": ["reader", "caller"],
        "name": None,
        "recognised_by": "api_key",
    }
