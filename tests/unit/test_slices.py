"""Polls in slices of a stream, over memory tables: what is stored and logged, and what follows when a stream breaks."""

import asyncio
import logging
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from shared.core.calls import CallStatus
from shared.core.response import (
    Absent,
    ItemCompleted,
    ItemStarted,
    NoStream,
    ResponseStatus,
    RunError,
    Slice,
    SliceReply,
    Snapshot,
    TextAdded,
)
from shared.core.run import Owed, Run, RunStatus, Step
from shared.core.transcript import output_text
from shared.errors import NotFound, StorageUnavailable
from shared.steps.poll import poll
from shared.steps.settle import settle
from shared.steps.slices import keep, streamed_text
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run
from shared.usecases.read import output_of
from tests.support.fakes import FakeProvider, Seeded, answer, asks, later
from tests.support.feeds import Reader, follow
from tests.support.runs import NOW
from tests.support.stream_samples import REFERENCES, damaged, random_stream
from tests.support.streams import INTERPRETER, Stream, as_received
from tests.support.world import CALLER, World, stores

AT_WORK = ResponseStatus.IN_PROGRESS


def a_slice(text: str, after: int, sequence: int | None = None, **fields) -> Slice:
    changes = (TextAdded(0, text),) if text else ()
    found = Slice(response_id="resp_1", after=after, sequence=after + 1, changes=changes, status=AT_WORK)
    return replace(found, **{"sequence": sequence or after + 1, **fields})


def item(text: str, after: int) -> Slice:
    """Return a slice in which a message starts and has some text."""
    found = a_slice(text, after)
    added = (TextAdded(None, text),) if text else ()
    return replace(found, changes=(ItemStarted(None, "message"), *added))


def at(run: Run) -> int | None:
    """Return the event up to which the stream of the run's response is stored."""
    return run.continuation.sequence if run.continuation else None


# The log of a message whose text came at once.
STARTED = ["item.started", "part.started", "text.delta"]
ENDED = ["part.completed", "item.completed"]


async def output(world: World, run_id: str) -> str:
    return output_text(await output_of(world.context, await world.run(run_id)) or "")


async def turn_output(world: World, run_id: str, turn: int) -> str:
    return await world.context.content.load(run_id, (await world.run(run_id)).turns[turn - 1])


async def owed(world: World) -> Owed:
    [one] = await world.owed()
    return one


async def sliced(world: World, run, *replies: SliceReply) -> None:
    """Poll once for each reply."""
    for reply in replies:
        world.provider.slice_replies = [reply]
        if isinstance(reply, Slice) and reply.final:
            world.provider.state[reply.response_id] = reply.final
        await poll(world.context, await owed(world))
        assert world.provider.slice_replies == []


async def test_a_run_is_read_slice_by_slice_to_its_end(world):
    run = await world.start(stream=True)
    assert [request.stream for request in world.provider.creates] == [True]
    reader = Reader()
    for number, text in enumerate(["Once ", "", "upon a time"]):
        await sliced(world, run, item(text, number))
        await follow(world, run.id, reader)
    assert reader.text == "Once upon a time"
    stored = await world.run(run.id)
    assert (stored.written, stored.items, stored.activity) == (16, 3, "writing")
    await sliced(world, run, a_slice("", 3, sequence=3, final=answer("resp_1", "Once upon a time.")))
    await follow(world, run.id, reader)
    assert reader.text == "Once upon a time." == await output(world, run.id)
    assert reader.types == [
        "run.queued",
        "turn.started",
        "run.in_progress",
        *STARTED,
        "item.started",
        *STARTED,
        "text.delta",
        *ENDED,
        "item.completed",
        *ENDED,
        "run.completed",
    ]
    assert world.provider.slices == [("resp_1", after) for after in range(4)]
    assert world.provider.reads == []


async def test_a_run_that_is_not_streamed_is_never_sliced(world):
    run = await world.start()
    world.provider.state["resp_1"] = answer("resp_1", "Once upon a time.")
    await world.until_terminal(run.id)
    assert [request.stream for request in world.provider.creates] == [False]
    assert world.provider.slices == []
    assert (await follow(world, run.id)).types[-6:] == [*STARTED, *ENDED, "run.completed"]


