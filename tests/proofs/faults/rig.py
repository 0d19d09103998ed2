"""A complete app over the real adapters. All of its requests go through a network with faults.

The app's clock is set by hand. It stands still while a request is under way and while the provider has anything left
to do, so no outcome depends on how fast the machine is.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeVar

from shared.adapters.azure_tables.account import TableAccount
from shared.adapters.azure_tables.table import AzureTable, TableStorage
from shared.adapters.chat_api.body import Resume
from shared.adapters.chat_api.provider import ChatCompletionsProvider, Dialect
from shared.adapters.http.access import Connection
from shared.adapters.responses_api.provider import ResponsesProvider
from shared.adapters.system import SystemRandomness
from shared.core import ids
from shared.core.caller import Caller
from shared.core.calls import AnswerType, CallStatus, ToolCall, ToolResult
from shared.core.log import TextDelta
from shared.core.pace import Schedule
from shared.core.response import Snapshot
from shared.core.run import Content, Run
from shared.errors import StorageUnavailable
from shared.ports.agents import Permit
from shared.ports.chat import ChatService
from shared.ports.providers import DEFAULT_PROVIDER, Provider
from shared.steps.context import Context
from shared.steps.dispatch import carry_out
from shared.steps.tick import tick
from shared.steps.transition import Applied
from shared.usecases.answer import Answer, answer_call
from shared.usecases.start import StartRequest, start
from tests.proofs.faults.network import Network, Request
from tests.support.client import Client
from tests.support.fakes import FakeAgents, FakeClock
from tests.support.oracle import Seen, read_as_client
from tests.support.world import CALLER, a_context

# Computed once, because it is the same for all.
_SCHEDULE = Schedule(timedelta(seconds=2), timedelta(seconds=30))
_CREATE = {
    "Accept": "application/json;odata=nometadata",
    "Content-Type": "application/json",
    "DataServiceVersion": "3.0",
}
_Result = TypeVar("_Result")

PATIENCE_SECONDS = 30.0
# How often a client repeats a request that failed, and a queue a message whose work failed.
TRIES = 6
TICKS = 200
# Random, so that it is too long for a row also when it is compressed.
NOVEL = secrets.token_hex(20_000)
FACTS = secrets.token_hex(20_000)


def script(*turns: dict[str, object]) -> str:
    return (
        f"[[script {json.dumps({'turns': [{'seconds': 0, 'queued_seconds': 0} | turn for turn in turns]})}]]"
    )


TOOLS = ("look_up", "pay")
TOOL_DEFINITIONS = json.dumps([{"type": "function", "name": name, "parameters": {}} for name in TOOLS])
WITH_TOOLS = script(
    {"calls": [{"name": name, "arguments": {}, "call_id": f"call_{name}"} for name in TOOLS]}, {"text": NOVEL}
)
WITH_WAITS = script(
    {"calls": [{"name": name, "arguments": {}, "call_id": f"call_{name}"} for name in ("pay", "ask")]},
    {"text": "done"},
)
CONTINUES, RESTARTS = "continues", "restarts"
ENDLESS = script({"text": "never", "seconds": 1000})


@dataclass
class Agents(FakeAgents):
    """Records outside of the app what its tools did, and returns one short and one long result."""

    # The tool, call and key of each effect.
    effects: list[tuple[str, str, str]] = field(default_factory=list)
    # The tool and the arguments of each effect.
    given: list[tuple[str, str]] = field(default_factory=list)

    async def run_tools(
        self, _agent: str, requests: Sequence[ToolCall], permit: Permit
    ) -> AsyncGenerator[ToolResult, None]:
        for request in requests:
            if not permit.given():
                return
            self.effects.append((request.name, request.call_id, request.idempotency_key))
            self.given.append((request.name, request.arguments))
            output = FACTS if request.name == "look_up" else "paid"
            yield ToolResult(request.call_id, CallStatus.COMPLETED, output)


@dataclass
class Rig:
    """An app and its clients. `context` uses the network with faults, `plain` uses none. Both are the same app."""

    network: Network
    context: Context
    plain: Context
    tables: tuple[AzureTable, AzureTable]
    clock: FakeClock
    agents: Agents
    run_id: str = ""
    # The run before it was deleted.
    last: Run | None = None
    failures: int = 0
    # The first request of this scenario itself, counted from 1. Those before it belong to another scenario.
    first: int = 1
    _messages: list[str] = field(default_factory=list)

    def generates_at(self, provider: str) -> None:
        """Let the agent use a provider without background mode."""
        self.agents.changes = {"provider": provider, "tools": TOOL_DEFINITIONS}

    async def start(self, text: str) -> None:
        """Start a run as a client does: with a key, and again until there is an answer."""
        request = StartRequest(
            agent="writer",
            input=json.dumps([{"role": "user", "content": text}]),
            idempotency_key="key",
            fingerprint="same",
        )
        self._note(await self.insist(lambda: start(self.context, CALLER, request)))

    def _note(self, applied: Applied) -> None:
        self.run_id = applied.stored.run.id
        self._messages += applied.messages

    async def ask(self, action: Callable[[Context, Caller, str], Awaitable[Applied]]) -> None:
        """Cancel or delete as a client does."""
        self._note(await self.insist(lambda: action(self.context, CALLER, self.run_id)))

    async def answer(self, call_id: str, answer: Answer) -> AnswerType:
        """Answer a call of the first turn as a client does, and return the answer that is stored."""
        call = ids.call_id(1, call_id)
        view, applied = await self.insist(
            lambda: answer_call(self.context, CALLER, self.run_id, call, answer)
        )
        self._note(applied)
        assert view.answer
        return view.answer.type

    def from_here(self) -> None:
        """Begin the requests of this scenario itself. Those before are the same for any run."""
        self.first = len(self.network.seen) + 1

    async def insist(self, action: Callable[[], Awaitable[_Result]]) -> _Result:
        for _ in range(TRIES):
            try:
                return await action()
            except StorageUnavailable:
                self.failures += 1
        raise AssertionError(f"still unavailable after {TRIES} times")

    async def run(self) -> Run:
        """Return the run as it is stored."""
        stored = await self.plain.runs.read(self.run_id)
        assert stored, "an accepted run is lost"
        return stored.run

    async def tick(self, seconds: float) -> None:
        """Let the provider finish and time pass, poll, and do the work of all messages."""
        await self.provider_is_done()
        self.clock.pass_(seconds)
        self._messages += await tick(self.context, 1, [ids.shard_of(self.run_id)])
        while self._messages:
            message = self._messages.pop(0)
            self._messages += await self.insist(lambda: carry_out(self.context, message))  # noqa: B023  (called at once)

    async def until(self, true: Callable[[Run], bool], seconds: float = 7) -> Run:
        for _ in range(TICKS):
            if true(run := await self.run()):
                return run
            await self.tick(seconds)
        raise AssertionError(f"after {TICKS} ticks it is still {run.status}, owed {run.step}")

    async def provider_is_done(self) -> None:
        """Wait until the provider has finished, so that its speed does not matter."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while continuation := (await self.run()).continuation:
                reply = await self.provider.read(continuation.response_id)
                if not isinstance(reply, Snapshot) or reply.status.value not in {"queued", "in_progress"}:
                    return
                if reply.status.value == "in_progress" and self.endless:
                    return
                await asyncio.sleep(0.005)

    endless: bool = False

    @property
    def provider(self) -> Provider:
        """The provider without the network."""
        return self.plain.provider(DEFAULT_PROVIDER)

    def creates(self) -> list[Request]:
        return [one for one in self.network.seen if one.method == "POST" and one.path.endswith("/responses")]

    async def rows(self) -> list[str]:
        """Return the keys of all rows in the run's shard."""
        return [row.key for row in await self.tables[0].query(ids.shard_of(self.run_id), "", "~")]

    async def seen(self) -> Seen:
        """Return what a client reads of the run, its calls, and what the provider has of its responses."""
        # A deleted run has neither calls nor responses any more.
        run = self.last or await self.run()
        calls = [(f"{call.name} {call.call_id}", call.status.value) for call in run.calls]
        replies = [await self.provider.read(response_id) for response_id in run.responses]
        return await read_as_client(
            Client(self.plain),
            self.run_id,
            name=self.run_id,
            calls=calls,
            responses=[
                reply.status.value if isinstance(reply, Snapshot) else type(reply).__name__
                for reply in replies
            ],
        )

    async def texts(self) -> set[str]:
        """Return the names of the long texts that are stored for the run."""
        rows = await self.tables[1].query(self.run_id, "", "~")
        return {row.key.partition("|")[0] for row in rows}

    async def texts_meant(self) -> set[str]:
        """Return the names of the long texts that the run points to."""
        run = await self.run()
        results = [
            result.output
            for turn in range(1, run.turn + 1)
            for result in (await self.plain.runs.results(run.id, turn)).values()
        ]
        answers = (await self.plain.runs.answers(run.id)).values()
        changed = [answer.changed for answer in answers if answer.changed]
        entries = [line.entry for line in await self.plain.runs.log(run.id)]
        slices = [entry.content for entry in entries if isinstance(entry, TextDelta) and entry.content]
        contents: list[Content] = [run.input, *run.turns, *results, *changed, *slices]
        return {content.name for content in contents if content.name}


