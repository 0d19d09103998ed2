"""Each request of the adapter and of its transport, to a server on this machine."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self

from shared.adapters.http.access import Access, Connection
from shared.adapters.http.transport import Pool, Request, Transport
from shared.adapters.responses_api.provider import ResponsesProvider
from shared.core.replay import Replay
from shared.core.transcript import Item
from shared.ports.providers import ResponseRequest
from tests.support.loopback import Server

# Longer than anything here takes. A test that waits so long fails.
LONG = timedelta(seconds=30)

CREATE = ResponseRequest(
    run_id="run_7",
    turn=2,
    model="gpt-9",
    instructions="Write.",
    input='[{"role": "user", "content": "Go"}]',
    tools="[]",
    previous_response_id=None,
)


def request(**fields: Any) -> ResponseRequest:
    """Return a request for a response, with these fields."""
    return replace(CREATE, **fields)


def conversation(*items: Item) -> list[Item]:
    """Return the items of a conversation as they are sent without the previous responses."""
    replay = Replay()
    replay.add(items)
    return replay.items


Operation = Callable[[ResponsesProvider], Awaitable[Any]]
ALL: dict[str, Operation] = {
    "create": lambda provider: provider.create(CREATE),
    "streamed create": lambda provider: provider.create(replace(CREATE, stream=True)),
    "read": lambda provider: provider.read("resp_1"),
    "slice": lambda provider: provider.slice("resp_1", 0),
    "cancel": lambda provider: provider.cancel("resp_1"),
    "delete": lambda provider: provider.delete("resp_1"),
}


@asynccontextmanager
async def provided(
    server: Server, host: str = "127.0.0.1", **fields: Any
) -> AsyncIterator[ResponsesProvider]:
    """Give the adapter of a provider on this machine, which waits long unless `fields` of its connection differ."""
    limits = dict.fromkeys(("create_timeout", "read_timeout", "slice_budget", "slice_pause"), LONG)
    given = {"base_url": f"http://{host}:{server.port}/v1", "api_key": "k", **limits} | fields
    found = ResponsesProvider(Connection(**given))
    try:
        yield found
    finally:
        await found.close()


class Counting:
    """A listener that counts what it receives."""

    def __init__(self) -> None:
        self.count = 0

    def receive(self, data: bytes) -> None:
        self.count += 1

    def patience(self) -> float | None:
        return LONG.total_seconds()


class Sending(Transport):
    """A transport that closes at the end of a block."""

    def __init__(self, server: Server) -> None:
        super().__init__(Access(Connection(base_url=f"http://127.0.0.1:{server.port}", api_key="k")), 3)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def get(server: Server, **fields: Any) -> Request:
    given = {"method": "GET", "pool": Pool.POLLS, "within": LONG} | fields
    return Request(url=f"http://127.0.0.1:{server.port}/x", **given)