@pytest.mark.parametrize(
    ("agent", "asked", "streams"), [(True, None, True), (True, False, False), (False, True, True)]
)
async def test_the_agent_decides_whether_to_stream_unless_the_client_does(world, agent, asked, streams):
    spec = world.agents.spec
    world.agents.spec = lambda name: replace(spec(name), stream=agent)
    run = await world.start(stream=asked)
    assert (run.stream, world.provider.creates[0].stream) == (streams, streams)


async def test_streams_are_polled_more_often_than_other_responses(world):
    for streams in (True, False):
        await world.start(stream=streams)
    for _ in range(60):
        await world.tick(10)
    assert len(world.provider.slices) > 55
    # The same read follows an empty slice and belongs to a response without a stream.
    counts = Counter(world.provider.reads)
    assert counts["resp_2"] < counts["resp_1"] / 1.4


# Two pollers of one stream.


@pytest.mark.parametrize("first", ["short", "long", "same"])
async def test_of_two_slices_from_the_same_place_one_is_kept(world, first):
    run = await world.start(stream=True)
    one = await owed(world)
    short, long = a_slice("Once ", 0), a_slice("Once upon", 0, sequence=2)
    world.provider.slice_replies = {"short": [short, long], "long": [long, short], "same": [short, short]}[
        first
    ]
    await poll(world.context, one)
    before = await world.run(run.id)
    await poll(world.context, one)
    assert await world.run(run.id) == before
    reader = await follow(world, run.id)
    assert reader.text == ("Once upon" if first == "long" else "Once ")
    assert reader.types.count("text.delta") == 1


async def test_a_slice_that_loses_a_race_changes_nothing(world):
    run = await world.start(stream=True)
    stored = await world.context.runs.read(run.id)
    assert (await keep(world.context, stored, a_slice("Once ", 0))).changed
    assert not (await keep(world.context, stored, a_slice("Twice ", 0))).changed
    # The text of the dropped slice is stored; nothing points to it.
    assert len(await world.content_table.query(run.id, "slice-", "slice-~")) == 2
    assert (await follow(world, run.id)).text == "Once "
    fresh = await world.context.runs.read(run.id)
    assert await streamed_text(world.context, fresh.run) == "Once "
    assert (await keep(world.context, fresh, a_slice("upon a time", 1))).changed
    assert (await follow(world, run.id)).text == "Once upon a time"
    await settle(world.context, fresh, answer("resp_1", "Once upon a time"))
    await settle(world.context, await world.context.runs.read(run.id), answer("resp_1", "Once upon a time"))
    assert (await follow(world, run.id)).replaced == 0


async def test_an_answer_is_compared_again_when_a_slice_was_stored_meanwhile(world):
    run = await world.start(stream=True)
    stored = await world.context.runs.read(run.id)
    final = world.provider.state["resp_1"] = answer("resp_1", "The end.")
    await keep(world.context, stored, a_slice("Once ", 0))
    applied = await settle(world.context, stored, final)
    assert not applied.changed
    world.provider.slice_replies = [a_slice("", 1, sequence=1, final=final)]
    await world.until_terminal(run.id)
    reader = await follow(world, run.id)
    assert (reader.text, reader.replaced) == ("The end.", 1)
    assert len(await world.content_table.query(run.id, "turn-", "turn-~")) == 0


# Streams with faults.


@pytest.mark.parametrize(
    "gap", [a_slice("", 1, sequence=1, complete=False), NoStream()], ids=["gap", "refused"]
)
async def test_after_a_lost_stream_the_run_is_polled_without_stream(world, gap):
    run = await world.start(stream=True)
    await sliced(world, run, a_slice("Once ", 0), gap)
    stored = await world.run(run.id)
    assert (at(stored), stored.written, stored.status) == (None, 5, RunStatus.IN_PROGRESS)
    assert world.provider.reads == ["resp_1"]
    await world.drive(3)
    assert len(world.provider.slices) == 2
    world.provider.state["resp_1"] = answer("resp_1", "Once upon a time")
    await world.until_terminal(run.id)
    reader = await follow(world, run.id)
    assert (reader.text, reader.replaced, reader.types.count("text.delta")) == ("Once upon a time", 0, 2)


