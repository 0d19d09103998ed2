"""A status read wakes a worker for a run that the timer has forgotten, and costs other reads nothing."""

from datetime import timedelta

import pytest

from shared.core.life import events
from shared.core.response import RESPONSE_SLOW
from shared.core.run import RunStatus, Step
from shared.steps.messages import poll_message
from shared.steps.poll import poll
from shared.steps.transition import apply
from shared.usecases.overdue import Waker
from shared.usecases.waiting import waiting_for
from tests.support.fakes import answer, asks, later
from tests.support.runs import an_id
from tests.support.world import World

pytestmark = pytest.mark.asyncio


async def woken(world: World, waker: Waker, run_id: str) -> tuple[str, ...]:
    return await waker.messages(world.context, await world.run(run_id))


async def test_a_run_past_its_deadline_is_ended_by_the_worker_that_a_reader_wakes(world):
    run, waker = await world.start(deadline=timedelta(seconds=30)), Waker()
    world.provider.state["resp_1"] = answer("resp_1", "The end.")
    world.clock.pass_(89)
    assert await woken(world, waker, run.id) == ()
    world.clock.pass_(2)
    [message] = await woken(world, waker, run.id)
    await world.work(message)
    assert (await world.run(run.id)).status is RunStatus.COMPLETED
    assert await woken(world, waker, run.id) == ()


async def test_a_worker_is_woken_once_a_minute_for_each_run(world):
    first, second = await world.start(), await world.start()
    waker = Waker()
    world.clock.pass_(3600)
    assert await woken(world, waker, first.id) == (poll_message(first.id),)
    assert await woken(world, waker, second.id) == (poll_message(second.id),)
    world.clock.pass_(59)
    assert await woken(world, waker, first.id) == ()
    world.clock.pass_(1)
    assert await woken(world, waker, first.id) != ()


async def test_a_waker_remembers_a_bounded_number_of_runs(world):
    run, waker = await world.start(), Waker()
    world.clock.pass_(3600)
    await woken(world, waker, run.id)
    for number in range(1_000):
        waker._allow(f"run_{number}", world.clock.now())
    assert len(waker._woken) <= 1_000


async def test_a_poll_that_the_timer_has_forgotten_is_made_by_a_worker(world):
    run, waker = await world.start(), Waker()
    await world.tick(5)
    world.clock.pass_(200)
    assert await woken(world, waker, run.id) == (poll_message(run.id),)
    reads = len(world.provider.reads)
    # Two messages for the same run: the first one claims the poll.
    for message in (poll_message(run.id), poll_message(run.id)):
        await world.work(message)
    assert len(world.provider.reads) == reads + 1
    assert (await world.run(run.id)).due > world.clock.now()


async def test_the_timer_is_believed_while_it_ticks(world):
    run, waker = await world.start(), Waker()
    for _ in range(20):
        await world.drive(1, 30)
    world.table.taken()
    assert await woken(world, waker, run.id) == ()
    # It reads the run by itself above; the last tick costs one point read a minute.
    assert world.table.taken() == {"get": 2}
    assert await woken(world, waker, run.id) == ()
    assert world.table.taken() == {"get": 1}


async def test_a_step_for_workers_that_is_overdue_wakes_one(world):
    run, waker = await world.start(), Waker()
    world.provider.state["resp_1"] = asks("resp_1", "pay")
    await world.tick(5)
    assert (await world.run(run.id)).step is Step.TOOLS
    world.clock.pass_(59)
    assert await woken(world, waker, run.id) == ()
    world.clock.pass_(2)
    assert await woken(world, waker, run.id) == (run.id,)


async def test_a_run_past_its_deadline_says_that_the_timer_is_late(world):
    run = await world.start(deadline=timedelta(seconds=30))
    world.clock.pass_(91)
    found = waiting_for(world.context, await world.run(run.id))
    assert (found.error.code, found.since) == ("timer_late", run.expires_at)


async def test_a_deferred_create_says_when_it_is_tried_again(world):
    world.provider.create_replies = [later("HTTP 503."), later("HTTP 503."), later("HTTP 503.")]
    run = await world.start()
    found = waiting_for(world.context, await world.run(run.id))
    assert (found.error.message, found.attempt) == ("HTTP 503.", 1)
    assert world.clock.now() < found.next_try_at
    await world.drive(2, 10)
    assert waiting_for(world.context, await world.run(run.id)).attempt > 1
    await world.drive(10, 10)
    assert waiting_for(world.context, await world.run(run.id)) is None


async def test_failed_polls_are_stored_once_and_counted_by_their_schedule(world):
    run = await world.start()
    # From here on, the points of the schedule are rarer than ticks.
    await world.drive(20, 5)
    world.provider.state["resp_1"] = later("HTTP 503.")
    while (await world.run(run.id)).waiting is None:
        await world.drive(1, 5)
    rev, reads = (await world.run(run.id)).rev, len(world.provider.reads)
    await world.drive(10, 5)
    assert (await world.run(run.id)).rev == rev
    found = waiting_for(world.context, await world.run(run.id))
    assert found.attempt == 1 + len(world.provider.reads) - reads
    assert world.clock.now() < found.next_try_at <= world.clock.now() + world.context.schedule.longest
    del world.provider.state["resp_1"]
    await world.drive(3, 10)
    assert (await world.run(run.id)).waiting is None


async def test_a_slow_response_is_read_by_a_worker_with_more_time_each_time(world):
    run = await world.start()
    world.provider.state["resp_1"] = later("too slow", code=RESPONSE_SLOW)
    await world.tick(5)
    limits = []
    for _ in range(4):
        [owed] = await world.owed()
        world.clock.at = max(world.clock.at, owed.due)
        assert await poll(world.context, owed) == (poll_message(run.id),)
        await world.work(poll_message(run.id))
        limits.append(world.provider.read_options["within"])
    assert limits == [timedelta(seconds=seconds) for seconds in (20, 30, 30, 30)]
    world.provider.state["resp_1"] = answer("resp_1", "The end.")
    world.clock.pass_(120)
    await world.work(poll_message(run.id))
    assert (await world.run(run.id)).status is RunStatus.COMPLETED


async def test_a_slow_response_of_an_expired_run_is_read_by_a_worker_too(world):
    run = await world.start(deadline=timedelta(minutes=1))
    world.provider.state["resp_1"] = later("too slow", code=RESPONSE_SLOW)
    await world.tick(5)
    world.clock.pass_(120)
    [message] = await world.tick(5)
    world.provider.state["resp_1"] = answer("resp_1", "The end.")
    await world.work(message)
    assert (await world.run(run.id)).status is RunStatus.COMPLETED


async def test_a_message_for_a_run_that_is_not_polled_does_nothing(world):
    world.provider.create_replies = [later("busy")]
    run = await world.start()
    before = await world.run(run.id)
    assert await world.work(poll_message(run.id)) == ()
    assert await world.work(poll_message(an_id("run", number=9))) == ()
    assert await world.run(run.id) == before


async def test_a_claim_that_another_worker_has_made_is_not_made_again(world):
    run = await world.start()
    stored = await world.context.runs.read(run.id)
    claim = events.PollClaimed(stored.run.due, world.context.lease(), world.clock.now())
    first = await apply(world.context, stored, claim)
    second = await apply(world.context, stored, claim)
    assert (first.changed, second.changed) == (True, False)
