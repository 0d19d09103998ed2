"""Recorded replies of hostile providers, over real HTTP, to the real adapter, and through the real use cases."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from shared.adapters.http.access import Connection
from shared.adapters.http.answer import Answer
from shared.adapters.responses_api.interpret import Interpreter
from shared.adapters.responses_api.provider import ResponsesProvider
from shared.core import transcript
from shared.core.response import Refused, Snapshot
from shared.core.run import Run, RunStatus, Step
from shared.ports.providers import DEFAULT_PROVIDER, ResponseRequest
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run
from tests.proofs.corpus.reply import FOLDER, KEY, REQUESTS, TABLE, Case, cases, now
from tests.support.world import CALLER, FakeProvider, World, answer, asks

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL = cases()
TIMEOUT = timedelta(seconds=20)


@dataclass
class Server:
    """Says the same to each request, on a connection of its own."""

    says: bytes = b""
    asked: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            self.asked += 1
            writer.write(self.says)
            await writer.drain()
        writer.close()


@dataclass
class Relay(FakeProvider):
    """Lets one request through to the real adapter. The provider behaves before, and after."""

    real: ResponsesProvider | None = None
    case: Case | None = None
    heard: list[Any] = field(default_factory=list)

    def _is_the_one(self, request: str) -> bool:
        assert self.case
        return request == self.case.request and not self.heard

    async def _hear(self, reply: Any) -> Any:
        self.heard.append(await reply)
        return self.heard[0]

    async def create(self, request: ResponseRequest) -> Any:
        if self._is_the_one("chained" if request.turn > 1 else "create"):
            self.creates.append(request)
            return await self._hear(self.real.create(request))
        return await super().create(request)

    async def read(self, response_id: str) -> Any:
        if self._is_the_one("read"):
            return await self._hear(self.real.read(response_id))
        if self.heard:
            self.state.setdefault(response_id, answer(response_id, "the end"))
        return await super().read(response_id)

    async def cancel(self, response_id: str) -> Any:
        if self._is_the_one("cancel"):
            return await self._hear(self.real.cancel(response_id))
        return await super().cancel(response_id)

    async def delete(self, response_id: str) -> Any:
        if self._is_the_one("delete"):
            return await self._hear(self.real.delete(response_id))
        return await super().delete(response_id)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers() -> AsyncIterator[tuple[Server, Server]]:
    """The provider, and another host that must never be asked."""
    found = Server(), Server()
    listening = [await asyncio.start_server(each.serve, "127.0.0.1", 0) for each in found]
    for each, at in zip(found, listening, strict=True):
        each.port = at.sockets[0].getsockname()[1]
    yield found
    for each in listening:
        each.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def adapter(servers: tuple[Server, Server]) -> AsyncIterator[ResponsesProvider]:
    base_url = f"http://127.0.0.1:{servers[0].port}/v1"
    found = ResponsesProvider(
        Connection(base_url=base_url, api_key=KEY, create_timeout=TIMEOUT, read_timeout=TIMEOUT)
    )
    yield found
    await found.close()


async def until_asked(world: World, case: Case) -> str:
    """Carry a run to where it has had the reply, and return its id."""
    if case.request == "chained":
        world.provider.state["resp_1"] = asks("resp_1", "look_up")
    run_id = (await world.start()).id
    match case.request:
        case "chained":
            while not world.provider.heard:
                await world.drive()
        case "read":
            await world.tick()
        case "cancel":
            await cancel(world.context, CALLER, run_id)
        case "delete":
            world.provider.state["resp_1"] = answer("resp_1")
            await world.until_terminal(run_id)
            await delete_run(world.context, CALLER, run_id)
    return run_id


async def until_over(world: World, run_id: str) -> Run:
    """Let time pass until nothing is owed to the run any more; the provider behaves again."""
    for _ in range(1000):
        run = await world.run(run_id)
        if run.step is Step.NOTHING:
            return run
        await world.drive(seconds=30)
    raise AssertionError(f"still {run.status}")


def told(reply: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what the adapter gave, in the words and as far as the case wants to know it."""
    facts: dict[str, Any] = {"decision": type(reply).__name__}
    if isinstance(reply, Snapshot):
        facts |= {
            "is": reply.status.value,
            "id": reply.response_id,
            "text": transcript.output_text(reply.output),
        }
        facts |= {"calls": [[call.call_id, call.name, call.arguments] for call in reply.calls[:9]]}
        facts |= {"usage": [reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens]}
        facts |= {"because": reply.incomplete_reason or "", "count": len(reply.calls)}
    error = getattr(reply, "error", None)
    facts |= {"code": error.code if error else "", "message": error.message if error else ""}
    facts |= {"reason": getattr(reply, "reason", ""), "unknown": getattr(reply, "unknown", False)}
    waits = getattr(reply, "retry_after", None)
    facts["waits"] = round(waits.total_seconds(), 3) if waits else 0
    if 0 < wanted.get("waits", 0) - facts["waits"] < TIMEOUT.total_seconds() and "waits_about" in wanted:
        facts["waits"] = wanted["waits"]
    return {name: facts[name] for name in wanted if name in facts}