async def test_a_slice_before_a_gap_is_kept_and_the_next_one_loses_the_stream(world):
    run = await world.start(stream=True)
    await sliced(world, run, a_slice("Once ", 0, complete=False))
    assert at(await world.run(run.id)) == 1
    assert world.provider.reads == []
    await sliced(world, run, a_slice("", 1, sequence=1, complete=False))
    stored = await world.run(run.id)
    assert (stored.continuation.response_id, at(stored)) == ("resp_1", None)


async def test_a_lost_stream_whose_response_is_finished_ends_at_once(world):
    run = await world.start(stream=True)
    world.provider.state["resp_1"] = answer("resp_1", "Once upon a time")
    await sliced(world, run, NoStream())
    assert (await world.run(run.id)).status is RunStatus.COMPLETED
    assert (await follow(world, run.id)).text == "Once upon a time"


@pytest.mark.parametrize("reply", [Absent(), later("HTTP 503")])
async def test_a_stream_is_kept_while_the_response_cannot_be_read(world, reply):
    run = await world.start(stream=True)
    world.provider.state["resp_1"] = reply
    await sliced(world, run, NoStream())
    assert at(await world.run(run.id)) == 0
    del world.provider.state["resp_1"]
    await sliced(world, run, a_slice("Once", 0))
    stored = await world.run(run.id)
    assert (at(stored), stored.missing_since) == (1, None)


async def test_an_empty_slice_is_followed_by_a_complete_read(world):
    run = await world.start(stream=True)
    await world.drive(3)
    assert len(world.provider.slices) == len(world.provider.reads) == 3
    stored = await world.run(run.id)
    assert (at(stored), stored.status) == (0, RunStatus.IN_PROGRESS)
    world.provider.state["resp_1"] = answer("resp_1", "Once upon a time")
    await world.drive()
    assert (await world.run(run.id)).status is RunStatus.COMPLETED


async def test_a_stream_that_never_ends_is_ended_by_the_deadline(world):
    run = await world.start(stream=True, deadline=timedelta(minutes=5))
    while not (stored := await world.run(run.id)).terminal:
        world.provider.slice_replies = [a_slice("more ", at(stored))]
        await world.tick()
    assert stored.status is RunStatus.EXPIRED
    assert stored.completed_at - run.expires_at < timedelta(seconds=10)
    assert len(world.provider.slices) > 50
    reader = await follow(world, run.id)
    assert (reader.text, reader.types[-4:]) == ("", [*ENDED, "text.replaced", "run.expired"])


async def test_a_stream_that_keeps_failing_is_followed_by_complete_reads(world):
    run = await world.start(stream=True)
    await sliced(world, run, later("HTTP 502"))
    assert world.provider.reads == ["resp_1"]
    # The fault may pass.
    assert at(await world.run(run.id)) == 0
    world.provider.state["resp_1"] = answer("resp_1", "Once upon a time")
    await sliced(world, run, later("no answer: TimeoutError"))
    assert (await world.run(run.id)).status is RunStatus.COMPLETED


async def test_a_retry_after_of_a_slice_is_respected(world):
    run = await world.start(stream=True)
    await sliced(world, run, later("HTTP 429", timedelta(seconds=60)))
    assert world.provider.reads == []
    assert (await world.run(run.id)).due == world.clock.now() + timedelta(seconds=60)


async def test_a_provider_that_does_not_stream_answers_with_the_response(world):
    run = await world.start(stream=True)
    await sliced(world, run, Snapshot(response_id="resp_1", status=AT_WORK))
    assert (await world.run(run.id)).status is RunStatus.IN_PROGRESS
    await sliced(world, run, answer("resp_1", "Once upon a time"))
    assert (await world.run(run.id)).status is RunStatus.COMPLETED
    assert world.provider.reads == []


async def test_a_response_created_without_a_stream_is_read_completely(world):
    world.provider.create_replies = [lambda: Snapshot(response_id="resp_1", status=AT_WORK)]
    run = await world.start(stream=True)
    await world.drive(2)
    assert world.provider.slices == []
    world.provider.state["resp_1"] = answer("resp_1")
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED


