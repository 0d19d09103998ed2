"""Replies and streams mean the same to our adapter and to OpenAI's own client, except where we differ on purpose."""

import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent

from shared.core import transcript
from shared.core.response import Slice, Snapshot
from shared.core.text import representable
from tests.proofs.corpus.reply import Case, cases
from tests.support.loopback import Loopback, always, reply
from tests.support.openai_client import at, both
from tests.support.requests import CREATE
from tests.support.stream_samples import REFERENCES
from tests.support.streams import Stream

Json = dict[str, Any]


def ours_says(found: Snapshot) -> Json:
    usage = found.usage
    return {
        "id": found.response_id,
        "status": found.status.value,
        "text": transcript.output_text(found.output),
        "calls": [(call.call_id, call.name, call.arguments) for call in found.calls],
        "usage": (usage.input_tokens, usage.output_tokens, usage.total_tokens),
        "error": found.error and (found.error.code, found.error.message),
        "because": found.incomplete_reason,
    }


def theirs_says(found: Response) -> Json:
    usage, finished = found.usage, found.status in {"completed", "incomplete"}
    calls = [
        (item.call_id, item.name, item.arguments) for item in found.output if item.type == "function_call"
    ]
    calls += [
        (item.id, item.name, item.arguments) for item in found.output if item.type == "mcp_approval_request"
    ]
    return {
        "id": found.id,
        "status": found.status,
        "text": representable(found.output_text),
        # Calls of a response that failed are never run.
        "calls": calls if finished else [],
        "usage": (usage.input_tokens, usage.output_tokens, usage.total_tokens) if usage else (0, 0, 0),
        "error": found.error and (found.error.code, found.error.message),
        "because": found.incomplete_details and found.incomplete_details.reason,
    }


