"""Requests as clients, gateways and pages of other origins send them."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from shared.errors import StorageUnavailable
from shared.web.dashboard import page
from shared.web.http import Reply, Request
from shared.web.runs_api import handlers
from tests.support.client import Client, routes
from tests.support.fakes import answer
from tests.support.world import World

NOBODYS_RUN = "run_0f" + "0" * 26
GOOD = json.dumps({"agent": "writer", "input": "hi"}).encode()
READS = sorted(route.template for route in routes() if route.method == "GET")
every_read = pytest.mark.parametrize("template", READS)


@pytest.fixture
async def run(world: World, client: Client) -> dict:
    """A run that has ended with a text whose bytes are more than its characters."""
    started = (await client.start(stream=True)).json
    world.provider.state["resp_1"] = answer("resp_1", "漢字")
    await world.until_terminal(started["id"])
    return (await client.get("/runs/{run_id}", started["id"])).json


def ids_in(template: str, run: dict) -> list[str]:
    names = {"{run_id}": "id", "{session_id}": "session_id"}
    return [run[name] for part, name in names.items() if part in template]


# HEAD.


@every_read
async def test_a_head_has_the_status_and_headers_of_a_get(client, run, template):
    got = await client.get(template, *ids_in(template, run))
    head = await client.head(template, *ids_in(template, run))
    assert (got.status, head.status, head.text) == (200, 200, "")
    assert head.headers == {**got.headers, "Content-Length": str(len(got.text.encode()))}


async def test_a_head_uses_query_and_headers_as_a_get_does(client, run):
    for headers in ({"Accept": "text/event-stream"}, {"Accept": "text/event-stream", "Last-Event-ID": "1"}):
        got = await client.get("/runs/{run_id}/events", run["id"], headers=headers, limit="2")
        head = await client.head("/runs/{run_id}/events", run["id"], headers=headers, limit="2")
        assert got.headers["Content-Type"].startswith("text/event-stream")
        assert head.headers == {**got.headers, "Content-Length": str(len(got.text.encode()))}


async def test_an_answer_without_a_body_has_no_length_for_a_head_either(client, run):
    etag = (await client.head("/runs/{run_id}", run["id"])).headers["ETag"]
    same = await client.head("/runs/{run_id}", run["id"], headers={"If-None-Match": etag})
    assert (same.status, "Content-Length" in same.headers) == (304, False)
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "999"}
    over = await client.head("/runs/{run_id}/events", run["id"], headers=headers)
    assert (over.status, "Content-Length" in over.headers) == (204, False)


@pytest.mark.parametrize(
    ("template", "ids", "query", "status"),
    [
        ("/runs/{run_id}", [NOBODYS_RUN], {}, 404),
        ("/runs/{run_id}", ["x"], {}, 404),
        ("/runs/{run_id}/events", [NOBODYS_RUN], {}, 404),
        ("/sessions/{session_id}", ["x"], {}, 404),
        ("/runs", [], {"limit": "0"}, 422),
        ("/runs", [], {"cursor": "x"}, 400),
    ],
)
async def test_a_head_is_refused_as_a_get_is(client, template, ids, query, status):
    got = await client.get(template, *ids, **query)
    head = await client.head(template, *ids, **query)
    assert (got.status, head.status, head.text) == (status, status, "")
    assert head.headers == {**got.headers, "Content-Length": str(len(got.text.encode()))}


async def test_a_head_shows_whether_the_app_is_healthy(world, client):
    async def gone(*_args: object, **_kwargs: object) -> None:
        raise StorageUnavailable("gone")

    assert (await client.head("/health")).status == 200
    world.table.query = world.table.query_each = gone
    assert (await client.head("/health")).status == 503


@every_read
async def test_a_head_costs_what_a_get_costs(world, client, run, template):
    costs = []
    for ask in (client.get, client.head):
        world.table.taken()
        await ask(template, *ids_in(template, run))
        costs.append(world.table.taken())
    assert costs[0] == costs[1]
    assert "write" not in costs[1]


# Parameters of others: a gateway's key, and whatever a link picks up on its way.


FOREIGN = {
    "subscription-key": "s3cret",
    "Subscription-Key": "s3cret",
    "code": "s3cret",
    "clientId": "s3cret",
    "api-version": "2025-01-01,s3cret",
    "$top": "s3cret",
    "Limit": "s3cret",
    "limit[]": "s3cret",
    "": "s3cret",
    "a&b=c#d": "s3cret",
    "\ud800": "\udfff",
    "x" * 10_000: "s3cret" * 10_000,
}


@every_read
async def test_unknown_parameters_are_ignored(client, run, template):
    ids = ids_in(template, run)
    plain, asked = await client.get(template, *ids), await client.get(template, *ids, **FOREIGN)
    assert (asked.status, asked.text, asked.headers) == (200, plain.text, plain.headers)


async def test_parameters_of_another_endpoint_are_ignored_too(client, run):
    others = {"status": "none", "agent": "?", "session_id": "x", "after": "x"}
    assert (await client.get("/sessions/{session_id}", run["session_id"], **others)).status == 200
    others = {"status": "none", "agent": "?", "session_id": "x", "cursor": "x"}
    assert (await client.get("/runs/{run_id}/events", run["id"], **others)).status == 200
    assert (await client.get("/runs", after="x")).status == 200


@pytest.mark.parametrize(
    ("method", "template"), [("POST", "/runs/{run_id}/cancel"), ("DELETE", "/runs/{run_id}")]
)
async def test_unknown_parameters_are_ignored_when_something_is_changed(client, method, template):
    run_id = (await client.start()).json["id"]
    assert (await client.ask(method, template, run_id, query=FOREIGN)).status in {200, 204}
    assert (await client.ask("POST", "/runs", query=FOREIGN, body=GOOD)).status == 202


async def test_a_link_has_only_the_parameters_of_its_endpoint(client, run):
    session_id = run["session_id"]
    await client.start(session_id=session_id)
    filters = {"agent": "writer", "session_id": session_id, "limit": "1"}
    listed = await client.get("/runs", **FOREIGN, **filters, after="s3cret")
    session = await client.get("/sessions/{session_id}", session_id, **FOREIGN, **filters, status="s3cret")
    for listing, kept in ((listed, filters), (session, {"limit": "1"})):
        query = parse_qs(urlsplit(listing.json["nextLink"]).query)
        assert query.pop("cursor")
        assert query == {name: [value] for name, value in kept.items()}
        assert "s3cret" not in listing.text
        followed = await client.follow(listing.json["nextLink"])
        assert followed.status == 200


# Bodies.


async def test_a_body_may_begin_with_a_byte_order_mark(world, client):
    key = {"Idempotency-Key": "a key"}
    marked = await client.post("/runs", body=b"\xef\xbb\xbf" + GOOD, headers=key)
    assert marked.status == 202
    plain = await client.post("/runs", body=GOOD, headers=key)
    assert plain.json["id"] == marked.json["id"]
    assert "\ufeff" not in world.provider.creates[0].input


async def test_a_byte_order_mark_inside_a_text_is_kept(world, client):
    await client.start(input="\ufeffhi\ufeff")
    assert json.loads(world.provider.creates[0].input)[0]["content"] == "\ufeffhi\ufeff"


# Pages of other origins.


async def test_every_answer_shows_its_headers_to_pages_of_other_origins(world, client, run):
    answers = [await client.get(template, *ids_in(template, run)) for template in READS]
    answers += [
        started := await client.start(),
        await client.get("/runs/{run_id}", started.json["id"]),
        await client.get("/runs/{run_id}", run["id"], headers={"If-None-Match": "*"}),
        await client.post("/runs/{run_id}/cancel", started.json["id"]),
        await client.post("/runs/{run_id}/cancel", run["id"]),
        await client.post("/runs", body=b"{"),
        await client.post("/runs", body=GOOD, headers={"Content-Encoding": "br"}),
        await client.get("/runs/{run_id}", NOBODYS_RUN),
        await client.get("/runs", limit="0"),
        await Client(world.context, owner="").get("/runs"),
        await client.delete("/sessions/{session_id}", run["session_id"]),
    ]
    assert {reply.status for reply in answers} == {200, 202, 204, 304, 400, 401, 404, 409, 415, 422}
    for reply in answers:
        assert reply.headers["Access-Control-Expose-Headers"] == "Location, ETag, Retry-After"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        # A 204 to a change has nothing that could be kept.
        if reply.status != 204:
            assert reply.headers["Cache-Control"] in {"private, no-cache", "no-store"}


def test_the_page_lets_the_browser_do_nothing_else():
    policy = page().headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"} <= set(policy)


async def test_a_reply_that_a_handler_keeps_is_not_changed(client):
    kept = Reply(200, b"page", {"A": "b"})

    async def get_dashboard(*_: object) -> Reply:
        return kept

    request = Request(url="", headers={}, method="HEAD")
    assert (await handlers.answer(get_dashboard, client._api, request)).body == b""
    assert kept == Reply(200, b"page", {"A": "b"})