# The end decides.


@pytest.mark.parametrize(
    ("last", "replaced"),
    [("Once upon a time", 0), ("Once ", 0), ("Once", 1), ("once upon a time", 1)],
)
async def test_the_finished_response_decides_the_text(world, last, replaced, caplog):
    run = await world.start(stream=True)
    await sliced(world, run, a_slice("On", 0), a_slice("ce ", 1))
    with caplog.at_level(logging.WARNING):
        await sliced(world, run, a_slice("", 2, sequence=2, final=answer("resp_1", last)))
    reader = await follow(world, run.id)
    assert (reader.text, reader.replaced) == (last, replaced)
    assert await output(world, run.id) == last
    assert ("text.replaced" in caplog.text) == bool(replaced)
    assert "once" not in caplog.text.lower()


@pytest.mark.parametrize(
    "status", [ResponseStatus.FAILED, ResponseStatus.CANCELLED, ResponseStatus.INCOMPLETE]
)
async def test_text_of_a_response_that_ends_without_any_is_kept(world, status):
    run = await world.start(stream=True)
    ended = Snapshot(response_id="resp_1", status=status, error=RunError("a", "b"))
    await sliced(world, run, a_slice("Once ", 0), a_slice("", 1, sequence=1, final=ended))
    reader = await follow(world, run.id)
    assert (reader.text, reader.replaced, await output(world, run.id)) == ("Once ", 0, "Once ")
    assert (await world.run(run.id)).status == status.value
    assert world.provider.reads == ["resp_1"]


async def test_a_run_that_expires_keeps_no_partial_text(world):
    run = await world.start(stream=True, deadline=timedelta(minutes=5))
    await sliced(world, run, a_slice("Once ", 0))
    slices = len(world.provider.slices)
    world.clock.pass_(301)
    await world.drive(2)
    assert (await world.run(run.id)).status is RunStatus.EXPIRED
    assert len(world.provider.slices) == slices
    reader = await follow(world, run.id)
    assert (reader.text, await output(world, run.id)) == ("", "")
    assert reader.types[-4:] == [*ENDED, "text.replaced", "run.expired"]


async def test_a_finished_answer_at_the_deadline_still_counts(world):
    run = await world.start(stream=True, deadline=timedelta(minutes=5))
    await sliced(world, run, a_slice("Once ", 0))
    world.provider.state["resp_1"] = answer("resp_1", "Once upon a time")
    world.clock.pass_(301)
    await world.drive(2)
    reader = await follow(world, run.id)
    assert (reader.text, reader.replaced, reader.types[-1]) == ("Once upon a time", 0, "run.completed")


# Cancelling and deleting.


@pytest.mark.parametrize(("output_at_cancel", "text"), [("", "Once "), ("Once upon", "Once upon")])
async def test_a_run_cancelled_while_it_writes_has_the_text_of_its_response(world, output_at_cancel, text):
    run = await world.start(stream=True)
    await sliced(world, run, a_slice("Once ", 0))
    cancelled = replace(answer("resp_1", output_at_cancel), status=ResponseStatus.CANCELLED)
    world.provider.cancel_replies["resp_1"] = cancelled
    await cancel(world.context, CALLER, run.id)
    reader = await follow(world, run.id)
    assert (await world.run(run.id)).status is RunStatus.CANCELLED
    assert reader.text == text == await output(world, run.id)


async def test_a_run_that_is_being_cancelled_is_read_completely(world):
    run = await world.start(stream=True)
    await sliced(world, run, a_slice("Once ", 0))
    world.provider.cancel_replies["resp_1"] = Snapshot(response_id="resp_1", status=AT_WORK)
    await cancel(world.context, CALLER, run.id)
    world.provider.slice_replies = [a_slice("upon", 1)]
    await world.drive()
    assert (await world.run(run.id)).status is RunStatus.CANCELLING
    assert len(world.provider.slice_replies) == 1
    world.provider.state["resp_1"] = answer("resp_1", "Once upon a time")
    await world.until_terminal(run.id)
    assert (await follow(world, run.id)).text == "Once upon a time"


