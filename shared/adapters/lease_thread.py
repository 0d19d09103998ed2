"""Renews leases in a thread with a connection of its own, so that a tool that blocks the event loop keeps its lease."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta

from shared.log import log_fault
from shared.ports.leases import Renewal
from shared.ports.tables import Table

# How often the thread looks for new leases. Most work ends before the thread has seen its lease.
LOOK_SECONDS = 0.5
# The thread ends after this time without leases. Another one is started when it is needed.
IDLE_SECONDS = 10.0
# A renewal that takes longer is given up, so that there is time for another one.
RENEWAL_SECONDS = 3.0

OpenTable = Callable[[], AbstractAsyncContextManager[Table]]


class _Kept:
    """A lease that is renewed until its work is over."""

    def __init__(self, first: timedelta, renewal: Renewal) -> None:
        self.due, self.renewal = time.monotonic() + first.total_seconds(), renewal
        self._lost, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self._ended = False

    @property
    def over(self) -> bool:
        # Work does not go on in a loop that was closed, even if it could not call `end`.
        return self._ended or self._loop.is_closed()

    def end(self) -> None:
        self._ended = True

    async def lost(self) -> None:
        await self._lost.wait()

    def lose(self) -> None:
        """Report the loss to the event loop of the work. Called in the thread."""
        # Nobody waits in a loop that was closed.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._lost.set)


class LeaseThread:
    """A `Keeper`. `open_table` opens the table of runs in the event loop of the thread."""

    def __init__(self, open_table: OpenTable) -> None:
        self._open_table = open_table
        self._lock = threading.Lock()
        self._new: deque[_Kept] = deque()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def keep(self, first: timedelta, renewal: Renewal) -> _Kept:
        kept = _Kept(first, renewal)
        with self._lock:
            # First, so that a new thread finds it.
            self._new.append(kept)
            if self._thread is None:
                # A daemon, because a process that ends must not wait for leases.
                thread = threading.Thread(target=self._run, name="leases", daemon=True)
                thread.start()
                self._thread = thread
        return kept

    async def close(self) -> None:
        """End the thread and its connections. It renews no lease any more until another one is kept."""
        if thread := self._thread:
            self._stopped = True
            try:
                await asyncio.to_thread(thread.join)
            finally:
                self._stopped = False

    def _run(self) -> None:
        while True:
            try:
                asyncio.run(self._renew_all())
            except Exception as fault:  # noqa: BLE001  (leases end by themselves; the next ones may be renewed)
                log_fault("leases.failed", fault)
                time.sleep(LOOK_SECONDS)
            with self._lock:
                # A lease may have come since the thread last looked.
                if self._stopped or not self._new:
                    self._thread = None
                    return

    async def _renew_all(self) -> None:
        """Renew leases until there are none for some time."""
        tasks: set[asyncio.Task[None]] = set()
        async with self._open_table() as table:
            idle_since = time.monotonic()
            while not self._stopped and time.monotonic() - idle_since < IDLE_SECONDS:
                tasks |= {asyncio.create_task(_renew(table, kept)) for kept in self._at_work()}
                tasks = {task for task in tasks if not task.done()}
                if tasks:
                    idle_since = time.monotonic()
                await asyncio.sleep(LOOK_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _at_work(self) -> Iterator[_Kept]:
        """Take the new leases whose work is not over yet."""
        while self._new:
            if not (kept := self._new.popleft()).over:
                yield kept


async def _renew(table: Table, kept: _Kept) -> None:
    """Renew a lease until its work is over or the lease is lost."""
    await asyncio.sleep(max(0.0, kept.due - time.monotonic()))
    while not kept.over:
        pause = await _renew_once(table, kept)
        if pause is None:
            kept.lose()
            return
        await asyncio.sleep(pause.total_seconds())


async def _renew_once(table: Table, kept: _Kept) -> timedelta | None:
    renewal = kept.renewal
    try:
        # Not longer than the lease lasts, so that its loss is found at once.
        async with asyncio.timeout(min(RENEWAL_SECONDS, renewal.left().total_seconds())):
            return await renewal.renew(table)
    except TimeoutError:
        return renewal.failed("The storage did not answer in time.")
    except Exception as fault:  # noqa: BLE001  (one lease must not stop the others)
        log_fault("lease.failed", fault)
        return renewal.failed(type(fault).__name__)
