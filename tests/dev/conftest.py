"""The emulator of the provider, one for each test module."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from dev.provider.launch import provider


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with provider() as url:
        yield url


@pytest.fixture
async def http(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url, headers={"authorization": "Bearer test"}) as session:
        async with session.post("/_emulator/reset") as reply:
            assert reply.status == 200
        yield session
