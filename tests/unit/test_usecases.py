"""Situations in a run's life that no promise names, tested on the use cases over memory tables."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.core.calls import CallStatus
from shared.core.response import Absent, Refused, ResponseStatus, RunError, Snapshot
from shared.core.run import Chaining, RunStatus, Step
from shared.errors import Conflict, InvalidInput, NotFound, RowConflict, StorageUnavailable
from shared.ports.tables import Delete, Put, Row
from shared.steps import work
from shared.steps.poll import poll
from shared.steps.tick import tick
from shared.store import rows
from shared.store.run_rows import owed_row
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run, delete_session
from shared.usecases.listing import Listing, list_runs
from shared.usecases.read import output_of, owned_session, session_page
from tests.support.fakes import answer, asks, broken_chain, later
from tests.support.world import CALLER, World


async def finished(world: World, text: str = "done", **changes):
    """Return a run that has ended with a text."""
    run = await world.start(**changes)
    response_id = run.continuation.response_id
    world.provider.state[response_id] = answer(response_id, text)
    return await world.until_terminal(run.id)


async def test_a_response_that_stays_missing_fails_the_run_after_its_grace(world):
    run = await world.start()
    world.provider.state["resp_1"] = Absent()
    await world.drive(1, 5)
    assert (await world.run(run.id)).status is RunStatus.QUEUED
    await world.drive(10, 5)
    assert (await world.run(run.id)).status is RunStatus.QUEUED
    done = await world.until_terminal(run.id)
    assert (done.status, done.error.code) == (RunStatus.FAILED, "background_unsupported")
    assert done.completed_at - done.created_at < timedelta(minutes=3)


async def test_a_response_that_is_found_again_goes_on(world):
    run = await world.start()
    world.provider.state["resp_1"] = Absent()
    await world.drive(3, 5)
    world.provider.state["resp_1"] = Snapshot(response_id="resp_1", status=ResponseStatus.IN_PROGRESS)
    await world.drive(3, 5)
    assert (await world.run(run.id)).missing_since is None
    world.provider.state["resp_1"] = Absent()
    await world.drive(3, 20)
    assert not (await world.run(run.id)).terminal


async def test_the_provider_is_not_asked_before_its_retry_after(world):
    await world.start()
    world.provider.state["resp_1"] = later("429", timedelta(seconds=100))
    await world.drive(1, 5)
    world.provider.state.clear()
    await world.drive(18, 5)
    assert world.provider.reads == ["resp_1"]
    await world.drive(8, 5)
    assert len(world.provider.reads) > 1


async def test_a_broken_clock_elsewhere_does_not_stop_the_polling(world):
    run = await world.start()
    row = Row(rows.TICK_KEY, {"at": rows.time_text(datetime(2100, 1, 1, tzinfo=UTC)), "tx": ""})
    await world.table.write(run.id[4:6], [Put(row)])
    world.provider.state["resp_1"] = answer("resp_1")
    assert (await world.until_terminal(run.id, ticks=3)).status is RunStatus.COMPLETED


@pytest.mark.parametrize("agent_gone", [False, True])
async def test_a_refused_create_fails_at_once_and_frees_the_session(world, agent_gone):
    if agent_gone:
        spec = world.agents.spec
        world.agents.spec = lambda name: spec(name) if not world.table.counts["write"] else None
    else:
        world.provider.create_replies = [Refused(RunError("provider_denied", "check the key"))]
    run = await world.start()
    assert (run.status, run.error.code) == (
        RunStatus.FAILED,
        "unknown_agent" if agent_gone else "provider_denied",
    )
    assert (await owned_session(world.context, CALLER, run.session_id)).session.held_by is None


async def test_a_key_refused_in_a_later_turn_is_waited_for(world):
    run = await world.start()
    world.provider.state["resp_1"] = asks("resp_1", "pay")
    world.provider.create_replies = [Refused(RunError("provider_denied", "no"))]
    await world.drive(1)
    assert (await world.run(run.id)).step is Step.CREATE
    world.provider.state["resp_3"] = answer("resp_3")
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED
    assert world.agents.runs == {"call_resp_1_0": 1}


async def test_a_busy_session_takes_no_second_run(world):
    run = await world.start()
    with pytest.raises(Conflict, match="not ended"):
        await world.start(session_id=run.session_id)
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(run.id)
    again = await world.start(session_id=run.session_id)
    assert again.previous_run_id == run.id
    assert world.provider.creates[-1].previous_response_id == "resp_1"


async def test_a_failed_run_is_not_part_of_the_conversation(world):
    first = await finished(world)
    world.provider.create_replies = [Refused(RunError("provider_rejected", "no"))]
    await world.start(session_id=first.session_id, input='[{"role": "user", "content": "forget this"}]')
    await world.start(session_id=first.session_id)
    assert world.provider.creates[-1].previous_response_id == first.responses[-1]


async def test_replay_sends_everything_in_order_and_nothing_that_failed():
    world = World(chaining=Chaining.REPLAY)
    first = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "pay"), "resp_2": answer("resp_2", "first answer")}
    await world.until_terminal(first.id)
    world.provider.create_replies = [Refused(RunError("provider_rejected", "no"))]
    await world.start(session_id=first.session_id, input='[{"role": "user", "content": "forget this"}]')
    await world.start(session_id=first.session_id, input='[{"role": "user", "content": "and now?"}]')
    sent = json.loads(world.provider.creates[-1].input)
    assert world.provider.creates[-1].previous_response_id is None
    assert [item.get("type", item.get("role")) for item in sent] == [
        "user",
        "function_call",
        "function_call_output",
        "message",
        "user",
    ]
    assert sent[2]["output"] == "result of call_resp_1_0"


async def test_a_broken_chain_falls_back_to_replay_once(world):
    run = await world.start()
    world.provider.state["resp_1"] = asks("resp_1", "pay")
    world.provider.create_replies = [broken_chain("No tool call found"), broken_chain("No tool call found")]
    done = await world.until_terminal(run.id)
    assert (done.status, done.error.code) == (RunStatus.FAILED, "provider_rejected")
    assert [bool(one.previous_response_id) for one in world.provider.creates] == [False, True, False]
    assert world.agents.runs == {"call_resp_1_0": 1}


async def test_a_slow_cancellation_is_confirmed_by_polls(world):
    run = await world.start()
    world.provider.cancel_replies["resp_1"] = Snapshot(
        response_id="resp_1", status=ResponseStatus.IN_PROGRESS
    )
    applied = await cancel(world.context, CALLER, run.id)
    assert applied.stored.run.status is RunStatus.CANCELLING
    world.provider.state["resp_1"] = Snapshot(response_id="resp_1", status=ResponseStatus.CANCELLED)
    assert (await world.until_terminal(run.id)).status is RunStatus.CANCELLED


async def test_a_cancellation_is_tried_again_when_the_provider_does_not_answer(world):
    run = await world.start()
    world.provider.cancel_replies["resp_1"] = later("503")
    await cancel(world.context, CALLER, run.id)
    del world.provider.cancel_replies["resp_1"]
    assert (await world.until_terminal(run.id, ticks=10)).status is RunStatus.CANCELLED
    assert world.provider.cancels == ["resp_1", "resp_1"]


async def test_a_tool_at_work_ends_before_its_run_is_cancelled(world):
    run = await world.start()
    world.provider.state["resp_1"] = asks("resp_1", "pay", "look_up")
    seen = []

    def cancel_meanwhile(_request):
        world.agents.during = None
        seen.append(run_sync(cancel(world.context, CALLER, run.id)).stored.run.status)

    world.agents.during = cancel_meanwhile
    await world.drive(1)
    done = await world.run(run.id)
    assert seen == [RunStatus.CANCELLING]
    assert done.status is RunStatus.CANCELLED
    assert [call.status for call in done.calls] == [CallStatus.COMPLETED, CallStatus.COMPLETED]
    assert len(world.provider.creates) == 1


def run_sync(coroutine):
    """Run a use case over memory tables to its end. Nothing in it waits."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as end_of_it:
        return end_of_it.value