async def test_a_slice_that_arrives_after_a_cancellation_is_dropped(world):
    run = await world.start(stream=True)
    one = await owed(world)
    world.provider.cancel_replies["resp_1"] = Snapshot(response_id="resp_1", status=AT_WORK)
    world.provider.slice_replies = [a_slice("Once ", 0)]
    slice_ = world.provider.slice

    async def while_cancelled(*asked, **options):
        await cancel(world.context, CALLER, run.id)
        return await slice_(*asked, **options)

    world.provider.slice = while_cancelled
    await poll(world.context, one)
    assert (await follow(world, run.id)).types[-1] == "run.cancelling"


async def test_a_slice_that_arrives_after_a_deletion_is_dropped_and_purged(world):
    run = await world.start(stream=True)
    await sliced(world, run, a_slice("Once ", 0))
    stored = await world.context.runs.read(run.id)
    await delete_run(world.context, CALLER, run.id)
    assert not (await keep(world.context, stored, a_slice("upon", 1))).changed
    applied = await settle(world.context, stored, answer("resp_1", "Once upon a time"))
    assert applied.stored.run.status is RunStatus.DELETED
    with pytest.raises(NotFound):
        await follow(world, run.id)
    await world.drive(10, 120)
    assert await world.content_table.query(run.id, "", "~") == []
    assert await world.table.query(run.id[4:6], "event|", "event}") == []


# Tools over several turns.


async def test_several_turns_with_tools_have_their_texts(world):
    run = await world.start(stream=True)
    reader = Reader()
    calls = {n: asks(f"resp_{n}", "pay", "look_up") for n in (1, 2)}
    for turn in (1, 2):
        preface = f"Turn {turn}: "
        await sliced(world, run, replace(a_slice(preface, 0), response_id=f"resp_{turn}"))
        assert (await follow(world, run.id, reader)).text == preface
        final = replace(a_slice("", 1, sequence=1, final=calls[turn]), response_id=f"resp_{turn}")
        world.provider.slice_replies, world.provider.state[f"resp_{turn}"] = [final], calls[turn]
        await world.drive()
        # The finished response has no text, so that of the stream is kept. The next turn has begun.
        assert (await follow(world, run.id, reader)).text == ""
        assert output_text(await turn_output(world, run.id, turn)) == preface
        assert (await world.run(run.id)).turn == turn + 1
        assert at(await world.run(run.id)) == 0
    await sliced(world, run, replace(a_slice("The end", 0), response_id="resp_3"))
    ended = replace(a_slice("", 1, sequence=1, final=answer("resp_3", "The end.")), response_id="resp_3")
    await sliced(world, run, ended)
    await follow(world, run.id, reader)
    assert reader.text == "The end." == await output(world, run.id)
    assert reader.replaced == 0
    assert set(world.agents.runs.values()) == {1}
    assert {one.status for one in (await world.run(run.id)).calls} == {CallStatus.COMPLETED}
    assert [request.stream for request in world.provider.creates] == [True] * 3
    assert [
        reader.types.count(kind)
        for kind in ("turn.started", "turn.completed", "tool.started", "tool.completed")
    ] == [
        3,
        2,
        4,
        4,
    ]


async def test_after_a_stream_was_lost_the_next_turn_streams_again(world):
    run = await world.start(stream=True)
    await sliced(world, run, NoStream())
    world.provider.state["resp_1"] = asks("resp_1", "pay")
    await world.drive(3)
    stored = await world.run(run.id)
    assert (stored.turn, at(stored)) == (2, 0)


async def test_an_earlier_turns_text_is_shown_again_when_a_later_turn_has_no_answer(world):
    run = await world.start(stream=True, deadline=timedelta(minutes=5))
    calls = asks("resp_1", "pay")
    text = answer("resp_1", "Let me pay.").output[1:-1]
    answered = replace(calls, output=f"[{text}, {calls.output[1:-1]}]")
    await sliced(world, run, a_slice("Let me ", 0))
    world.provider.slice_replies = [a_slice("", 1, sequence=1, final=answered)]
    await world.drive()
    await sliced(world, run, replace(a_slice("Now ", 0), response_id="resp_2"))
    assert (await follow(world, run.id)).text == "Now "
    world.clock.pass_(301)
    await world.drive(2)
    assert (await world.run(run.id)).status is RunStatus.EXPIRED
    assert (await follow(world, run.id)).text == "Let me pay." == await output(world, run.id)


