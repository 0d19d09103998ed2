"""Sends recorded replies of faulty providers over HTTP to the real adapter, and what it returns to the real use cases.

The time of the use cases is virtual.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from shared.adapters.http.answer import Answer
from shared.adapters.responses_api.interpret import Interpreter
from shared.adapters.responses_api.provider import ResponsesProvider
from shared.core import transcript
from shared.core.calls import WAIT_FOR
from shared.core.response import Refused, RunError, Snapshot
from shared.core.run import Run, RunStatus, Step
from shared.ports.providers import ResponseRequest
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run
from tests.proofs.corpus.reply import FOLDER, KEY, REQUESTS, TABLE, Case, cases, now
from tests.support.fakes import FakeProvider, answer, asks
from tests.support.loopback import Server, read_request
from tests.support.requests import provided, request
from tests.support.world import CALLER, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL = cases()
TIMEOUT = timedelta(seconds=20)
FIRST = request(turn=1, idempotency_key="run_7-1-0")


@dataclass
class OneReply(Server):
    """Sends the same reply to each request, and closes the connection after it."""

    reply: bytes = b""
    requests: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        self.requests += 1
        writer.write(self.reply)
        await writer.drain()


@dataclass
class Scripted(FakeProvider):
    """Gives the case's reply to the case's request, once. Before and after, the provider works."""

    request: str = ""
    reply: Any = None
    given: bool = False

    def _is_due(self, request: str) -> bool:
        if self.given or request != self.request:
            return False
        self.given = True
        return True

    async def create(self, request: ResponseRequest) -> Any:
        if self._is_due("chained" if request.turn > 1 else "streamed" if request.stream else "create"):
            self.creates.append(request)
            return self.reply
        return await super().create(request)

    async def read(self, response_id: str, **options: object) -> Any:
        if self._is_due("read"):
            return self.reply
        # A response whose cancellation has failed is still at work when it is read after that.
        if self.given and (self.request != "cancel" or response_id in self.reads):
            self.state.setdefault(response_id, answer(response_id, "the end"))
        return await super().read(response_id, **options)

    async def cancel(self, response_id: str) -> Any:
        return self.reply if self._is_due("cancel") else await super().cancel(response_id)

    async def delete(self, response_id: str) -> Any:
        return self.reply if self._is_due("delete") else await super().delete(response_id)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers() -> AsyncIterator[tuple[OneReply, OneReply]]:
    """The provider, and another host that must never get a request."""
    async with OneReply() as server, OneReply() as other:
        yield server, other


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def adapter(servers: tuple[OneReply, OneReply]) -> AsyncIterator[ResponsesProvider]:
    async with provided(servers[0], api_key=KEY, create_timeout=TIMEOUT, read_timeout=TIMEOUT) as adapter:
        yield adapter


async def received(adapter: ResponsesProvider, request: str) -> Any:
    """Send a request, and return what the adapter returns."""
    match request:
        case "create":
            return await adapter.create(FIRST)
        case "chained":
            return await adapter.create(replace(FIRST, turn=2, previous_response_id="resp_1"))
        case "streamed":
            return await adapter.create(replace(FIRST, stream=True))
        case "read":
            return await adapter.read("resp_1")
        case "cancel":
            return await adapter.cancel("resp_1")
        case _:
            return await adapter.delete("resp_1")


async def until_replied(world: World, case: Case) -> str:
    """Advance a run until it has had the case's reply, and return its id."""
    if case.request == "chained":
        world.provider.state["resp_1"] = asks("resp_1", "look_up")
    run_id = (await world.start(stream=case.request == "streamed")).id
    match case.request:
        case "chained":
            while not world.provider.given:
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
    """Let time pass until the run is owed nothing more; the provider works again, and nobody answers what waits."""
    for _ in range(1000):
        run = await world.run(run_id)
        if run.step is Step.NOTHING:
            return run
        await world.drive(seconds=WAIT_FOR.total_seconds() if run.step is Step.ANSWER else 30)
    raise AssertionError(f"still {run.status}")


