"""Owners take turns: in the poll loop, and on each queue as far as a queue allows it."""

from collections import deque
from datetime import UTC, datetime
from itertools import zip_longest

import pytest

from shared.core.delivery import ClockRow
from shared.core.ids import all_shards
from shared.core.queues import Queue
from shared.core.response import NotNow, RunError, Snapshot
from shared.steps.dispatch import carry_out
from shared.steps.messages import (
    MAX_BUNDLED,
    bundle_message,
    bundle_of_message,
    clock_message,
    poll_message,
    queue_of,
    shard_message,
)
from shared.steps.tick import tick
from shared.steps.turns import MESSAGES_PER_OWNER, bundled, fair_messages, in_turns
from tests.support.client import Client
from tests.support.fakes import asks
from tests.support.runs import an_id
from tests.support.world import World

# The storage allows 64 KiB for a message, which are 48 KiB before base64.
LONGEST_MESSAGE = 48 * 1024


def test_each_owner_has_one_before_any_has_another():
    things = [("ann", 1), ("ann", 2), ("ann", 3), ("bob", 4), ("cid", 5), ("bob", 6)]
    assert in_turns(things) == [1, 4, 5, 2, 6, 3]
    assert in_turns([]) == []


def run_id(number: int) -> str:
    return f"run_0f{number:026d}"


def taken(queue: deque[str]) -> list[str]:
    """Return the messages in the order in which workers take them from a queue."""
    order = []
    while queue:
        message = queue.popleft()
        if bundle := bundle_of_message(message):
            queue.extend(bundle)
        else:
            order.append(message)
    return order