# Storage that fails.


@pytest.mark.parametrize("takes_effect", [False, True])
@pytest.mark.parametrize("which", ["content_table", "table"])
async def test_a_slice_that_could_not_be_saved_is_read_again(world, which, takes_effect):
    run = await world.start(stream=True)
    one = await owed(world)
    write, get = getattr(world, which).write, world.table.get

    async def fails(*args, **kwargs):
        if takes_effect:
            await write(*args, **kwargs)
        raise StorageUnavailable("no")

    async def gone(*args, **kwargs):
        raise StorageUnavailable("no")

    getattr(world, which).write = fails
    world.provider.slice_replies = [a_slice("Once ", 0)]
    # The store cannot find out by reading again.
    stored = await world.context.runs.read(run.id)
    world.table.get = gone
    with pytest.raises(StorageUnavailable):
        await keep(world.context, stored, a_slice("Once ", 0))
    getattr(world, which).write, world.table.get = write, get
    world.provider.slice_replies = [a_slice("Once upon", 0, sequence=2)]
    await poll(world.context, one)
    kept = which == "table" and takes_effect
    assert (await follow(world, run.id)).text == ("Once " if kept else "Once upon")
    after = at(await world.run(run.id))
    assert after == (1 if kept else 2)
    rest = "upon a time" if kept else " a time"
    await sliced(world, run, a_slice(rest, after))
    assert (await follow(world, run.id)).text == "Once upon a time"


# Many damaged streams, with several pollers at once.


@dataclass
class Torn(FakeProvider):
    """Streams `source`, damaged as `tear` decides. Its response is finished after so many reads."""

    source: Stream = field(default_factory=lambda: REFERENCES["plain"])
    tear: random.Random = field(default_factory=random.Random)
    reads_left: int = 10

    async def slice(self, response_id: str, after: int, **_options: object) -> SliceReply:
        await pause(self.tear)
        self.slices.append((response_id, after))
        luck = self.tear.random()
        if luck < 0.02:
            return NoStream()
        if luck < 0.06:
            return later("HTTP 502")
        written = damaged(self.tear, self.source, after)
        await pause(self.tear)
        return INTERPRETER.slice(response_id, after, as_received(written), NOW)

    async def read(self, response_id: str, **options: object):
        await pause(self.tear)
        self.reads_left -= 1
        if self.reads_left < 0:
            return final(self.source)
        return await super().read(response_id, **options)


async def pause(seed: random.Random) -> None:
    """Let other tasks run first, perhaps."""
    for _ in range(seed.randrange(4)):
        await asyncio.sleep(0)


def final(source: Stream) -> Snapshot:
    found = INTERPRETER.slice("resp_1", 0, as_received(source.write(source.events)), NOW)
    assert found.final
    return found.final


class Pausing:
    """A table that lets other tasks run around each of its operations."""

    def __init__(self, table: object, seed: random.Random) -> None:
        self._table, self._seed = table, seed

    def __getattr__(self, name: str):
        method = getattr(self._table, name)

        async def paused(*args, **kwargs):
            await pause(self._seed)
            found = await method(*args, **kwargs)
            await pause(self._seed)
            return found

        return paused


def torn_world(number: int) -> World:
    seed = random.Random(number)
    # Tool calls are not run here.
    source = random_stream(seed)
    world = World(Torn(source=source, tear=seed, reads_left=seed.randrange(12)), randomness=Seeded(number))
    tables = stores(Pausing(world.table, seed), Pausing(world.content_table, seed), Seeded(number))
    world.context = replace(world.context, **tables)
    return world


