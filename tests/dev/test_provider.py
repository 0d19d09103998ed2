"""The provider emulator, used through the OpenAI SDK."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response

from dev.provider.launch import start

Json = dict[str, Any]
PENDING = ("queued", "in_progress")
FACTS = ["A neutron star can turn hundreds of times a second.", "The Oort cloud lies far beyond Pluto."]
PEOPLE = [{"name": "Ada Fermi", "role": "pilot"}, {"name": "Bo Lund", "role": "medic"}, {"name": "Cy Reed"}]


def function(name: str, **properties: Json) -> Json:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "name": name, "strict": True, "parameters": parameters}


NOVELIST_TOOLS = [
    function("research_space_facts", topic={"type": "string"}),
    function(
        "generate_character_profiles",
        count={"type": "integer", "maximum": 3},
        theme={"anyOf": [{"type": "null"}, {"type": "string"}]},
    ),
]


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=url + "/v1", api_key="test", max_retries=0) as client:
        yield client


def script(**settings: Any) -> str:
    return f"Please answer. [[script {json.dumps(settings)}]]"


async def finished(client: AsyncOpenAI, response: Response) -> Response:
    while response.status in PENDING:
        await asyncio.sleep(0.01)
        response = await client.responses.retrieve(response.id)
    return response


async def run(client: AsyncOpenAI, **request: Any) -> Response:
    response = await client.responses.create(**{"model": "m", "background": True, **request})
    return await finished(client, response)


def answers(response: Response) -> list[Json]:
    """Answer every function call of a response."""
    outputs = {"research_space_facts": FACTS, "generate_character_profiles": PEOPLE}
    return [
        {
            "type": "function_call_output",
            "call_id": item.call_id,
            "output": json.dumps(outputs.get(item.name)),
        }
        for item in response.output
        if item.type == "function_call"
    ]


async def test_a_background_response_is_queued_then_in_progress_then_completed(client: AsyncOpenAI) -> None:
    # The SDK decodes its first answers slowly, and could miss a short phase.
    await run(client, input=script(turns=[{"text": "first"}]))
    text = script(turns=[{"text": "done", "seconds": 0.8}], queued_seconds=0.4)
    response = await client.responses.create(model="m", input=text, background=True)
    seen = [response]
    while seen[-1].status in PENDING:
        seen.append(await client.responses.retrieve(response.id))
    assert list(dict.fromkeys(one.status for one in seen)) == ["queued", "in_progress", "completed"]
    assert all(one.output == [] and one.usage is None for one in seen[:-1])
    assert seen[-1].output_text == "done"
    assert seen[-1].usage is not None
    assert seen[-1].usage.total_tokens == seen[-1].usage.input_tokens + seen[-1].usage.output_tokens


async def test_fields_without_a_value_are_null(client: AsyncOpenAI) -> None:
    raw = await client.responses.with_raw_response.create(
        model="m", input=script(turns=[{"text": "x"}]), background=True
    )
    body = json.loads(raw.content)
    absent = ("error", "incomplete_details", "usage", "completed_at", "previous_response_id", "instructions")
    assert [body[name] for name in absent] == [None] * len(absent)
    assert body["id"].startswith("resp_")
    assert body["output"] == []
    assert body["metadata"] == {}


@pytest.mark.parametrize("chaining", ["previous_response_id", "replay"])
async def test_the_novelist_researches_and_then_writes_a_novel(client: AsyncOpenAI, chaining: str) -> None:
    question = "Write a very long novel about astronauts."
    first = await run(client, input=question, tools=NOVELIST_TOOLS)
    research, people = first.output
    assert research.type == people.type == "function_call"
    assert (research.name, json.loads(research.arguments)) == (
        "research_space_facts",
        {"topic": "astronauts"},
    )
    assert json.loads(people.arguments) == {"count": 3, "theme": "astronauts"}

    if chaining == "replay":
        calls = [item.to_dict() for item in first.output]
        conversation = [{"role": "user", "content": question}, *calls, *answers(first)]
        second = await run(client, input=conversation, tools=NOVELIST_TOOLS)
    else:
        second = await run(client, input=answers(first), tools=NOVELIST_TOOLS, previous_response_id=first.id)
    novel = second.output_text
    assert len(novel.encode()) > 300_000
    assert novel.count("\n## Chapter ") > 50
    for expected in (*FACTS, "Ada Fermi", "Bo Lund", "Cy Reed", "As pilot"):
        assert expected in novel
    paragraphs = novel.split("\n\n")
    assert len(set(paragraphs)) > 0.99 * len(paragraphs)

    # The same request and the same outputs give the same novel, however the turns were chained.
    again = await run(client, input=question, tools=NOVELIST_TOOLS)
    rewritten = await run(client, input=answers(again), tools=NOVELIST_TOOLS, previous_response_id=again.id)
    assert rewritten.output_text == novel


async def test_the_next_run_of_a_session_starts_with_research_again(client: AsyncOpenAI) -> None:
    short = script(length=500)
    first = await run(client, input=short, tools=NOVELIST_TOOLS)
    second = await run(client, input=answers(first), tools=NOVELIST_TOOLS, previous_response_id=first.id)
    third = await run(client, input=short, tools=NOVELIST_TOOLS, previous_response_id=second.id)
    assert [item.type for item in second.output] == ["message"]
    assert [item.type for item in third.output] == ["function_call", "function_call"]


async def test_any_other_agent_gets_a_short_analysis(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model="m", input="Is there a market for moon dust?")
    assert response.status == "completed"
    assert response.output_text.startswith("# Market analysis: Is there a market for moon dust")
    assert 500 < len(response.output_text) < 5_000


async def test_a_stream_can_be_resumed_after_any_event(client: AsyncOpenAI) -> None:
    stream = await client.responses.create(
        model="m", input=script(turns=[{"text": "abc" * 100}]), background=True, stream=True
    )
    events = [event async for event in stream]
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert events[0].response.status == "queued"
    assert kinds[-1] == "response.completed"
    response_id = events[0].response.id
    assert events[-1].response.id == response_id
    assert (
        "".join(event.delta for event in events if event.type == "response.output_text.delta") == "abc" * 100
    )

    rest = await client.responses.retrieve(response_id, stream=True, starting_after=events[9].sequence_number)
    assert [event.to_dict() async for event in rest] == [event.to_dict() for event in events[10:]]


@pytest.mark.parametrize("turn", [{"text": "x"}, {"calls": [{"name": "f"}]}], ids=["text", "calls"])
async def test_cancelling_is_idempotent(client: AsyncOpenAI, turn: Json) -> None:
    text = script(turns=[turn], seconds=60, queued_seconds=0)
    pending = await client.responses.create(model="m", background=True, input=text)
    assert (await client.responses.retrieve(pending.id)).status == "in_progress"
    for _ in range(2):
        cancelled = await client.responses.cancel(pending.id)
        assert (cancelled.status, cancelled.output) == ("cancelled", [])
    assert await client.responses.retrieve(pending.id) == cancelled


async def test_cancelling_a_finished_response_changes_nothing(client: AsyncOpenAI) -> None:
    done = await run(client, input=script(turns=[{"text": "kept"}]))
    assert await client.responses.cancel(done.id) == done


async def test_a_pending_response_does_not_show_its_streamed_text(client: AsyncOpenAI) -> None:
    text = script(turns=[{"text": "abc" * 100, "seconds": 6}], queued_seconds=0)
    stream = await client.responses.create(model="m", background=True, stream=True, input=text)
    async for event in stream:
        if event.type == "response.output_text.delta":
            break
        if event.type == "response.created":
            response_id = event.response.id
    pending = await client.responses.retrieve(response_id)
    assert (pending.status, pending.output, pending.usage) == ("in_progress", [], None)
    assert (await client.responses.cancel(response_id)).status == "cancelled"


@pytest.mark.parametrize("seconds", [0, 60])
async def test_a_deleted_response_is_gone_whether_finished_or_not(
    client: AsyncOpenAI, seconds: float
) -> None:
    text = script(turns=[{"text": "x"}], seconds=seconds, queued_seconds=0)
    response = await client.responses.create(model="m", background=True, input=text)
    if not seconds:
        await finished(client, response)
    await client.responses.delete(response.id)
    for operation in (client.responses.retrieve, client.responses.cancel, client.responses.delete):
        with pytest.raises(openai.NotFoundError):
            await operation(response.id)


@pytest.mark.parametrize(
    "text",
    [
        "漢字かな",
        "\U0001f469‍\U0001f680\U0001f6f0️",
        "a\0b",
        "\ud800 and \udfff",
        "\U000f0ffe\U000f0000",
        "\r\n\u2028\\ud800",
        "x" * 5_000_000,
    ],
    ids=["cjk", "emoji", "nul", "surrogates", "private use", "line ends", "5 MB"],
)
async def test_a_scripted_text_comes_back_unchanged(client: AsyncOpenAI, text: str) -> None:
    repeat = 1
    if len(text) > 1_000:
        text, repeat = text[:1_000], len(text) // 1_000
    turn = {"text": text, "repeat": repeat}
    response = await run(client, input=script(turns=[turn]))
    assert response.output_text == text * repeat
    stream = await client.responses.create(model="m", input=script(turns=[turn]), stream=True)
    deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
    assert "".join(deltas) == text * repeat


async def test_a_script_may_answer_with_anything(client: AsyncOpenAI) -> None:
    calls = [
        {"name": "no_such_tool", "arguments": {"a": [1]}},
        {"name": "broken", "arguments": '{"a": ', "call_id": "call_1"},
        {"name": "doubled", "call_id": "call_1"},
    ]
    items = [{"type": "quantum_call", "id": "qc_1", "qubits": 3}]
    first = await run(client, input=script(turns=[{"calls": calls, "items": items}, {"text": "end"}]))
    assert [item.type for item in first.output] == ["function_call"] * 3 + ["quantum_call"]
    assert [item.arguments for item in first.output[:3]] == ['{"a": [1]}', '{"a": ', "{}"]
    assert first.output[3].to_dict() == {
        "type": "quantum_call",
        "id": "qc_1",
        "qubits": 3,
        "status": "completed",
    }
    outputs = {output["call_id"]: output for output in answers(first)}
    second = await run(client, input=list(outputs.values()), previous_response_id=first.id)
    assert second.output_text == "end"


async def test_a_script_may_have_any_number_of_turns(client: AsyncOpenAI) -> None:
    call = {"name": "look"}
    text = script(turns=[{"calls": [call, call]}, {"calls": [call], "text": "hm"}, {"text": "end"}])
    response = await run(client, input=text)
    sizes = []
    while calls := answers(response):
        sizes.append(len(calls))
        response = await run(client, input=calls, previous_response_id=response.id)
    assert (sizes, response.output_text) == ([2, 1], "end")


async def test_a_looping_script_never_stops_calling(client: AsyncOpenAI) -> None:
    response = await run(client, input=script(turns=[{"calls": [{"name": "look"}]}], loop=True))
    for _ in range(5):
        response = await run(client, input=answers(response), previous_response_id=response.id)
        assert [item.type for item in response.output] == ["function_call"]


async def test_a_script_decides_how_a_response_ends(client: AsyncOpenAI) -> None:
    error = {"code": "rate_limit_exceeded", "message": "Too much."}
    failed = await run(client, input=script(turns=[{"status": "failed", "error": error}]))
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("rate_limit_exceeded", "Too much.")

    incomplete = await run(client, input=script(turns=[{"text": "half a", "status": "incomplete"}]))
    assert incomplete.status == "incomplete"
    assert incomplete.incomplete_details is not None
    assert incomplete.incomplete_details.reason == "max_output_tokens"
    assert incomplete.output_text == "half a"

    refused = await run(client, input=script(turns=[{"refusal": "No."}]))
    assert refused.output[0].content[0].to_dict() == {"type": "refusal", "refusal": "No."}


async def test_input_items_are_those_of_the_request(client: AsyncOpenAI) -> None:
    response = await run(client, input=[{"role": "user", "content": "hello"}])
    page = await client.responses.input_items.list(response.id)
    assert [item.content[0].text for item in page.data] == ["hello"]


async def test_five_hundred_runs_at_once(url: str) -> None:
    """Uses HTTP without the SDK: five hundred SDK calls at once need more time than the emulator."""
    responses = url + "/v1/responses"
    texts = [f"text {number}" for number in range(500)]

    async def result_of(session: aiohttp.ClientSession, text: str) -> str:
        request = {"model": "m", "background": True, "input": script(turns=[{"text": text}], seconds=1)}
        async with session.post(responses, json=request) as reply:
            response = await reply.json()
        while response["status"] in PENDING:
            await asyncio.sleep(0.5)
            async with session.get(f"{responses}/{response['id']}") as reply:
                response = await reply.json()
        return str(response["output"][0]["content"][0]["text"])

    connector = aiohttp.TCPConnector(limit=500)
    async with aiohttp.ClientSession(connector=connector, headers={"authorization": "Bearer t"}) as session:
        assert await asyncio.gather(*(result_of(session, text) for text in texts)) == texts


def test_it_ends_cleanly_on_sigterm_while_responses_are_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    child, url = start()
    with child:
        assert len(list(tmp_path.iterdir())) == 1
        with OpenAI(base_url=url + "/v1", api_key="test", max_retries=0) as client:
            client.responses.create(model="m", background=True, input=script(seconds=60))
            assert child.stop() == 0
    assert child.output.count("\n") == 0
    assert list(tmp_path.iterdir()) == []