async def test_a_checkpoint_that_the_storage_refuses_is_saved_after_the_others(world):
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "pay", "look_up"), "resp_2": answer("resp_2")}
    [run_id] = await world.tick()
    commit, faults = world.context.runs.commit, [StorageUnavailable("busy")]

    async def fails_once(before, after, entries, *, results=(), answers=(), deliveries=()):
        if results and faults:
            raise faults.pop()
        return await commit(before, after, entries, results=results, answers=answers, deliveries=deliveries)

    world.context.runs.commit = fails_once
    await work.work(world.context, run_id)
    done = await world.until_terminal(run.id)
    assert [call.status for call in done.calls] == [CallStatus.COMPLETED, CallStatus.COMPLETED]
    assert set(world.agents.runs.values()) == {1}


async def test_a_transition_of_a_run_that_keeps_changing_is_given_up(world):
    run = await world.start()

    async def always_conflicts(*_args, **_kwargs):
        raise RowConflict(run.id)

    world.context.runs.commit = always_conflicts
    with pytest.raises(StorageUnavailable, match="kept changing"):
        await cancel(world.context, CALLER, run.id)


async def test_a_session_is_deleted_with_all_its_runs(world):
    first = await finished(world)
    second = await world.start(session_id=first.session_id)
    purges = await delete_session(world.context, CALLER, first.session_id)
    assert set(purges) == {first.id, second.id}
    for run_id in purges:
        await work.work(world.context, run_id)
        assert await world.content_table.query(run_id, "", "~") == []
    with pytest.raises(NotFound):
        await owned_session(world.context, CALLER, first.session_id)
    with pytest.raises(NotFound):
        await world.start(session_id=first.session_id)
    assert second.continuation.response_id in world.provider.cancels
    assert set(world.provider.deletes) == {second.continuation.response_id, first.responses[0]}


