"""Queue messages with short leases: they are deleted, postponed or sent to the poison queue. Azurite is in test_host."""

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from dev.host.invocations import Running
from dev.host.queue_service import Message, QueueServiceError
from dev.host.queues import QueueBinding, QueueListener
from dev.host.settings import QueueOptions
from dev.host.worker import FunctionFailed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = QueueOptions(
    batch_size=2,
    new_batch_threshold=1,
    max_dequeue_count=5,
    visibility_timeout=timedelta(seconds=30),
    max_polling_interval=timedelta(seconds=1),
)
# Longer than any test needs. A test that waits this long has failed.
PATIENCE_SECONDS = 60

Handler = Callable[[Message, bytes], Awaitable[None]]


class FakeQueues:
    """Returns its messages once and notes every call. Each renewal changes the pop receipt."""

    def __init__(self, *messages: Message) -> None:
        self.waiting = list(messages)
        self.calls: list[tuple[object, ...]] = []
        self.changed = asyncio.Event()
        self.fails = 0

    async def receive(self, _queue: str, *, count: int, visibility: timedelta) -> list[Message]:
        if self.fails:
            self.fails -= 1
            raise QueueServiceError("down", 503)
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        return batch

    async def postpone(self, _queue: str, message: Message, *, by: timedelta, pop_receipt: str) -> str:
        self._note("postpone", message.id, by, pop_receipt)
        return f"{pop_receipt}+"

    async def delete(self, _queue: str, message: Message, *, pop_receipt: str) -> None:
        self._note("delete", message.id, pop_receipt)

    async def put(self, queue: str, text: str) -> None:
        self._note("put", queue, text)

    def _note(self, *call: object) -> None:
        self.calls.append(call)
        self.changed.set()
        self.changed = asyncio.Event()

    async def until(self, name: str, times: int = 1) -> None:
        while [call[0] for call in self.calls].count(name) < times:
            await self.changed.wait()


def message(name: str, *, text: str = "aGk=", dequeue_count: int = 1) -> Message:
    return Message(name, "receipt", text, dequeue_count, NOW, NOW, NOW)


def run(
    test: Callable[[FakeQueues], Awaitable[None]],
    handle: Handler,
    *messages: Message,
    lease: timedelta = timedelta(minutes=10),
) -> FakeQueues:
    async def scenario() -> FakeQueues:
        queues = FakeQueues(*messages)
        source = QueueBinding(queues, "work")  # type: ignore[arg-type]
        running = Running()
        listener = QueueListener(source, handle, OPTIONS, running, lease=lease)
        listening = asyncio.create_task(listener.listen())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await test(queues)
            await running.drain(timedelta(seconds=1))
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
        return queues

    return asyncio.run(scenario())


async def fail(_message: Message, _body: bytes) -> None:
    raise FunctionFailed("planted")


async def succeed(_message: Message, body: bytes) -> None:
    assert body == b"hi"


async def deleted(queues: FakeQueues) -> None:
    await queues.until("delete")


def test_a_message_that_was_worked_is_deleted() -> None:
    assert run(deleted, succeed, message("m")).calls == [("delete", "m", "receipt")]


def test_a_failed_message_comes_back_after_the_visibility_timeout() -> None:
    async def postponed(queues: FakeQueues) -> None:
        await queues.until("postpone")

    queues = run(postponed, fail, message("m", dequeue_count=4))
    assert queues.calls == [("postpone", "m", OPTIONS.visibility_timeout, "receipt")]


@pytest.mark.parametrize(
    ("handle", "poisonous"),
    [
        pytest.param(fail, message("m", dequeue_count=5), id="failed for the last time"),
        pytest.param(succeed, message("m", dequeue_count=6), id="received too often by hosts that died"),
        pytest.param(succeed, message("m", text="not base64"), id="not base64"),
    ],
)
def test_a_message_that_cannot_be_worked_goes_to_the_poison_queue_unchanged(
    handle: Handler, poisonous: Message
) -> None:
    queues = run(deleted, handle, poisonous)
    assert queues.calls == [("put", "work-poison", poisonous.text), ("delete", "m", "receipt")]


def test_the_lease_of_a_message_is_renewed_while_its_function_runs() -> None:
    renewed = asyncio.Event()

    async def handle(_message: Message, _body: bytes) -> None:
        await renewed.wait()

    async def twice(queues: FakeQueues) -> None:
        await queues.until("postpone", 2)
        renewed.set()
        await queues.until("delete")

    calls = run(twice, handle, message("m"), lease=timedelta(milliseconds=20)).calls
    lease = timedelta(milliseconds=20)
    assert calls[:2] == [("postpone", "m", lease, "receipt"), ("postpone", "m", lease, "receipt+")]
    assert calls[-1] == ("delete", "m", "receipt" + "+" * (len(calls) - 1))


def test_no_more_messages_are_received_than_batch_and_threshold_allow() -> None:
    going, most = 0, 0
    free = asyncio.Event()

    async def handle(_message: Message, _body: bytes) -> None:
        nonlocal going, most
        going += 1
        most = max(most, going)
        if going == OPTIONS.batch_size:
            asyncio.get_running_loop().call_later(0.05, free.set)  # time to receive one more
        await free.wait()
        going -= 1

    async def all_deleted(queues: FakeQueues) -> None:
        await queues.until("delete", 6)

    run(all_deleted, handle, *(message(str(number)) for number in range(6)))
    assert most <= OPTIONS.batch_size + OPTIONS.new_batch_threshold


def test_listening_goes_on_when_the_service_fails() -> None:
    async def recovered(queues: FakeQueues) -> None:
        queues.fails = 1
        queues.waiting.append(message("m"))
        await queues.until("delete")

    run(recovered, succeed)


def test_a_listener_that_is_notified_does_not_wait() -> None:
    async def scenario() -> None:
        queues = FakeQueues()
        source = QueueBinding(queues, "work")  # type: ignore[arg-type]
        hour = timedelta(hours=1)
        listener = QueueListener(source, succeed, OPTIONS, Running(), shortest_pause=hour)
        listening = asyncio.create_task(listener.listen())
        await asyncio.sleep(0)  # the listener has found the queue empty
        queues.waiting.append(message("m"))
        listener.notify()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await queues.until("delete")
        listening.cancel()
        await asyncio.wait([listening])

    asyncio.run(scenario())


def test_a_body_is_written_as_base64() -> None:
    async def scenario() -> list[tuple[object, ...]]:
        queues = FakeQueues()
        await QueueBinding(queues, "work").put("é".encode())  # type: ignore[arg-type]
        return queues.calls

    assert asyncio.run(scenario()) == [("put", "work", base64.b64encode("é".encode()).decode())]
