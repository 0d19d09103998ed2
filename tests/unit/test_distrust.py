"""What a provider sends is compared with what it sent before, and is not believed of another run."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.core.delivery import CancelResponse, Delivery
from shared.core.ids import shard_of
from shared.core.life import events
from shared.core.response import (
    RESPONSE_SLOW,
    ItemCompleted,
    ItemStarted,
    ResponseStatus,
    Slice,
    Snapshot,
    TextAdded,
)
from shared.core.run import RunStatus, Step
from shared.core.transcript import output_text
from shared.steps.deliver import deliver
from shared.steps.poll import poll, poll_by_worker
from shared.steps.settle import settle
from shared.steps.transition import apply
from shared.usecases.cancel import cancel
from tests.support.fakes import answer, later, message
from tests.support.world import CALLER, World, brings

EMPTY = Snapshot(response_id="resp_1", status=ResponseStatus.COMPLETED)
FOREIGN = replace(answer("resp_1", "another's"), run_id="run_of_another")
BEGUN = (ItemStarted(0, "message"), TextAdded(0, "Once"))


@pytest.fixture
def world() -> World:
    return World()


async def text_of(world: World, run_id: str) -> str:
    run = await world.run(run_id)
    return output_text(await world.context.content.load(run_id, run.turns[-1]))


async def test_another_runs_response_does_not_end_a_run_that_is_being_cancelled(world):
    run = await world.start()
    world.provider.cancel_replies["resp_1"] = FOREIGN
    await cancel(world.context, CALLER, run.id)
    now = await world.run(run.id)
    assert (now.status, now.step, now.waiting.error.code) == (
        RunStatus.CANCELLING, Step.CANCEL, "unreadable_reply",
    )  # fmt: skip


async def test_another_runs_usage_is_not_charged_at_the_deadline(world):
    run = await world.start()
    world.provider.cancel_replies["resp_1"] = replace(FOREIGN, status=ResponseStatus.CANCELLED)
    world.clock.at = run.expires_at
    await world.drive()
    now = await world.run(run.id)
    assert (now.status, now.usage.total_tokens) == (RunStatus.EXPIRED, 0)


async def test_another_runs_response_does_not_stop_an_abandoned_one(world):
    run = await world.start()
    late = Snapshot(response_id="resp_late", status=ResponseStatus.IN_PROGRESS)
    applied = await apply(world.context, await world.context.runs.read(run.id), events.Created("gone", late))
    [delivery] = applied.effects
    assert isinstance(delivery, Delivery)
    assert delivery.content == CancelResponse("default", "resp_late")
    world.provider.cancel_replies["resp_late"] = replace(FOREIGN, response_id="resp_late")
    await deliver(world.context, delivery.clock)
    view = await world.context.shards.owed(shard_of(run.id), run.expires_at)
    assert len(view.clocks) == 1


async def test_the_end_of_a_stream_from_an_older_poll_is_left_to_the_next_one(world):
    run = await world.start(stream=True)
    await brings(world, *BEGUN)
    whole = Slice(response_id="resp_1", after=0, sequence=0, changes=BEGUN, final=EMPTY)
    world.provider.state["resp_1"] = EMPTY
    await settle(world.context, await world.context.runs.read(run.id), EMPTY, whole)
    assert not (await world.run(run.id)).terminal
    world.provider.slice_replies = [Slice(response_id="resp_1", after=1, sequence=1, final=EMPTY)]
    await poll(world.context, (await world.owed())[0])
    assert await text_of(world, run.id) == "Once"


async def test_streamed_text_stays_when_the_stream_is_read_again_with_a_gap(world):
    run = await world.start(stream=True)
    await brings(world, *BEGUN)
    world.provider.state["resp_1"] = EMPTY
    world.provider.slice_replies = [
        Slice(response_id="resp_1", after=1, sequence=1, final=EMPTY),
        Slice(response_id="resp_1", after=0, sequence=1, changes=BEGUN[:1], complete=False),
    ]
    await poll(world.context, (await world.owed())[0])
    assert await text_of(world, run.id) == "Once"


@pytest.mark.parametrize("kind", ["commentary", "refusal"])
async def test_an_empty_end_of_a_stream_is_checked_when_only_other_items_were_streamed(world, kind):
    part = {"type": "refusal", "refusal": "No."}
    item = message("Thinking.")[0] | (
        {"phase": "commentary"} if kind == "commentary" else {"content": [part]}
    )
    run = await world.start(stream=True)
    changes = (ItemStarted(0, "message", commentary=kind == "commentary"), ItemCompleted(0, item))
    world.provider.state["resp_1"] = answer("resp_1", "The answer.")
    await brings(world, *changes, final=EMPTY)
    assert world.provider.reads == ["resp_1"]
    assert await text_of(world, run.id) == "The answer."


async def test_a_worker_claims_no_poll_beyond_the_deadline(world):
    run = await world.start()
    world.provider.state["resp_1"] = later("slow", code=RESPONSE_SLOW)
    await world.tick()
    world.clock.at = run.expires_at - timedelta(seconds=1)
    await poll_by_worker(world.context, run.id)
    assert (await world.run(run.id)).due == run.expires_at
    world.clock.at = run.expires_at
    await world.drive(1, 0)
    assert (await world.run(run.id)).status is RunStatus.EXPIRED