async def test_a_deleted_run_leaves_its_place_in_the_session(world):
    first = await finished(world, "one")
    second = await finished(world, "two", session_id=first.session_id)
    third = await finished(world, "three", session_id=first.session_id)
    await delete_run(world.context, CALLER, second.id)
    page = await session_page(world.context, CALLER, first.session_id, begin=None, limit=10)
    assert [run.id for run in page.runs] == [third.id, first.id]
    assert "two" not in json.dumps(page.transcript)


async def test_a_refused_delete_is_final_unless_the_response_was_in_progress(world):
    done = await finished(world)
    world.provider.delete_replies = [Refused(RunError("provider_rejected", "no"))]
    await delete_run(world.context, CALLER, done.id)
    await world.drive(20, 10)
    assert len(world.provider.deletes) == 1
    working = await world.start()
    world.provider.delete_replies = [Refused(RunError("provider_rejected", "still at work"))]
    await delete_run(world.context, CALLER, working.id)
    await world.drive(20, 10)
    assert len(world.provider.deletes) == 3


async def test_a_provider_that_never_answers_is_not_asked_to_delete_for_ever(world):
    run = await world.start()
    world.provider.delete_replies = [later("503")] * 10_000
    await delete_run(world.context, CALLER, run.id)
    await world.drive(200, 30)
    assert (await world.run(run.id)).step is Step.NOTHING
    assert len(world.provider.deletes) < 150


async def test_a_key_whose_run_was_deleted_starts_nothing(world):
    run = await world.start(idempotency_key="k", fingerprint="a")
    await delete_run(world.context, CALLER, run.id)
    with pytest.raises(Conflict, match="deleted"):
        await world.start(idempotency_key="k", fingerprint="a")


async def test_an_unknown_agent_is_refused_with_the_names_there_are(world):
    with pytest.raises(InvalidInput, match="writer"):
        await world.start(agent="nobody")
    assert world.table.taken() == {}


async def test_messages_about_what_is_not_owed_do_nothing(world):
    run = await world.start()
    before = await world.context.runs.read(run.id)
    for run_id in (run.id, run.id[:-1] + "0", "run_00" + "0" * 26):
        assert await work.work(world.context, run_id) == ()
    assert await world.context.runs.read(run.id) == before