async def test_two_pollers_of_one_stream_come_to_the_same_text():
    reached: Counter[str] = Counter()
    for number in range(300):
        try:
            reached += await race(torn_world(number))
        except AssertionError as fault:
            fault.add_note(f"seed {number}")
            raise
    least = {"slices kept": 400, "slices dropped": 150, "streams lost": 20, "text replaced": 10}
    least |= {"read meanwhile": 300}
    assert not {name: reached[name] for name, count in least.items() if reached[name] < count}


async def race(world: World) -> Counter[str]:
    """Poll a run with two pollers at once until it ends, while a reader follows its feed."""
    reached: Counter[str] = Counter()
    run, reader = await world.start(stream=True), Reader()
    while (before := await world.run(run.id)).step is Step.POLL:
        one, asked = await owed(world), len(world.provider.slices)
        await asyncio.gather(
            poll(world.context, one), poll(world.context, one), follow(world, run.id, reader, limit=3)
        )
        now = await world.run(run.id)
        kept = at(now) is not None and at(now) > at(before)
        reached["slices kept"] += kept
        reached["slices dropped"] += kept and len(world.provider.slices) - asked == 2
        reached["streams lost"] += at(now) is None and now.continuation is not None and at(before) is not None
        reached["read meanwhile"] += 0 < reader.last_id < now.entries
        world.clock.pass_(3)
    source, stored = world.provider.source, await world.run(run.id)
    for somebody in (reader, Reader()):
        await follow(world, run.id, somebody, limit=7)
        assert somebody.text == source.text
        assert somebody.last_id == stored.entries
        assert somebody.replaced <= (not source.text.startswith(source.streamed_text))
        assert not somebody.seen.open
    reached["text replaced"] += reader.replaced
    return reached


@pytest.mark.parametrize("name", REFERENCES)
async def test_each_reference_stream_is_stored_completely(world, name):
    source = REFERENCES[name]
    run = await world.start(stream=True)
    for after in range(len(source.events) - 1):
        found = INTERPRETER.slice("resp_1", after, as_received(source.written[after + 1]), NOW)
        assert isinstance(found, Slice)
        if at(await world.run(run.id)) != after:
            # Half a character waits before this event.
            found = INTERPRETER.slice("resp_1", after, as_received(source.write(source.after(after))), NOW)
        stored = await world.context.runs.read(run.id)
        if found.final:
            world.provider.state["resp_1"] = found.final
            await settle(world.context, stored, found.final, replace(found, after=at(stored.run)))
        else:
            await keep(world.context, stored, found)
    reader = await follow(world, run.id)
    run = await world.run(run.id)
    assert run.continuation is None
    assert not reader.seen.open
    assert reader.text == source.text == output_text(await world.context.content.load(run.id, run.turns[-1]))


async def test_an_end_is_left_to_the_next_poll_when_another_poller_has_stored_a_part_of_its_slice(world):
    run = await world.start(stream=True)
    stored = await world.context.runs.read(run.id)
    final = world.provider.state["resp_1"] = answer("resp_1", "")
    received = replace(a_slice("Once ", 0), sequence=0, final=final)
    await keep(world.context, stored, a_slice("Once ", 0))
    assert not (await settle(world.context, await world.context.runs.read(run.id), final, received)).changed
    world.provider.slice_replies = [a_slice("", 1, sequence=1, final=final)]
    await world.until_terminal(run.id)
    assert (await follow(world, run.id)).text == "Once " == await output(world, run.id)


async def test_items_of_earlier_slices_are_read_again_when_the_end_has_none(world):
    run = await world.start(stream=True)
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "pay", "arguments": "{}"}
    called = (ItemStarted(0, "function_call", "pay"), ItemCompleted(0, call))
    await sliced(world, run, replace(a_slice("", 0), changes=called))
    ended = replace(asks("resp_1", "pay"), output="[]", calls=())
    world.provider.state["resp_1"] = ended
    complete = replace(a_slice("", 0, sequence=0, final=ended), changes=called)
    world.provider.slice_replies = [a_slice("", 1, sequence=1, final=ended), complete]
    await poll(world.context, await owed(world))
    assert [one.name for one in (await world.run(run.id)).calls] == ["pay"]
    assert world.provider.slices[-1] == ("resp_1", 0)
