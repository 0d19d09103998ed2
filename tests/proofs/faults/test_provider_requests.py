"""Each request to a provider under each fault: what the adapter returns, and what the provider has then."""

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
from tests.proofs.faults.network import Fault, FaultRule, Network

KEY = "a.test.key"
PATIENCE_SECONDS = 30.0


def adapter(base_url: str, seconds: float = PATIENCE_SECONDS) -> ResponsesProvider:
    within = timedelta(seconds=seconds)
    return ResponsesProvider(
        Connection(base_url=base_url, api_key=KEY, create_timeout=within, read_timeout=within)
    )


def request(seconds: float, previous: str | None = None) -> ResponseRequest:
    """Return a request for a response that takes this long."""
    script = {"turns": [{"text": "The complete text.", "seconds": seconds, "queued_seconds": 0}]}
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


async def created(direct: ResponsesProvider, seconds: float) -> str:
    """Create a response at the provider and wait until it is finished, or at work if it takes time; return its id."""
    reply = await direct.create(request(seconds))
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

# Each has a response that exists before: how many seconds it takes, and what is done with it.
ACTS: Mapping[str, tuple[float, Act]] = {
    "create": (0, lambda provider, _: provider.create(request(1000))),
    "create in a chain": (0, lambda provider, previous: provider.create(request(1000, previous))),
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
    """One adapter on a network with faults, and one (`direct`) without."""

    network: Network
    provider: ResponsesProvider
    direct: ResponsesProvider

    async def check(self, name: str, fault: Fault, times: int | None) -> None:
        """Send one request under one fault, and send it again when the fault is over."""
        takes, act = ACTS[name]
        response_id = await created(self.direct, takes)
        before = await status(self.direct, response_id)
        self.network.inject(rule := FaultRule(fault, times=times))
        reply = await act(self.provider, response_id)
        assert rule.applied, "the fault was not applied"
        # aiohttp itself repeats an idempotent request when it finds its connection closed.
        healed = len(self.network.seen) > rule.applied
        assert not (healed and name.startswith(("create", "cancel"))), "the request was sent twice"
        if healed or (fault is Fault.CUT_UNSEEN and isinstance(reply, Absent)):
            # For a 404, and for a delete, the status line is enough.
            check_reply(name, reply, await status(self.direct, response_id))
        else:
            assert isinstance(reply, NotNow), reply
            assert reply.unknown is name.startswith(("create", "cancel"))
        if not healed and not fault.arrives:
            assert not self.arrived()
            assert await status(self.direct, response_id) == before
        self.network.rule = None
        again = await act(self.provider, response_id)
        await self.network.settle()
        check_reply(name, again, await status(self.direct, response_id))
        if name.startswith("create"):
            assert self.arrived() == (2 if fault.arrives or fault is Fault.LATE else 1)

    def arrived(self) -> int:
        return sum(request.answered == 200 for request in self.network.seen)


def check_reply(name: str, reply: object, upstream: ResponseStatus | None) -> None:
    """Compare a reply with the status of the response at the provider."""
    match name.partition(" ")[0], reply:
        case "create", Snapshot(status=ResponseStatus.QUEUED | ResponseStatus.IN_PROGRESS):
            return
        case "read", Absent():
            assert name == "read of none"
        case "read", Snapshot(status=reported, output=output):
            assert reported is upstream
            assert reported is ResponseStatus.IN_PROGRESS or "The complete text." in output
        case "cancel", Snapshot(status=reported):
            assert reported is upstream
            assert reported is (
                ResponseStatus.CANCELLED if name.endswith("at work") else ResponseStatus.COMPLETED
            )
        case "delete", Absent():
            assert upstream is None
        case _:
            pytest.fail(f"{name}: {reply}, at the provider it is {upstream}")


@pytest.mark.parametrize("times", [1, None], ids=["once", "lasting"])
@pytest.mark.parametrize("fault", Fault)
async def test_a_lost_or_cut_reply_is_never_read_as_an_answer(fault, times, emulator, counted):
    seconds = STALL_SECONDS if fault.stalls else PATIENCE_SECONDS

    direct = adapter(f"{emulator}/v1")

    async def lane(names: Iterable[str]) -> None:
        async with Network() as network:
            provider = adapter(await network.link("provider", f"{emulator}/v1"), seconds)
            try:
                # The first request of an adapter is slow. It must not count as a stall, in this lane or another.
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

    # When replies stall, all lanes wait at the same time.
    lanes = [[name] for name in ACTS] if fault.stalls else [ACTS]
    all_open = asyncio.Barrier(len(lanes))
    try:
        await asyncio.gather(*map(lane, lanes))
    finally:
        await direct.close()
    counted("requests to the provider x faults", len(ACTS))


@pytest.mark.parametrize("name", ACTS)
async def test_the_outcome_of_a_request_that_was_not_sent_is_known(name):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        provider = adapter(f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
        try:
            reply = await ACTS[name][1](provider, "resp_1")
        finally:
            await provider.close()
    assert isinstance(reply, NotNow)
    assert not reply.unknown
