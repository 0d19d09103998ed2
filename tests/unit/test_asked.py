"""What a run was asked: in the run, in lists, and once more."""

import json
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.core.limits import MAX_OUTPUT_MARKS
from shared.core.run import RunStatus
from tests.support.client import Client
from tests.support.fakes import answer, asks, later, message
from tests.support.world import World

LONG = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz ", k=200_000))


async def ended(world: World, client: Client, **fields: object) -> dict:
    run = (await client.start(**fields)).json
    response_id = (await world.run(run["id"])).continuation.response_id
    world.provider.state[response_id] = answer(response_id)
    await world.until_terminal(run["id"])
    return (await client.get("/runs/{run_id}", run["id"])).json


async def test_a_run_shows_what_was_asked(world, client):
    run = await ended(world, client, input="  Write\n a\tnovel. ")
    assert run["input"] == [{"role": "user", "content": "  Write\n a\tnovel. "}]
    assert run["input_excerpt"] == "Write a novel."
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA"},
    ]
    run = await ended(
        world, client, input=[{"role": "user", "content": parts}, {"role": "assistant", "content": "no"}]
    )
    assert (run["input"][0]["content"], run["input_excerpt"]) == (parts, "What is this?")


async def test_a_long_input_is_shown_on_request(world, client):
    run = await ended(world, client, input=LONG)
    assert run["input"] is None
    assert len(run["input_excerpt"]) <= 200
    assert " ".join(LONG.split()).startswith(run["input_excerpt"][:-1])
    assert run["input_excerpt"].endswith("\u2026")
    complete = await client.get("/runs/{run_id}", run["id"], include="input")
    assert complete.json["input"] == [{"role": "user", "content": LONG}]


async def test_an_input_that_compresses_well_is_shown_up_to_its_limit(world, client):
    for characters, shown in ((60_000, True), (70_000, False)):
        run = await ended(world, client, input="a" * characters)
        assert (run["input"] is not None) is shown


async def test_to_show_a_short_input_costs_no_storage_operation(world, client):
    run = await ended(world, client)
    world.content_table.taken()
    await client.get("/runs/{run_id}", run["id"])
    long = await ended(world, client, input=LONG)
    world.content_table.taken()
    await client.get("/runs/{run_id}", long["id"])
    assert world.content_table.taken() == {}


async def test_lists_show_the_excerpt_the_duration_and_the_tokens(world, client):
    await ended(world, client, input="Write")
    await client.start(input="Wait")
    pending, done = (await client.get("/runs")).json["data"]
    assert (pending["input_excerpt"], pending["duration_seconds"]) == ("Wait", None)
    assert (done["input_excerpt"], done["usage"]["total_tokens"]) == ("Write", 20)
    assert done["duration_seconds"] > 0
    assert "input" not in done


async def test_a_deleted_run_keeps_nothing_of_what_was_asked(world, client):
    run = await ended(world, client, input="a secret")
    again = (await client.post("/runs/{run_id}/retry", run["id"])).json
    await client.delete("/runs/{run_id}", again["id"])
    await client.delete("/runs/{run_id}", run["id"])
    await world.drive(3, 700)
    kept = json.dumps(
        [row.values for there in world.table._partitions.values() for row in there.values()], default=repr
    )
    assert "a secret" not in kept


# Once more.


async def test_a_run_is_started_again(world, client):
    run = await ended(
        world, client, input="Write", metadata={"order": "4711"}, deadline_seconds=60, stream=True
    )
    reply = await client.post("/runs/{run_id}/retry", run["id"])
    again = reply.json
    assert reply.status == 202
    assert reply.headers["Location"].endswith(again["id"])
    assert again["retry_of"] == run["id"]
    assert again["session_id"] != run["session_id"]
    for name in ("agent", "input", "input_excerpt", "metadata"):
        assert again[name] == run[name]
    first, second = world.provider.creates
    assert (first.input, first.stream) == (second.input, second.stream)
    stored = await world.run(again["id"])
    assert stored.expires_at - stored.created_at == timedelta(seconds=60)