async def test_a_pending_row_without_a_run_is_logged_and_stops_nothing(world):
    run = await world.start()
    one = (await world.owed())[0]
    orphan = replace(one, run_id=run.id[:-1] + ("1" if run.id[-1] == "0" else "0"))
    await world.table.write(run.id[4:6], [Put(owed_row(orphan))])
    world.provider.state["resp_1"] = answer("resp_1")
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED


async def test_a_run_that_is_deleted_while_it_is_read_is_not_found(world):
    noise = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(100_000))
    run = await finished(world, noise)
    await delete_run(world.context, CALLER, run.id)
    with pytest.raises(NotFound):
        await output_of(world.context, run)


async def test_rows_that_another_worker_removes_meanwhile_are_no_error(world):
    run = await world.start()
    query = world.content_table.query
    for n in range(3):
        await world.content_table.write(run.id, [Put(Row(f"x|{n}", {"a": n}))])

    async def raced(*args, **kwargs):
        found = await query(*args, **kwargs)
        world.content_table.query = query
        await world.content_table.write(run.id, [Delete("x|1")])
        return found

    world.content_table.query = raced
    await world.context.content.purge(run.id)
    assert await world.content_table.query(run.id, "", "~") == []


@pytest.mark.parametrize("what", ["start", "cancel", "delete"])
async def test_an_accepted_request_is_answered_as_accepted_when_the_storage_fails_later(world, what):
    run = None if what == "start" else await world.start()
    commit, allowed = world.context.runs.commit, [] if what == "start" else [True]

    async def fails(*args, **kwargs):
        if not allowed:
            raise StorageUnavailable("busy")
        allowed.pop()
        return await commit(*args, **kwargs)

    world.context.runs.commit = fails
    match what:
        case "start":
            run = await world.start()
            assert run.status is RunStatus.QUEUED
        case "cancel":
            assert (await cancel(world.context, CALLER, run.id)).stored.run.status is RunStatus.CANCELLING
        case "delete":
            await delete_run(world.context, CALLER, run.id)
    world.context.runs.commit = commit
    for response in ("resp_1", "resp_2"):
        world.provider.state[response] = answer(response)
    await world.drive(120, 10)
    ended = await world.run(run.id)
    assert (
        ended.status
        is {"start": RunStatus.COMPLETED, "cancel": RunStatus.CANCELLED, "delete": RunStatus.DELETED}[what]
    )
    assert ended.step is Step.NOTHING


def long_text() -> str:
    """Return a text that is too long for a row, also when it is compressed."""
    return "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(100_000))


class LosesReplies:
    """A commit that takes effect, is followed by another write, and whose reply is lost."""

    def __init__(self, world, meanwhile):
        self._commit, self._meanwhile, self._done = world.context.runs.commit, meanwhile, False

    async def __call__(self, before, after, entries, *, results=(), answers=(), deliveries=()):
        stored = await self._commit(
            before, after, entries, results=results, answers=answers, deliveries=deliveries
        )
        if not self._done and (after.turns or results):
            self._done = True
            await self._meanwhile()
            raise RowConflict("the reply was lost, and the repeated write met a conflict")
        return stored


async def test_content_that_a_lost_reply_stored_is_kept(world):
    run = await world.start()
    world.provider.state["resp_1"] = answer("resp_1", long_text())

    async def nothing():
        pass

    world.context.runs.commit = LosesReplies(world, nothing)
    done = await world.until_terminal(run.id)
    assert long_text() in await output_of(world.context, done)


async def test_a_result_that_a_lost_reply_stored_is_kept(world):
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "pay"), "resp_2": answer("resp_2")}
    run_tools = world.agents.run_tools

    async def long_results(agent, requests, permit):
        async for result in run_tools(agent, requests, permit):
            yield replace(result, output=long_text())

    world.agents.run_tools = long_results
    [run_id] = await world.tick()

    async def nothing():
        pass

    world.context.runs.commit = LosesReplies(world, nothing)
    await work.work(world.context, run_id)
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED
    assert long_text() in json.loads(world.provider.creates[-1].input)[0]["output"]


