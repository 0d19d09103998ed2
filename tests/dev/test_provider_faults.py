"""The faults that a test can request of the emulator, and the log of its requests."""

import asyncio
import json
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

Json = dict[str, Any]
RESPONSES = "/v1/responses"


async def push(http: aiohttp.ClientSession, **fault: Any) -> None:
    async with http.post("/_emulator/faults", json=fault) as reply:
        assert reply.status == 200, await reply.text()


async def create(http: aiohttp.ClientSession, name: str = "run", **request: Any) -> Json:
    script = {"turns": [{"text": "done"}], "queued_seconds": 0}
    body = {"model": "m", "background": True, "input": f"{name} [[script {json.dumps(script)}]]", **request}
    async with http.post(RESPONSES, json=body) as reply:
        return await reply.json()


async def finish(http: aiohttp.ClientSession, response: Json) -> Json:
    while response["status"] in {"queued", "in_progress"}:
        await asyncio.sleep(0.01)
        async with http.get(f"{RESPONSES}/{response['id']}") as reply:
            response = await reply.json()
    return response


async def log(http: aiohttp.ClientSession) -> tuple[Json, list[Json]]:
    async with http.get("/_emulator/log") as reply:
        body = await reply.json()
    return body["counters"], body["requests"]


async def test_a_fault_applies_to_the_chosen_requests_only(http: aiohttp.ClientSession) -> None:
    response = await finish(http, await create(http))
    await push(http, kind="status", operation="retrieve", status=503, nth=2, times=2)
    statuses = []
    for _ in range(5):
        async with http.get(f"{RESPONSES}/{response['id']}") as reply:
            statuses.append(reply.status)
    assert statuses == [200, 503, 503, 200, 200]


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_an_error_has_the_format_of_the_service(http: aiohttp.ClientSession, status: int) -> None:
    await push(http, kind="status", status=status)
    async with http.get(f"{RESPONSES}/resp_x") as reply:
        assert reply.status == status
        assert set((await reply.json())["error"]) == {"message", "type", "param", "code"}
        assert reply.headers["x-request-id"].startswith("req_")


async def test_retry_after_in_every_form(http: aiohttp.ClientSession) -> None:
    seen = []
    for retry_after in (7, "date:60", "-1e9"):
        await push(http, kind="status", status=429, retry_after=retry_after)
        async with http.get(f"{RESPONSES}/resp_x") as reply:
            seen.append(reply.headers["retry-after"])
            sent = parsedate_to_datetime(reply.headers["date"])
    assert seen[0] == "7"
    assert 55 < (parsedate_to_datetime(seen[1]) - sent).total_seconds() < 65
    assert seen[2] == "-1e9"


async def test_an_error_after_the_request_was_carried_out(http: aiohttp.ClientSession) -> None:
    await push(http, kind="status", operation="create", status=500, executed=True)
    assert (await create(http))["error"]["type"] == "server_error"
    counters, _ = await log(http)
    assert (counters["created"], counters["alive"]) == (1, 1)


async def test_a_lost_reply_leaves_a_response_behind(http: aiohttp.ClientSession) -> None:
    await push(http, kind="lost_reply", operation="create")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await create(http)
    counters, requests = await log(http)
    assert (counters["create"], counters["created"], counters["alive"]) == (1, 1, 1)
    assert (requests[0]["status"], requests[0]["fault"]) == (None, "lost_reply")
    assert requests[0]["response_id"].startswith("resp_")


async def test_a_connection_cut_in_the_middle_of_the_body(http: aiohttp.ClientSession) -> None:
    response = await finish(http, await create(http))
    await push(http, kind="cut", operation="retrieve")
    async with http.get(f"{RESPONSES}/{response['id']}") as reply:
        assert reply.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()


async def test_a_response_goes_on_after_its_stream_was_cut_or_lost(http: aiohttp.ClientSession) -> None:
    body = {"model": "m", "input": "hello", "background": True, "stream": True}
    await push(http, kind="cut", operation="create")
    async with http.post(RESPONSES, json=body) as reply:
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()
    await push(http, kind="lost_reply", operation="create")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        async with http.post(RESPONSES, json=body):
            pass
    _, requests = await log(http)
    for response_id in (requests[0]["response_id"], requests[1]["response_id"]):
        done = await finish(http, {"id": response_id, "status": "queued"})
        assert done["status"] == "completed"
        assert done["output"][0]["content"][0]["text"].startswith("# Market analysis")


async def test_slow_and_stalled(http: aiohttp.ClientSession) -> None:
    response = await create(http)
    await push(http, kind="slow", operation="retrieve", seconds=0.2)
    await finish(http, response)
    _, requests = await log(http)
    assert next(one["seconds"] for one in requests if one["fault"] == "slow") >= 0.2
    await push(http, kind="stall", operation="retrieve")
    with pytest.raises(TimeoutError):
        async with http.get(f"{RESPONSES}/{response['id']}", timeout=aiohttp.ClientTimeout(0.2)):
            pass


async def test_a_forgotten_response_is_not_found(http: aiohttp.ClientSession) -> None:
    response = await finish(http, await create(http))
    await push(http, kind="forget", operation="retrieve", response_id=response["id"])
    for _ in range(2):
        async with http.get(f"{RESPONSES}/{response['id']}") as reply:
            assert reply.status == 404
    assert (await create(http, previous_response_id=response["id"]))["error"][
        "code"
    ] == "previous_response_not_found"