async def test_a_later_run_of_a_session_continues_it(world, client):
    first = await ended(world, client, input="one")
    second = await ended(world, client, input="two", session_id=first["session_id"])
    again = (await client.post("/runs/{run_id}/retry", second["id"])).json
    assert (again["session_id"], again["retry_of"]) == (first["session_id"], second["id"])


async def test_a_pending_run_is_not_repeated(world, client):
    run = (await client.start()).json
    refused = await client.post("/runs/{run_id}/retry", run["id"])
    assert (refused.status, refused.json["code"]) == (409, "run_pending")
    assert len(world.provider.creates) == 1


async def test_a_failed_run_is_repeated(world, client):
    run = (await client.start()).json
    await client.post("/runs/{run_id}/cancel", run["id"])
    await world.until_terminal(run["id"])
    assert (await client.post("/runs/{run_id}/retry", run["id"])).status == 202


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 202, None),
        (b" \n", {}, 202, None),
        (b"{}", {}, 202, None),
        (b'{"input": "Other"}', {}, 422, "unknown_field"),
        (b'{"": null}', {}, 422, "unknown_field"),
        (b"[]", {}, 400, "not_an_object"),
        (b"null", {}, 400, "not_an_object"),
        (b"input=Other", {}, 400, "not_json"),
        (b"{}", {"content-encoding": "gzip"}, 415, None),
        (b"", {"transfer-encoding": "chunked"}, 411, None),
    ],
)
async def test_a_retry_has_no_fields(world, client, body, headers, status, code):
    run = await ended(world, client)
    reply = await client.post("/runs/{run_id}/retry", run["id"], body=body, headers=headers)
    assert reply.status == status
    assert code in {None, reply.json.get("code")}
    assert len(world.provider.creates) == (2 if status == 202 else 1)


async def test_a_repeated_retry_with_the_same_key_starts_one_run(world, client):
    run, other = await ended(world, client), await ended(world, client)
    key = {"Idempotency-Key": "again"}
    first = await client.post("/runs/{run_id}/retry", run["id"], headers=key)
    assert (await client.post("/runs/{run_id}/retry", run["id"], headers=key)).json["id"] == first.json["id"]
    reused = await client.post("/runs/{run_id}/retry", other["id"], headers=key)
    assert (reused.status, reused.json["code"]) == (422, "idempotency_key_reused")
    await client.delete("/runs/{run_id}", run["id"])
    assert (await client.post("/runs/{run_id}/retry", run["id"], headers=key)).json["id"] == first.json["id"]
    assert (await client.post("/runs/{run_id}/retry", run["id"])).json["code"] == "run_not_found"


# Lists.


async def test_a_list_is_filtered_by_metadata(world, client):
    for number in range(6):
        await client.start(metadata={"order": str(number % 2), "n[]": "x y"})
    page = await client.get("/runs", **{"metadata[order]": "1", "metadata[n[]]": "x y", "limit": "2"})
    seen = list(page.json["data"])
    while "nextLink" in page.json:
        assert "metadata%5Border%5D=1" in page.json["nextLink"]
        page = await client.follow(page.json["nextLink"])
        seen += page.json["data"]
    assert [run["metadata"]["order"] for run in seen] == ["1", "1", "1"]
    assert (await client.get("/runs", **{"metadata[order]": "7"})).json["data"] == []


async def test_a_filtered_page_reads_a_limited_number_of_runs(world, client):
    for _ in range(30):
        await client.start(metadata={"a": "b"})
    page = await client.get("/runs", **{"metadata[a]": "c", "limit": "2"})
    assert page.json["data"] == []
    assert "nextLink" in page.json


async def test_a_list_is_filtered_by_time(world, client):
    times, ids = [], []
    for _ in range(4):
        run = (await client.start()).json
        times.append(run["created_at"])
        ids.append(run["id"])
        world.clock.pass_(0.001)

    async def listed(**query: str) -> list[str]:
        return [run["id"] for run in (await client.get("/runs", **query)).json["data"]][::-1]

    assert await listed(created_after=times[1]) == ids[1:]
    assert await listed(created_before=times[2]) == ids[:2]
    assert await listed(created_after=times[1], created_before=times[3]) == ids[1:3]
    assert await listed(created_after=times[2].replace("Z", "+00:00")) == ids[2:]
    assert await listed(created_after=times[3], created_before=times[0]) == []
    session = (await client.get("/runs/{run_id}", ids[0])).json["session_id"]
    assert await listed(session_id=session, created_after=times[1]) == []