@pytest.mark.parametrize("count", [0, 1, MESSAGES_PER_OWNER, MESSAGES_PER_OWNER + 1, 1_000, 20_000])
def test_many_messages_of_one_owner_are_few_and_none_is_lost(count):
    wanted = [run_id(number) for number in range(count)]
    sent = fair_messages(("ann", each) for each in wanted)
    assert len(sent) <= max(MESSAGES_PER_OWNER, -(-count // MAX_BUNDLED))
    assert all(len(message.encode()) < LONGEST_MESSAGE for message in sent)
    assert sorted(taken(deque(sent))) == wanted


def test_another_owner_waits_for_a_few_messages_only():
    thousand = [("ann", run_id(number)) for number in range(1_000)]
    # His message is the last, and the queue holds all of hers already.
    queue = deque(fair_messages(thousand) + fair_messages([("bob", run_id(5_000))]))
    assert taken(queue).index(run_id(5_000)) <= MESSAGES_PER_OWNER
    together = deque(fair_messages([*thousand, ("bob", run_id(5_000))]))
    assert taken(together).index(run_id(5_000)) <= 1


class Slow:
    """A provider that never finishes. It notes which responses are read."""

    def __init__(self, world: World) -> None:
        self.world, self.order = world, []

    async def read(self, response_id: str, **_: object) -> NotNow | Snapshot:
        self.order.append(response_id)
        return NotNow(RunError("provider_unavailable", "HTTP 503"))


async def begun(world: World, owner: str, count: int) -> list[str]:
    client = Client(world.context, owner=owner)
    replies = [await client.start() for _ in range(count)]
    return [(await world.run(reply.json["id"])).continuation.response_id for reply in replies]


async def test_a_tick_polls_the_only_run_of_an_owner_among_the_first():
    world = World()
    await begun(world, "ann", 300)
    [lonely] = await begun(world, "bob", 1)
    slow = Slow(world)
    world.provider.read = slow.read
    world.clock.pass_(3)
    await tick(world.context, 1)
    assert len(slow.order) == 301
    assert slow.order.index(lonely) <= 1


async def test_a_tick_sends_the_only_message_of_an_owner_among_the_first():
    world = World()
    for owner, count in (("ann", 300), ("bob", 1)):
        for response_id in await begun(world, owner, count):
            world.provider.state[response_id] = asks(response_id, "look_up")
    lonely = (
        await world.run((await Client(world.context, owner="bob").get("/runs")).json["data"][0]["id"])
    ).id
    world.clock.pass_(3)
    messages = await tick(world.context, 50)
    assert len(messages) == MESSAGES_PER_OWNER + 1
    assert messages.index(lonely) <= 1
    queue = deque(messages)
    while queue:
        queue.extend(await carry_out(world.context, queue.popleft()))
    calls = [(await world.run(owed.run_id)).calls for owed in await world.owed()]
    assert len(calls) == 301
    assert all(not call.status.open for own in calls for call in own)


@pytest.mark.parametrize("message", ["\n", "a\nb", "\n" * 1000, "run_\nrun_", "a\n" * 3])
async def test_a_bundle_of_anything_is_taken_apart(message):
    world, queue = World(), deque([message])
    for _ in range(2_100):
        if not queue:
            break
        queue.extend(await carry_out(world.context, queue.popleft()))
    assert not queue


def delivery(number: int) -> str:
    due = datetime(2026, 1, 1, tzinfo=UTC)
    return clock_message(ClockRow(due, an_id("run", number=number), f"{number:08d}-0"))


def test_each_queue_has_its_own_turns_and_bundles():
    """Many messages to one queue take nothing of what an owner may send to another."""
    works, deliveries = [run_id(number) for number in range(500)], [delivery(number) for number in range(40)]
    mixed = [message for pair in zip_longest(works, deliveries) for message in pair if message]
    sent = fair_messages(("ann", each) for each in mixed)
    for queue, wanted in ((Queue.WORK, works), (Queue.DELIVER, deliveries)):
        own = [message for message in sent if queue_of(message) is queue]
        assert len(own) == MESSAGES_PER_OWNER
        assert sorted(taken(deque(own))) == sorted(wanted)
    for message in sent:
        assert len({queue_of(each) for each in message.split("\n")}) == 1
    assert sorted(bundled(mixed)) == sorted(sent)


@pytest.mark.parametrize(
    ("message", "queue"),
    [
        (run_id(1), Queue.WORK),
        (poll_message(run_id(1)), Queue.WORK),
        (shard_message("03"), Queue.WORK),
        (delivery(1), Queue.DELIVER),
        (bundle_message([delivery(1), delivery(2)]), Queue.DELIVER),
        (bundle_message([run_id(1), run_id(2)]), Queue.WORK),
        ("delivery anything", Queue.WORK),
        ("", Queue.WORK),
        ("\n", Queue.WORK),
    ],
)
def test_a_message_itself_says_to_which_queue_it_goes(message, queue):
    assert queue_of(message) is queue


async def test_a_bundle_for_several_queues_is_taken_apart_onto_the_right_ones():
    """An earlier version made such bundles, and anybody may write one."""
    world, arrived = World(), []
    mixed = deque([bundle_message([run_id(1), delivery(1), run_id(2), delivery(2)])])
    while mixed:
        message = mixed.popleft()
        if bundle_of_message(message):
            mixed.extend(await carry_out(world.context, message))
        else:
            arrived.append((queue_of(message), message))
    assert sorted(arrived) == sorted(
        [(Queue.WORK, run_id(n)) for n in (1, 2)] + [(Queue.DELIVER, delivery(n)) for n in (1, 2)]
    )


async def test_the_deletion_of_a_session_sends_few_messages():
    world = World()
    client = Client(world.context)
    session: dict[str, str] = {}
    for _ in range(40):
        run = (await client.start(**session)).json
        await client.post("/runs/{run_id}/cancel", run["id"])
        await world.until_terminal(run["id"])
        session = {"session_id": run["session_id"]}
    deleted = await client.delete("/sessions/{session_id}", session["session_id"])
    assert len(deleted.messages) == MESSAGES_PER_OWNER
    assert len(taken(deque(deleted.messages))) == 40


async def test_with_fan_out_all_shards_together_send_few_messages():
    world = World()
    for response_id in await begun(world, "ann", 300):
        world.provider.state[response_id] = asks(response_id, "look_up")
    world.clock.pass_(3)
    sent = [message for shard in all_shards() for message in await tick(world.context, 50, [shard])]
    assert len(sent) <= MESSAGES_PER_OWNER
    assert len(taken(deque(sent))) == 300
