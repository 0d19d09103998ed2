"""The threads in which sync tools run. A call waits for a thread before its time begins to run."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

# Sync tools have their own threads. Tools that never return would use up asyncio's, which resolve host names.
TOOL_THREADS = 32
# How many of them one run may use at once, so that a run with many slow calls does not keep all others waiting.
THREADS_OF_A_RUN = 8
# How long a call waits for a thread. The lease of its run has to last until its time is over.
PATIENCE = timedelta(seconds=20)


class NoThread(Exception):
    """No thread became free in time, so nothing was run."""


@dataclass
class Share:
    """The threads that one run may use."""

    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(THREADS_OF_A_RUN))


@dataclass
class Thread:
    """A thread that is free for one call."""

    _pool: ThreadPoolExecutor
    started: Future[Any] | None = None

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        self.started = self._pool.submit(work, *arguments)
        return await asyncio.wrap_future(self.started)


class Threads:
    """Gives threads to calls: each to one call, until its function has returned, also when its time is over."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(TOOL_THREADS, thread_name_prefix="tool")
        self._free = asyncio.Semaphore(TOOL_THREADS)

    @asynccontextmanager
    async def free(self, share: Share) -> AsyncIterator[Thread]:
        """Wait for a thread. Raises NoThread."""
        await self._acquire(share.free, self._free)
        thread, loop = Thread(self._pool), asyncio.get_running_loop()

        def release() -> None:
            share.free.release()
            self._free.release()

        def ended(_: Future[Any]) -> None:
            # Called in the thread. A loop that was closed meanwhile has no use for it.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(release)

        try:
            yield thread
        finally:
            if thread.started is None:
                release()
            else:
                thread.started.add_done_callback(ended)

    async def _acquire(self, *semaphores: asyncio.Semaphore) -> None:
        taken: list[asyncio.Semaphore] = []
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                for each in semaphores:
                    await each.acquire()
                    taken.append(each)
        except BaseException as fault:
            for each in taken:
                each.release()
            if isinstance(fault, TimeoutError):
                raise NoThread from None
            raise
