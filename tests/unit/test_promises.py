"""The ten promises of docs/guarantees.md, each tested on the use cases over memory tables."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.core.caller import Caller
from shared.core.calls import CallStatus
from shared.core.life.events import Claimed
from shared.core.response import Absent, Refused, ResponseStatus, RunError, Snapshot, Usage
from shared.core.run import RunStatus, Step
from shared.core.transcript import output_text
from shared.errors import Conflict, InvalidInput, NotFound, UnreadableRow
from shared.ports.tables import Put
from shared.steps.due import claim_due
from shared.steps.poll import poll
from shared.steps.settle import settle
from shared.steps.tick import tick
from shared.steps.transition import apply
from shared.steps.work import work
from shared.store.run_rows import owed_row
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run, delete_session
from shared.usecases.listing import Listing, list_runs
from shared.usecases.read import output_of, owned_run, owned_session
from shared.usecases.start import CallerTools
from tests.support.fakes import FakeClock, answer, asks, later
from tests.support.runs import NOW
from tests.support.world import CALLER

CALL = "call_resp_1_0"


async def test_1_a_terminal_status_is_never_left(world):
    run = await world.start()
    await cancel(world.context, CALLER, run.id)
    cancelled = await world.run(run.id)
    assert cancelled.status is RunStatus.CANCELLED
    # Azure has turned a cancelled response into a completed one minutes afterwards.
    stored = await world.context.runs.read(run.id)
    await settle(world.context, stored, answer("resp_1"))
    world.provider.state["resp_1"] = answer("resp_1")
    await world.drive(10, 60)
    assert await world.run(run.id) == cancelled


async def test_1_a_finished_answer_wins_over_a_cancellation(world):
    run = await world.start()
    world.provider.cancel_replies["resp_1"] = answer("resp_1", "just in time")
    applied = await cancel(world.context, CALLER, run.id)
    assert applied.stored.run.status is RunStatus.COMPLETED
    assert "just in time" in await output_of(world.context, applied.stored.run)


@pytest.mark.parametrize("death", ["before the create", "after the create"])
async def test_2_an_accepted_start_outlives_its_process(world, death):
    if death == "before the create":
        world.provider.create_replies = [asyncio.CancelledError()]
    else:
        create, fault = world.provider.create, asyncio.CancelledError()

        async def dies(request):
            await create(request)
            raise fault

        world.provider.create = dies
    with pytest.raises(asyncio.CancelledError):
        await world.start()
    if death == "after the create":
        world.provider.create = create
    world.provider.state = {f"resp_{n}": answer(f"resp_{n}") for n in (1, 2)}
    [pending] = await world.owed()
    run = await world.until_terminal(pending.run_id)
    assert run.status is RunStatus.COMPLETED
    assert run.unknown_creates == 1


@pytest.mark.parametrize("status", [ResponseStatus.QUEUED, ResponseStatus.IN_PROGRESS])
async def test_2_a_run_is_terminal_two_ticks_after_its_deadline(world, status):
    run = await world.start(deadline=timedelta(minutes=5))
    world.provider.state["resp_1"] = Snapshot(response_id="resp_1", status=status)
    while world.clock.now() < run.expires_at:
        await world.drive(1, 5)
    await world.drive(2, 5)
    assert (await world.run(run.id)).status is RunStatus.EXPIRED
    assert world.provider.cancels == ["resp_1"]


async def test_2_a_run_expires_when_the_provider_does_not_answer(world):
    run = await world.start(deadline=timedelta(minutes=5))
    world.provider.state["resp_1"] = later("connection refused")
    world.provider.cancel_replies["resp_1"] = later("connection refused")
    world.clock.pass_(301)
    await world.drive(2, 5)
    assert (await world.run(run.id)).status is RunStatus.EXPIRED


async def test_2_a_finished_answer_wins_over_the_deadline(world):
    run = await world.start(deadline=timedelta(minutes=5))
    world.provider.state["resp_1"] = answer("resp_1")
    world.clock.pass_(400)
    await world.drive(1, 5)
    assert (await world.run(run.id)).status is RunStatus.COMPLETED


@pytest.mark.parametrize(
    ("tool", "times", "status"), [("pay", 1, CallStatus.UNKNOWN), ("look_up", 2, CallStatus.COMPLETED)]
)
async def test_3_a_crash_inside_a_tool_repeats_only_what_is_idempotent(world, tool, times, status):
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", tool), "resp_2": answer("resp_2")}

    def die(_request):
        world.agents.during = None
        raise asyncio.CancelledError

    world.agents.during = die
    [run_id] = await world.tick()
    with pytest.raises(asyncio.CancelledError):
        await work(world.context, run_id)
    done = await world.until_terminal(run.id)
    assert done.status is RunStatus.COMPLETED
    assert world.agents.runs == {CALL: times}
    assert [call.status for call in done.calls] == [status]
    told = world.provider.creates[-1].input
    assert ("outcome_unknown" in told) == (status is CallStatus.UNKNOWN)


async def test_3_two_workers_run_a_tool_once(world):
    await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "pay")}
    [run_id] = await world.tick()
    await asyncio.gather(*(work(world.context, run_id) for _ in range(5)))
    assert world.agents.runs == {CALL: 1}


async def test_3_a_worker_that_was_frozen_past_its_lease_changes_nothing(world):
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "pay"), "resp_2": answer("resp_2")}
    [run_id] = await world.tick()
    stored = await world.context.runs.read(run_id)
    lease = world.context.lease()

    def freeze(_request):
        # While this worker is frozen, its lease expires and others finish the run.
        world.agents.during = None
        world.clock.pass_(600)

    world.agents.during = freeze
    await work(world.context, run_id)
    await world.until_terminal(run.id)
    late = await apply(world.context, stored, Claimed(lease, stored.run.step, stored.run.turn, {CALL: None}))
    assert not late.changed
    assert world.agents.runs == {CALL: 1}


async def test_3_a_worker_that_read_an_earlier_turn_claims_nothing(world):
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "pay"), "resp_2": asks("resp_2", "pay")}
    [run_id] = await world.tick()
    load = world.context.content.load

    async def overtaken(*args):
        text = await load(*args)
        # Before this worker claims the step, another worker does it, and the next turn reaches the same step.
        world.context.content.load = load
        await work(world.context, run_id)
        assert await world.tick() == [run_id]
        return text

    world.context.content.load = overtaken
    assert await work(world.context, run_id) == ()
    assert (await world.run(run.id)).lease is None
    await work(world.context, run_id)
    assert world.agents.runs == {CALL: 1, "call_resp_2_0": 1}


@pytest.mark.parametrize(
    "text",
    ["", "a" * 5_000_000, "\x00 \x1f \u2028 漢字 \U0001f680 e\u0301", "line\r\nline\n"],
    ids=["empty", "5MB", "odd", "lines"],
)
async def test_4_the_stored_text_is_the_providers_text(world, text):
    run = await world.start()
    world.provider.state["resp_1"] = answer("resp_1", text)
    done = await world.until_terminal(run.id)
    assert output_text(await output_of(world.context, done)) == text


async def test_5_a_lost_create_reply_is_counted_and_one_response_is_adopted(world):
    world.provider.create_replies = [later("cut", unknown=True)]
    run = await world.start()
    world.provider.state["resp_2"] = answer("resp_2")
    done = await world.until_terminal(run.id)
    assert done.responses == ("resp_2",)
    assert done.unknown_creates == 1
    assert len(world.provider.creates) == 2


async def abandon_a_response(world):
    """Start a run whose first response came too late, and return the run."""
    world.provider.create_replies = [
        lambda: world.clock.pass_(600),
    ]
    create = world.provider.create

    async def slow(request):
        world.provider.create = create
        reply = await create(request)
        [pending] = await world.owed()
        await work(world.context, pending.run_id)
        return reply

    world.provider.create = slow
    return await world.start()


async def test_5_a_response_created_under_a_lost_lease_is_abandoned(world):
    run = await abandon_a_response(world)
    done = await world.run(run.id)
    assert done.responses == ("resp_2",)
    assert done.unknown_creates == 1
    assert world.provider.cancels == []
    # The worker that created it has died, and its message is lost. The timer finds what is owed.
    await world.drive()
    assert world.provider.cancels == ["resp_1"]
    left = [row.key for row in await world.table.query(run.id[4:6], "", "~")]
    assert not [key for key in left if key.startswith(("delivery|", "pending~"))]


@pytest.mark.parametrize("reply", [Absent(), Refused(RunError("busy", "not now"))], ids=["absent", "refused"])
async def test_5_a_reply_to_a_cancellation_counts_as_of_its_request(world, reply):
    await abandon_a_response(world)
    cancel_response = world.provider.cancel

    async def stands_still(response_id):
        world.provider.cancel = cancel_response
        await cancel_response(response_id)
        # By the time the worker goes on, this reply would be final.
        world.clock.pass_(7200)
        return reply

    world.provider.cancel = stands_still
    await world.drive(20, 30)
    assert world.provider.cancels.count("resp_1") == 2


async def test_6_the_same_key_gives_the_same_run(world):
    first = await world.start(idempotency_key="k", fingerprint="a")
    again = await world.start(idempotency_key="k", fingerprint="a")
    assert again.id == first.id
    assert len(world.provider.creates) == 1
    with pytest.raises(InvalidInput, match="another request"):
        await world.start(idempotency_key="k", fingerprint="b")
    other = await world.start(idempotency_key="k", fingerprint="b", caller=Caller("somebody else"))
    assert other.id != first.id


@pytest.mark.parametrize("changes", [{"missing_settings": ("KEY",)}, {"tool_names": ("refund",)}])
async def test_6_the_same_key_gives_the_same_run_although_the_agent_has_changed(world, changes):
    request = {"idempotency_key": "k", "fingerprint": "a", "tools": CallerTools(frozenset({"refund"}), "[]")}
    first = await world.start(**request)
    world.agents.changes = changes
    assert (await world.start(**request)).id == first.id
    with pytest.raises((Conflict, InvalidInput)):
        await world.start(**request | {"idempotency_key": "other"})


async def test_6_a_repeated_start_finishes_what_a_crash_left_after_the_key(world):
    insert = world.context.runs.insert

    async def dies(*_args):
        raise asyncio.CancelledError

    world.context.runs.insert = dies
    with pytest.raises(asyncio.CancelledError):
        await world.start(idempotency_key="k", fingerprint="a")
    world.context.runs.insert = insert
    first = await world.start(idempotency_key="k", fingerprint="a")
    assert (await world.start(idempotency_key="k", fingerprint="a")).id == first.id


async def test_7_usage_is_counted_once_per_response(world):
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "look_up"), "resp_2": answer("resp_2", tokens=10)}
    stored = await world.context.runs.read(run.id)
    await settle(world.context, stored, world.provider.state["resp_1"])
    await settle(world.context, stored, world.provider.state["resp_1"])
    done = await world.until_terminal(run.id)
    assert done.usage == Usage(11, 11, 22)


async def test_8_deleted_stays_deleted_and_leaves_nothing(world):
    run = await world.start()
    world.provider.state["resp_1"] = answer("resp_1", "secret" * 100_000)
    stored = await world.context.runs.read(run.id)
    await delete_run(world.context, CALLER, run.id)
    late = await settle(world.context, stored, answer("resp_1", "x" * 5_000_000))
    assert not late.changed
    await world.drive(5)
    with pytest.raises(NotFound):
        await owned_run(world.context, CALLER, run.id)
    with pytest.raises(NotFound):
        await delete_run(world.context, CALLER, run.id)
    assert await world.content_table.query(run.id, "", "~") == []
    rows = await world.table.query(run.id[4:6], "", "~")
    assert {row.key.split("|")[0] for row in rows} - {"pending"} == {"run", "session"}
    assert world.provider.deletes == ["resp_1"]


async def test_8_a_provider_that_does_not_answer_is_asked_again_to_forget(world):
    run = await world.start()
    world.provider.delete_replies = [later("500"), later("500")]
    await delete_run(world.context, CALLER, run.id)
    await world.drive(100, 10)
    # Two failures, one success, and once more when no worker can have a lease any longer.
    assert world.provider.deletes == ["resp_1"] * 4
    assert (await world.run(run.id)).step is Step.NOTHING


async def test_8_foreign_runs_and_sessions_are_not_found(world):
    run = await world.start()
    for look in (owned_run, cancel, delete_run):
        with pytest.raises(NotFound):
            await look(world.context, Caller("somebody else"), run.id)
    for look in (owned_session, delete_session):
        with pytest.raises(NotFound):
            await look(world.context, Caller("somebody else"), run.session_id)
    with pytest.raises(NotFound):
        await world.start(caller=Caller("somebody else"), session_id=run.session_id)


async def test_9_polls_follow_the_schedule_however_often_the_timer_ticks(world):
    run = await world.start()
    for _ in range(3000):
        await world.tick(0.2)
    age = (world.clock.now() - run.turn_started_at).total_seconds()
    allowed = [point for point in world.context.schedule.points if 0 < point <= age]
    assert len(world.provider.reads) == len(allowed)


async def test_9_two_pollers_share_the_schedule(world):
    await world.start()
    for _ in range(100):
        world.clock.pass_(2)
        dues = [
            await asyncio.gather(*(claim_due(world.context, f"{n:02x}") for _ in range(2))) for n in range(16)
        ]
        for due in (one for pair in dues for one in pair):
            for pending in due.polls:
                await poll(world.context, pending)
    allowed = [point for point in world.context.schedule.points if 0 < point <= 200]
    assert len(world.provider.reads) <= len(allowed)


async def test_9_a_host_whose_clock_is_behind_does_not_have_points_polled_again(world):
    run = await world.start()
    shard = run.id[4:6]
    # The row of an expired run that does not exist gives every tick something to do.
    lost = replace((await world.owed())[0], run_id=run.id[:-1] + "z", expires_at=NOW - timedelta(hours=1))
    await world.table.write(shard, [Put(owed_row(lost))])
    ahead, behind = world.context, replace(world.context, clock=FakeClock(NOW - timedelta(minutes=5)))
    for _ in range(40):
        world.clock.pass_(5)
        behind.clock.pass_(5)
        for context in (ahead, behind):
            for owed in (await claim_due(context, shard)).polls:
                await poll(context, owed)
    allowed = [point for point in ahead.schedule.points if 0 < point <= 200]
    assert len(world.provider.reads) <= len(allowed)


async def test_9_a_create_that_keeps_failing_is_tried_less_and_less_often(world):
    world.provider.create_replies = [later("429")] * 10_000
    run = await world.start(deadline=timedelta(hours=1))
    await world.until_terminal(run.id, ticks=2000, seconds=2)
    assert len(world.provider.creates) < 160


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "gibberish"},
        {"due": "2026-01-01T00:00:00"},
        {"expires_at": 5},
        {"rev": "x"},
        {"metadata": b"xno zlib stream"},
        {"open_items": b"[{}]"},
        {"calls": b"[1]"},
        {"usage": "not JSON"},
        {"input": "no pointer"},
    ],
    ids=str,
)
async def test_10_one_bad_row_stops_no_other_run(world, wrong):
    runs = [await world.start() for _ in range(20)]
    for n in range(20):
        world.provider.state[f"resp_{n + 1}"] = answer(f"resp_{n + 1}")
    bad = runs[3]
    row = await world.table.get(bad.id[4:6], f"run|{bad.id}")
    broken = replace(row, values={**row.values, **wrong})
    world.table._partitions[bad.id[4:6]][row.key] = broken
    world.clock.pass_(5)
    await tick(world.context, 5)
    assert {(await world.run(run.id)).status for run in runs if run is not bad} == {RunStatus.COMPLETED}
    with pytest.raises(UnreadableRow):
        await owned_run(world.context, CALLER, bad.id)
    listed, _ = await list_runs(world.context, CALLER, Listing(limit=20))
    assert {run.id for run in listed} == {run.id for run in runs if run is not bad}


@pytest.mark.parametrize(
    "wrong", [{"due": "gibberish"}, {"due": "2026-01-01T00:00:00"}, {"step": ""}, {"provider": None}], ids=str
)
async def test_10_one_bad_pending_row_stops_no_other_run(world, wrong):
    runs = [await world.start() for _ in range(40)]
    for n in range(40):
        world.provider.state[f"resp_{n + 1}"] = answer(f"resp_{n + 1}")
    bad = runs[3]
    key = f"pending|{bad.id}"
    row = await world.table.get(bad.id[4:6], key)
    world.table._partitions[bad.id[4:6]][key] = replace(row, values={**row.values, **wrong})
    world.clock.pass_(5)
    await tick(world.context, 5)
    assert {(await world.run(run.id)).status for run in runs if run is not bad} == {RunStatus.COMPLETED}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_10_a_run_that_is_deleted_while_its_calls_are_read_raises_no_error(world, when):
    run = await world.start()
    asked = asks("resp_1", "pay")
    # Long enough for rows of its own.
    text = answer("resp_1", "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(100_000)))
    output = json.dumps(json.loads(asked.output) + json.loads(text.output))
    world.provider.state["resp_1"] = replace(asked, output=output)
    [run_id] = await world.tick()
    load, looks = world.context.content.load, []

    async def raced(*args):
        looks.append(args)
        if when == "before":
            await delete_run(world.context, CALLER, run.id)
        text = await load(*args)
        if when == "after":
            await delete_run(world.context, CALLER, run.id)
        return text

    world.context.content.load = raced
    assert not await work(world.context, run_id)
    assert len(looks) == 1
    assert not world.agents.runs
    assert (await world.run(run.id)).status is RunStatus.DELETED
