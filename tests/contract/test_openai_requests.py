"""Our requests equal those of OpenAI's own client, and have the types that it declares."""

import json
from typing import Any, get_type_hints
from urllib.parse import parse_qs, urlsplit

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsBase
from pydantic import TypeAdapter, ValidationError

from agents.market_analyst import market_analyst
from agents.refund_clerk import refund_clerk
from agents.space_novelist import space_novelist
from shared.adapters.agents.running import InstalledAgents
from shared.adapters.responses_api.provider import create_body
from shared.core import transcript
from shared.ports.providers import ResponseRequest
from tests.support.loopback import Arrived, Loopback, always, reply
from tests.support.openai_client import at, both
from tests.support.requests import conversation
from tests.support.stream_samples import REFERENCES

Json = dict[str, Any]
# Lists are validated while they are read, so this must live as long as they do.
CREATE_TYPES = TypeAdapter(ResponseCreateParamsBase)
AGENTS = {agent.name: agent for agent in (space_novelist, market_analyst, refund_clerk)}


USER = {"role": "user", "content": [{"type": "input_text", "text": "A novel about 漢 \U0001f680"}]}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "look_up",
    "arguments": "{}",
    "status": "completed",
}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Wait.", "annotations": []}],
}
OUTPUT = transcript.tool_output("call_1", "4 moons")
INPUTS: dict[str, list[Json]] = {
    "of a text": [{"role": "user", "content": "Go"}],
    "of parts": [USER],
    "of a tool's output": [OUTPUT],
    "of a conversation": conversation(USER, CALL, OUTPUT),
}
OPTIONS: Json = {
    "temperature": 0.5,
    "max_output_tokens": 1000,
    "reasoning": {"effort": "low"},
    "text": {"verbosity": "low"},
}


def asked(agent: str, given: list[Json], **fields: Any) -> ResponseRequest:
    """Return the request that the steps make for an agent that ships."""
    models = dict.fromkeys(("NOVELIST_MODEL", "ANALYST_MODEL", "CLERK_MODEL"), "gpt-9")
    spec = InstalledAgents(AGENTS, models).spec(agent)
    assert spec
    defaults: Json = {
        "run_id": "run_1",
        "turn": 1,
        "model": spec.model,
        "instructions": spec.instructions,
        "input": json.dumps(given, ensure_ascii=False),
        "tools": spec.tools,
        "previous_response_id": None,
        "options": spec.options | OPTIONS,
    }
    return ResponseRequest(**defaults | fields)


def refusals(body: Json) -> list[str]:
    """Return the errors that OpenAI's types find in a body."""
    try:
        read = CREATE_TYPES.validate_python(body, strict=True)
        for name in ("input", "tools"):
            list(read[name])
    except ValidationError as error:
        return [str(error)]
    unknown = body.keys() - get_type_hints(ResponseCreateParamsBase).keys() - {"stream"}
    return [f"there is no {name}" for name in unknown]


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("chained", [None, "resp_0"])
def test_our_requests_have_openais_types(agent, given, chained):
    request = asked(agent, INPUTS[given], previous_response_id=chained, stream=True)
    assert refusals(json.loads(create_body(request))) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"tools": [{"type": "functoin", "name": "f"}]},
        {"tools": [{"type": "function"}]},
        {"input": [{"type": "function_call_output", "call_id": 7, "output": "x"}]},
        {"input": [{"nonsense": 1}]},
        {"background": "yes"},
        {"metadata": {"turn": 1}},
        {"temprature": 1},
    ],
    ids=json.dumps,
)
def test_openais_types_refuse_wrong_requests(wrong):
    body = json.loads(create_body(asked("space_novelist", [USER])))
    assert refusals(body) == []
    assert refusals(body | wrong)


def essence(arrived: Arrived) -> Any:
    address = urlsplit(arrived.path)
    body = json.loads(arrived.body) if arrived.body else None
    names = ("authorization", "content-type") if body else ("authorization",)
    return arrived.method, address.path, parse_qs(address.query), body, [arrived.headers[n] for n in names]


async def test_our_requests_equal_those_of_openais_client():
    response = json.dumps(REFERENCES["plain"].response).encode()
    answering = always(reply(200, response, content_type="application/json"))
    async with Loopback(answering) as server, both(at(server)) as (ours, theirs):
        for stream in (False, True):
            request = asked("space_novelist", [USER], previous_response_id="resp_0", stream=stream)
            await ours.create(request)
            await theirs.responses.create(**json.loads(create_body(request)))
        await ours.read("resp_1")
        await theirs.responses.retrieve("resp_1")
        await ours.slice("resp_1", 7)
        await theirs.responses.retrieve("resp_1", stream=True, starting_after=7)
        await ours.cancel("resp_1")
        await theirs.responses.cancel("resp_1")
        await ours.delete("resp_1")
        await theirs.responses.delete("resp_1")
    sent = [essence(arrived) for arrived in server.arrived]
    assert len(sent) == 12
    assert sent[::2] == sent[1::2]