# OpenAI always sends these fields. The recorded replies leave them out, because a run does not use them.
UNUSED: Json = {
    "object": "response",
    "created_at": 0,
    "model": "m",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
UNUSED_IN_USAGE: Json = {
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}


def valid(case: Case) -> bool:
    """Return whether OpenAI's model accepts a recorded reply as a response with a status."""
    if case.status != 200 or case.raw or case.cut is not None:
        return False
    try:
        # A body counts as UTF-8 here. For OpenAI's client it has the charset that the reply names.
        body = json.loads(case.content().decode())
        if isinstance(body.get("usage"), dict):
            body["usage"] = UNUSED_IN_USAGE | body["usage"]
        return Response.model_validate(UNUSED | body).status is not None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return False


RECORDED = {case.name: case for case in cases().values() if case.request == "read" and valid(case)}
# The replies that a run reads differently from the client, and in which fields.
READ_OTHERWISE = {
    "another-response": {"id"},
    "id-in-other-case": {"id"},
    "id-is-a-path": {"id"},
    "call-id-twice": {"calls"},
    "failed-error-control-characters": {"error"},
    "in-progress-with-an-error": {"usage", "error"},
    "in-progress-with-output": {"usage", "text"},
    "phases": {"text"},
    "unanswerable-call": {"calls"},
    "usage-negative": {"usage"},
    "usage-strings": {"usage"},
    "usage-true": {"usage"},
}


@pytest.mark.parametrize("name", RECORDED)
async def test_openais_client_reads_a_recorded_reply_as_we_do(name):
    answering = always(reply(200, RECORDED[name].content(), content_type="application/json"))
    async with Loopback(answering) as server, both(at(server)) as (ours, theirs):
        found = await ours.read("resp_1")
        expected = theirs_says(await theirs.responses.retrieve("resp_1"))
    read = ours_says(found)
    assert {field for field in read if read[field] != expected[field]} == READ_OTHERWISE.get(name, set())


def test_there_are_enough_recorded_replies():
    assert len(RECORDED) >= 40
    assert RECORDED.keys() >= READ_OTHERWISE.keys()


@pytest.mark.parametrize("name", REFERENCES)
async def test_openais_client_reads_a_response_as_we_do(name):
    body = json.dumps(REFERENCES[name].response).encode()
    answering = always(reply(200, body, content_type="application/json"))
    async with Loopback(answering) as server, both(at(server)) as (ours, theirs):
        found = await ours.read("resp_1")
        assert ours_says(found) == theirs_says(await theirs.responses.retrieve("resp_1"))


# Streams.


async def events(theirs: AsyncOpenAI, response_id: str, after: int) -> list[ResponseStreamEvent]:
    stream = await theirs.responses.retrieve(response_id, stream=True, starting_after=after)
    return [event async for event in stream]


def written(stream: Stream, first: int, last: int) -> bytes:
    return reply(200, b"".join(stream.written[first:last]), content_type="text/event-stream; charset=utf-8")


@pytest.mark.parametrize("name", REFERENCES)
async def test_openais_client_reads_a_stream_as_we_do(name):
    stream = REFERENCES[name]
    async with Loopback(always(written(stream, 1, -1))) as server, both(at(server)) as (ours, theirs):
        found = await ours.slice("resp_1", 0)
        expected = await events(theirs, "resp_1", 0)
    assert isinstance(found, Slice)
    text = "".join(e.delta for e in expected if e.type == "response.output_text.delta")
    taken = [e for e in expected if e.sequence_number <= found.sequence]
    assert [e.sequence_number for e in taken] == list(range(1, found.sequence + 1))
    assert found.text == representable(
        "".join(e.delta for e in taken if e.type == "response.output_text.delta")
    )
    # Half a character is left for the next slice.
    assert len(taken) == len(expected) or len(representable(text)) - len(found.text) <= 2
    async with (
        Loopback(always(written(stream, 1, len(stream.written)))) as server,
        both(at(server)) as (ours, theirs),
    ):
        found = await ours.slice("resp_1", 0)
        *_, last = await events(theirs, "resp_1", 0)
    assert ours_says(found.final) == theirs_says(last.response)


# The emulator, which stands in for OpenAI's server.


TURNS: dict[str, Json] = {
    "a text": {"text": "Grüße \U0001f680 漢字\r\n\u2028data: x\n\n", "deltas": 9},
    "calls": {"text": "Let me look.", "calls": [{"name": "look_up", "arguments": {"topic": "ice"}}]},
    "a failure": {"text": "x", "status": "failed", "error": {"code": "server_error", "message": "m"}},
    "a break": {"text": "Once u", "status": "incomplete"},
}


@pytest.mark.parametrize("turn", TURNS)
async def test_both_clients_read_the_same_from_the_emulator(emulated, turn):
    script = json.dumps({"turns": [TURNS[turn]], "queued_seconds": 0})
    given = [{"role": "user", "content": f"Go. [[script {script}]]"}]
    async with both(f"{emulated}/v1") as (ours, theirs):
        created = await ours.create(replace(CREATE, input=json.dumps(given), stream=True))
        *told, last = await events(theirs, created.response_id, created.sequence)
        expected = await theirs.responses.retrieve(created.response_id)
        assert ours_says(await ours.read(created.response_id)) == theirs_says(expected)
        final = (await ours.slice(created.response_id, created.sequence)).final
        assert ours_says(final) == theirs_says(last.response) == theirs_says(expected)
        raw = await recorded_stream(emulated, created.response_id)
    # Without the end, which has the complete response.
    cut = raw[: raw.rindex(b"event:")]
    answering = always(reply(200, cut, content_type="text/event-stream"))
    async with Loopback(answering) as server, both(at(server)) as (ours, _):
        found = await ours.slice(created.response_id, created.sequence)
    assert (found.sequence, found.complete) == (told[-1].sequence_number, True)
    assert found.text == "".join(e.delta for e in told if e.type == "response.output_text.delta")


async def recorded_stream(emulated: str, response_id: str) -> bytes:
    url = f"{emulated}/v1/responses/{response_id}?stream=true&starting_after=0"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"Authorization": "Bearer k"}) as got,
    ):
        return await got.read()
