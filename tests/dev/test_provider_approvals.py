"""The provider emulator as a model that waits for people: the refund clerk, hosted MCP, functions of the caller."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.responses import Response

from tests.dev.test_provider import function, run, script

Json = dict[str, Any]
CLERK = [
    function("lookup_order", order={"type": "string"}),
    function("refund", order={"type": "string"}, euros={"type": "number"}),
]
MCP = {
    "type": "mcp",
    "server_label": "wiki",
    "server_url": "https://wiki.example/mcp",
    "allowed_tools": ["find_pages"],
    "require_approval": "always",
}
FOUND = json.dumps({"order": "A-7", "euros": 249.0, "refunded": 9})


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=url + "/v1", api_key="test", max_retries=0) as client:
        yield client


async def answer(client: AsyncOpenAI, response: Response, *outputs: str, tools: list[Json]) -> Response:
    """Go on with the outputs of a response's calls."""
    given = [
        {"type": "function_call_output", "call_id": item.call_id, "output": output}
        for item, output in zip(response.output, outputs, strict=True)
    ]
    return await run(client, input=given, tools=tools, previous_response_id=response.id)


def calls(response: Response) -> list[tuple[str, Json]]:
    return [(item.name, json.loads(item.arguments)) for item in response.output]


def error(code: str, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message}})


@pytest.mark.parametrize(
    ("text", "order", "euros"),
    [
        ("Refund 120 euros of order A-1002, please.", "A-1002", 120),
        ("Order 4711 was broken. I want \u20ac 12,50 back.", "4711", 12.5),
        ("Please refund A-1004 completely.", "A-1004", 240),
    ],
)
async def test_the_clerk_looks_up_and_then_refunds(
    client: AsyncOpenAI, text: str, order: str, euros: float
) -> None:
    first = await run(client, input=text, tools=CLERK)
    assert calls(first) == [("lookup_order", {"order": order})]
    second = await answer(client, first, FOUND, tools=CLERK)
    assert calls(second) == [("refund", {"order": order, "euros": euros})]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("120.00 euros of order A-7 were refunded.", "120.00 euros of order A-7 were refunded."),
        (
            "80.00 euros of order A-7 were refunded.",
            "80.00 euros of order A-7 were refunded. I had asked for 120.00 euros.",
        ),
        (
            error("refused", "A person refused this call. The reason: Too late."),
            "I have not refunded 120.00 euros of order A-7. I was told: A person refused this call. The reason: Too late.",
        ),
        (
            error("timed_out", "Nobody answered within 3 days."),
            "I have not refunded 120.00 euros of order A-7. I was told: Nobody answered within 3 days.",
        ),
        (
            error("outcome_unknown", "It is unknown."),
            "I do not know whether 120.00 euros of order A-7 were refunded. I was told: It is unknown.",
        ),
        (error("cancelled", ""), "I have not refunded 120.00 euros of order A-7. I was told: cancelled"),
    ],
)
async def test_the_clerk_says_what_it_was_told(client: AsyncOpenAI, output: str, said: str) -> None:
    first = await run(client, input="Refund 120 euros of order A-7.", tools=CLERK)
    second = await answer(client, first, FOUND, tools=CLERK)
    third = await answer(client, second, output, tools=CLERK)
    assert third.output_text == said


async def test_the_clerk_refunds_nothing_without_an_order(client: AsyncOpenAI) -> None:
    nowhere = await run(client, input="I want 10 euros back.", tools=CLERK)
    assert nowhere.output_text == "Which order is it? Please give me its number."
    first = await run(client, input="Refund 10 euros of order A-8.", tools=CLERK)
    second = await answer(client, first, error("tool_error", "There is no order 'A-8'."), tools=CLERK)
    assert second.output_text == "I have refunded nothing. I was told: There is no order 'A-8'."


async def asked(client: AsyncOpenAI) -> Response:
    return await run(client, input="Tell me about comets.", tools=[MCP])


def decision(response: Response, **fields: Any) -> Json:
    [request] = response.output
    return {"type": "mcp_approval_response", "approval_request_id": request.id, **fields}


