"""Requests to a provider: OpenAI's client, over httpx and over aiohttp, beside our own adapter."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from openai import AsyncOpenAI, DefaultAioHttpClient

from bench.load import drive
from bench.measure import Meter
from shared.adapters.http.access import Connection
from shared.adapters.responses_api.provider import ResponsesProvider, create_body
from shared.core.response import Snapshot
from shared.ports.providers import ResponseRequest

IN_FLIGHT = 16
CREATE = ResponseRequest(
    run_id="run_1",
    turn=1,
    model="stub",
    instructions="Write.",
    input='[{"role": "user", "content": "A very long novel about an unknown galaxy"}]',
    tools="[]",
    previous_response_id=None,
)

Request = Callable[[int], Awaitable[object]]


@asynccontextmanager
async def _own(provider: str) -> AsyncIterator[dict[str, Request]]:
    adapter = ResponsesProvider(Connection(base_url=provider, api_key="bench"))

    async def create(_: int) -> None:
        assert isinstance(await adapter.create(CREATE), Snapshot)

    async def read(number: int) -> None:
        assert isinstance(await adapter.read(f"resp_{number}"), Snapshot)

    yield {"create": create, "read": read}
    await adapter.close()


@asynccontextmanager
async def _sdk(provider: str, *, aiohttp: bool) -> AsyncIterator[dict[str, Request]]:
    http_client = DefaultAioHttpClient() if aiohttp else None
    body = json.loads(create_body(CREATE))
    async with AsyncOpenAI(api_key="bench", base_url=provider, http_client=http_client) as client:

        async def create(_: int) -> None:
            assert (await client.responses.create(**body)).status == "queued"

        async def read(number: int) -> None:
            assert (await client.responses.retrieve(f"resp_{number}")).status == "in_progress"

        yield {"create": create, "read": read}


async def requests(meter: Meter, *, provider: str, client: str, request: str, times: int) -> None:
    opened = _own(provider) if client == "own" else _sdk(provider, aiohttp=client == "aiohttp")
    async with opened as by_name:
        await drive(by_name[request], times=IN_FLIGHT, in_flight=IN_FLIGHT)
        with meter.measuring(count=times):
            await drive(by_name[request], times=times, in_flight=IN_FLIGHT)
