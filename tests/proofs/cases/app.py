"""The app of a case, made by the composition root. Tables, time, randomness and the network are replaced."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from shared.adapters.agents.running import InstalledAgents
from shared.adapters.responses_api.provider import ResponsesProvider
from shared.app import Baton
from shared.ports.providers import DEFAULT_PROVIDER
from shared.ports.queues import NoQueues
from shared.settings import load
from shared.steps.context import Context
from tests.proofs.cases.case import Case
from tests.proofs.cases.functions import AGENT, agent_of
from tests.proofs.cases.sent import BASE
from tests.proofs.cases.transport import ScriptedTransport
from tests.support.fakes import FakeClock, Seeded
from tests.support.memory_table import MemoryTable
from tests.support.world import stores

SETTINGS: Mapping[str, str] = {
    "AzureWebJobsStorage": "UseDevelopmentStorage=true",
    "POLL_MIN_SECONDS": "1",
    "OPENAI_BASE_URL": BASE,
    "OPENAI_API_KEY": "key-of-the-cases",
}


class CaseApp(Baton):
    """The application over tables in memory, with a virtual clock and a scripted transport.

    No request leaves the process, so nothing has to be closed.
    """

    def __init__(self, case: Case) -> None:
        self.calls: Counter[str] = Counter()
        self.clock = FakeClock()
        self._began = self.clock.now()
        self.agent = agent_of(case.agent, self.calls)
        super().__init__(
            load({**SETTINGS, **case.settings}),
            InstalledAgents({AGENT: self.agent}, {}),
        )
        connection = self._provider._connection
        self.transport = ScriptedTransport(connection, case.provider, self.seconds)
        self._provider = ResponsesProvider(connection, self.transport)
        self._queues = NoQueues()

    def seconds(self) -> float:
        """Return the second of the case."""
        return (self.clock.now() - self._began).total_seconds()

    @cached_property
    def context(self) -> Context:
        randomness = Seeded()
        ports: dict[str, Any] = stores(MemoryTable(), MemoryTable(), randomness)
        ports |= {"clock": self.clock, "randomness": randomness, "providers": self._providers}
        return replace(super().context, **ports)

    @property
    def _providers(self) -> dict[str, ResponsesProvider]:
        return {DEFAULT_PROVIDER: self._provider}

    async def prepare(self) -> None:
        """Tables in memory exist already."""
