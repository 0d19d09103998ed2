"""The course of a soak: a thread runs the clients; the main thread kills hosts and measures.

The hosts are children of the main thread: they end when it ends.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dev.processes import ChildProcess
from tests.proofs.soak.fleet import HOSTS, Fleet
from tests.proofs.soak.lateness import ProviderLog
from tests.proofs.soak.load import Load
from tests.proofs.soak.memory import resident_mib
from tests.proofs.soak.processor import Shares
from tests.proofs.soak.revival import Watcher

KILL_EVERY, AWAY = timedelta(seconds=30), timedelta(seconds=4)
# The emulator keeps its last 100,000 requests, and answers nothing else while it lists them.
_LOG_EVERY = timedelta(seconds=120)
_SAMPLE_EVERY, _PRINT_EVERY = timedelta(seconds=5), timedelta(seconds=30)
# A run may need this longer than the provider: in each turn the rest of a lease may have to pass, and a long tool to be
# repeated.
_GRACE = timedelta(minutes=4)


class _Clients:
    """Runs a coroutine in a thread. `join` raises its error."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._work)
        except BaseException as error:  # noqa: BLE001  (`join` raises it)
            self._error = error


@dataclass
class _Chore:
    """Something to do once in each period; the first time is after one period."""

    every: timedelta
    do: Callable[[], None]

    def __post_init__(self) -> None:
        self._next = time.monotonic() + self.every.total_seconds()

    def do_if_due(self) -> None:
        if time.monotonic() >= self._next:
            self._next += self.every.total_seconds()
            self.do()


def _do_chores(chores: Sequence[_Chore], longest: timedelta, clients: _Clients) -> None:
    """Do the chores that are due, until the clients have finished or the time is over."""
    end = time.monotonic() + longest.total_seconds()
    while clients.busy and time.monotonic() < end:
        for chore in chores:
            chore.do_if_due()
        time.sleep(0.1)


@dataclass
class Course:
    """A soak from its first run to its last. `others` are processes whose memory is printed beside that of the hosts."""

    fleet: Fleet
    load: Load
    others: dict[str, ChildProcess]
    watcher: Watcher
    log: ProviderLog = field(default_factory=ProviderLog)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._shares = Shares()

    def run(self, under_load: timedelta) -> None:
        """Start runs, kill and restart hosts for this long, then wait for the open runs to end."""
        asyncio.run(self.load.idle())
        self._print_headings()
        clients = _Clients(self.load.go())
        chores = [
            _Chore(timedelta(seconds=1), self._restart),
            _Chore(timedelta(seconds=1), self.watcher.look),
            _Chore(_SAMPLE_EVERY, self.fleet.sample),
            _Chore(_LOG_EVERY, self._read_log),
            _Chore(_PRINT_EVERY, self._print),
        ]
        longest = timedelta(seconds=2 * self.load.run_seconds) + _GRACE
        try:
            _do_chores([*chores, _Chore(KILL_EVERY, self._kill_next)], under_load, clients)
            self.load.drain()
            _do_chores(chores, longest, clients)
        finally:
            self.load.give_up()
            clients.join()
        self.watcher.look()
        self._read_log()
        self._print()

    def _kill_next(self) -> None:
        killed_at = datetime.now(UTC)
        self.fleet.kill(self.fleet.kills % HOSTS)
        self.watcher.killed(killed_at)

    def _restart(self) -> None:
        for host in self.fleet.away_for(AWAY):
            self.fleet.start(host)

    def _read_log(self) -> None:
        self.log.take(self.fleet.site.provider_log())

    def _print_headings(self) -> None:
        """Begin the table: seconds, runs, and how much of one core and of memory each process uses."""
        self._began = time.monotonic()
        names = [*(f"host {number}" for number in range(HOSTS)), *self.others]
        print(f"{'second':>6}{'open':>7}{'ended':>7}{'kills':>6}" + "".join(f"{name:>20}" for name in names))

    def _print(self) -> None:
        lives, hosts = self.fleet.alive(), self.fleet.site.hosts
        cells = [
            f"{lives[number].age:.0f} s, {self._use(hosts[number].pid)}" if number in lives else "away"
            for number in range(HOSTS)
        ]
        cells += [self._use(child.pid) for child in self.others.values()]
        load, seconds = self.load, time.monotonic() - self._began
        numbers = f"{seconds:6.0f}{load.open:7}{len(load.runs):7}{self.fleet.kills:6}"
        print(numbers + "".join(f"{cell:>20}" for cell in cells), flush=True)

    def _use(self, pid: int) -> str:
        return f"{self._shares.take(pid) * 100:.0f}%, {resident_mib(pid):.0f} MiB"
