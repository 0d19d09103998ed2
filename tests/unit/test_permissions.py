"""What each role may do, and that nothing in a request changes it."""

import pytest

from shared.core.caller import Caller, Recognition, Role, granted
from shared.web.runs_api import handlers
from shared.web.runs_api.permissions import NEEDS, Need
from tests.support.client import Client, routes
from tests.support.fakes import answer
from tests.unit.test_caller_keys import CALLERS, KEY

READS = {"get_runs", "get_run", "get_events", "get_session", "get_agents"}
CHANGES = {"start_run", "retry_run", "cancel_run", "delete_run", "delete_session"}
OPEN = {"get_health", "get_openapi", "get_dashboard"}
ALLOWED = {
    "reader": READS,
    "caller": READS | CHANGES,
    "approver": set(),
    "admin": set(),
}


def test_each_operation_of_the_app_has_its_need():
    assert set(NEEDS) == {route.handler for route in routes()}
    assert {name for name, need in NEEDS.items() if need is Need.NOTHING} == OPEN - {"get_health"}


async def test_a_handler_that_is_not_listed_answers_nobody(world):
    async def get_secrets(*_: object) -> None:
        raise AssertionError

    with pytest.raises(KeyError):
        await handlers.answer(get_secrets, Client(world.context)._api, None)


def with_roles(world, *roles: str, owner: str = "ann") -> Client:
    caller = Caller(owner, granted(roles), Recognition.API_KEY)
    return Client.with_callers(world.context, lambda _: caller, {})


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
        run[name]
        for part, name in (("{run_id}", "id"), ("{session_id}", "session_id"))
        if part in route.template
    ]
    body = b'{"agent": "writer", "input": "hi"}' if route.handler == "start_run" else b""
    before = world.table.taken()
    reply = await client.ask(route.method, route.template, *ids, body=body)
    if route.handler in ALLOWED[role] | OPEN | {"get_me"}:
        # A run that has ended cannot be cancelled.
        assert reply.status in {200, 202, 204, 409}, (before, reply)
    else:
        needed = "caller" if route.handler in CHANGES else "reader"
        assert (reply.status, reply.json["code"]) == (403, "role_missing")
        assert f"needs the role {needed}" in reply.json["detail"]
        assert world.table.taken() == {}


def test_a_caller_is_a_reader_and_nobody_else_gets_more():
    assert granted(["caller"]) == {Role.CALLER, Role.READER}
    for role in (Role.READER, Role.APPROVER, Role.ADMIN):
        assert granted([role]) == {role}
    assert granted(["Caller", "owner", "ADMIN", "reader ", "\uff52eader", ""]) == frozenset()


async def test_an_approver_sees_no_runs_of_others(world, run):
    approver = with_roles(world, "approver", owner="bob")
    assert (await approver.get("/runs/{run_id}", run["id"])).status == 403
    both = with_roles(world, "approver", "admin", "reader", owner="bob")
    assert (await both.get("/runs/{run_id}", run["id"])).json["code"] == "run_not_found"
    assert (await both.get("/runs")).json["data"] == []


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
