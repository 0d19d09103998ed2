"""The emulator honours the Idempotency-Key of creates when it is asked to."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from dev.provider.launch import provider
from dev.provider.wire import Json

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUEST = {"model": "m", "input": "Hello", "background": True, "store": True}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with provider() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def http(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url, headers={"Authorization": "Bearer k"}) as session:
        await session.post("/_emulator/reset")
        await session.post("/_emulator/idempotency/on")
        yield session


async def create(http: aiohttp.ClientSession, key: str, **changes: Any) -> tuple[int, Json]:
    async with http.post("/v1/responses", json=REQUEST | changes, headers={"Idempotency-Key": key}) as reply:
        return reply.status, await reply.json()


async def created(http: aiohttp.ClientSession) -> int:
    async with http.get("/_emulator/log") as reply:
        return int((await reply.json())["counters"]["created"])


async def test_the_same_create_gives_the_same_response(http: aiohttp.ClientSession) -> None:
    _, first = await create(http, "a")
    status, second = await create(http, "a")
    assert (status, second["id"], await created(http)) == (200, first["id"], 1)
    assert (await create(http, "b"))[1]["id"] != first["id"]


async def test_another_body_with_the_same_key_is_refused(http: aiohttp.ClientSession) -> None:
    await create(http, "a")
    status, refused = await create(http, "a", input="Hello again")
    assert (status, refused["error"]["code"]) == (422, "idempotency_key_reused")
    assert await created(http) == 1


async def test_a_stream_is_repeated_from_its_beginning(http: aiohttp.ClientSession) -> None:
    _, first = await create(http, "a")
    streams = []
    for _ in range(2):
        headers = {"Idempotency-Key": "s"}
        async with http.post("/v1/responses", json=REQUEST | {"stream": True}, headers=headers) as reply:
            streams.append(await reply.text())
    assert streams[0] == streams[1] != ""
    assert first["id"] not in streams[0]
    assert await created(http) == 2


async def test_a_create_that_failed_leaves_its_key_unused(http: aiohttp.ClientSession) -> None:
    status, _ = await create(http, "a", model="")
    assert status == 400
    assert (await create(http, "a"))[0] == 200


async def test_keys_are_ignored_until_it_is_asked_for(http: aiohttp.ClientSession) -> None:
    await http.post("/_emulator/idempotency/off")
    assert (await create(http, "a"))[1]["id"] != (await create(http, "a"))[1]["id"]
