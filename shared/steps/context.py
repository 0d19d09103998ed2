"""What every step and use case gets: the ports, and the rules that come from the settings."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.core.invocation import FUNCTION_TIMEOUT, time_for_work
from shared.core.life.leasing import LEASE
from shared.core.pace import Schedule
from shared.core.response import RunError
from shared.core.run import Chaining, Continuation, Lease
from shared.ports.agents import Agents
from shared.ports.leases import Keeper
from shared.ports.providers import Provider, Providers
from shared.ports.system import Clock, NoObserver, Observer, Randomness
from shared.steps.background import BackgroundModes
from shared.steps.no_provider import NoProvider, provider_gone
from shared.store.content import ContentStore
from shared.store.keys import KeyStore
from shared.store.outbox import Outbox
from shared.store.quotas import QuotaStore
from shared.store.runs import RunStore
from shared.store.sessions import SessionStore
from shared.store.shards import ShardStore
from shared.store.waits import WaitStore

if TYPE_CHECKING:
    # Apps without such providers do not import this.
    from shared.ports.chat import ChatServices

_JITTER = 0.2


@dataclass(frozen=True)
class Context:
    """The ports of a wired application."""

    runs: RunStore
    sessions: SessionStore
    keys: KeyStore
    shards: ShardStore
    outbox: Outbox
    waits: WaitStore
    content: ContentStore
    providers: Providers
    agents: Agents
    clock: Clock
    keeper: Keeper
    randomness: Randomness
    schedule: Schedule
    # The schedule for responses that are read in slices. It is denser, because people watch their text.
    streaming: Schedule
    chaining: Chaining
    # The longest time that one request to the provider may take.
    provider_timeout: timedelta
    # The time limit for reading a response. A response that needs more is read again with more.
    read_timeout: timedelta = timedelta(seconds=10)
    # The time after which the host ends an invocation.
    function_timeout: timedelta = FUNCTION_TIMEOUT
    # The providers without background mode.
    chats: "ChatServices" = field(default_factory=dict)
    # How long one invocation holds the stream of a turn, if the next one can continue it.
    generate_for: timedelta = timedelta(minutes=4)
    observer: Observer = field(default_factory=NoObserver)
    # None: there are no quotas.
    quotas: QuotaStore | None = None
    background: BackgroundModes = field(default_factory=BackgroundModes)

    def provider(self, name: str) -> Provider:
        """Return the provider of a run."""
        return self.providers.get(name) or NoProvider(name)

    def gone(self, provider: str) -> RunError | None:
        """Return why a run cannot go on, if the app does not have its provider any more."""
        return None if provider in self.providers else provider_gone(provider)

    def schedule_for(self, continuation: Continuation | None) -> Schedule:
        """Return the schedule by which a response is polled: read completely, or in slices."""
        return self.schedule if continuation is None or continuation.sequence is None else self.streaming

    def token(self) -> str:
        """Return a short random name, for a lease or for content of which each writer needs its own copy."""
        return self.randomness.bytes(8).hex()

    @property
    def longest_work(self) -> timedelta:
        """How long one invocation may work."""
        return time_for_work(self.function_timeout)

    def lease(self) -> Lease:
        """Return a new lease. While its work goes on, it is renewed: see `shared.steps.lease`."""
        return Lease(self.token(), self.lease_end())

    def lease_end(self) -> datetime:
        return self.clock.now() + LEASE

    def retry_at(self, since: datetime, retry_after: timedelta | None) -> datetime:
        """Return when to try again what is owed since `since`.

        The wait grows with the age, is at least the provider's `retry_after`, and has jitter.
        """
        now = self.clock.now()
        wait = max(self.schedule.gap(now - since), retry_after or timedelta())
        return now + wait * (1 + _JITTER * self.randomness.fraction())
