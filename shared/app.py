"""The composition root: build the application from the settings, once in each process."""

import asyncio
import os
from collections.abc import Callable
from functools import cache, cached_property

from shared.adapters.agents.discover import discover, placeholders
from shared.adapters.agents.hosted import warn_of_unanswered_tools
from shared.adapters.agents.running import InstalledAgents
from shared.adapters.azure_tables.account import TableAccount, create_missing_tables
from shared.adapters.azure_tables.table import TableStorage
from shared.adapters.http.access import Connection, azure_base_url
from shared.adapters.responses_api.provider import ResponsesProvider
from shared.adapters.system import SystemClock, SystemRandomness
from shared.core import ids
from shared.core.caller import Caller
from shared.core.input_items import InputRules
from shared.core.pace import Schedule
from shared.log import quiet_libraries
from shared.ports.providers import DEFAULT_PROVIDER
from shared.settings import PollSettings, ProviderSettings, Settings, StorageSettings, load
from shared.steps.context import Context
from shared.steps.dispatch import carry_out
from shared.steps.messages import shard_message, shard_of_message
from shared.steps.tick import tick
from shared.store.content import ContentStore
from shared.store.keys import KeyStore
from shared.store.outbox import Outbox
from shared.store.runs import RunStore
from shared.store.sessions import SessionStore
from shared.store.shards import ShardStore
from shared.web.callers.header import header_callers
from shared.web.http import Request
from shared.web.runs_api.handlers import Api


class Baton:
    """The application: what the triggers call."""

    def __init__(self, settings: Settings, agents: InstalledAgents) -> None:
        self.settings = settings
        self._account = _account(settings.storage)
        self._storage = TableStorage(self._account)
        self._provider = _provider(settings.provider, settings.poll)
        self._agents = agents
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
            content=ContentStore(self._storage.table(settings.storage.content_table)),
            providers={DEFAULT_PROVIDER: self._provider},
            agents=self._agents,
            clock=SystemClock(),
            randomness=randomness,
            schedule=Schedule(settings.poll.shortest, settings.poll.longest),
            streaming=Schedule(
                settings.poll.shortest, max(settings.poll.shortest, settings.poll.longest_stream)
            ),
            chaining=settings.provider.chaining,
            provider_timeout=settings.provider.create_timeout,
            read_timeout=settings.provider.poll_timeout,
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
        )

    async def prepare(self) -> None:
        """Create the tables if they are missing. The storage is called only once in each process."""
        async with self._preparing:
            if not self._tables_exist:
                names = [self.settings.storage.runs_table, self.settings.storage.content_table]
                await create_missing_tables(self._account, names)
                self._tables_exist = True

    async def tick(self) -> list[str]:
        """Poll what is due, and return messages for the work queue.

        With fan-out, each shard is polled by a worker.
        """
        await self.prepare()
        if self.settings.poll.fanout:
            return [shard_message(shard) for shard in ids.all_shards()]
        return await tick(self.context, self.settings.poll.concurrency)

    async def work(self, message: str) -> list[str]:
        """Handle a message of the work queue, and return further messages for it."""
        await self.prepare()
        if shard := shard_of_message(message):
            return await tick(self.context, self.settings.poll.concurrency, [shard])
        return list(await carry_out(self.context, message))

    async def close(self) -> None:
        await self._provider.close()
        await self._storage.close()


@cache
def application() -> Baton:
    """Return the application of this process. Raises InvalidSettings or InvalidAgents with all faults."""
    quiet_libraries()
    agents = discover()
    settings = load(
        os.environ, placeholders(agents), [("AzureWebJobsStorage", TableAccount.from_connection_string)]
    )
    warn_of_unanswered_tools(agents.values())
    installed = InstalledAgents(agents, settings.models)
    installed.check()
    return Baton(settings, installed)


def _account(storage: StorageSettings) -> TableAccount:
    if storage.connection:
        return TableAccount.from_connection_string(storage.connection)
    return TableAccount.from_endpoint(storage.endpoint, client_id=storage.client_id or None)


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


def _provider(settings: ProviderSettings, poll: PollSettings) -> ResponsesProvider:
    azure = settings.azure_endpoint
    return ResponsesProvider(
        Connection(
            base_url=azure_base_url(azure) if azure else settings.openai_base_url,
            api_key=(settings.azure_api_key if azure else settings.openai_api_key) or None,
            scope=settings.azure_scope,
            client_id=settings.azure_client_id or None,
            headers=settings.headers,
            create_timeout=settings.create_timeout,
            read_timeout=settings.poll_timeout,
            connections=poll.concurrency,
            slice_budget=poll.slice_budget,
            slice_pause=poll.slice_pause,
        )
    )
