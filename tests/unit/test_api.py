"""Good requests and their answers. The client compares each reply with openapi.json."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from shared.core.input_items import InputRules
from shared.core.response import Refused, ResponseStatus, RunError, Snapshot
from shared.core.run import RunStatus
from shared.errors import StorageUnavailable
from shared.steps.work import work
from shared.usecases.health import LATE
from tests.support.client import Answer, Client
from tests.support.fakes import answer, asks, later, message
from tests.support.world import World


async def finished(world: World, client: Client, text: str = "done", **fields: object) -> dict:
    """Return a run that is completed with `text`."""
    run = (await client.start(**fields)).json
    response_id = f"resp_{len(world.provider.creates)}"
    world.provider.state[response_id] = answer(response_id, text)
    await world.until_terminal(run["id"])
    return (await client.get("/runs/{run_id}", run["id"])).json


async def test_a_run_is_accepted_and_can_be_read_at_once(world, client):
    started = await client.start(metadata={"order": "4711"})
    assert started.status == 202
    run = started.json
    assert started.headers["Location"] == f"https://app.example/api/runs/{run['id']}"
    assert started.headers["Retry-After"] == "2"
    read = await client.get("/runs/{run_id}", run["id"])
    assert (read.status, read.json) == (200, run)
    assert read.headers["ETag"] == started.headers["ETag"]
    assert run["metadata"] == {"order": "4711"}
    assert run["output"] is run["output_text"] is run["error"] is None
    assert run["expires_at"] == "2026-01-01T00:30:00.000Z"
    assert len(world.provider.creates) == 1


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("hi", [{"role": "user", "content": "hi"}]),
        ([{"role": "user", "content": "hi"}], [{"role": "user", "content": "hi"}]),
    ],
    ids=["text", "items"],
)
async def test_the_provider_is_given_the_input(world, client, given, sent):
    await client.start(input=given)
    assert json.loads(world.provider.creates[0].input) == sent


async def test_a_setting_allows_every_item(world):
    given = [{"type": "item_of_tomorrow", "n": [1, 2.5, True, None]}, {"role": "system", "id": 7}]
    client = Client(world.context, input_rules=InputRules(anything=True))
    await client.start(input=given)
    assert json.loads(world.provider.creates[0].input) == given


@pytest.mark.parametrize("nothing", ["session_id", "metadata", "deadline_seconds"])
async def test_null_means_the_same_as_a_missing_field(client, nothing):
    run = (await client.start(**{nothing: None})).json
    assert run["metadata"] == {}
    assert run["expires_at"] == "2026-01-01T00:30:00.000Z"


@pytest.mark.parametrize(("seconds", "expires_at"), [(10, "00:00:10.000"), (0.5e2, "00:00:50.000")])
async def test_a_run_may_have_a_deadline_of_its_own(client, seconds, expires_at):
    run = (await client.start(deadline_seconds=seconds)).json
    assert run["expires_at"] == f"2026-01-01T{expires_at}Z"


async def test_a_repeated_start_gives_the_same_run(world, client):
    first = await client.start(headers={"Idempotency-Key": "a key"})
    again = await client.start(headers={"Idempotency-Key": "a key"})
    assert (again.status, again.json, again.headers) == (202, first.json, first.headers)
    assert len(world.provider.creates) == 1
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(first.json["id"])
    ended = await client.start(headers={"Idempotency-Key": "a key"})
    assert (ended.status, ended.json["id"], ended.json["output_text"]) == (200, first.json["id"], "done")


async def test_a_repeated_start_in_a_session_gives_the_same_run(world, client):
    session_id = (await finished(world, client))["session_id"]
    key = {"Idempotency-Key": "a key"}
    first = await client.start(session_id=session_id, headers=key)
    again = await client.start(session_id=session_id, headers=key)
    assert again.json["id"] == first.json["id"]


async def test_the_order_of_keys_in_a_body_does_not_matter(client):
    key = {"Idempotency-Key": "a key"}
    first = await client.post("/runs", headers=key, body=b'{"agent": "writer", "input": "hi"}')
    again = await client.post("/runs", headers=key, body=b'{ "input":"\\u0068i", "agent":"writer" }')
    assert again.json["id"] == first.json["id"]


async def test_starts_at_the_same_time_with_one_key_give_one_run(world, client):
    for table in (world.table, world.content_table):
        yield_before(table, "get", "query", "write")
    starts = [client.start(headers={"Idempotency-Key": "a key"}) for _ in range(5)]
    assert len({started.json["id"] for started in await asyncio.gather(*starts)}) == 1
    assert len(world.provider.creates) == 1


def yield_before(table: object, *names: str) -> None:
    """Let other tasks run before each operation of a table, as they do during a real request."""

    def wrap(method):
        async def wrapped(*args, **kwargs):
            await asyncio.sleep(0)
            return await method(*args, **kwargs)

        return wrapped

    for name in names:
        setattr(table, name, wrap(getattr(table, name)))


async def test_a_run_that_the_provider_refuses_has_ended_when_the_start_is_answered(world, client):
    world.provider.create_replies = [Refused(RunError("model_not_found", "There is no such model."))]
    started = await client.start()
    assert started.status == 200
    assert started.json["status"] == "failed"
    assert started.json["error"] == {
        "code": "model_not_found",
        "message": "There is no such model.",
        "provider_code": None,
    }
    assert (started.json["output"], started.json["output_text"]) == ([], "")
    assert "Retry-After" not in started.headers
    assert started.headers["Location"].endswith(started.json["id"])


async def test_a_provider_that_is_busy_does_not_keep_a_start_from_being_accepted(world, client):
    world.provider.create_replies = [later("429")]
    started = await client.start()
    assert (started.status, started.json["status"], started.json["started_at"]) == (202, "queued", None)


async def test_a_run_shows_its_tool_calls_and_its_outcome(world, client):
    run_id = (await client.start()).json["id"]
    world.provider.state = {
        "resp_1": asks("resp_1", "look_up", "pay"),
        "resp_2": answer("resp_2", "The end."),
    }
    await world.tick()
    waiting = (await client.get("/runs/{run_id}", run_id)).json
    assert [(call["name"], call["status"]) for call in waiting["tool_calls"]] == [
        ("look_up", "queued"),
        ("pay", "queued"),
    ]
    await work(world.context, run_id)
    await world.until_terminal(run_id)
    done = (await client.get("/runs/{run_id}", run_id)).json
    assert (done["status"], done["turn"], done["output_text"]) == ("completed", 2, "The end.")
    assert done["output"] == message("The end.")
    assert [call["status"] for call in done["tool_calls"]] == ["completed", "completed"]
    assert done["usage"] == {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 11,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 22,
    }


@pytest.mark.parametrize(
    ("end", "status", "because"),
    [
        (Snapshot(response_id="resp_1", status=ResponseStatus.FAILED), "failed", "error"),
        (
            Snapshot(
                response_id="resp_1",
                status=ResponseStatus.INCOMPLETE,
                output=json.dumps(message("part")),
                incomplete_reason="max_output_tokens",
            ),
            "incomplete",
            "incomplete_details",
        ),
        (Snapshot(response_id="resp_1", status=ResponseStatus.CANCELLED), "cancelled", None),
    ],
    ids=["failed", "incomplete", "cancelled"],
)
async def test_every_outcome_is_a_200_with_its_status(world, client, end, status, because):
    run_id = (await client.start()).json["id"]
    world.provider.state["resp_1"] = end
    await world.until_terminal(run_id)
    read = await client.get("/runs/{run_id}", run_id)
    assert (read.status, read.json["status"]) == (200, status)
    assert {name for name in ("error", "incomplete_details") if read.json[name]} == (
        {because} if because else set()
    )


async def test_an_expired_run_has_its_status(world, client):
    run_id = (await client.start(deadline_seconds=10)).json["id"]
    await world.drive(3, seconds=5)
    assert (await client.get("/runs/{run_id}", run_id)).json["status"] == "expired"


async def test_retry_after_grows_with_the_age_of_the_turn_until_the_run_ends(world, client):
    run_id = (await client.start()).json["id"]
    waits = []
    for _ in range(4):
        waits.append((await client.get("/runs/{run_id}", run_id)).headers["Retry-After"])
        world.clock.pass_(75)
    assert waits == ["2", "8", "15", "23"]
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(run_id)
    assert "Retry-After" not in (await client.get("/runs/{run_id}", run_id)).headers


@pytest.mark.parametrize("given", ["{etag}", "W/{etag}", '"0", {etag}', "*"])
async def test_a_run_that_has_not_changed_is_a_304(client, given):
    started = await client.start()
    run_id, etag = started.json["id"], started.headers["ETag"]
    headers = {"If-None-Match": given.format(etag=etag)}
    same = await client.get("/runs/{run_id}", run_id, headers=headers)
    assert (same.status, same.json, same.headers["ETag"]) == (304, None, etag)
    assert same.headers["Retry-After"] == "2"


@pytest.mark.parametrize("given", ["", '"0"', "{unquoted}", "W/"])
async def test_an_etag_of_something_else_is_no_304(client, given):
    started = await client.start()
    headers = {"If-None-Match": given.format(unquoted=started.headers["ETag"].strip('"'))}
    assert (await client.get("/runs/{run_id}", started.json["id"], headers=headers)).status == 200


async def test_a_run_that_has_changed_has_another_etag(world, client):
    started = await client.start()
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(started.json["id"])
    headers = {"If-None-Match": started.headers["ETag"]}
    changed = await client.get("/runs/{run_id}", started.json["id"], headers=headers)
    assert (changed.status, changed.json["status"]) == (200, "completed")


async def pages(client: Client, first, of: str) -> list[list[str]]:
    """Return the ids on each page, from the first to the one without a nextLink."""
    found = [[run["id"] for run in first.json[of]]]
    while "nextLink" in first.json:
        first = await client.follow(first.json["nextLink"])
        found.append([run["id"] for run in first.json[of]])
    return found


async def started_one_after_another(world: World, client: Client, count: int, **fields: object) -> list[str]:
    """Return the ids of new runs, newest first; those of one session have ended."""
    found = []
    for _ in range(count):
        world.clock.pass_(1)
        run = await finished(world, client, **fields) if fields else (await client.start()).json
        found.insert(0, run["id"])
    return found


@pytest.mark.parametrize(("limit", "sizes"), [("3", [3, 3, 1]), ("7", [7]), ("100", [7])])
async def test_a_list_is_newest_first_page_by_page(world, client, limit, sizes):
    run_ids = await started_one_after_another(world, client, 7)
    found = await pages(client, await client.get("/runs", limit=limit), "data")
    assert [len(page) for page in found] == sizes
    assert [run_id for page in found for run_id in page] == run_ids


async def test_a_page_holds_twenty_runs_unless_asked_otherwise(world, client):
    await started_one_after_another(world, client, 21)
    assert [len(page) for page in await pages(client, await client.get("/runs"), "data")] == [20, 1]


async def test_runs_that_are_started_meanwhile_do_not_move_the_pages(world, client):
    run_ids = await started_one_after_another(world, client, 4)
    first = await client.get("/runs", limit="2")
    await started_one_after_another(world, client, 3)
    assert await pages(client, first, "data") == [run_ids[:2], run_ids[2:]]


async def test_an_empty_list_is_a_list(client):
    assert (await client.get("/runs")).json == {"object": "list", "data": []}


async def test_lists_are_filtered(world, client):
    done = await finished(world, client)
    world.clock.pass_(1)
    waiting = (await client.start(session_id=done["session_id"])).json
    world.clock.pass_(1)
    apart = (await client.start()).json

    async def ids(**query: str) -> list[str]:
        return [run["id"] for run in (await client.get("/runs", **query)).json["data"]]

    assert await ids() == [apart["id"], waiting["id"], done["id"]]
    assert await ids(status="completed") == [done["id"]]
    assert await ids(status="queued") == [apart["id"], waiting["id"]]
    assert await ids(status="expired") == []
    assert await ids(agent="writer") == await ids()
    assert await ids(agent="nobody") == []
    assert await ids(session_id=done["session_id"]) == [waiting["id"], done["id"]]
    assert await ids(session_id=done["session_id"], status="completed") == [done["id"]]
    assert await ids(session_id=done["session_id"], agent="nobody") == []


async def test_a_next_link_keeps_the_filters_and_never_carries_the_key(world, client):
    await started_one_after_another(world, client, 3)
    listed = await client.get("/runs", limit="1", status="queued", code="s3cret", clientId="default")
    link = urlsplit(listed.json["nextLink"])
    assert link._replace(query="").geturl() == "https://app.example/api/runs"
    query = parse_qs(link.query)
    assert query.pop("cursor")
    assert query == {"limit": ["1"], "status": ["queued"]}
    assert "s3cret" not in json.dumps(listed.json)


async def test_the_runs_of_a_session_are_listed_page_by_page(world, client):
    session_id = (await finished(world, client))["session_id"]
    await started_one_after_another(world, client, 2)
    await started_one_after_another(world, client, 4, session_id=session_id)
    whole = [run["id"] for run in (await client.get("/runs", session_id=session_id)).json["data"]]
    assert len(whole) == 5
    found = await pages(client, await client.get("/runs", session_id=session_id, limit="2"), "data")
    assert found == [whole[:2], whole[2:4], whole[4:]]


async def test_a_deleted_run_is_in_no_list(world, client):
    kept, gone = [(await finished(world, client))["id"] for _ in range(2)]
    assert (await client.delete("/runs/{run_id}", gone)).status == 204
    assert [run["id"] for run in (await client.get("/runs")).json["data"]] == [kept]


async def test_cancelling_stops_the_provider_and_may_be_repeated(world, client):
    started = await client.start()
    run_id = started.json["id"]
    asked = await client.post("/runs/{run_id}/cancel", run_id)
    assert (asked.status, asked.json["status"]) == (200, "cancelled")
    assert asked.headers["ETag"] != started.headers["ETag"]
    again = await client.post("/runs/{run_id}/cancel", run_id)
    assert (again.status, again.json, again.headers) == (200, asked.json, asked.headers)
    assert world.provider.cancels == ["resp_1"]


async def test_a_run_is_cancelling_until_the_provider_has_stopped(world, client):
    run_id = (await client.start()).json["id"]
    world.provider.cancel_replies["resp_1"] = Snapshot(
        response_id="resp_1", status=ResponseStatus.IN_PROGRESS
    )
    for _ in range(2):
        asked = await client.post("/runs/{run_id}/cancel", run_id)
        assert (asked.status, asked.json["status"]) == (202, "cancelling")
    world.provider.state["resp_1"] = Snapshot(response_id="resp_1", status=ResponseStatus.CANCELLED)
    await world.until_terminal(run_id)
    assert (await client.get("/runs/{run_id}", run_id)).json["status"] == "cancelled"


async def test_a_finished_answer_wins_over_a_cancellation(world, client):
    run_id = (await client.start()).json["id"]
    world.provider.cancel_replies["resp_1"] = answer("resp_1", "just in time")
    asked = await client.post("/runs/{run_id}/cancel", run_id)
    assert (asked.status, asked.json["status"], asked.json["output_text"]) == (
        200,
        "completed",
        "just in time",
    )


@pytest.mark.parametrize("moment", ["the cancellation is saved", "the provider is asked to stop"])
async def test_a_run_that_is_deleted_while_it_is_cancelled_is_not_found(world, client, moment):
    run_id = (await client.start()).json["id"]
    part, name = (
        (world.context.runs, "commit")
        if moment == "the cancellation is saved"
        else (world.provider, "cancel")
    )
    delete_before(part, name, client)
    asked = await client.post("/runs/{run_id}/cancel", run_id)
    assert (asked.status, asked.json["code"]) == (404, "run_not_found")
    assert (await world.run(run_id)).status is RunStatus.DELETED


async def test_a_run_that_is_deleted_while_it_is_started_is_not_found(world, client):
    delete_before(world.provider, "create", client)
    started = await client.start()
    assert (started.status, started.json["code"]) == (404, "run_not_found")
    await world.drive(2)
    assert set(world.provider.cancels) == {"resp_1"}
    assert set(world.provider.deletes) == {"resp_1"}


def delete_before(part: object, name: str, client: Client) -> None:
    """Let a client delete its only run right before the next call of an operation."""
    method = getattr(part, name)

    async def raced(*args, **kwargs):
        setattr(part, name, method)
        [run] = (await client.get("/runs")).json["data"]
        assert (await client.delete("/runs/{run_id}", run["id"])).status == 204
        return await method(*args, **kwargs)

    setattr(part, name, raced)


async def test_deleting_a_pending_run_cancels_and_deletes_it_at_the_provider(world, client):
    run_id = (await client.start()).json["id"]
    deleted = await client.delete("/runs/{run_id}", run_id)
    assert (deleted.status, deleted.json, set(deleted.headers)) == (
        204,
        None,
        {"Access-Control-Expose-Headers", "X-Content-Type-Options"},
    )
    assert (world.provider.cancels, world.provider.deletes) == (["resp_1"], ["resp_1"])
    assert (await client.get("/runs/{run_id}", run_id)).status == 404


async def test_a_session_shows_its_runs_and_their_transcript(world, client):
    first = await finished(world, client, "one", input="say one")
    session_id = first["session_id"]
    alone = (await client.get("/sessions/{session_id}", session_id)).json
    assert (alone["held_by"], alone["run_count"], [run["id"] for run in alone["runs"]]) == (
        None,
        1,
        [first["id"]],
    )
    assert alone["transcript"] == [{"role": "user", "content": "say one"}, *message("one")]
    world.clock.pass_(1)
    second = (await client.start(session_id=session_id, input="say two")).json
    both = (await client.get("/sessions/{session_id}", session_id)).json
    assert (both["held_by"], both["run_count"]) == (second["id"], 2)
    assert [run["id"] for run in both["runs"]] == [second["id"], first["id"]]
    assert both["transcript"] == [*alone["transcript"], {"role": "user", "content": "say two"}]
    assert "nextLink" not in both


async def test_the_transcript_has_tool_outputs_where_they_belong(world, client):
    run = (await client.start()).json
    world.provider.state = {"resp_1": asks("resp_1", "look_up"), "resp_2": answer("resp_2")}
    await world.until_terminal(run["id"])
    transcript = (await client.get("/sessions/{session_id}", run["session_id"])).json["transcript"]
    assert [item.get("type") for item in transcript] == [
        None,
        "function_call",
        "function_call_output",
        "message",
    ]


async def test_a_session_has_pages(world, client):
    first = await finished(world, client, "text 0")
    session_id = first["session_id"]
    run_ids = await started_one_after_another(world, client, 4, session_id=session_id)
    run_ids.append(first["id"])
    page = await client.get("/sessions/{session_id}", session_id, limit="2", code="s3cret")
    assert urlsplit(page.json["nextLink"]).path == f"/api/sessions/{session_id}"
    assert "s3cret" not in page.json["nextLink"]
    assert await pages(client, page, "runs") == [run_ids[:2], run_ids[2:4], run_ids[4:]]
    assert len(page.json["transcript"]) == 4


async def test_a_session_that_is_deleted_takes_its_runs_with_it(world, client):
    run = await finished(world, client)
    later = (await client.start(session_id=run["session_id"])).json
    deleted = await client.delete("/sessions/{session_id}", run["session_id"])
    assert (deleted.status, set(deleted.messages)) == (204, {run["id"], later["id"]})
    for wake in deleted.messages:
        await work(world.context, wake)
    for template, name in (
        ("/sessions/{session_id}", run["session_id"]),
        ("/runs/{run_id}", run["id"]),
        ("/runs/{run_id}", later["id"]),
    ):
        assert (await client.get(template, name)).status == 404
    assert sorted(world.provider.deletes) == ["resp_1", "resp_2"]
    assert (await client.get("/runs")).json["data"] == []


async def test_a_session_leaves_out_a_run_that_is_deleted_while_its_texts_are_read(world, client):
    # Long enough for rows of its own.
    noise = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(100_000))
    gone = await finished(world, client, noise)
    kept = await finished(world, client, "kept", session_id=gone["session_id"])
    load = world.context.content.load

    async def raced(*args):
        world.context.content.load = load
        assert (await client.delete("/runs/{run_id}", gone["id"])).status == 204
        return await load(*args)

    world.context.content.load = raced
    page = await client.get("/sessions/{session_id}", gone["session_id"])
    assert page.status == 200
    assert [run["id"] for run in page.json["runs"]] == [kept["id"]]
    assert [item["role"] for item in page.json["transcript"]] == ["user", "assistant"]


async def test_agents_are_listed(client):
    assert (await client.get("/agents")).json == {
        "object": "list",
        "data": [
            {
                "name": "writer",
                "object": "agent",
                "description": "",
                "model": "m",
                "tools": ["look_up", "pay"],
                "max_turns": 3,
                "deadline_seconds": 1800,
                "stream": False,
                "ready": True,
                "missing_settings": [],
            }
        ],
    }


async def test_health_is_ok_while_the_timer_ticks(world, client):
    assert (await client.get("/health")).json == {
        "status": "ok",
        "pending": 0,
        "overdue": 0,
        "creates_failing": 0,
        "last_tick_at": None,
        "clock_correction_seconds": 0.0,
        "poison_messages": 0,
        "oldest_wait_at": None,
        "background_ignored_on_host": 0,
    }
    await client.start()
    await world.tick(5)
    health = await client.get("/health")
    assert (health.status, health.json["status"], health.json["pending"]) == (200, "ok", 1)
    assert health.json["last_tick_at"] == "2026-01-01T00:00:05.000Z"


class Poisoned:
    """Queues with poison messages; None: the queues cannot be reached."""

    def __init__(self, counts: Mapping[str, int] | None) -> None:
        self.counts = counts

    async def poison_counts(self) -> Mapping[str, int]:
        if self.counts is None:
            raise StorageUnavailable("no answer")
        return self.counts


async def health_of(world: World, queues: Poisoned, owner: str | None = None) -> Answer:
    client = Client(world.context, owner=owner)
    client._api = replace(client._api, queues=queues)
    return await client.get("/health")


async def test_health_counts_poison_messages(world):
    health = await health_of(world, Poisoned({"work": 2, "deliver": 1}))
    assert (health.status, health.json["status"], health.json["poison_messages"]) == (200, "ok", 3)


async def test_health_is_late_without_queues_and_has_its_other_counts(world):
    await Client(world.context).start()
    health = await health_of(world, Poisoned(None))
    assert (health.status, health.json["status"], health.json["poison_messages"]) == (503, "late", None)
    assert health.json["pending"] == 1
    hidden = await health_of(world, Poisoned(None), owner="")
    assert (hidden.status, hidden.json) == (503, {"status": "late"})


async def test_health_is_late_when_the_timer_does_not_tick(world, client):
    run = (await client.start(deadline_seconds=3600)).json
    world.clock.pass_((LATE + 2 * world.context.schedule.longest).total_seconds() + 1)
    health = await client.get("/health")
    assert (health.status, health.json["status"], health.json["overdue"]) == (503, "late", 0)
    await world.tick(0)
    assert (await client.get("/health")).status == 200
    world.clock.pass_(timedelta(hours=2).total_seconds())
    late = await client.get("/health")
    assert (late.status, late.json["overdue"]) == (503, 1)
    await world.until_terminal(run["id"])
    assert (await client.get("/health")).status == 200


async def test_owners_see_only_their_own_runs(world):
    ann, bob = Client(world.context, owner="ann"), Client(world.context, owner="bob")
    key = {"Idempotency-Key": "a key"}
    runs = {owner: (await owner.start(headers=key)).json["id"] for owner in (ann, bob)}
    assert runs[ann] != runs[bob]
    for owner, run_id in runs.items():
        assert [run["id"] for run in (await owner.get("/runs")).json["data"]] == [run_id]


ODD = 'NUL \x00, control \x1f, "quotes" \\, line \u2028 end, 漢字, é as e\u0301, \U0001f680, private \ue000, \ufffd'


async def test_every_character_comes_back_as_it_was(world, client):
    run = await finished(world, client, ODD, input=ODD, metadata={ODD[:60]: ODD})
    assert run["output_text"] == ODD
    assert run["metadata"] == {ODD[:60]: ODD}
    assert json.loads(world.provider.creates[0].input)[0]["content"] == ODD
    transcript = (await client.get("/sessions/{session_id}", run["session_id"])).json["transcript"]
    assert transcript[0]["content"] == transcript[1]["content"][0]["text"] == ODD


@pytest.mark.parametrize("character", ["a", "漢", "\U0001f680", "\x00", '"', "\\"])
async def test_metadata_may_be_filled_to_its_limits(client, character):
    full = {f"{n:02d}{character * 62}": character * 512 for n in range(16)}
    started = await client.start(metadata=full)
    assert started.json["metadata"] == full
    assert (await client.get("/runs/{run_id}", started.json["id"])).json["metadata"] == full


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (r"a\ud800b", "a\ufffdb"),
        (r"\udc00", "\ufffd"),
        (r"\ude80\ud83d", "\ufffd\ufffd"),
        (r"\ud83d\ude80", "\U0001f680"),
        (r"\ud800 \u0000 \ud83d\ude80 e\u0301 \ufffd", "\ufffd \x00 \U0001f680 e\u0301 \ufffd"),
    ],
)
async def test_only_lone_surrogates_are_replaced(world, client, sent, kept):
    body = f'{{"agent": "writer", "input": "<{sent}>", "metadata": {{"k{sent}": "v{sent}"}}}}'
    run = (await client.post("/runs", body=body.encode())).json
    assert json.loads(world.provider.creates[0].input)[0]["content"] == f"<{kept}>"
    assert run["metadata"] == {f"k{kept}": f"v{kept}"}
    items = f'{{"agent": "writer", "input": [{{"k{sent}": ["{sent}"]}}]}}'
    anything = Client(world.context, input_rules=InputRules(anything=True))
    await anything.post("/runs", body=items.encode())
    assert json.loads(world.provider.creates[1].input) == [{f"k{kept}": [kept]}]


async def test_input_may_be_as_long_as_its_limit(world, client):
    longest = "漢" * 2_000_000
    run = (
        await client.post(
            "/runs", body=json.dumps({"agent": "writer", "input": longest}, ensure_ascii=False).encode()
        )
    ).json
    assert json.loads(world.provider.creates[0].input)[0]["content"] == longest
    assert run["status"] == "queued"


async def test_an_agent_that_was_removed_keeps_its_runs(world, client):
    run = await finished(world, client)
    world.agents.names = tuple
    world.agents.spec = lambda _name: None
    assert (await client.get("/runs/{run_id}", run["id"])).json == run


async def test_health_says_that_creates_fail(world, client):
    world.provider.create_replies = [later("HTTP 503.") for _ in range(2)]
    run = (await client.start()).json
    assert run["waiting_for"]["message"] == "HTTP 503."
    found = await client.get("/health")
    assert (found.status, found.json["status"], found.json["creates_failing"]) == (200, "degraded", 1)
    await world.drive(5, 10)
    assert (await client.get("/health")).json["creates_failing"] == 0
    assert (await client.get("/runs/{run_id}", run["id"])).json["waiting_for"] is None


async def test_an_etag_changes_with_why_a_run_waits(world, client):
    world.provider.state["resp_1"] = later("HTTP 503.")
    run_id = (await client.start()).json["id"]
    await world.drive(2, 5)
    etag = (await client.get("/runs/{run_id}", run_id)).headers["ETag"]
    same = await client.get("/runs/{run_id}", run_id, headers={"If-None-Match": etag})
    assert same.status == 304
    world.clock.pass_(100)
    changed = await client.get("/runs/{run_id}", run_id, headers={"If-None-Match": etag})
    assert (changed.status, changed.json["waiting_for"]["attempt"] > 1) == (200, True)