@pytest.mark.parametrize(
    ("junk", "expected"),
    [
        ("html", "<!DOCTYPE"),
        ("list", "[1,2,3]"),
        ("string", '"hello"'),
        ("null", "null"),
        ("truncated", '{"id":"resp_'),
        ("empty", ""),
    ],
)
async def test_a_body_of_junk(http: aiohttp.ClientSession, junk: str, expected: str) -> None:
    response = await create(http)
    await push(http, kind="junk", operation="retrieve", junk=junk)
    async with http.get(f"{RESPONSES}/{response['id']}") as reply:
        assert reply.status == 200
        text = await reply.text()
    assert text.startswith(expected)
    assert bool(text) == bool(expected)


async def test_a_response_with_a_field_of_junk(http: aiohttp.ClientSession) -> None:
    response = await finish(http, await create(http))
    seen: dict[str, Json] = {}
    for junk in (
        "no_output",
        "no_status",
        "no_id",
        "null_output",
        "text_output",
        "unknown_status",
        "unknown_item",
    ):
        await push(http, kind="junk", operation="retrieve", junk=junk)
        async with http.get(f"{RESPONSES}/{response['id']}") as reply:
            seen[junk] = await reply.json()
    assert "output" not in seen["no_output"]
    assert "status" not in seen["no_status"]
    assert "id" not in seen["no_id"]
    assert (seen["null_output"]["output"], seen["text_output"]["output"]) == (None, "not a list")
    assert seen["unknown_status"]["status"] == "contemplating"
    assert seen["unknown_item"]["output"][0]["type"] == "quantum_call"


async def test_an_override_changes_single_fields(http: aiohttp.ClientSession) -> None:
    response = await finish(http, await create(http))
    await push(http, kind="override", operation="cancel", set={"status": "in_progress", "output": []})
    async with http.post(f"{RESPONSES}/{response['id']}/cancel") as reply:
        assert (await reply.json())["status"] == "in_progress"
    assert (await finish(http, response))["status"] == "completed"


async def test_a_cancelled_response_changes_to_completed_for_good(http: aiohttp.ClientSession) -> None:
    response = await create(http, input='[[script {"seconds": 60}]]')
    await push(http, kind="flip", operation="retrieve", nth=2)
    async with http.post(f"{RESPONSES}/{response['id']}/cancel") as reply:
        statuses = [(await reply.json())["status"]]
    for _ in range(3):
        async with http.get(f"{RESPONSES}/{response['id']}") as reply:
            body = await reply.json()
            statuses.append(body["status"])
    assert statuses == ["cancelled", "cancelled", "completed", "completed"]
    assert body["output"][0]["content"][0]["text"] == "A late answer."


async def test_the_azure_refusal_applies_to_chained_outputs_only(http: aiohttp.ClientSession) -> None:
    await push(http, kind="azure_chaining_400", times=0)
    script = json.dumps({"turns": [{"calls": [{"name": "f", "call_id": "call_1"}]}, {"text": "end"}]})
    text = f"[[script {script}]]"
    called = await finish(http, await create(http, input=text))
    output = {"type": "function_call_output", "call_id": "call_1", "output": "1"}
    refused = await create(http, previous_response_id=called["id"], input=[output])
    assert refused["error"]["message"] == "No tool call found for function call output with call_id call_1."
    replayed = await create(http, input=[{"role": "user", "content": text}, *called["output"], output])
    assert (await finish(http, replayed))["output"][0]["content"][0]["text"] == "end"


async def test_a_fault_for_one_run_does_not_change_the_others(http: aiohttp.ClientSession) -> None:
    await push(http, kind="status", contains="unlucky", times=0)
    assert (await finish(http, await create(http, "lucky one")))["status"] == "completed"
    assert (await create(http, "the unlucky one"))["error"]["type"] == "server_error"


async def test_an_invalid_fault_is_refused(http: aiohttp.ClientSession) -> None:
    for fault in (
        {},
        {"kind": "magic"},
        {"kind": "slow", "operation": "x"},
        {"kind": "slow", "second": 1},
        [1],
    ):
        async with http.post("/_emulator/faults", json=fault) as reply:
            assert reply.status == 400


async def test_the_log_counts_every_request(http: aiohttp.ClientSession) -> None:
    response = await finish(http, await create(http))
    async with http.delete(f"{RESPONSES}/{response['id']}") as reply:
        assert reply.status == 200
    counters, requests = await log(http)
    assert (counters["create"], counters["delete"], counters["alive"]) == (1, 1, 0)
    assert counters["retrieve"] == len(requests) - 2
    assert {one["response_id"] for one in requests} == {response["id"]}
    assert [requests[0]["operation"], requests[-1]["operation"]] == ["create", "delete"]
    async with http.get("/_emulator/log", params={"response_id": "resp_other"}) as reply:
        assert (await reply.json())["requests"] == []


async def test_the_request_of_a_client_can_be_read(http: aiohttp.ClientSession) -> None:
    response = await create(http, instructions="Be brief.")
    async with http.get(f"/_emulator/responses/{response['id']}") as reply:
        assert (await reply.json())["request"]["instructions"] == "Be brief."


async def test_a_reset_removes_everything(http: aiohttp.ClientSession) -> None:
    response = await create(http, input='[[script {"seconds": 60}]]')
    await push(http, kind="status", times=0)
    async with http.post("/_emulator/reset") as reply:
        assert reply.status == 200
    async with http.get(f"{RESPONSES}/{response['id']}") as reply:
        assert reply.status == 404
    counters, requests = await log(http)
    assert (counters["created"], len(requests)) == (0, 1)
