"""Each request to a provider under each fault: what the adapter answers, and what the provider then holds."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.http.access import Connection
from shared.adapters.responses_api.provider import ResponsesProvider
from shared.core.response import Absent, NotNow, ResponseStatus, Snapshot
from shared.ports.providers import ResponseRequest
from tests.proofs.faults.conftest import STALL_SECONDS
from tests.proofs.faults.network import Fault, Network, Trouble

KEY = "a.test.key"
PATIENCE_SECONDS = 30.0


def adapter(base_url: str, seconds: float = PATIENCE_SECONDS) -> ResponsesProvider:
    within = timedelta(seconds=seconds)
    return ResponsesProvider(
        Connection(base_url=base_url, api_key=KEY, create_timeout=within, read_timeout=within)
    )


def asked(seconds: float, previous: str | None = None) -> ResponseRequest:
    """Return a request for a response that takes so long."""
    script = {"turns": [{"text": "The whole text.", "seconds": seconds, "queued_seconds": 0}]}
    message = {"role": "user", "content": f"[[script {json.dumps(script)}]]"}
    return ResponseRequest(
        run_id="run_1",
        turn=1,
        model="m",
        instructions="",
        input=json.dumps([message]),
        tools="[]",
        previous_response_id=previous,
    )


async def held(direct: ResponsesProvider, seconds: float) -> str:
    """Have the provider hold a response, finished if it takes no time; return its id."""
    reply = await direct.create(asked(seconds))
    assert isinstance(reply, Snapshot)
    wanted = ResponseStatus.IN_PROGRESS if seconds else ResponseStatus.COMPLETED
    async with asyncio.timeout(20):
        while (await status(direct, reply.response_id)) != wanted:  # noqa: ASYNC110  (another process)
            await asyncio.sleep(0.01)
    return reply.response_id


async def status(direct: ResponsesProvider, response_id: str) -> ResponseStatus | None:
    reply = await direct.read(response_id)
    assert isinstance(reply, Snapshot | Absent)
    return reply.status if isinstance(reply, Snapshot) else None


Act = Callable[[ResponsesProvider, str], Awaitable[Any]]

# The seconds that the response takes which is there beforehand, and what is done with it.
ACTS: Mapping[str, tuple[float, Act]] = {
    "create": (0, lambda provider, _: provider.create(asked(1000))),
    "create in a chain": (0, lambda provider, previous: provider.create(asked(1000, previous))),
    "read of one at work": (1000, lambda provider, response_id: provider.read(response_id)),
    "read of one that is finished": (0, lambda provider, response_id: provider.read(response_id)),
    "read of none": (0, lambda provider, _: provider.read("resp_none")),
    "cancel of one at work": (1000, lambda provider, response_id: provider.cancel(response_id)),
    "cancel of one that is finished": (0, lambda provider, response_id: provider.cancel(response_id)),
    "delete of one at work": (1000, lambda provider, response_id: provider.delete(response_id)),
    "delete of one that is finished": (0, lambda provider, response_id: provider.delete(response_id)),
}


@dataclass
class Lane:
    """One adapter on a network of its own, and one that goes by no network."""

    network: Network
    provider: ResponsesProvider
    direct: ResponsesProvider

    async def check(self, name: str, fault: Fault, times: int | None) -> None:
        """Do one thing under one fault, and do it again when the fault is over."""
        takes, act = ACTS[name]
        response_id = await held(self.direct, takes)
        before = await status(self.direct, response_id)
        self.network.expect(trouble := Trouble(fault, times=times))
        reply = await act(self.provider, response_id)
        assert trouble.delivered, "the fault never struck"
        # aiohttp by itself repeats what may be repeated when a connection turns out to be closed.
        healed = len(self.network.seen) > trouble.delivered
        assert not (healed and name.startswith(("create", "cancel"))), "it was asked twice"
        if healed or (fault is Fault.CUT_UNSEEN and isinstance(reply, Absent)):
            # A 404, or a delete, says all that there is to say in its first line.
            right(name, reply, await status(self.direct, response_id))
        else:
            assert isinstance(reply, NotNow), reply
            assert reply.unknown is name.startswith(("create", "cancel"))
        if not healed and not fault.arrives:
            assert not self.came_through()
            assert await status(self.direct, response_id) == before
        self.network.trouble = None
        again = await act(self.provider, response_id)
        await self.network.settle()
        right(name, again, await status(self.direct, response_id))
        if name.startswith("create"):
            assert self.came_through() == (2 if fault.arrives or fault is Fault.LATE else 1)

    def came_through(self) -> int:
        return sum(request.answered == 200 for request in self.network.seen)


def right(name: str, reply: object, upstream: ResponseStatus | None) -> None:
    """Check what is said, and what is so, once the fault is over."""
    match name.partition(" ")[0], reply:
        case "create", Snapshot(status=ResponseStatus.QUEUED | ResponseStatus.IN_PROGRESS):
            return
        case "read", Absent():
            assert name == "read of none"
        case "read", Snapshot(status=said, output=output):
            assert said is upstream
            assert said is ResponseStatus.IN_PROGRESS or "The whole text." in output
        case "cancel", Snapshot(status=said):
            assert said is upstream
            assert said is (
                ResponseStatus.CANCELLED if name.endswith("at work") else ResponseStatus.COMPLETED
            )
        case "delete", Absent():
            assert upstream is None
        case _:
            pytest.fail(f"{name}: {reply}, and upstream it is {upstream}")


@pytest.mark.parametrize("times", [1, None], ids=["once", "lasting"])
@pytest.mark.parametrize("fault", Fault)
async def test_what_did_not_come_through_is_never_taken_for_an_answer(fault, times, emulator, counted):
    seconds = STALL_SECONDS if fault.stalls else PATIENCE_SECONDS

    direct = adapter(f"{emulator}/v1")

    async def lane(names: Iterable[str]) -> None:
        async with Network() as network:
            provider = adapter(await network.link("provider", f"{emulator}/v1"), seconds)
            try:
                # Opening the SDK takes long, and is not to be taken for a slow reply, of this lane or another.
                await provider.delete("resp_none")
                await all_open.wait()
                for name in names:
                    try:
                        await Lane(network, provider, direct).check(name, fault, times)
                    except AssertionError as failure:
                        failure.add_note(name)
                        raise
            finally:
                await provider.close()

    # What is waited for is waited for at the same time.
    lanes = [[name] for name in ACTS] if fault.stalls else [ACTS]
    all_open = asyncio.Barrier(len(lanes))
    try:
        await asyncio.gather(*map(lane, lanes))
    finally:
        await direct.close()
    counted("requests to the provider x faults", len(ACTS))


@pytest.mark.parametrize("name", ACTS)
async def test_what_cannot_have_been_sent_is_not_unknown(name):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        provider = adapter(f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
        try:
            reply = await ACTS[name][1](provider, "resp_1")
        finally:
            await provider.close()
    assert isinstance(reply, NotNow)
    assert not reply.unknown
