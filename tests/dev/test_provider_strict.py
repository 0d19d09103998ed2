"""The requests that the provider emulator refuses, and its errors."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

Json = dict[str, Any]
BASE: Json = {"model": "m", "input": "hello"}
CALL: Json = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
TOOL: Json = {
    "type": "function",
    "name": "f",
    "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
}


def tool(**changes: Any) -> Json:
    return {**BASE, "tools": [{**TOOL, **changes}]}


def open_schema(schema: Json) -> Json:
    """Return a request whose tool has one property of this schema."""
    parameters = {
        "type": "object",
        "properties": {"a": schema},
        "required": ["a"],
        "additionalProperties": False,
    }
    return tool(parameters=parameters)


@pytest.fixture
async def http(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url, headers={"authorization": "Bearer test"}) as session:
        yield session


async def post(http: aiohttp.ClientSession, request: Any, path: str = "/v1/responses") -> tuple[int, Json]:
    async with http.post(path, json=request) as reply:
        return reply.status, await reply.json()


async def finish(http: aiohttp.ClientSession, request: Json) -> Json:
    """Create a background response and return it once it is finished."""
    _, response = await post(http, {**request, "background": True})
    while response["status"] in {"queued", "in_progress"}:
        await asyncio.sleep(0.01)
        async with http.get(f"/v1/responses/{response['id']}") as reply:
            response = await reply.json()
    return response


@pytest.mark.parametrize(
    ("request_body", "param", "code"),
    [
        ({"input": "x"}, "model", "missing_required_parameter"),
        ({"model": "m"}, "input", "missing_required_parameter"),
        ({**BASE, "inputs": "x"}, "inputs", "unknown_parameter"),
        ({**BASE, "background": "yes"}, "background", "invalid_type"),
        ({**BASE, "temperature": "hot"}, "temperature", "invalid_type"),
        ({**BASE, "temperature": 3}, "temperature", "integer_above_max_value"),
        ({**BASE, "max_output_tokens": 1}, "max_output_tokens", "integer_below_min_value"),
        ({**BASE, "background": True, "store": False}, "store", "invalid_value"),
        ({**BASE, "metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties"),
        ({**BASE, "metadata": {"k" * 65: ""}}, "metadata", "property_name_above_max_length"),
        ({**BASE, "metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
        ({**BASE, "metadata": {"k": 1}}, "metadata.k", "invalid_type"),
        ({**BASE, "previous_response_id": "resp_no"}, "previous_response_id", "previous_response_not_found"),
        ({**BASE, "input": [{"role": "user"}]}, "input[0].content", "invalid_value"),
        ({**BASE, "input": [{"role": "user", "content": [1]}]}, "input[0].content[0]", "invalid_value"),
        ({**BASE, "input": [{**CALL, "call_id": []}]}, "input[0].call_id", "invalid_value"),
        ({**BASE, "input": [{"type": "quantum", "x": 1}]}, "input[0].type", "invalid_value"),
        ({**BASE, "input": [1]}, "input[0]", "invalid_type"),
        ({**BASE, "input": "[[script {]]"}, "input", "invalid_script"),
        ({**BASE, "input": '[[script {"turn": []}]]'}, "input", "invalid_script"),
        (tool(name="white space"), "tools[0].name", "invalid_value"),
        (tool(parameters={"type": "object"}), "tools[0].parameters", "invalid_function_parameters"),
        (open_schema({"type": "object"}), "tools[0].parameters", "invalid_function_parameters"),
        (
            open_schema(
                {"anyOf": [{"type": "object", "properties": {"b": {}}, "additionalProperties": False}]}
            ),
            "tools[0].parameters",
            "invalid_function_parameters",
        ),
    ],
)
async def test_a_bad_request_is_refused(
    http: aiohttp.ClientSession, request_body: Json, param: str, code: str
) -> None:
    status, body = await post(http, request_body)
    assert status == 400
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["param"], body["error"]["code"]) == (param, code)
    assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "request_body",
    [
        {**BASE, "temperature": None, "metadata": None, "tools": None},
        {**BASE, "metadata": {f"{n:064}": "v" * 512 for n in range(16)}},
        tool(strict=False, parameters={"type": "object"}),
        open_schema({"type": "array", "items": {"type": "string"}}),
        {**BASE, "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]},
    ],
)
async def test_a_good_request_is_accepted(http: aiohttp.ClientSession, request_body: Json) -> None:
    status, body = await post(http, request_body)
    assert (status, body.get("error")) == (200, None)


@pytest.mark.parametrize("body", ["", "{", "[]", "5", '{"a":NaN}', "[" * 100_000], ids=range(6))
async def test_a_body_that_is_not_an_object_is_refused(http: aiohttp.ClientSession, body: str) -> None:
    async with http.post("/v1/responses", data=body) as reply:
        assert reply.status == 400
        assert (await reply.json())["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Basic abc"}, 401),
        ({"api-key": ""}, 401),
        ({"api-key": "azure"}, 404),
        ({"authorization": "Bearer key"}, 404),
    ],
)
async def test_credentials_are_required(url: str, headers: dict[str, str], status: int) -> None:
    async with (
        aiohttp.ClientSession(url, headers=headers) as http,
        http.get("/openai/v1/responses/resp_x") as reply,
    ):
        assert reply.status == status
        assert set((await reply.json())["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/responses/resp_none", 404),
        ("POST", "/v1/responses/resp_none/cancel", 404),
        ("DELETE", "/v1/responses/resp_none", 404),
        ("GET", "/v1/responses/resp_none/input_items", 404),
        ("GET", "/v1/responses/none", 400),
        ("GET", "/v1/responses", 405),
        ("PUT", "/v1/responses/resp_none", 405),
        ("GET", "/v1/conversations", 404),
    ],
)
async def test_unknown_resources_and_methods(
    http: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with http.request(method, path) as reply:
        assert reply.status == status
        assert (await reply.json())["error"]["type"] == "invalid_request_error"


async def test_calls_and_outputs_have_to_match(http: aiohttp.ClientSession) -> None:
    turns = [
        {"calls": [{"name": "f", "call_id": "call_a"}, {"name": "f", "call_id": "call_b"}]},
        {"text": "end"},
    ]
    called = await finish(http, {**BASE, "input": f"[[script {json.dumps({'turns': turns})}]]"})
    a, b, stray = (
        {"type": "function_call_output", "call_id": call_id, "output": "1"}
        for call_id in ("call_a", "call_b", "call_c")
    )
    question = {"role": "user", "content": "go on"}
    for items, message in [
        ([a], "No tool output found for function call call_b."),
        ([question], "No tool output found for function call call_a."),
        ([a, b, stray], "No tool call found for function call output with call_id call_c."),
    ]:
        status, body = await post(http, {"model": "m", "previous_response_id": called["id"], "input": items})
        assert (status, body["error"]["message"], body["error"]["param"]) == (400, message, "input")
    status, body = await post(http, {"model": "m", "input": [a]})
    assert body["error"]["message"] == "No tool call found for function call output with call_id call_a."
    status, body = await post(http, {"model": "m", "previous_response_id": called["id"], "input": [a, b]})
    assert status == 200


async def test_an_unfinished_or_deleted_response_cannot_be_continued(http: aiohttp.ClientSession) -> None:
    _, pending = await post(http, {**BASE, "input": '[[script {"seconds": 60}]]', "background": True})
    following = {**BASE, "previous_response_id": pending["id"]}
    assert (await post(http, following))[1]["error"]["code"] == "previous_response_not_completed"
    async with http.delete(f"/v1/responses/{pending['id']}") as reply:
        assert await reply.json() == {"id": pending["id"], "object": "response", "deleted": True}
    assert (await post(http, following))[1]["error"]["code"] == "previous_response_not_found"


async def test_a_response_that_is_not_stored_cannot_be_read(http: aiohttp.ClientSession) -> None:
    _, response = await post(http, {**BASE, "store": False})
    assert response["status"] == "completed"
    async with http.get(f"/v1/responses/{response['id']}") as reply:
        assert reply.status == 404


async def test_only_a_background_response_can_be_cancelled(http: aiohttp.ClientSession) -> None:
    _, response = await post(http, BASE)
    status, body = await post(http, None, f"/v1/responses/{response['id']}/cancel")
    assert (status, body["error"]["message"]) == (400, "Cannot cancel a synchronous response.")