@dataclass
class Connections:
    """The adapters of an app: of its storage, of a provider with background mode, and of one without."""

    storage: TableStorage
    provider: ResponsesProvider
    chat: ChatCompletionsProvider

    def chats(self) -> dict[str, ChatService]:
        return {CONTINUES: ChatService(self.chat, continues=True), RESTARTS: ChatService(self.chat)}

    async def close(self) -> None:
        for adapter in (self.provider, self.chat, self.storage):
            await adapter.close()


@dataclass
class Bench:
    """Builds apps, each with tables of its own, over shared connections."""

    network: Network
    lying: "Connections"
    honest: "Connections"

    async def rig(self) -> Rig:
        names = [f"{name}{secrets.token_hex(8)}" for name in ("runs", "content")]
        for name in names:
            # The SDK sends the same request, and takes ten times as long.
            reply = await self.honest.storage.send(
                "POST", "/Tables", _CREATE, json.dumps({"TableName": name})
            )
            assert reply.status_code < 300
        clock, agents = FakeClock(), Agents()
        ports = {"clock": clock, "agents": agents, "randomness": SystemRandomness(), "streaming": _SCHEDULE}
        context, plain = (
            a_context(
                *map(each.storage.table, names),
                each.provider,
                schedule=_SCHEDULE,
                chats=each.chats(),
                **ports,
            )
            for each in (self.lying, self.honest)
        )
        tables = (self.honest.storage.table(names[0]), self.honest.storage.table(names[1]))
        return Rig(self.network, context, plain, tables, clock, agents)


@asynccontextmanager
async def bench(account: TableAccount, emulator: str, seconds: float) -> AsyncIterator[Bench]:
    """Open the connections of an app that waits so many seconds for a reply of the provider."""
    base = f"{emulator}/v1"
    async with Network() as network:
        far = replace(account, endpoint=await network.link("table", account.endpoint))
        lying = _connections(far, await network.link("provider", base), seconds)
        honest = _connections(account, base, PATIENCE_SECONDS)
        try:
            # Opening the SDK takes long. It must not count as a slow reply.
            for each in (lying, honest):
                await each.provider.delete("resp_none")
            yield Bench(network, lying, honest)
        finally:
            for each in (lying, honest):
                await each.close()


def _connections(account: TableAccount, base_url: str, seconds: float) -> Connections:
    within = timedelta(seconds=seconds)
    connection = Connection(
        base_url=base_url, api_key="a.test.key", create_timeout=within, read_timeout=within
    )
    chat = ChatCompletionsProvider(connection, Dialect(resume=Resume.PREFIX, silence=within))
    return Connections(TableStorage(account), ResponsesProvider(connection), chat)