@pytest.mark.parametrize("name", ["created_after", "created_before"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "1" * 5000,
    ],
)
async def test_a_time_without_a_zone_is_refused(client, name, text):
    reply = await client.get("/runs", **{name: text})
    assert (reply.status, reply.json["code"], reply.json["field"]) == (422, "invalid_time", name)


# Agents that are not ready, and structured output.


async def test_an_agent_that_is_not_ready_is_listed_and_refuses_starts(world, client):
    world.agents.changes = {"missing_settings": ("WRITER_MODEL",)}
    [agent] = (await client.get("/agents")).json["data"]
    assert (agent["ready"], agent["missing_settings"]) == (False, ["WRITER_MODEL"])
    refused = await client.start()
    assert (refused.status, refused.json["code"], refused.json["field"]) == (409, "agent_not_ready", "agent")
    assert "WRITER_MODEL" in refused.json["detail"]
    assert "local.settings.json" in refused.json["detail"]
    assert not world.provider.creates


async def test_a_run_whose_agent_has_lost_its_setting_fails(world, client):
    world.provider.create_replies = [later("HTTP 503.")]
    run = (await client.start()).json
    world.agents.changes = {"missing_settings": ("WRITER_MODEL",)}
    found = await world.until_terminal(run["id"])
    assert (found.status, found.error.code) == (RunStatus.FAILED, "agent_not_ready")
    assert len(world.provider.creates) == 1


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ('{"a": NaN}', None),
        ('{"a": 1e999}', None),
        ('{"a": "\\ud800"}', {"a": "\ufffd"}),
        ('{"a": [' + "[]," * MAX_OUTPUT_MARKS + "0]}", None),
    ],
    ids=["NaN", "too large", "half a character", "much structure"],
)
async def test_an_answer_that_nobody_has_checked_does_not_break_its_run(world, client, text, parsed):
    """The agent may have no output type any more when its run ends."""
    world.agents.changes = {"structured": True}
    run = (await client.start()).json
    world.provider.state["resp_1"] = answer("resp_1", text)
    await world.until_terminal(run["id"])
    reply = await client.get("/runs/{run_id}", run["id"])
    assert (reply.json["status"], reply.json["output_parsed"]) == ("completed", parsed)


async def test_what_a_run_says_that_hands_calls_over_is_no_answer(world, client):
    world.agents.changes = {"structured": True}
    tool = {"type": "function", "name": "refund"}
    run = (await client.start(tools=[tool], caller_calls="end")).json
    asked = asks("resp_1", "refund")
    both = json.dumps([*message("{}"), *json.loads(asked.output)])
    world.provider.state["resp_1"] = replace(asked, output=both)
    await world.until_terminal(run["id"])
    read = (await client.get("/runs/{run_id}", run["id"])).json
    assert (read["status"], read["output_text"], read["output_parsed"]) == ("completed", "{}", None)


@pytest.mark.parametrize(("text", "status"), [('{"a": [1, "\u00fc"]}', "completed"), ("no JSON", "failed")])
async def test_a_structured_answer_is_checked_when_the_run_ends(world, client, text, status):
    world.agents.changes = {"structured": True}
    run = (await client.start()).json
    world.provider.state["resp_1"] = answer("resp_1", text)
    await world.until_terminal(run["id"])
    read = (await client.get("/runs/{run_id}", run["id"])).json
    assert (read["status"], read["output_text"], read["usage"]["total_tokens"]) == (status, text, 20)
    if status == "completed":
        assert read["output_parsed"] == {"a": [1, "\u00fc"]}
    else:
        assert (read["error"]["code"], read["output_parsed"]) == ("output_invalid", None)
        assert (await client.get("/runs/{run_id}/events", run["id"])).json["data"][-1]["type"] == "run.failed"
