"""Poison messages in Azure Queue Storage: how many there are, which they are, and how they get back."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ResourceNotFoundError

from shared.adapters.azure_queues.account import QueueAccount
from shared.adapters.storage_account import close_credential
from shared.core.queues import POISON
from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from azure.storage.queue import QueueMessage
    from azure.storage.queue.aio import QueueClient, QueueServiceClient

    from shared.adapters.storage_account import Credential

# How long the health waits for all counts. A reply to a monitor should not take longer.
COUNT_SECONDS = 5
# Time-outs of one attempt of a request.
CONNECT_SECONDS, READ_SECONDS = 3, 5
# How many messages of one queue are listed. The storage shows no more without taking them out.
MAX_LISTED = 32
# How many messages of one queue are put back at once.
MAX_PUT_BACK = 10_000
# A message that is being put back is shown to nobody else for this long. Then it is back in the poison queue.
_HIDDEN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class PoisonMessage:
    """A message that failed too often. `queue` is the one where it failed."""

    queue: str
    id: str
    moved_at: datetime | None
    # How often it was taken out of the poison queue since then, and not deleted.
    taken: int
    # As the app reads it.
    text: str


class PoisonQueues:
    """The poison queues of `names`. Every method raises StorageUnavailable."""

    def __init__(self, account: QueueAccount, names: Sequence[str]) -> None:
        self._account = account
        self._names = names
        self._open: tuple[QueueServiceClient, Credential] | None = None

    async def poison_counts(self) -> Mapping[str, int]:
        """Return about how many messages each poison queue holds, by the name of the queue where they failed."""
        with _translated():
            async with asyncio.timeout(COUNT_SECONDS):
                counts = await asyncio.gather(*(self._count(name) for name in self._names))
        return dict(zip(self._names, counts, strict=True))

    async def list(self) -> list[PoisonMessage]:
        """Return the oldest messages of each poison queue, at most MAX_LISTED of each, and leave them there."""
        found: list[PoisonMessage] = []
        for name in self._names:
            with _translated():
                try:
                    messages = await self._poison(name).peek_messages(max_messages=MAX_LISTED)
                except ResourceNotFoundError:
                    continue
            found += [_read(name, message) for message in messages]
        return found

    async def put_back(self, message_id: str | None = None) -> AsyncIterator[PoisonMessage]:
        """Put all messages, or one, to the end of the queues where they failed, and yield each that is back.

        Each is put there first and deleted then, so none is lost, and one may be doubled.
        """
        for name in self._names:
            others: list[QueueMessage] = []
            with _translated():
                async for message in self._taken(name):
                    if message_id not in (None, message.id):
                        others.append(message)
                        continue
                    await self._service().get_queue_client(name).send_message(message.content)
                    await _delete(self._poison(name), message)
                    yield _read(name, message)
                for message in others:
                    await _show_again(self._poison(name), message)

    async def close(self) -> None:
        if self._open:
            service, credential = self._open
            self._open = None
            await service.close()
            await close_credential(credential)

    async def _count(self, name: str) -> int:
        try:
            return (await self._poison(name).get_queue_properties()).approximate_message_count or 0
        except ResourceNotFoundError:
            return 0

    async def _taken(self, name: str) -> AsyncIterator["QueueMessage"]:
        try:
            async for message in self._poison(name).receive_messages(
                messages_per_page=MAX_LISTED, max_messages=MAX_PUT_BACK, visibility_timeout=_HIDDEN_SECONDS
            ):
                yield message
        except ResourceNotFoundError:
            return

    def _poison(self, name: str) -> "QueueClient":
        return self._service().get_queue_client(name + POISON)

    def _service(self) -> "QueueServiceClient":
        if self._open is None:
            # Slow to import, and needed only by those who look at poison messages.
            from azure.storage.queue.aio import QueueServiceClient  # noqa: PLC0415

            credential = self._account.credential()
            service = QueueServiceClient(
                self._account.endpoint,
                credential=credential,
                retry_total=1,
                initial_backoff=0,
                increment_base=0,
                random_jitter_range=0,
                connection_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
            )
            self._open = service, credential
        return self._open[0]


async def _delete(queue: "QueueClient", message: "QueueMessage") -> None:
    try:
        await queue.delete_message(message.id, message.pop_receipt)
    except ResourceNotFoundError:
        # Somebody else has put it back as well.
        return


async def _show_again(queue: "QueueClient", message: "QueueMessage") -> None:
    try:
        await queue.update_message(message.id, message.pop_receipt, visibility_timeout=0)
    except ResourceNotFoundError:
        return


def _read(name: str, message: "QueueMessage") -> PoisonMessage:
    return PoisonMessage(
        name, message.id, message.inserted_on, message.dequeue_count or 0, _text(str(message.content or ""))
    )


def _text(content: str) -> str:
    """Return a message as the app reads it. A Functions host stores base64, somebody else may have stored anything."""
    try:
        return base64.b64decode(content, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return content


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (AzureError, TimeoutError) as fault:
        reason = getattr(fault, "message", "") or "it does not answer in time"
        raise StorageUnavailable(f"The queues of the storage account cannot be used: {reason}") from fault
