"""Providers that ignore the background mode, providers that are gone, and sessions that change their provider."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.core.delivery import CancelResponse
from shared.core.kept import kept_snapshot, kept_text
from shared.core.life import events
from shared.core.life.advance import advance
from shared.core.life.birth import Accepted, accept
from shared.core.life.creating import MAX_TIMED_OUT_CREATES, verdict
from shared.core.life.polling import MISSING_GRACE
from shared.core.life.session import session_change
from shared.core.response import (
    Absent,
    NotNow,
    Refused,
    ResponseStatus,
    RunError,
    Snapshot,
    Usage,
)
from shared.core.run import DEFAULT_PROVIDER, Chaining, Content, Lease, RunStatus, Step
from shared.steps.transition import apply
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run
from tests.support.client import Client
from tests.support.fakes import FakeProvider, answer, asks, later
from tests.support.log_lines import logged
from tests.support.runs import NOW, a_run, a_session
from tests.support.world import CALLER, World

LEASE = Lease("mine", NOW + timedelta(seconds=60))
# Compressed, it does not fit into the row of the run.
LONG = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(9_000))


def slow() -> NotNow:
    return later("no reply", code="provider_unreachable", unknown=True, timed_out=True)


def finished_at_once(world: World, *replies: Snapshot) -> None:
    """Let the provider answer creates with finished responses, and then not know them."""
    world.provider.create_replies = [*replies]
    world.provider.state |= {reply.response_id: Absent() for reply in replies}
    world.provider.cancel_replies |= {reply.response_id: Absent() for reply in replies}


def text_of(run_output: str) -> str:
    return json.loads(run_output)[0]["content"][0]["text"]


# A finished reply to a create


@pytest.mark.parametrize("text", ["done", LONG])
async def test_a_finished_reply_to_a_create_is_the_answer_when_it_cannot_be_read_back(world, caplog, text):
    finished_at_once(world, answer("resp_1", text))
    run = await world.start()
    done = await world.until_terminal(run.id)
    assert (done.status, done.usage.total_tokens) == (RunStatus.COMPLETED, 20)
    assert text_of(await world.context.content.load(done.id, done.turns[0])) == text
    assert (done.kept, done.missing_since, done.waiting) == (None, None, None)
    assert done.completed_at - done.created_at < MISSING_GRACE
    [line] = logged(caplog, "provider.background_ignored")
    assert line.fields == {"provider": "default", "run_id": run.id, "turn": 1}
    left = await world.content_table.query(run.id, "", "~")
    assert not [row.key for row in left if row.key.startswith("kept-")]


async def test_a_provider_that_works_at_once_and_keeps_its_responses_is_read_as_ever(world, caplog):
    world.provider.create_replies = [answer("resp_1", "of the create")]
    world.provider.state["resp_1"] = answer("resp_1", "of the read")
    run = await world.start(stream=False)
    done = await world.until_terminal(run.id)
    assert text_of(await world.context.content.load(done.id, done.turns[0])) == "of the read"
    assert (done.unread, done.chaining) == (False, Chaining.PREVIOUS_RESPONSE_ID)
    assert len(logged(caplog, "provider.background_ignored")) == 1
    await world.start(session_id=run.session_id)
    assert world.provider.creates[1].previous_response_id == "resp_1"


async def test_a_create_in_the_background_keeps_nothing(world, caplog):
    world.provider.state["resp_1"] = answer("resp_1")
    run = await world.start()
    assert run.kept is None
    assert not (await world.until_terminal(run.id)).background_ignored
    assert not logged(caplog, "provider.background_ignored")
    health = (await Client(world.context).get("/health")).json
    assert health["background_ignored_on_host"] == 0


async def test_turns_after_one_that_cannot_be_read_replay_the_conversation(world, caplog):
    finished_at_once(world, asks("resp_1", "look_up"), answer("resp_2", "found"))
    run = await world.start()
    done = await world.until_terminal(run.id)
    assert (done.status, done.turn, done.unread) == (RunStatus.COMPLETED, 2, True)
    assert world.agents.runs == {"call_resp_1_0": 1}
    assert [create.previous_response_id for create in world.provider.creates] == [None, None]
    second = json.loads(world.provider.creates[1].input)
    assert [item.get("type", "message") for item in second] == [
        "message",
        "function_call",
        "function_call_output",
    ]
    assert len(logged(caplog, "provider.background_ignored")) == 1
    assert (await Client(world.context).get("/health")).json["background_ignored_on_host"] == 1
    # So does the next run: a provider that keeps no responses might ignore the name of one.
    await world.start(session_id=run.session_id)
    assert world.provider.creates[2].previous_response_id is None
    assert "found" in world.provider.creates[2].input


@pytest.mark.parametrize(
    "reply",
    [
        replace(answer("resp_1"), status=ResponseStatus.FAILED, error=RunError("server_error", "no", "x")),
        replace(answer("resp_1"), status=ResponseStatus.INCOMPLETE, incomplete_reason="max_output_tokens"),
        replace(answer("resp_1", "{}"), usage=Usage(1, 2, 3, 1, 1)),
        asks("resp_1", "pay", "look_up"),
    ],
)
def test_a_kept_reply_is_read_as_it_was(reply):
    assert kept_snapshot(kept_text(reply)) == reply


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"status": "lost"}', '{"status": "failed"}', "[" * 9999]
)
def test_a_broken_kept_reply_is_none(text):
    assert kept_snapshot(text) is None


async def test_a_run_whose_kept_reply_is_broken_ends_like_one_without(world):
    finished_at_once(world, answer("resp_1"))
    run = await world.start()
    stored = await world.context.runs.read(run.id)
    broken = await world.context.content.save(run.id, "broken", "{}")
    await world.context.runs.commit(stored, replace(stored.run, kept=broken, rev=stored.run.rev + 1))
    done = await world.until_terminal(run.id)
    assert (done.status, done.error.code) == (RunStatus.FAILED, "background_unsupported")


async def test_the_answer_is_not_lost_when_the_process_dies_after_the_create(world):
    """Nothing but the stored rows is left."""
    finished_at_once(world, answer("resp_1", LONG))
    run = await world.start()
    again = World(world.provider)
    again.table.__dict__ |= world.table.__dict__
    again.content_table.__dict__ |= world.content_table.__dict__
    again.clock.at = world.clock.at
    assert (await again.until_terminal(run.id)).status is RunStatus.COMPLETED


async def test_a_finished_answer_counts_although_the_run_is_cancelled_meanwhile(world):
    finished_at_once(world, answer("resp_1"))
    run = await world.start()
    cancelled = (await cancel(world.context, CALLER, run.id)).stored.run
    assert cancelled.status is RunStatus.COMPLETED


async def test_a_finished_answer_counts_at_the_deadline(world):
    finished_at_once(world, answer("resp_1"))
    world.provider.state["resp_1"] = later("still down")
    run = await world.start()
    await world.drive(1, 31 * 60)
    assert (await world.run(run.id)).status is RunStatus.COMPLETED


async def test_a_repeated_create_may_find_a_response_that_has_finished(world, caplog):
    """A provider that honours keys answers the second create with the response of the first."""
    world.provider.create_replies = [later("cut", unknown=True), answer("resp_1")]
    world.provider.state["resp_1"] = answer("resp_1")
    run = await world.start()
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED
    assert not logged(caplog, "provider.background_ignored")


# What was not finished and cannot be read


async def test_a_response_that_can_never_be_read_says_what_to_declare(world):
    world.provider.state["resp_1"] = Absent()
    run = await world.start()
    done = await world.until_terminal(run.id)
    assert (done.status, done.error.code) == (RunStatus.FAILED, "background_unsupported")
    assert "declare it as ChatCompletions" in done.error.message
    assert done.completed_at - done.created_at >= MISSING_GRACE


async def test_a_response_that_was_there_is_not_a_missing_background_mode(world):
    run = await world.start()
    await world.drive(30, 5)
    world.provider.state["resp_1"] = Absent()
    done = await world.until_terminal(run.id)
    assert done.error.code == "response_not_found"


async def test_a_response_of_a_later_turn_is_not_a_missing_background_mode(world):
    world.provider.state |= {"resp_1": asks("resp_1", "pay"), "resp_2": Absent()}
    done = await world.until_terminal((await world.start()).id)
    assert (done.turn, done.error.code) == (2, "response_not_found")


# Creates without a reply in time


async def test_a_second_create_without_a_reply_in_time_ends_the_run(world):
    world.provider.create_replies = [slow(), slow(), answer("resp_3")]
    run = await world.start()
    done = await world.until_terminal(run.id)
    assert (done.status, done.error.code) == (RunStatus.FAILED, "background_unsupported")
    assert "declare it as ChatCompletions" in done.error.message
    assert len(world.provider.creates) == MAX_TIMED_OUT_CREATES == 2
    assert done.unknown_creates == 2


@pytest.mark.parametrize(
    "replies",
    [
        [slow(), later("cut", unknown=True), later("cut", unknown=True)],
        [later("503"), slow(), later("429")],
    ],
)
async def test_one_create_without_a_reply_in_time_is_repeated(world, replies):
    world.provider.create_replies, number = [*replies], len(replies) + 1
    run = await world.start()
    world.provider.state[f"resp_{number}"] = answer(f"resp_{number}")
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED


async def test_a_provider_with_background_mode_may_be_slow_as_often_as_it_likes(world):
    """One response at work was read, by whichever run of this process."""
    first = await world.start()
    await world.drive(2)
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(first.id)
    world.provider.create_replies = [slow() for _ in range(5)]
    run = await world.start()
    world.provider.state["resp_7"] = answer("resp_7")
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED


def test_the_count_begins_again_with_each_turn():
    reply = NotNow(RunError("provider_unreachable", "no"), unknown=True, timed_out=True)
    assert verdict(a_run(), reply) == reply
    assert verdict(a_run(responses=("resp_1",)), reply).timed_out is False
    assert verdict(a_run(responses=("resp_1",), background_ignored=True), reply) == reply
    owing = a_run(lease=LEASE, due=LEASE.expires_at, timed_out_creates=1)
    snapshot = Snapshot(response_id="resp_1", status=ResponseStatus.QUEUED)
    assert advance(owing, events.Created("mine", snapshot), NOW)[0].timed_out_creates == 0
    cancelling = replace(owing, status=RunStatus.CANCELLING)
    deferred = events.CreateDeferred("mine", NOW, reply.error, unknown=True, timed_out=True)
    assert advance(cancelling, deferred, NOW)[0].status is RunStatus.CANCELLED


# Providers that are gone


async def gone(world: World, **changes: object):
    """Return a run at a provider that the app does not have any more, with the world without it."""
    far = FakeProvider()
    world.agents.changes = {"provider": "far"}
    run = await World.start(with_providers(world, far=far), **changes)
    with_providers(world)
    return run, far


def with_providers(world: World, **further: FakeProvider) -> World:
    world.context = replace(world.context, providers={DEFAULT_PROVIDER: world.provider, **further})
    return world


async def test_a_pending_run_whose_provider_is_gone_ends_with_a_clear_code(world):
    run, far = await gone(world)
    assert (run.provider, len(far.creates)) == ("far", 1)
    await world.drive(1)
    waiting = await world.run(run.id)
    assert (waiting.terminal, waiting.waiting.error.code) == (False, "provider_gone")
    done = await world.until_terminal(run.id)
    assert (done.status, done.error.code) == (RunStatus.FAILED, "provider_gone")
    assert "'far'" in done.error.message
    assert done.completed_at - done.created_at < timedelta(minutes=3)
    assert (world.provider.reads, world.provider.creates) == ([], [])


async def test_a_host_that_has_the_provider_still_goes_on_with_the_run(world):
    """While an app is deployed, hosts of both versions poll."""
    run, far = await gone(world)
    await world.drive(2)
    with_providers(world, far=far)
    await world.drive(1)
    assert (await world.run(run.id)).missing_since is None
    far.state["resp_1"] = answer("resp_1")
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED


async def test_a_run_that_is_owed_a_create_by_a_provider_that_is_gone_fails(world):
    far = FakeProvider(create_replies=[later("503")])
    world.agents.changes = {"provider": "far"}
    run = await with_providers(world, far=far).start()
    world.agents.changes = {"provider": "far", "missing_settings": ("FAR_KEY",)}
    done = await with_providers(world).until_terminal(run.id)
    assert (done.status, done.error.code) == (RunStatus.FAILED, "provider_gone")


async def test_a_run_of_a_provider_that_is_gone_can_be_cancelled_and_deleted(world, caplog):
    run, _ = await gone(world)
    await cancel(world.context, CALLER, run.id)
    assert (await world.until_terminal(run.id)).status is RunStatus.CANCELLED
    await delete_run(world.context, CALLER, run.id)
    await world.drive(3, 1000)
    assert (await world.run(run.id)).step is Step.NOTHING
    kept = logged(caplog, "response.kept")
    assert {line.fields["response_id"] for line in kept} == {"resp_1"}


async def test_the_cancellation_of_a_response_at_a_provider_that_is_gone_is_given_up(world, caplog):
    run, _ = await gone(world)
    stored = await world.context.runs.read(run.id)
    late = Snapshot(response_id="resp_9", status=ResponseStatus.QUEUED)
    applied = await apply(world.context, stored, events.Created("of somebody else", late))
    assert [effect.content for effect in applied.effects] == [CancelResponse("far", "resp_9")]
    await world.drive(40, 5)
    assert await world.table.query(run.id[4:6], "delivery|", "delivery}") == []
    [line] = logged(caplog, "response.abandoned")
    assert (line.fields["response_id"], line.fields["stopped"]) == ("resp_9", False)


# Sessions that change the provider


def accepted(session, provider: str) -> Accepted:
    return Accepted(
        run_id="run_x",
        session=session,
        provider=provider,
        input=Content(),
        lease=LEASE,
        max_turns=3,
        deadline=timedelta(minutes=1),
        chaining=Chaining.PREVIOUS_RESPONSE_ID,
    )


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (DEFAULT_PROVIDER, DEFAULT_PROVIDER, "resp_1"),
        ("far", "far", "resp_1"),
        (DEFAULT_PROVIDER, "far", None),
        ("far", DEFAULT_PROVIDER, None),
    ],
)
def test_a_run_names_a_response_of_its_own_provider_only(before, after, named):
    session = a_session(a_run(), held_by=None, last_response_id="resp_1", provider=before)
    run, held, _ = accept(accepted(session, after), NOW)
    assert run.previous_response_id == held.last_response_id == named
    assert run.chaining is (Chaining.PREVIOUS_RESPONSE_ID if named else Chaining.REPLAY)
    assert (run.provider, held.provider) == (after, after)


async def test_a_session_that_changes_its_provider_carries_its_items_over(world):
    far = FakeProvider(state={"resp_1": answer("resp_1", "from afar")})
    with_providers(world, far=far)
    world.provider.state["resp_1"] = answer("resp_1", "from here")
    first = await world.until_terminal((await world.start()).id)
    row = await world.table.get(first.id[4:6], f"session|{first.session_id}")
    assert "provider" not in row.values

    world.agents.changes = {"provider": "far"}
    second = await world.start(session_id=first.session_id)
    assert far.creates[0].previous_response_id is None
    assert "from here" in far.creates[0].input
    await world.until_terminal(second.id)
    # At the same provider, the chain goes on there.
    third = await world.start(session_id=first.session_id)
    assert far.creates[1].previous_response_id == "resp_1"
    far.state["resp_2"] = replace(answer("resp_2"), status=ResponseStatus.FAILED)
    await world.until_terminal(third.id)

    world.agents.changes = {}
    await world.start(session_id=first.session_id)
    back = world.provider.creates[1]
    assert back.previous_response_id is None
    assert [text in back.input for text in ("from here", "from afar")] == [True, True]


async def test_a_file_that_another_provider_has_is_not_named_to_the_next_one(world):
    far = FakeProvider(state={"resp_1": answer("resp_1")})
    with_providers(world, far=far)
    asked = [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]
    first = await world.start(input=json.dumps(asked))
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(first.id)
    world.agents.changes = {"provider": "far"}
    second = await world.start(
        session_id=first.session_id, input=json.dumps(asked).replace("file_1", "file_2")
    )
    assert "file_1" not in far.creates[0].input
    # What the client sends with the run itself is sent.
    assert "file_2" in far.creates[0].input
    await world.until_terminal(second.id)
    world.agents.changes = {}
    await world.start(session_id=first.session_id)
    back = world.provider.creates[1].input
    assert ["file_1" in back, "file_2" in back] == [True, False]


async def test_each_response_is_deleted_at_its_own_provider(world):
    far = FakeProvider(state={"resp_1": answer("resp_1")})
    world.agents.changes = {"provider": "far"}
    run = await with_providers(world, far=far).start()
    await world.until_terminal(run.id)
    await delete_run(world.context, CALLER, run.id)
    assert (far.deletes, world.provider.deletes) == (["resp_1"], [])


def test_a_session_names_no_response_that_could_not_be_read():
    before = a_run(status=RunStatus.IN_PROGRESS, step=Step.POLL, responses=("resp_1",))
    done = replace(
        before, status=RunStatus.COMPLETED, step=Step.NOTHING, previous_response_id="resp_1", unread=True
    )
    assert session_change(before, done).last_response_id == ""
    assert session_change(before, replace(done, unread=False)).last_response_id == "resp_1"


def test_a_refusal_of_a_provider_that_is_gone_is_not_taken_for_a_broken_chain():
    assert verdict(a_run(), Refused(RunError("provider_gone", "x"))) == Refused(
        RunError("provider_gone", "x")
    )