async def test_a_hosted_server_asks_and_goes_on_when_it_is_approved(client: AsyncOpenAI) -> None:
    first = await asked(client)
    [request] = first.output
    assert (request.type, request.server_label, request.name) == (
        "mcp_approval_request",
        "wiki",
        "find_pages",
    )
    assert request.id.startswith("mcpr_")
    assert json.loads(request.arguments) == {"query": "comets"}
    second = await run(
        client, input=[decision(first, approve=True)], tools=[MCP], previous_response_id=first.id
    )
    called = next(item for item in second.output if item.type == "mcp_call")
    assert (called.to_dict()["approval_request_id"], called.name) == (request.id, "find_pages")
    assert second.output_text == "find_pages of wiki has found three pages about comets."


async def test_a_hosted_server_is_told_the_reason_of_a_refusal(client: AsyncOpenAI) -> None:
    first = await asked(client)
    refused = decision(first, approve=False, reason="Not today.")
    second = await run(client, input=[refused], tools=[MCP], previous_response_id=first.id)
    assert second.output_text == "I have not called find_pages of wiki. I was told: Not today."
    assert [item.type for item in second.output] == ["message"]


async def test_the_conversation_may_be_sent_again_with_its_approval(client: AsyncOpenAI) -> None:
    first = await asked(client)
    [request] = first.output
    conversation = [
        {"role": "user", "content": "Tell me about comets."},
        request.to_dict(),
        decision(first, approve=True),
    ]
    second = await run(client, input=conversation, tools=[MCP])
    assert second.output_text == "find_pages of wiki has found three pages about comets."


async def test_each_request_for_approval_needs_exactly_one_answer(client: AsyncOpenAI) -> None:
    first = await asked(client)
    approved = decision(first, approve=True)
    unknown = {**approved, "approval_request_id": "mcpr_unknown"}
    question = {"role": "user", "content": "Well?"}
    for given, why in (
        ([question], f"MCP approval requests do not have an approval: {first.output[0].id}"),
        ([approved, unknown], "No MCP approval request found"),
        ([approved, approved], "more than one approval"),
    ):
        with pytest.raises(BadRequestError, match=why) as refusal:
            await run(client, input=given, tools=[MCP], previous_response_id=first.id)
        assert refusal.value.param == "input"
    for given in (
        {"approve": True},
        {"approve": "yes", "approval_request_id": approved["approval_request_id"]},
    ):
        with pytest.raises(BadRequestError):
            await run(
                client,
                input=[{"type": "mcp_approval_response", **given}],
                tools=[MCP],
                previous_response_id=first.id,
            )


async def test_a_server_that_needs_no_approval_does_not_ask(client: AsyncOpenAI) -> None:
    response = await run(client, input="Tell me about comets.", tools=[MCP | {"require_approval": "never"}])
    assert [item.type for item in response.output] == ["message"]


@pytest.mark.parametrize("named", [{}, {"id": "mcpr_mine"}], ids=["without an id", "with an id"])
async def test_a_scripted_request_for_approval_awaits_its_answer(client: AsyncOpenAI, named: Json) -> None:
    item = {"type": "mcp_approval_request", "server_label": "s", "name": "n", "arguments": "{}", **named}
    text = script(turns=[{"items": [item], "calls": [{"name": "f"}]}, {"text": "Both are answered."}])
    first = await run(client, input=text)
    call, request = first.output
    assert request.id == named.get("id", request.id)
    given = [
        {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": False},
        {"type": "function_call_output", "call_id": call.call_id, "output": "x"},
    ]
    second = await run(client, input=given, previous_response_id=first.id)
    assert second.output_text == "Both are answered."


async def test_a_function_that_the_user_names_is_called(client: AsyncOpenAI) -> None:
    tools = [function("read_meter", room={"type": "string"}), function("open_door")]
    first = await run(client, input="Call read_meter, please.", tools=tools)
    assert calls(first) == [("read_meter", {"room": "Call read_meter, please"})]
    with pytest.raises(BadRequestError, match="No tool output found"):
        await run(client, input="Go on.", tools=tools, previous_response_id=first.id)
    second = await answer(client, first, "21 degrees", tools=tools)
    assert second.output_text == "read_meter returned: 21 degrees"
    other = await run(client, input="Call nobody.", tools=tools)
    assert [item.type for item in other.output] == ["message"]
