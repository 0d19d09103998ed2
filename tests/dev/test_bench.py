"""The benchmark's own parts: its scenarios fit their targets, and its stub and its counters say the truth."""

import asyncio
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bench import stream
from bench.measure import Meter, Scenario, Usage
from bench.polling_proxy import Redis
from bench.scenarios import sections
from bench.stub import provider
from shared.adapters.chat_api.provider import ChatCompletionsProvider
from shared.adapters.http.access import Connection
from shared.core.chat.events import ChatEnd, ChatText
from shared.ports.chat import ChatRequest

ROOT = Path(__file__).parents[2]
REQUEST = ChatRequest(run_id="run_1", turn=1, model="stub", messages="[]", tools="[]")
SCENARIOS = [each for share in (1, 5) for section in sections(share) for each in section.scenarios]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.name} {scenario.options}")
def test_a_target_takes_the_options_of_its_scenario(scenario: Scenario) -> None:
    module, function = scenario.target.split(":")
    if module == "bench.agent_framework":
        pytest.importorskip("agent_framework", reason="only `make bench` installs it")
    servers = [name for name in ("provider", "storage") if getattr(scenario, name)]
    target = getattr(importlib.import_module(module), function)
    inspect.signature(target).bind(Meter(), **scenario.options, **dict.fromkeys(servers, ""))


def test_names_are_unique_in_a_section() -> None:
    for section in sections():
        names = [scenario.name for scenario in section.scenarios]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("gap", [timedelta(), timedelta(milliseconds=1)])
async def test_the_stub_streams_a_complete_chat_completion(gap: timedelta) -> None:
    with provider(events=40, event_gap=gap) as url:
        adapter = ChatCompletionsProvider(Connection(base_url=url, api_key="bench"))
        *texts, end = [event async for event in adapter.generate(REQUEST)]
        await adapter.close()
    assert "".join(event.text for event in texts if isinstance(event, ChatText)) == stream.text(0, 40)
    assert isinstance(end, ChatEnd)
    assert end.finish_reason == "stop"
    assert end.usage
    assert end.usage.output_tokens == 40


def test_figures_are_for_whole_thousands() -> None:
    assert stream.thousands(4, 500) == 2
    with pytest.raises(AssertionError):
        stream.thousands(1, 999)


def test_the_usage_of_another_process_is_measured() -> None:
    used = iter([Usage(2.0, 300), Usage(3.5, 450)])
    meter = Meter()
    with meter.measuring(count=3, usage=lambda: next(used)):
        pass
    assert meter.measurement
    assert meter.measurement.cpu_seconds_each == 0.5
    assert (meter.measurement.peak_bytes, meter.measurement.peak_growth_bytes) == (450, 150)


@asynccontextmanager
async def redis(replies: dict[bytes, bytes]) -> AsyncIterator[Redis]:
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await reader.readline():
            writer.write(replies[command.rstrip()])
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        connection = Redis(*await asyncio.open_connection(*server.sockets[0].getsockname()))
        yield connection
        await connection.close()
        await ended.wait()


async def test_commands_of_redis_are_counted() -> None:
    stats = (
        b"# Commandstats\r\ncmdstat_get:calls=12,usec=30,usec_per_call=2.5\r\ncmdstat_set:calls=7,usec=9\r\n"
    )
    replies = {
        b"INFO commandstats": b"$%d\r\n%b\r\n" % (len(stats), stats),
        b"GET there": b"$5\r\nva\r\nl\r\n",
        b"GET gone": b"$-1\r\n",
        b"CONFIG RESETSTAT": b"+OK\r\n",
    }
    async with redis(replies) as connection:
        assert await connection.commands() == {"get": 12, "set": 7}
        assert await connection.ask("GET there") == b"va\r\nl"
        assert await connection.ask("GET gone") == b""
        assert await connection.ask("CONFIG RESETSTAT") == b"+OK"


def test_it_says_how_to_install_litellm() -> None:
    command = [sys.executable, "-m", "bench", "paced"]
    environment = os.environ | {"LITELLM": ".venv-nowhere"}
    ended = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "LiteLLM is not installed: run `make LITELLM=.venv-nowhere .venv-nowhere/ready`\n"
