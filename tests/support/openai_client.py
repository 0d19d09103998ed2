"""OpenAI's own client beside ours, for comparison."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openai import AsyncOpenAI

from shared.adapters.http.access import Connection
from shared.adapters.responses_api.provider import ResponsesProvider
from tests.support.loopback import Loopback
from tests.support.requests import LONG


@asynccontextmanager
async def both(base_url: str) -> AsyncIterator[tuple[ResponsesProvider, AsyncOpenAI]]:
    ours = ResponsesProvider(
        Connection(base_url=base_url, api_key="k", slice_budget=LONG, slice_pause=LONG, read_timeout=LONG)
    )
    try:
        async with AsyncOpenAI(base_url=base_url, api_key="k", max_retries=0) as theirs:
            yield ours, theirs
    finally:
        await ours.close()


def at(server: Loopback) -> str:
    return f"http://127.0.0.1:{server.port}/v1"
