"""LiteLLM's proxy in its polling mode: it holds the stream of a response, and stores in Redis what came.

The proxy and Redis have a virtual environment of their own. The CPU is that of the proxy's process, which is read as Linux
shows it.
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from bench import stream
from bench.load import drive
from bench.measure import Meter, Usage
from bench.novel import INSTRUCTIONS, REQUEST
from dev.processes import ChildProcess

_DEFAULT = ".venv-litellm"
ENVIRONMENT = os.environ.get("LITELLM", _DEFAULT)
_DIRECTORY = Path(__file__).parents[1] / ENVIRONMENT
_KEY = "sk-bench"
_STORED = "litellm:polling:response:"
_LOOK_AGAIN_SECONDS = 0.05
_READY_TIMEOUT = timedelta(minutes=2)
_VARIABLES = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "PATH": os.defpath}
_READS = frozenset({"get", "mget", "ttl"})
_WRITES = frozenset({"set", "setex", "incrbyfloat", "expire", "evalsha"})


class NotInstalled(Exception):
    """The message names the command that installs it."""


def installed_version() -> str:
    """Return the version of LiteLLM. Raises NotInstalled."""
    packages = map(str, _DIRECTORY.glob("lib/python*/site-packages"))
    found = next(iter(distributions(name="litellm", path=list(packages))), None)
    if found is None or not (_DIRECTORY / "ready").exists():
        chosen = "" if ENVIRONMENT == _DEFAULT else f"LITELLM={ENVIRONMENT} "
        raise NotInstalled(f"LiteLLM is not installed: run `make {chosen}{ENVIRONMENT}/ready`")
    return found.version


class Redis:
    """A connection to a Redis server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._lock = asyncio.Lock()

    async def ask(self, command: str) -> bytes:
        """Return the reply to a command; of a key that is not there it is empty."""
        async with self._lock:
            self._writer.write(command.encode() + b"\r\n")
            head = (await self._reader.readline()).rstrip()
            if not head.startswith(b"$"):
                return head
            length = int(head[1:])
            return (await self._reader.readexactly(length + 2))[:-2] if length >= 0 else b""

    async def commands(self) -> dict[str, int]:
        """Return how often each command was carried out."""
        lines = (await self.ask("INFO commandstats")).decode().split()
        named = (line.removeprefix("cmdstat_").split(":calls=") for line in lines if ":calls=" in line)
        return {name: int(rest.partition(",")[0]) for name, rest in named}

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@dataclass(frozen=True, slots=True)
class PollingProxy:
    url: str
    pid: int
    redis: Redis
    client: aiohttp.ClientSession

    def usage(self) -> Usage:
        """Return what the process of the proxy has used, and what children of it have that have ended."""
        # proc(5): user and system time are the 14th to 17th field, in clock ticks.
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").split()
        return Usage(
            cpu_seconds=sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK"),
            peak_bytes=1024 * int(status[status.index("VmHWM:") + 1]),
        )

    async def carry(self, events: int) -> int:
        """Start a response and wait until all of it is stored. Return how often Redis was asked for it.

        Redis is asked, because a poll of the response would cost the proxy CPU.
        """
        body = {"model": "stub", "instructions": INSTRUCTIONS, "input": REQUEST, "background": True}
        async with self.client.post(f"{self.url}/v1/responses", json=body) as reply:
            key = _STORED + (await reply.json())["id"]
        asked = 0
        while True:
            asked += 1
            # The value is JSON in a JSON string.
            found = json.loads(json.loads(await self.redis.ask(f"GET {key}")))
            if found["status"] == "completed":
                [message] = found["output"]
                assert message["content"][0]["text"] == stream.text(0, events)
                return asked
            assert found["status"] in {"queued", "in_progress"}, found
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


@asynccontextmanager
async def polling_proxy(provider: str) -> AsyncIterator[PollingProxy]:
    """Run the proxy and its Redis during the block. Both store in memory only, and call nothing but loopback."""
    installed_version()
    with ExitStack() as servers:
        directory = Path(servers.enter_context(TemporaryDirectory()))
        port, redis_port = _free_ports(2)
        # JSON is YAML as well.
        config = directory / "config.yaml"
        config.write_text(json.dumps(_configuration(provider, redis_port)), encoding="utf-8")
        redis = [str(_DIRECTORY / "bin" / "redis-server"), "--bind", "127.0.0.1", "--port", str(redis_port)]
        storage = ChildProcess("redis", [*redis, "--save", ""], cwd=directory)
        servers.enter_context(storage).wait_for("Ready to accept connections")
        command = [str(_DIRECTORY / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
        proxy = ChildProcess(
            "litellm",
            [*command, "--port", str(port)],
            env=_VARIABLES | {"HOME": str(directory)},
            cwd=directory,
        )
        servers.enter_context(proxy).wait_for("Uvicorn running on", timeout=_READY_TIMEOUT)
        connection = Redis(*await asyncio.open_connection("127.0.0.1", redis_port))
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {_KEY}"}) as client:
            yield PollingProxy(f"http://127.0.0.1:{port}", proxy.pid, connection, client)
        await connection.close()


def _configuration(provider: str, redis_port: int) -> dict[str, object]:
    model = {
        "model": "openai/stub",
        "api_base": provider,
        "api_key": "bench",
        "use_chat_completions_api": True,
    }
    # The polling mode needs the cache. No type of call may be answered from it.
    cache = {"type": "redis", "host": "127.0.0.1", "port": redis_port, "supported_call_types": []}
    return {
        "model_list": [{"model_name": "stub", "litellm_params": model}],
        "litellm_settings": {
            "cache": True,
            "cache_params": cache,
            "responses": {"background_mode": {"polling_via_cache": "all"}},
            "telemetry": False,
        },
        "general_settings": {"master_key": _KEY},
    }


def _free_ports(number: int) -> list[int]:
    with ExitStack() as opened:
        bound = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in bound]


async def stored_streams(meter: Meter, *, provider: str, streams: int, events: int, in_flight: int) -> None:
    """Measure the proxy: the request, the stream with its updates in Redis, the end."""
    async with polling_proxy(provider) as proxy:
        await proxy.carry(events)
        with meter.measuring(count=stream.thousands(streams, events), usage=proxy.usage):
            await drive(lambda _: proxy.carry(events), times=streams, in_flight=in_flight)


async def turn_operations(meter: Meter, *, provider: str, events: int, warm_up: bool) -> None:
    """Count the Redis commands of a response, without those that open a connection.

    A first response loads scripts and makes the keys of counters; `warm_up`: another one is carried before.
    """
    async with polling_proxy(provider) as proxy:
        if warm_up:
            await proxy.carry(events)
        await proxy.redis.ask("CONFIG RESETSTAT")
        with meter.measuring(count=1, usage=proxy.usage):
            asked = await proxy.carry(events)
        counts = await proxy.redis.commands()
        meter.notes["Redis reads"] = sum(counts.get(name, 0) for name in _READS) - asked
        meter.notes["Redis writes"] = sum(counts.get(name, 0) for name in _WRITES)