async def test_an_unreadable_tick_is_replaced(world):
    run = await world.start()
    await world.table.write(run.id[4:6], [Put(Row(rows.TICK_KEY, {"at": "gibberish", "tx": ""}))])
    world.provider.state["resp_1"] = answer("resp_1")
    assert (await world.until_terminal(run.id, ticks=3)).status is RunStatus.COMPLETED


async def test_a_start_that_was_frozen_leaves_the_create_to_others(world):
    insert = world.context.runs.insert

    async def slow(*args):
        stored = await insert(*args)
        world.clock.pass_(600)
        return stored

    world.context.runs.insert = slow
    run = await world.start()
    assert world.provider.creates == []
    world.provider.state["resp_1"] = answer("resp_1")
    assert (await world.until_terminal(run.id)).responses == ("resp_1",)


async def test_a_replayed_create_has_a_lease_of_its_own(world):
    first = await finished(world)

    def late_refusal():
        world.clock.pass_(29)
        return broken_chain("Previous response not found")

    world.provider.create_replies = [late_refusal]
    run = await world.start(session_id=first.session_id)
    creates = len(world.provider.creates)
    stored = await world.context.runs.read(run.id)
    assert stored.run.continuation
    assert creates == 3


async def test_the_id_of_a_new_response_is_saved_again_when_the_storage_fails_once(world):
    commit, faults = world.context.runs.commit, [StorageUnavailable("busy")]

    async def fails_once(*args, **kwargs):
        if faults:
            raise faults.pop()
        return await commit(*args, **kwargs)

    world.context.runs.commit = fails_once
    run = await world.start()
    assert (run.continuation.response_id, run.unknown_creates) == ("resp_1", 0)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_create_without_a_reply_is_counted_however_the_run_ends(world, how):

    def dies():
        raise asyncio.CancelledError

    world.provider.create_replies = [dies]
    with pytest.raises(asyncio.CancelledError):
        await world.start(deadline=timedelta(minutes=1))
    [pending] = await world.owed()
    world.clock.pass_(120)
    if how == "cancel":
        await cancel(world.context, CALLER, pending.run_id)
    else:
        await world.drive(1)
    done = await world.run(pending.run_id)
    assert (done.terminal, done.unknown_creates) == (True, 1)


async def test_deletes_of_an_old_run_are_repeated_as_long_as_those_of_a_new_one(world):
    run = await finished(world)
    world.clock.pass_(2 * 3600)
    world.provider.delete_replies = [later("503"), later("503")]
    await delete_run(world.context, CALLER, run.id)
    await world.drive(20, 10)
    assert len(world.provider.deletes) == 3


async def test_rows_that_a_late_writer_adds_to_a_deleted_run_are_purged(world):
    run = await world.start()
    await delete_run(world.context, CALLER, run.id)
    await world.content_table.write(run.id, [Put(Row("turn-01-late|0000", {"c00": b"secret"}))])
    await world.drive(100, 10)
    assert await world.content_table.query(run.id, "", "~") == []
    assert (await world.run(run.id)).step is Step.NOTHING


@pytest.mark.parametrize("deleted", [0, 1])
async def test_a_deleted_run_leaves_the_conversation(world, deleted):
    first = await finished(world, "the first answer")
    second = await finished(world, "the second answer", session_id=first.session_id)
    await delete_run(world.context, CALLER, (first, second)[deleted].id)
    await world.start(session_id=first.session_id)
    sent = world.provider.creates[-1]
    assert sent.previous_response_id is None
    assert ("the first answer" in sent.input, "the second answer" in sent.input) == (
        deleted == 1,
        deleted == 0,
    )