@pytest.mark.parametrize("name", ALL)
async def test_a_reply_leads_to_what_is_written_beside_it(name, servers, adapter, caplog):
    caplog.set_level(logging.DEBUG)
    case, (server, other) = ALL[name], servers
    server.says, server.asked = case.wire(now(), f"http://127.0.0.1:{other.port}"), 0
    world = World()
    world.provider = Relay(real=adapter, case=case)
    world.context = replace(world.context, providers={DEFAULT_PROVIDER: world.provider})
    run_id = await until_asked(world, case)
    run = await world.run(run_id)
    (reply,) = world.provider.heard
    wanted = dict(case.expect)
    assert told(reply, wanted) == {
        n: v for n, v in wanted.items() if n not in {"run", "ends", "error", "waits_about"}
    }
    assert run.status == wanted["run"]
    ends = await until_over(world, run_id)
    assert ends.status == wanted["ends"]
    assert (ends.error.code if ends.error else "") == wanted.get("error", "")
    assert (server.asked, other.asked) == (1, 0)
    _nothing_ended_without_reason(reply, run, ends)
    _no_key(caplog, reply, ends)


def _nothing_ended_without_reason(reply: Any, run: Run, ends: Run) -> None:
    """Only what the provider says of a response, or its refusal to create one, can end a run."""
    assert ends.terminal
    assert len(set(ends.responses)) == len(ends.responses)
    says_so = isinstance(reply, Refused) or (isinstance(reply, Snapshot) and reply.status.finished)
    if not says_so and run.status is not RunStatus.DELETED:
        assert not run.terminal
        assert ends.status in {RunStatus.COMPLETED, RunStatus.CANCELLED}


def _no_key(caplog: pytest.LogCaptureFixture, reply: Any, run: Run) -> None:
    assert KEY not in repr(reply)
    assert KEY not in repr(run.error)
    for record in caplog.records:
        assert KEY not in f"{record.getMessage()} {record.args} {record.exc_text}"


def cuttable() -> list[str]:
    return [
        name
        for name, case in ALL.items()
        if case.request == "read" and case.body and case.charset == "utf-8" and not case.fill
    ]


@pytest.mark.parametrize("name", cuttable())
async def test_a_body_that_is_cut_anywhere_ends_nothing(name):
    case = ALL[name]
    interpreter = Interpreter(to_check="", secret=KEY, on_unknown_status=lambda _status: None)
    whole = case.content().rstrip()
    for length in range(len(whole)):
        reply = interpreter.read("resp_1", Answer(200, {}, whole[:length]), datetime.now(UTC))
        assert not (isinstance(reply, Snapshot) and reply.status.finished)


async def test_there_are_enough_cases_and_each_stands_where_it_is_found():
    files = [path for path in FOLDER.rglob("*.toml") if path != TABLE]
    assert {f"{path.parent.name}/{path.stem}" for path in files} <= ALL.keys()
    assert len(ALL) == 300
    assert {case.request for case in ALL.values()} == set(REQUESTS)
    assert len({case.about for case in ALL.values()}) == len(ALL)
