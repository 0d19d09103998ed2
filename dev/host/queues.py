"""Queue triggers: fetch a message, run the function, then delete the message, postpone it,
or move it to the poison queue.

Source: QueueListener.cs and QueueProcessor.cs of the WebJobs storage extension.
"""

import asyncio
import base64
import binascii
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from dev.host.invocations import Running
from dev.host.queue_service import Message, QueueService, QueueServiceError
from dev.host.settings import QueueOptions
from dev.host.worker import FunctionFailed

logger = logging.getLogger(__name__)

# A message becomes visible again after this time, when its host has died.
LEASE = timedelta(minutes=10)
MIN_POLLING_INTERVAL = timedelta(milliseconds=100)


@dataclass(frozen=True)
class QueueBinding:
    service: QueueService
    queue: str

    async def put(self, body: bytes) -> None:
        await self.service.put(self.queue, base64.b64encode(body).decode())


class QueueListener:
    """Feeds one function from one queue."""

    def __init__(
        self,
        source: QueueBinding,
        handle: Callable[[Message, bytes], Awaitable[None]],
        options: QueueOptions,
        running: Running,
        *,
        lease: timedelta = LEASE,
        shortest_pause: timedelta = MIN_POLLING_INTERVAL,
    ) -> None:
        self._source = source
        self._handle = handle
        self._options = options
        self._running = running
        self._lease = lease
        self._shortest_pause = shortest_pause
        self._in_flight = 0
        self._wake = asyncio.Event()

    def notify(self) -> None:
        """Poll the queue now, because this host has just put a message there."""
        self._wake.set()

    async def listen(self) -> NoReturn:
        """Fetch a batch when few enough messages are in flight; poll an empty queue less and less often."""
        pause = self._shortest_pause
        while True:
            self._wake.clear()
            if self._in_flight > self._options.new_batch_threshold:
                await self._wake.wait()
                continue
            try:
                messages = await self._source.service.receive(
                    self._source.queue, count=self._options.batch_size, visibility=self._lease
                )
            except QueueServiceError as error:
                if error.status != 404:  # a queue that does not exist is empty
                    logger.warning("%s", error)
                messages = []
            for message in messages:
                self._in_flight += 1
                self._running.spawn(self._process(message))
            if messages:
                pause = self._shortest_pause
            else:
                await _wait(self._wake, pause)
                pause = min(pause * (1 + random.random()), self._options.max_polling_interval)

    async def _process(self, message: Message) -> None:
        leased = _LeasedMessage(self._source, message, self._lease)
        try:
            await self._run(leased)
        except QueueServiceError as error:
            logger.warning("message %s becomes visible again later: %s", message.id, error)
        finally:
            self._in_flight -= 1
            self._wake.set()

    async def _run(self, leased: "_LeasedMessage") -> None:
        message = leased.message
        most = self._options.max_dequeue_count
        try:
            body = base64.b64decode(message.text, validate=True)
        except binascii.Error:
            await leased.poison("it is not base64")
            return
        if message.dequeue_count > most:
            await leased.poison(f"it was received {message.dequeue_count} times, at most {most} are allowed")
            return
        try:
            async with leased:
                await self._handle(message, body)
        except FunctionFailed:
            if message.dequeue_count >= most:
                await leased.poison(f"its function failed {most} times")
            else:
                await leased.postpone(self._options.visibility_timeout)
        else:
            await leased.delete()


class _LeasedMessage:
    """A received message; inside its `async with` block its lease is renewed at half time."""

    def __init__(self, source: QueueBinding, message: Message, lease: timedelta) -> None:
        self.message = message
        self._source = source
        self._lease = lease
        self._pop_receipt = message.pop_receipt
        self._ended = asyncio.Event()
        self._renewal: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._renewal = asyncio.create_task(self._renew())

    async def __aexit__(self, *_: object) -> None:
        assert self._renewal is not None
        self._ended.set()  # not cancelled: a cancelled request would lose the new pop receipt
        await self._renewal

    async def _renew(self) -> None:
        while True:
            if await _wait(self._ended, self._lease / 2):
                return
            try:
                await self.postpone(self._lease)
            except QueueServiceError as error:
                logger.warning("lease of message %s not renewed: %s", self.message.id, error)

    async def postpone(self, by: timedelta) -> None:
        self._pop_receipt = await self._source.service.postpone(
            self._source.queue, self.message, by=by, pop_receipt=self._pop_receipt
        )

    async def delete(self) -> None:
        await self._source.service.delete(self._source.queue, self.message, pop_receipt=self._pop_receipt)

    async def poison(self, reason: str) -> None:
        target = f"{self._source.queue}-poison"
        logger.error("message %s moves to %s: %s", self.message.id, target, reason)
        await self._source.service.put(target, self.message.text)
        await self.delete()


async def _wait(event: asyncio.Event, longest: timedelta) -> bool:
    """Return whether the event happened in time. Not `asyncio.wait_for`: that of Python 3.11 may lose a cancellation."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(longest.total_seconds()):
            await event.wait()
    return event.is_set()