async def test_a_404_of_an_earlier_response_does_not_count_for_the_next(world):
    run = await world.start()
    pending = (await world.owed())[0]
    world.provider.state["resp_1"] = asks("resp_1", "pay")
    await world.drive(1)
    assert (await world.run(run.id)).continuation.response_id == "resp_2"
    for late in (Absent(), later("429", timedelta(minutes=4))):
        world.provider.state["resp_1"] = late
        before = await world.run(run.id)
        await poll(world.context, pending)
        assert await world.run(run.id) == before


async def test_an_expired_run_whose_row_is_broken_is_not_read_at_the_provider(world):
    run = await world.start(deadline=timedelta(minutes=1))
    row = await world.table.get(run.id[4:6], f"run|{run.id}")
    world.table._partitions[run.id[4:6]][row.key] = replace(row, values={**row.values, "status": "gibberish"})
    world.clock.pass_(120)
    for _ in range(5):
        world.clock.pass_(5)
        await tick(world.context, 5)
    assert world.provider.reads == []


async def test_one_broken_run_does_not_hide_the_others_from_a_list(world):
    runs = [await world.start() for _ in range(3)]
    row = await world.table.get(runs[1].id[4:6], f"run|{runs[1].id}")
    broken = replace(row, values={**row.values, "due": "gibberish"})
    world.table._partitions[runs[1].id[4:6]][row.key] = broken
    found, _ = await list_runs(world.context, CALLER, Listing(limit=10))
    assert {run.id for run in found} == {runs[0].id, runs[2].id}


async def test_every_unsaved_result_is_tried_again(world):
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "pay", "pay", "pay"), "resp_2": answer("resp_2")}
    [run_id] = await world.tick()
    commit, faults = world.context.runs.commit, [StorageUnavailable("busy")] * 4

    async def fails(before, after, entries, *, results=(), answers=(), deliveries=()):
        if results and faults:
            raise faults.pop()
        return await commit(before, after, entries, results=results, answers=answers, deliveries=deliveries)

    world.context.runs.commit = fails
    with pytest.raises(StorageUnavailable):
        await work.work(world.context, run_id)
    statuses = [call.status for call in (await world.run(run.id)).calls]
    assert statuses.count(CallStatus.COMPLETED) == 2


async def test_a_call_is_not_started_before_its_arguments_can_be_read(world):
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "pay"), "resp_2": answer("resp_2")}
    [run_id] = await world.tick()
    load = world.context.content.load

    async def fails(*_args, **_kwargs):
        raise StorageUnavailable("busy")

    world.context.content.load = fails
    with pytest.raises(StorageUnavailable):
        await work.work(world.context, run_id)
    world.context.content.load = load
    done = await world.until_terminal(run.id)
    assert [call.status for call in done.calls] == [CallStatus.COMPLETED]


async def test_a_create_that_answers_with_an_earlier_response_counts_nothing_twice(world):
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "pay"), "resp_3": answer("resp_3")}
    world.provider.create_replies = [Snapshot(response_id="resp_1", status=ResponseStatus.QUEUED)]
    done = await world.until_terminal(run.id)
    assert done.responses == ("resp_1", "resp_3")
    assert set(world.agents.runs.values()) == {1}


async def test_an_agent_that_is_gone_does_not_hide_the_run_of_a_repeated_start(world):
    run = await world.start(idempotency_key="k", fingerprint="a")
    world.agents.spec = lambda _name: None
    assert (await world.start(idempotency_key="k", fingerprint="a")).id == run.id


@pytest.mark.parametrize("late", [False, True])
async def test_an_abandoned_response_is_forgotten_with_its_run(world, late):
    create = world.provider.create

    async def slow(request):
        world.provider.create = create
        reply = await create(request)
        [pending] = await world.owed()
        world.clock.pass_(600)
        await work.work(world.context, pending.run_id)
        if late:
            await delete_run(world.context, CALLER, pending.run_id)
            await world.drive(100, 10)
        return reply

    world.provider.create = slow
    run = await world.start()
    if not late:
        await delete_run(world.context, CALLER, run.id)
    await world.drive(100, 10)
    assert set(world.provider.deletes) == {"resp_1", "resp_2"}
    assert (await world.run(run.id)).step is Step.NOTHING