def facts_of(reply: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return those facts of the adapter's reply that the case names."""
    facts: dict[str, Any] = {"decision": type(reply).__name__, "reason": getattr(reply, "reason", "")}
    facts |= {name: getattr(reply, name, False) for name in ("unknown", "unusable")}
    if isinstance(reply, Snapshot):
        facts |= _facts_of_response(reply)
    error = getattr(reply, "error", None) or RunError("", "")
    facts |= {"code": error.code, "message": error.message, "provider_code": error.provider_code or ""}
    for name, holds in (("begins", str.startswith), ("finishes", str.endswith)):
        part = wanted.get(name, "")
        facts[name] = part if holds(error.message, part) else error.message
    waits = getattr(reply, "retry_after", None)
    facts["waits"] = round(waits.total_seconds(), 3) if waits else 0
    if 0 < wanted.get("waits", 0) - facts["waits"] < TIMEOUT.total_seconds() and "waits_about" in wanted:
        facts["waits"] = wanted["waits"]
    return {name: facts[name] for name in wanted if name in facts}


def _facts_of_response(reply: Snapshot) -> dict[str, Any]:
    items, usage = transcript.parse(reply.output), reply.usage
    return {
        "is": reply.status.value,
        "id": reply.response_id,
        "of_run": reply.run_id or "",
        "sequence": -1 if reply.sequence is None else reply.sequence,
        "text": transcript.text_of(items),
        "commentary": transcript.commentary_of(items),
        "refusal": transcript.refusal_of(items),
        "calls": [[call.call_id, call.name, call.arguments] for call in reply.calls[:9]],
        "count": len(reply.calls),
        "unanswerable": reply.unanswerable,
        "usage": [usage.input_tokens, usage.output_tokens, usage.total_tokens],
        "details": [usage.cached_tokens, usage.reasoning_tokens],
        "because": reply.incomplete_reason or "",
    }


@pytest.mark.parametrize("name", ALL)
async def test_a_reply_leads_to_what_its_file_expects(name, servers, adapter, caplog):
    caplog.set_level(logging.DEBUG)
    case, (server, other) = ALL[name], servers
    server.reply, server.requests = case.wire(now(), f"http://127.0.0.1:{other.port}"), 0
    reply, wanted = await received(adapter, case.request), dict(case.expect)
    assert (server.requests, other.requests) == (1, 0)
    assert facts_of(reply, wanted) == {
        n: v for n, v in wanted.items() if n not in {"run", "ends", "error", "waits_about"}
    }
    world = World(Scripted(request=case.request, reply=reply))
    run_id = await until_replied(world, case)
    run = await world.run(run_id)
    assert world.provider.given
    assert run.status == wanted["run"]
    ends = await until_over(world, run_id)
    assert ends.status == wanted["ends"]
    assert (ends.error.code if ends.error else "") == wanted.get("error", "")
    _nothing_ended_without_reason(reply, run, ends)
    _no_key(caplog, reply, ends)


def _nothing_ended_without_reason(reply: Any, run: Run, ends: Run) -> None:
    """Only a finished response, or a refusal to create one, can end a run."""
    assert ends.terminal
    assert len(set(ends.responses)) == len(ends.responses)
    final = isinstance(reply, Refused) or (isinstance(reply, Snapshot) and reply.status.finished)
    if not final and run.status is not RunStatus.DELETED:
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
async def test_a_body_that_is_cut_anywhere_ends_no_run(name):
    case = ALL[name]
    interpreter = Interpreter(to_check="", secret=KEY, on_unknown_status=lambda _status: None)
    complete = case.content().rstrip()
    for length in range(len(complete)):
        reply = interpreter.read("resp_1", Answer(200, {}, complete[:length]), datetime.now(UTC))
        assert not (isinstance(reply, Snapshot) and reply.status.finished)


async def test_there_are_402_cases_each_with_a_description_of_its_own():
    files = [path for path in FOLDER.rglob("*.toml") if path != TABLE]
    assert {f"{path.parent.name}/{path.stem}" for path in files} <= ALL.keys()
    assert len(ALL) == 402
    assert {case.request for case in ALL.values()} == set(REQUESTS)
    assert len({case.about for case in ALL.values()}) == len(ALL)
