"""The composition root: build the application from the settings, once in each process."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

from shared.adapters.agents.discover import discover_all, placeholders
from shared.adapters.agents.hosted import warn_of_unanswered_tools
from shared.adapters.agents.running import InstalledAgents
from shared.adapters.agents.timeouts import longest_tool
from shared.adapters.azure_queues.account import QueueAccount
from shared.adapters.azure_queues.poison import PoisonQueues
from shared.adapters.azure_tables.account import TableAccount, create_missing_tables
from shared.adapters.azure_tables.table import TableStorage
from shared.adapters.http.access import Connection, azure_base_url
from shared.adapters.lease_thread import LeaseThread
from shared.adapters.responses_api.provider import ResponsesProvider
from shared.adapters.system import SystemClock, SystemRandomness
from shared.core import ids
from shared.core.caller import Caller
from shared.core.input_items import InputRules
from shared.core.pace import Schedule
from shared.declared_providers import DeclaredProvider
from shared.log import quiet_libraries
from shared.ports.providers import DEFAULT_PROVIDER
from shared.ports.tables import Table
from shared.provider import ChatCompletions, Responses
from shared.settings import Settings, load
from shared.steps.context import Context
from shared.steps.dispatch import carry_out
from shared.steps.messages import shard_message, shard_of_message
from shared.steps.tick import tick
from shared.store.content import ContentStore
from shared.store.keys import KeyStore
from shared.store.outbox import Outbox
from shared.store.quotas import QuotaStore
from shared.store.runs import RunStore
from shared.store.sessions import SessionStore
from shared.store.shards import ShardStore
from shared.store.waits import WaitStore
from shared.web.callers.header import header_callers
from shared.web.http import Request
from shared.web.runs_api.handlers import Api

if TYPE_CHECKING:
    from shared.ports.chat import ChatServices

# How many leases are renewed at the same moment.
_KEEPER_CONNECTIONS = 16


class Baton:
    """The application: what the triggers call."""

    def __init__(self, settings: Settings, agents: InstalledAgents) -> None:
        self.settings = settings
        storage = settings.storage
        self._account = TableAccount.chosen(storage.connection, storage.endpoint, storage.client_id)
        queues = QueueAccount.chosen(storage.connection, storage.queue_endpoint, storage.client_id)
        self._clock = SystemClock()
        self._storage = TableStorage(self._account, compare_clock=self._clock.compare)
        self._queues = PoisonQueues(queues, list(storage.queues.values()))
        self._provider = ResponsesProvider(_default(settings))
        self._declared = _declared_responses(settings)
        self._chats = _declared_chats(settings)
        self._agents = agents
        self._keeper = LeaseThread(self._own_runs_table)
        self._tables_exist = False
        self._preparing = asyncio.Lock()

    @cached_property
    def context(self) -> Context:
        settings, randomness = self.settings, SystemRandomness()
        runs = self._storage.table(settings.storage.runs_table)
        return Context(
            runs=RunStore(runs, randomness),
            sessions=SessionStore(runs, randomness),
            keys=KeyStore(runs),
            shards=ShardStore(runs, randomness),
            outbox=Outbox(runs, randomness),
            waits=WaitStore(runs),
            content=ContentStore(self._storage.table(settings.storage.content_table)),
            providers={DEFAULT_PROVIDER: self._provider, **self._declared},
            chats=self._chats.services,
            agents=self._agents,
            clock=self._clock,
            keeper=self._keeper,
            randomness=randomness,
            schedule=Schedule(settings.poll.shortest, settings.poll.longest),
            streaming=Schedule(
                settings.poll.shortest, max(settings.poll.shortest, settings.poll.longest_stream)
            ),
            chaining=settings.provider.chaining,
            provider_timeout=settings.provider.create_timeout,
            read_timeout=settings.provider.poll_timeout,
            quotas=QuotaStore(runs, randomness, settings.quotas) if settings.quotas else None,
            function_timeout=settings.function_timeout,
            generate_for=settings.poll.generate_for,
        )

    @cached_property
    def api(self) -> Api:
        settings = self.settings
        return Api(
            self.context,
            _callers(settings),
            settings.public_base_url,
            self.prepare,
            trust_forwarded=settings.trust_forwarded,
            input_rules=InputRules(anything=settings.any_input, ids=settings.single_owner),
            queues=self._queues,
        )

    async def prepare(self) -> None:
        """Create the tables if they are missing. The storage is called only once in each process."""
        async with self._preparing:
            if not self._tables_exist:
                names = [self.settings.storage.runs_table, self.settings.storage.content_table]
                await create_missing_tables(self._account, names, self._clock.compare)
                self._tables_exist = True

    async def tick(self) -> list[str]:
        """Poll what is due, and return messages for workers.

        With fan-out, each shard is polled by a worker.
        """
        await self.prepare()
        if self.settings.poll.fanout:
            return [shard_message(shard) for shard in ids.all_shards()]
        return await tick(self.context, self.settings.poll.concurrency)

    async def work(self, message: str) -> list[str]:
        """Handle a message of any queue, and return further messages."""
        await self.prepare()
        if shard := shard_of_message(message):
            return await tick(self.context, self.settings.poll.concurrency, [shard])
        return list(await carry_out(self.context, message))

    @asynccontextmanager
    async def _own_runs_table(self) -> AsyncIterator[Table]:
        """Open the table of runs over further connections, for another event loop."""
        storage = TableStorage(
            self._account, connections=_KEEPER_CONNECTIONS, compare_clock=self._clock.compare
        )
        try:
            yield storage.table(self.settings.storage.runs_table)
        finally:
            await storage.close()

    async def close(self) -> None:
        await self._keeper.close()
        await self._provider.close()
        for provider in self._declared.values():
            await provider.close()
        await self._chats.close()
        await self._storage.close()
        await self._queues.close()


@cache
def application() -> Baton:
    """Return the application of this process. Raises InvalidSettings or InvalidAgents with all faults."""
    quiet_libraries()
    found = discover_all()
    checks = [("AzureWebJobsStorage", check_connection_string)]
    settings = load(os.environ, placeholders(found.agents), checks, found.providers.values())
    warn_of_unanswered_tools(found.agents.values())
    installed = InstalledAgents(found.agents, settings.models, missing_for=settings.declared.missing)
    installed.check(longest_tool(settings.function_timeout, settings.provider.create_timeout))
    return Baton(settings, installed)


def check_connection_string(text: str) -> None:
    """Raise ValueError unless a connection string names the tables and the queues of an account."""
    TableAccount.from_connection_string(text)
    QueueAccount.from_connection_string(text)


def _callers(settings: Settings) -> Callable[[Request], Caller]:
    if not settings.access.own:
        return header_callers(settings.owner_header)
    from shared.web.callers.credentials import credential_callers  # noqa: PLC0415 - for AUTH=callers only

    return credential_callers(
        settings.access.keys,
        settings.access.tenants,
        public_base_url=settings.public_base_url,
        trust_forwarded=settings.trust_forwarded,
    )


def _declared_responses(settings: Settings) -> dict[str, ResponsesProvider]:
    """Return the declared providers with the Responses API that no setting is missing for, by name."""
    return {
        name: ResponsesProvider(_declared(each, settings))
        for name, each in settings.declared.complete.items()
        if isinstance(each.declared, Responses)
    }


@dataclass(frozen=True, slots=True)
class _Chats:
    """The declared providers with the Chat Completions API that no setting is missing for, by name."""

    services: "ChatServices"
    close: Callable[[], Awaitable[None]]


def _declared_chats(settings: Settings) -> _Chats:
    declared = {
        name: (_declared(each, settings), kind)
        for name, each in settings.declared.complete.items()
        if isinstance(kind := each.declared, ChatCompletions)
    }
    if not declared:
        return _Chats({}, _nothing)
    from shared.adapters.chat_api.services import chat_services, close  # noqa: PLC0415 - for apps that need it

    services = chat_services(declared)
    return _Chats(services, partial(close, services))


async def _nothing() -> None:
    pass


def _default(settings: Settings) -> Connection:
    provider = settings.provider
    azure = provider.azure_endpoint
    return replace(
        _limits(settings),
        base_url=azure_base_url(azure) if azure else provider.openai_base_url,
        api_key=(provider.azure_api_key if azure else provider.openai_api_key) or None,
        open=False,
        scope=provider.azure_scope,
        client_id=provider.azure_client_id or None,
        headers=provider.headers,
    )


def _declared(declared: DeclaredProvider, settings: Settings) -> Connection:
    return replace(
        _limits(settings),
        base_url=declared.base_url,
        api_key=declared.api_key,
        headers=declared.headers,
        name=declared.declared.name,
        credentials=declared.to_check,
    )


def _limits(settings: Settings) -> Connection:
    """Return what the connections to all providers have in common. It leads nowhere."""
    provider, poll = settings.provider, settings.poll
    return Connection(
        base_url="",
        open=True,
        create_timeout=provider.create_timeout,
        read_timeout=provider.poll_timeout,
        connections=poll.concurrency,
        slice_budget=poll.slice_budget,
        slice_pause=poll.slice_pause,
    )
