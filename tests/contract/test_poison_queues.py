"""The adapter for poison messages, over Azurite's queue service."""

import base64
import secrets
import socket
from collections.abc import AsyncIterator

import pytest
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from shared.adapters.azure_queues import poison
from shared.adapters.azure_queues.account import QueueAccount
from shared.adapters.azure_queues.poison import MAX_LISTED, PoisonQueues
from shared.core.queues import POISON
from shared.errors import StorageUnavailable


@pytest.fixture
async def service(connection_string: str) -> AsyncIterator[QueueServiceClient]:
    async with QueueServiceClient.from_connection_string(connection_string) as service:
        yield service


@pytest.fixture
def names() -> list[str]:
    """Names of two queues of one test."""
    return [f"{kind}-{secrets.token_hex(6)}" for kind in ("work", "deliver")]


@pytest.fixture
async def queues(connection_string: str, names: list[str]) -> AsyncIterator[PoisonQueues]:
    queues = PoisonQueues(QueueAccount.from_connection_string(connection_string), names)
    yield queues
    await queues.close()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def made(service: QueueServiceClient, name: str, *contents: str) -> QueueClient:
    """Make a queue with these contents."""
    queue = service.get_queue_client(name)
    await queue.create_queue()
    for content in contents:
        await queue.send_message(content)
    return queue


async def contents(queue: QueueClient) -> list[str]:
    return [message.content for message in await queue.peek_messages(max_messages=32)]


async def test_queues_that_do_not_exist_hold_nothing(queues, names):
    assert await queues.poison_counts() == dict.fromkeys(names, 0)
    assert await queues.list() == []
    assert [message async for message in queues.put_back()] == []


async def test_messages_are_counted_and_listed_and_stay(queues, names, service):
    work, deliver = names
    await made(service, work + POISON, *(encoded(f"a {number}") for number in range(MAX_LISTED + 8)))
    await made(service, deliver + POISON, encoded("é\x00"), "no base64!", encoded("") or "")
    for _ in range(2):
        assert await queues.poison_counts() == {work: MAX_LISTED + 8, deliver: 3}
        found = await queues.list()
        assert [each.text for each in found if each.queue == work] == [f"a {n}" for n in range(MAX_LISTED)]
        assert [each.text for each in found if each.queue == deliver] == ["é\x00", "no base64!", ""]
        assert all(each.taken == 0 and each.moved_at is not None for each in found)


async def test_all_are_put_back_unchanged_and_none_is_left(queues, names, service):
    work, deliver = names
    sent = [encoded(f"a <&> {number}") for number in range(40)]
    poisoned = await made(service, work + POISON, *sent)
    await made(service, deliver + POISON, "no base64!")
    first, second = await made(service, work), await made(service, deliver)
    back = [message async for message in queues.put_back()]
    assert [each.queue for each in back] == [work] * 40 + [deliver]
    assert await contents(first) == sent[:32]
    assert await contents(second) == ["no base64!"]
    assert (await first.get_queue_properties()).approximate_message_count == 40
    assert await queues.poison_counts() == {work: 0, deliver: 0}
    assert await contents(poisoned) == []


async def test_one_is_put_back_and_the_others_are_shown_again_at_once(queues, names, service):
    work, _ = names
    await made(service, work + POISON, *(encoded(str(number)) for number in range(40)))
    queue = await made(service, work)
    wanted = (await queues.list())[7]
    assert [message.id async for message in queues.put_back(wanted.id)] == [wanted.id]
    assert await contents(queue) == [encoded(wanted.text)]
    assert await queues.poison_counts() == {work: 39, names[1]: 0}
    assert len(await queues.list()) == 32
    assert [message async for message in queues.put_back("unknown")] == []
    assert len(await queues.list()) == 32


async def test_none_is_lost_when_the_queue_to_go_back_to_is_missing(queues, names, service, monkeypatch):
    monkeypatch.setattr(poison, "_HIDDEN_SECONDS", 1)
    work, _ = names
    await made(service, work + POISON, encoded("a"))
    with pytest.raises(StorageUnavailable):
        _ = [message async for message in queues.put_back()]
    assert (await queues.poison_counts())[work] == 1
    queue = await made(service, work)
    back: list[str] = []
    while not back:  # until it is shown again
        back = [message.text async for message in queues.put_back()]
    assert (back, await contents(queue)) == (["a"], [encoded("a")])


async def test_a_command_that_ends_half_way_doubles_one_at_most(queues, names, service, monkeypatch):
    """It ends after a message was put back, and before that message is deleted."""
    monkeypatch.setattr(poison, "_HIDDEN_SECONDS", 1)

    class Ended(Exception):
        pass

    async def ends(*_: object) -> None:
        raise Ended

    work, _ = names
    sent = [encoded(str(number)) for number in range(3)]
    await made(service, work + POISON, *sent)
    queue = await made(service, work)
    with monkeypatch.context() as patched:
        patched.setattr(poison, "_delete", ends)
        with pytest.raises(Ended):
            _ = [message async for message in queues.put_back()]
    back: set[str] = set()
    while len(back) < 3:
        back |= {message.text async for message in queues.put_back()}
    assert sorted(await contents(queue)) == sorted([sent[0], *sent])


async def test_a_service_that_cannot_be_reached_is_reported_without_the_key(names):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key = encoded("secret key")
    account = QueueAccount.from_connection_string(
        f"AccountName=a;AccountKey={key};QueueEndpoint=http://127.0.0.1:{port}/a"
    )
    queues = PoisonQueues(account, names)
    for call in (queues.poison_counts(), queues.list()):
        with pytest.raises(StorageUnavailable) as fault:
            await call
        assert key not in str(fault.value)
    await queues.close()


async def test_a_wrong_key_is_reported(connection_string, names):
    wrong = connection_string.partition("AccountKey=")
    rest = wrong[2].partition(";")[2]
    queues = PoisonQueues(
        QueueAccount.from_connection_string(f"{wrong[0]}AccountKey={encoded('wrong')};{rest}"), names
    )
    with pytest.raises(StorageUnavailable):
        await queues.poison_counts()
    await queues.close()


async def test_a_service_that_does_not_answer_is_not_waited_for(names, monkeypatch):
    monkeypatch.setattr(poison, "COUNT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        account = QueueAccount.from_connection_string(
            f"AccountName=a;AccountKey={encoded('k')};QueueEndpoint={endpoint}"
        )
        queues = PoisonQueues(account, names)
        with pytest.raises(StorageUnavailable, match="does not answer in time"):
            await queues.poison_counts()
        await queues.close()


def test_the_address_of_the_queues_follows_from_the_account():
    def endpoint(text: str) -> str:
        return QueueAccount.from_connection_string(text).endpoint

    assert endpoint("UseDevelopmentStorage=true") == "http://127.0.0.1:10001/devstoreaccount1"
    assert endpoint("AccountName=a;AccountKey=a2V5") == "https://a.queue.core.windows.net"
    assert endpoint("AccountName=a;AccountKey=a2V5;EndpointSuffix=x.example") == "https://a.queue.x.example"
    given = "QueueEndpoint=https://q.example/;TableEndpoint=https://t.example;SharedAccessSignature=?sig=1"
    assert endpoint(given) == "https://q.example"
    with pytest.raises(ValueError, match="must begin with https://"):
        QueueAccount.from_endpoint("http://a.queue.core.windows.net")
