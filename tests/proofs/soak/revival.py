"""How long runs wait after a kill until they are taken up again.

A lease does not say whose it is. So all runs that are leased at the kill are watched. A host that is alive renews the
lease of its work, or ends the work before the lease ends. A run whose lease ends without either was the killed host's.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

from shared.adapters.azure_tables.account import TableAccount
from shared.adapters.azure_tables.table import TableStorage
from shared.adapters.system import SystemRandomness
from shared.core.ids import all_shards
from shared.core.run import Lease, Run, Step
from shared.errors import StorageUnavailable
from shared.store.runs import RunStore
from shared.store.shards import ShardStore
from tests.e2e.site import Site
from tests.proofs.soak.figures import percentile, spread

# So long after a kill a run can be taken up again. Not read from the app, because it is promised.
PROMISED = timedelta(seconds=15)
SHARE = 0.95
# What a busy machine may add.
BUSY = timedelta(seconds=5)
# A run that has not been taken up after this time is counted with it, and watched no longer.
LONGEST = timedelta(seconds=60)
# One look at the storage takes at most so long.
_LOOK_SECONDS = 5.0


class Fate(Enum):
    """What is known of a run that was leased at a kill."""

    WAITING = auto()
    # The host that works on it is alive, or a client has ended its step.
    ALIVE = auto()
    TAKEN_UP = auto()


@dataclass(frozen=True, slots=True)
class Hit:
    """A run that was leased at a kill."""

    step: Step
    lease: Lease
    killed_at: datetime

    def fate(self, run: Run | None) -> Fate:
        """Return its fate, from the run as it is stored now."""
        if run is None:
            return Fate.ALIVE
        if run.lease and run.lease.id == self.lease.id:
            return Fate.WAITING if run.lease == self.lease else Fate.ALIVE
        # Until the lease ended nobody else could take the step.
        return Fate.TAKEN_UP if run.updated_at >= self.lease.expires_at else Fate.ALIVE

    def seconds(self, until: datetime) -> float:
        return (until - self.killed_at).total_seconds()


@dataclass
class Revivals:
    """The runs that were leased at kills. `seconds` are the times until the killed host's runs were taken up, by step."""

    waiting: dict[str, Hit] = field(default_factory=dict)
    seconds: dict[Step, list[float]] = field(default_factory=lambda: defaultdict(list))
    alive: int = 0
    not_taken_up: list[str] = field(default_factory=list)
    # Kills after which the storage could not be read.
    unseen: int = 0

    def killed(self, at: datetime, runs: Iterable[Run]) -> None:
        """Watch these runs, as they were read right after the kill."""
        for run in runs:
            if run.step.worked_on and run.lease and run.lease.expires_at > at and run.id not in self.waiting:
                self.waiting[run.id] = Hit(run.step, run.lease, at)

    def look(self, runs: Mapping[str, Run | None], now: datetime) -> None:
        """Compare the watched runs with what is stored now."""
        for run_id, run in runs.items():
            hit = self.waiting[run_id]
            match hit.fate(run):
                case Fate.TAKEN_UP if run:
                    self.seconds[hit.step].append(hit.seconds(run.updated_at))
                    del self.waiting[run_id]
                case Fate.WAITING if now - hit.killed_at < LONGEST:
                    pass
                case Fate.WAITING:
                    self.seconds[hit.step].append(hit.seconds(now))
                    self.not_taken_up.append(f"{run_id}, owed {hit.step}")
                    del self.waiting[run_id]
                case _:
                    self.alive += 1
                    del self.waiting[run_id]

    @property
    def _of_all_steps(self) -> list[float]:
        return [seconds for those in self.seconds.values() for seconds in those]

    def figures(self) -> list[str]:
        shares = {"p50": 0.5, "p95": SHARE, "most": 1}
        lines = [f"taken up again after a kill: {spread(self._of_all_steps, 's', shares=shares)}"]
        lines += [
            f"  {step}: {spread(those, 's', shares=shares)}" for step, those in sorted(self.seconds.items())
        ]
        lines.append(
            f"  leased at a kill, and at work on another host: {self.alive}; kills not looked at: {self.unseen}"
        )
        lines += [f"  not taken up within {LONGEST.seconds} s: {each}" for each in self.not_taken_up]
        return lines

    def violations(self, tick: timedelta) -> list[str]:
        """Return a line if more runs than promised were late. A run that is lost is found by the audit."""
        p95, limit = percentile(self._of_all_steps, SHARE), (PROMISED + tick + BUSY).total_seconds()
        # NaN, when no run was hit, is not more than the limit.
        if p95 > limit:
            return [f"VIOLATION taken up too late after a kill: p95 {p95:.1f} s, at most {limit:.0f} s"]
        return []


class Watcher:
    """Reads the storage of a site from the main thread, over connections of its own."""

    def __init__(self, site: Site) -> None:
        self.revivals = Revivals()
        self._storage = TableStorage(TableAccount.from_connection_string(site.connection))
        table = self._storage.table(site.settings["RUNS_TABLE"])
        self._runs, self._shards = RunStore(table, SystemRandomness()), ShardStore(table, SystemRandomness())
        self._loop = asyncio.Runner()

    def killed(self, at: datetime) -> None:
        """Find out which runs are leased, right after a kill at `at`."""
        try:
            self.revivals.killed(at, self._loop.run(self._worked_on()))
        except (StorageUnavailable, TimeoutError):
            self.revivals.unseen += 1

    def look(self) -> None:
        """Look at the watched runs. If the storage does not answer, the next look finds the same."""
        if not self.revivals.waiting:
            return
        try:
            runs = self._loop.run(self._read(list(self.revivals.waiting)))
        except (StorageUnavailable, TimeoutError):
            return
        self.revivals.look(runs, datetime.now(UTC))

    def close(self) -> None:
        self._loop.run(self._storage.close())
        self._loop.close()

    async def _worked_on(self) -> list[Run]:
        async with asyncio.timeout(_LOOK_SECONDS):
            now = datetime.now(UTC)
            views = await asyncio.gather(*(self._shards.owed(shard, now) for shard in all_shards()))
            owed = [owed.run_id for view in views for owed in view.runs if owed.step.worked_on]
            found = await asyncio.gather(*map(self._runs.read, owed))
            return [stored.run for stored in found if stored]

    async def _read(self, run_ids: list[str]) -> dict[str, Run | None]:
        async with asyncio.timeout(_LOOK_SECONDS):
            found = await asyncio.gather(*map(self._runs.read, run_ids))
            return {run_id: stored and stored.run for run_id, stored in zip(run_ids, found, strict=True)}
