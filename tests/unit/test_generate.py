"""Runs at providers without background mode: a worker holds the stream of a turn, and stores what comes."""

import gc
import inspect
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from shared.core import transcript
from shared.core.calls import CallStatus
from shared.core.chat.events import (
    ChatBroken,
    ChatCall,
    ChatEnd,
    ChatEvent,
    ChatNotRepeated,
    ChatReasoning,
    ChatRefusal,
    ChatText,
)
from shared.core.queues import Queue
from shared.core.response import RunError, Usage
from shared.core.run import Run, RunStatus, Step
from shared.errors import StorageUnavailable
from shared.ports.chat import ChatRequest, ChatService
from shared.steps.create import MAX_MODEL
from shared.steps.generate import MAX_HELD_CHARACTERS
from shared.steps.messages import queue_of
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run
from shared.usecases.feed import read_feed
from shared.usecases.start import CallerTools
from shared.web.runs_api.render import progress
from tests.support.client import Client
from tests.support.fakes import FakeAgents
from tests.support.feeds import text_after
from tests.support.world import CALLER, World

END = ChatEnd("stop", Usage(1, 2, 3))
DOWN = ChatBroken(RunError("provider_unavailable", "down"), None, retryable=True)


class Killed(BaseException):
    """The process ends."""


@dataclass
class FakeChat:
    """Yields the events that a test has set, one list for each request. A callable is called in its place."""

    streams: list[Sequence[ChatEvent | Callable[[], object]]] = field(default_factory=list)
    requests: list[ChatRequest] = field(default_factory=list)
    closed: int = 0

    async def generate(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        self.requests.append(request)
        try:
            for event in self.streams.pop(0):
                if inspect.iscoroutinefunction(event):
                    await event()
                elif callable(event):
                    event()
                else:
                    yield event
        finally:
            self.closed += 1


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat()


def a_world(chat: FakeChat, **known: bool) -> World:
    agents = FakeAgents(changes={"provider": "chat"})
    return World(agents=agents, chats={"chat": ChatService(chat, **known)})


@pytest.fixture
def world(chat) -> World:
    return a_world(chat, continues=True)


def passes(world: World, seconds: float) -> Callable[[], None]:
    return lambda: world.clock.pass_(seconds)


def dies() -> None:
    raise Killed


class NoAgents(FakeAgents):
    """Those of an app that does not have the agent."""

    def spec(self, _name):
        return None


async def feed_text(world: World, run: Run) -> str:
    """Return the text of the answer as a reader of the feed joins it."""
    text = ""
    feed = await read_feed(world.context, CALLER, run.id, after=0, limit=1000)
    for line in feed.lines:
        text = text_after(text, {"type": line.entry.type, "text": line.text})
    return text


async def output_of(world: World, run: Run) -> list[dict]:
    return json.loads(await world.context.content.load(run.id, run.turns[-1]))


def text_of(output: list[dict]) -> str:
    return "".join(part["text"] for item in output if item["type"] == "message" for part in item["content"])


async def test_a_turn_is_generated_by_a_worker_of_its_own_queue(world, chat):
    chat.streams = [[ChatText("Hello "), ChatText("world"), END]]
    run = await world.start()
    assert (run.status, run.step, run.lease) == (RunStatus.QUEUED, Step.GENERATE, None)
    [message] = await world.tick(0)
    assert queue_of(message) is Queue.GENERATE
    assert await world.work(run.id) == (message,)
    assert not chat.requests
    await world.work(message)
    run = await world.run(run.id)
    assert (run.status, run.usage.total_tokens) == (RunStatus.COMPLETED, 3)
    assert text_of(await output_of(world, run)) == await feed_text(world, run) == "Hello world"
    messages = json.loads(chat.requests[0].messages)
    assert [each["role"] for each in messages] == ["system", "user"]


async def test_tools_run_between_turns_and_outputs_are_sent(world, chat):
    chat.streams = [
        [ChatReasoning("hm"), ChatCall(0, "call_a", "look_up", "{}"), ChatEnd("tool_calls", None)],
        [ChatText("done"), END],
    ]
    run = await world.start()
    run = await world.until_terminal(run.id)
    assert (run.status, run.turn, run.calls[0].status) == (RunStatus.COMPLETED, 2, CallStatus.COMPLETED)
    assert run.unmetered
    messages = json.loads(chat.requests[1].messages)
    assert [each["role"] for each in messages] == ["system", "user", "assistant", "tool"]
    assert messages[3]["content"] == "result of call_a"
    assert world.agents.runs == {"call_a": 1}


@pytest.mark.parametrize(
    "own",
    [
        [{"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}}],
        [{"role": "user", "content": " "}],
    ],
)
async def test_an_input_of_which_nothing_can_be_sent_is_not_answered(world, chat, own):
    chat.streams = [[ChatText("I click."), END]] * 2
    first = await world.until_terminal((await world.start()).id)
    second = await world.start(session_id=first.session_id, input=json.dumps(own))
    second = await world.until_terminal(second.id)
    assert (second.status, second.error.code) == (RunStatus.FAILED, "input_not_sendable")
    assert len(chat.requests) == 1


async def test_a_client_may_begin_the_answer(world, chat):
    chat.streams = [[ChatText(" two"), END]]
    own = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One,"}]
    run = await world.until_terminal((await world.start(input=json.dumps(own))).id)
    assert run.status is RunStatus.COMPLETED


async def test_readers_come_as_often_as_text_is_stored(world, chat):
    pauses = []

    async def look() -> None:
        page = (await client.get("/runs/{run_id}/events", run.id)).json
        pauses.append(page["retry_ms"])

    client = Client(world.context)
    text = [passes(world, 2), ChatText("more "), look]
    chat.streams = [[ChatReasoning("hm"), passes(world, 100), look, *text, *text, END]]
    run = await world.start()
    await world.drive()
    assert pauses == [5000, 2000, 2000]


async def test_a_turn_that_has_not_begun_does_not_write(world, chat):
    chat.streams = [
        [ChatText("I look."), passes(world, 2), ChatText("So"), ChatCall(0, "a", "look_up", "{}"), END]
    ]
    run = await world.start()
    [message] = await world.tick()
    [tools] = await world.work(message)
    await world.work(tools)
    run = await world.run(run.id)
    assert (run.step, run.turn, run.turn_started_at) == (Step.GENERATE, 2, None)
    assert progress(run)["activity"] == "waiting"


async def test_what_came_is_stored_every_two_seconds(world, chat):
    seen = []

    def look() -> None:
        stored = world.table._partitions[run.id[4:6]][f"run|{run.id}"].values
        seen.append((stored.get("written", 0), stored["status"]))

    chat.streams = [
        [
            ChatText("one "),
            look,
            passes(world, 2),
            ChatText("two "),
            look,
            passes(world, 1),
            ChatText("three"),
            look,
            END,
        ]
    ]
    run = await world.start()
    await world.drive()
    assert seen == [(0, "in_progress"), (8, "in_progress"), (8, "in_progress")]
    assert await feed_text(world, await world.run(run.id)) == "one two three"


@pytest.mark.parametrize("continues", [True, False])
async def test_a_turn_goes_on_after_its_worker_died(chat, continues):
    world = a_world(chat, continues=continues)
    rest = "jumps" if continues else "The quick fox jumps"
    chat.streams = [
        [
            ChatText("The quick "),
            passes(world, 2),
            ChatText("fox "),
            passes(world, 1),
            ChatText("lost"),
            dies,
        ],
        [ChatText(rest), END],
    ]
    run = await world.start()
    with pytest.raises(Killed):
        await world.drive()
    stored = await world.run(run.id)
    assert (stored.written, await feed_text(world, stored)) == (14, "The quick fox ")
    await world.drive(2, seconds=20)
    run = await world.run(run.id)
    assert chat.requests[1].prefix == ("The quick fox " if continues else "")
    assert text_of(await output_of(world, run)) == await feed_text(world, run) == "The quick fox jumps"
    assert (run.joins, run.loose_joins, run.restarts) == ((1, 0, 0) if continues else (0, 0, 1))


async def test_a_text_that_is_written_anew_does_not_begin_with_that_of_the_turn_before(chat):
    world = a_world(chat)
    chat.streams = [
        [ChatText("I look."), ChatCall(0, "call_a", "look_up", "{}"), END],
        [ChatText("The "), passes(world, 2), ChatText("fox "), dies],
        [ChatText("A "), passes(world, 2), ChatText("cat"), END],
    ]
    run = await world.start()
    with pytest.raises(Killed):
        await world.drive(3)
    assert await feed_text(world, await world.run(run.id)) == "The fox "
    await world.drive(2, seconds=20)
    run = await world.run(run.id)
    assert (run.status, run.turn, run.restarts) == (RunStatus.COMPLETED, 2, 1)
    assert text_of(await output_of(world, run)) == await feed_text(world, run) == "A cat"


async def test_a_provider_that_has_learned_to_continue_gets_no_text_that_was_taken_back(chat):
    world = a_world(chat)
    chat.streams = [
        [ChatText("The "), passes(world, 2), ChatText("fox "), dies],
        [ChatText("A "), passes(world, 2), ChatText("black "), dies],
        [ChatText("cat"), END],
    ]
    run = await world.start()
    for _ in range(2):
        with pytest.raises(Killed):
            await world.drive(1, seconds=20)
    world.context.chats["chat"] = ChatService(chat, continues=True)
    await world.drive(2, seconds=20)
    run = await world.run(run.id)
    assert chat.requests[2].prefix == "A black "
    assert text_of(await output_of(world, run)) == await feed_text(world, run) == "A black cat"


async def resumed(world: World, chat: FakeChat, pieces: list[str]) -> Run:
    """Return a run whose worker died after these pieces, at an unlucky moment. It is taken up again."""
    chat.streams = [
        [*map(ChatText, pieces[:-1]), passes(world, 2), ChatText(pieces[-1]), dies],
        [ChatText("|rest"), END],
    ]
    run = await world.start()
    with pytest.raises(Killed):
        await world.drive()
    await world.drive(2, seconds=20)
    run = await world.run(run.id)
    assert (run.status, await feed_text(world, run)) == (
        RunStatus.COMPLETED,
        chat.requests[1].prefix + "|rest",
    )
    return run


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        (["one", " two", " three"], "one two three"),
        (["one", " two", "\n", "\n"], "one two"),
        # A piece is kept as a whole or not at all, because the model writes it at once.
        (["one", " two", ".\n\n"], "one two"),
        (["one", " ", "two", "\u3000"], "one two"),
    ],
)
async def test_a_text_is_stored_up_to_a_place_where_a_provider_that_trims_continues_it(chat, pieces, kept):
    world = a_world(chat, continues=True, trims=True)
    run = await resumed(world, chat, pieces)
    assert chat.requests[1].prefix == kept
    assert (run.joins, run.loose_joins) == (1, 0)


async def test_a_provider_that_does_not_trim_gets_the_white_space_too(world, chat):
    run = await resumed(world, chat, ["one", "\n\n"])
    assert chat.requests[1].prefix == "one\n\n"
    assert (run.joins, run.loose_joins) == (1, 0)


async def test_white_space_after_each_piece_does_not_keep_a_text_from_being_stored(chat):
    world = a_world(chat, continues=True, trims=True)
    run = await resumed(world, chat, ["word "] * 100)
    assert len(chat.requests[1].prefix) >= 500 - MAX_HELD_CHARACTERS
    assert (run.joins, run.loose_joins) == (0, 1)


async def test_a_text_is_joined_once_although_its_provider_was_down_meanwhile(world, chat):
    chat.streams = [
        [ChatText("one"), passes(world, 2), ChatText(" two"), DOWN],
        [DOWN],
        [DOWN],
        [ChatText(" three"), passes(world, 2), ChatText(" four"), DOWN],
        [ChatText(" five"), END],
    ]
    run = await world.start()
    await world.drive(20, seconds=20)
    run = await world.run(run.id)
    assert [request.prefix for request in chat.requests[1:]] == ["one two"] * 3 + ["one two three four"]
    assert (run.status, run.joins, run.loose_joins) == (RunStatus.COMPLETED, 2, 0)
    assert await feed_text(world, run) == "one two three four five"


async def test_a_join_is_best_effort_when_the_text_so_far_was_not_repeated_as_it_is_otherwise(world, chat):
    silent = [ChatNotRepeated(), DOWN]
    chat.streams = [
        [ChatText("one"), passes(world, 2), ChatText(" two"), DOWN],
        silent,
        silent,
        [ChatNotRepeated(), ChatText("one t\u00f6"), passes(world, 2), ChatText("!"), DOWN],
        [ChatText(" end"), END],
    ]
    run = await world.start()
    await world.drive(20, seconds=20)
    run = await world.run(run.id)
    assert (run.status, run.joins, run.loose_joins) == (RunStatus.COMPLETED, 1, 1)
    feed = await read_feed(world.context, CALLER, run.id, after=0, limit=1000)
    joins = [line.entry for line in feed.lines if line.entry.type == "turn.joined"]
    assert [(each.characters, each.join) for each in joins] == [
        (7, "exact"),
        (7, "best_effort"),
        (14, "exact"),
    ]
    assert await feed_text(world, run) == "one twoone t\u00f6! end"


async def test_a_join_after_reasoning_is_best_effort(world, chat):
    chat.streams = [
        [ChatReasoning("think"), passes(world, 2), ChatText("a"), passes(world, 2), ChatText("b"), dies],
        [ChatText("c"), END],
    ]
    run = await world.start()
    with pytest.raises(Killed):
        await world.drive()
    await world.drive(2, seconds=20)
    run = await world.run(run.id)
    assert (run.status, run.joins, run.loose_joins) == (RunStatus.COMPLETED, 0, 1)
    assert [item["type"] for item in await output_of(world, run)] == ["reasoning", "message"]
    assert await feed_text(world, run) == "abc"


async def test_a_refusal_is_shown_and_no_answer(world, chat):
    chat.streams = [[ChatReasoning("think"), passes(world, 2), ChatRefusal("I "), passes(world, 241), ChatRefusal("cannot."), END]]  # fmt: skip
    run = await world.start()
    await world.drive()
    run = await world.run(run.id)
    assert (run.status, await feed_text(world, run)) == (RunStatus.COMPLETED, "")
    items = await output_of(world, run)
    assert [item["type"] for item in items] == ["reasoning", "message"]
    assert transcript.refusal_of(items) == "I cannot."
    feed = await read_feed(world.context, CALLER, run.id, after=0, limit=1000)
    assert [line.text for line in feed.lines if line.entry.type == "refusal"] == ["I cannot."]


async def test_a_long_turn_goes_on_in_the_next_invocation(world, chat):
    chat.streams = [
        [ChatText("a"), passes(world, 241), ChatText("b"), ChatText("never")],
        [ChatText("c"), END],
    ]
    run = await world.start()
    [message] = await world.tick(0)
    [more] = await world.work(message)
    assert (queue_of(more), chat.closed) == (Queue.GENERATE, 1)
    await world.work(more)
    run = await world.run(run.id)
    assert (run.status, await feed_text(world, run)) == (RunStatus.COMPLETED, "abc")


@pytest.mark.parametrize(
    "begin",
    [[ChatReasoning("hm")], [ChatText("a"), ChatCall(0, "call_a", "look_up", "{")]],
    ids=["reasoning", "a call"],
)
async def test_what_cannot_be_continued_is_not_cut_for_the_next_invocation(world, chat, begin):
    rest = [ChatCall(0, "call_a", "look_up", "{}")] if len(begin) == 1 else [ChatCall(0, "", "", "}")]
    chat.streams = [[*begin, passes(world, 241), *rest, END], [ChatText("done"), END]]
    run = await world.start()
    run = await world.until_terminal(run.id)
    assert (run.status, len(chat.requests), run.joins, run.restarts) == (RunStatus.COMPLETED, 2, 0, 0)


async def test_a_text_that_cannot_be_continued_is_written_anew_a_few_times_only(chat):
    world = a_world(chat)
    chat.streams = [[ChatText("a"), passes(world, 2), ChatText("b"), dies] for _ in range(9)]
    run = await world.start()
    for _ in range(9):
        try:
            await world.drive(1, seconds=20)
        except Killed:
            continue
    run = await world.run(run.id)
    assert (run.status, run.error.code, len(chat.requests)) == (RunStatus.FAILED, "generate_too_long", 4)


async def test_a_text_of_a_later_turn_is_written_anew_without_that_of_the_turn_before(chat):
    world = a_world(chat)
    chat.streams = [
        [ChatText("first"), ChatCall(0, "call_a", "look_up", "{}"), END],
        [ChatText("lost"), passes(world, 2), ChatText(" text"), dies],
        [ChatText("second"), END],
    ]
    run = await world.start()
    for _ in range(6):
        try:
            await world.drive(1, seconds=20)
        except Killed:
            continue
    run = await world.run(run.id)
    assert (run.status, run.turn, run.restarts) == (RunStatus.COMPLETED, 2, 1)
    assert await feed_text(world, run) == text_of(await output_of(world, run)) == "second"


async def test_a_provider_that_is_down_is_tried_again(world, chat):
    chat.streams = [[DOWN], [ChatText("a"), DOWN], [ChatText("b"), END]]
    run = await world.start()
    run = await world.until_terminal(run.id)
    assert (run.status, await feed_text(world, run)) == (RunStatus.COMPLETED, "ab")
    assert [request.prefix for request in chat.requests] == ["", "", "a"]


async def test_a_refused_request_ends_the_run(world, chat):
    chat.streams = [[ChatBroken(RunError("provider_rejected", "no such model"), None, retryable=False)]]
    run = await world.start()
    run = await world.until_terminal(run.id)
    assert (run.status, run.error.code) == (RunStatus.FAILED, "provider_rejected")


async def test_a_cancellation_closes_the_stream(world, chat):
    run = await world.start()

    async def cancels() -> None:
        world.clock.pass_(2)
        assert (await cancel(world.context, CALLER, run.id)).stored.run.status is RunStatus.CANCELLING

    later = [ChatText("c"), passes(world, 2)] * 20
    chat.streams = [[ChatText("a"), cancels, ChatText("b"), *later, END]]
    await world.drive()
    run = await world.run(run.id)
    assert (run.status, chat.closed) == (RunStatus.CANCELLED, 1)


async def test_a_cancellation_does_not_wait_for_a_stream_that_brings_nothing(world, chat):
    run = await world.start()

    async def stalls() -> None:
        assert (await cancel(world.context, CALLER, run.id)).stored.run.status is RunStatus.CANCELLING
        for _ in range(10):
            world.clock.pass_(4)
            await world.keeper.kept[0].renewal.renew(world.table)
            if messages := await world.tick(0):
                for message in messages:
                    await world.work(message)
                break
        assert (await world.run(run.id)).status is RunStatus.CANCELLED

    chat.streams = [[ChatText("a"), stalls, ChatText("b"), END]]
    began = world.clock.now()
    await world.drive()
    assert (await world.run(run.id)).status is RunStatus.CANCELLED
    assert chat.closed == len(chat.requests) == 1
    assert world.clock.now() - began <= timedelta(seconds=25)


async def test_the_deadline_ends_a_stream(world, chat):
    chat.streams = [[ChatText("a"), passes(world, 1799), ChatText("b"), passes(world, 2), ChatText("c"), END]]
    world.context.__dict__["generate_for"] = timedelta(hours=1)
    run = await world.start()
    await world.drive(2)
    assert (await world.run(run.id)).status is RunStatus.EXPIRED


async def test_a_former_holder_stores_nothing(world, chat):
    async def another() -> None:
        await world.drive(1, seconds=20)

    chat.streams = [[ChatText("mine"), END]]
    run = await world.start()
    [message] = await world.tick(0)
    generate = chat.generate

    async def slow(request):
        async for event in generate(request):
            if len(chat.requests) == 1 and isinstance(event, ChatText):
                chat.streams = [[ChatText("theirs"), END]]
                await another()
            yield event

    chat.generate = slow
    await world.work(message)
    run = await world.run(run.id)
    assert (run.status, await feed_text(world, run)) == (RunStatus.COMPLETED, "theirs")


async def test_a_worker_that_has_read_less_than_is_stored_now_begins_nothing(world, chat):
    chat.streams = [
        [ChatText("a"), passes(world, 241), ChatText("b")],
        [ChatText("c"), passes(world, 241), ChatText("d")],
        [ChatText("e"), END],
    ]
    run = await world.start()
    [message] = await world.tick(0)
    await world.work(message)
    load_each = world.context.content.load_each

    async def late(*given):
        loaded = await load_each(*given)
        world.context.content.load_each = load_each
        await world.work(message)
        return loaded

    world.context.content.load_each = late
    await world.work(message)
    assert [request.prefix for request in chat.requests] == ["", "ab"]
    await world.work(message)
    assert await feed_text(world, await world.run(run.id)) == "abcde"


async def test_a_text_that_was_taken_back_is_not_continued(chat):
    world = a_world(chat)
    chat.streams = [
        [ChatText("lost "), passes(world, 2), ChatText("text"), DOWN],
        [ChatText("new "), passes(world, 2), ChatText("text"), DOWN],
        [ChatText("."), END],
    ]
    run = await world.start()
    await world.drive(1)
    await world.drive(1, seconds=20)
    # The app is deployed anew, with what is known of the provider now.
    world.context.chats["chat"] = ChatService(chat, continues=True)
    await world.drive(2, seconds=20)
    assert chat.requests[2].prefix == "new text"
    assert await feed_text(world, await world.run(run.id)) == "new text."


@pytest.mark.parametrize("continues", [True, False])
async def test_usage_is_unknown_when_a_part_of_the_text_came_from_a_stream_that_broke(chat, continues):
    world = a_world(chat, continues=continues)
    chat.streams = [[ChatText("one "), passes(world, 2), ChatText("two"), DOWN], [ChatText(" end"), END]]
    run = await world.start()
    await world.drive(1)
    # The turn has begun, and nobody knows yet what it costs.
    assert await told_usage(world, run) is None
    run = await world.until_terminal(run.id)
    usage = await told_usage(world, run)
    # A text that was written anew came from one stream, which has told all of it.
    assert usage == (None if continues else 3)


@pytest.mark.parametrize("told", [True, False])
async def test_usage_of_a_finished_turn_is_what_the_stream_has_told(world, chat, told):
    chat.streams = [[ChatText("one"), END if told else ChatEnd("stop", None)]]
    run = await world.until_terminal((await world.start()).id)
    assert await told_usage(world, run) == (3 if told else None)


async def test_usage_of_a_turn_that_was_cut_is_unknown(world, chat):
    async def cancels() -> None:
        await cancel(world.context, CALLER, chat.requests[0].run_id)

    chat.streams = [[ChatText("one"), cancels, passes(world, 3), ChatText("two"), END]]
    run = await world.until_terminal((await world.start()).id)
    assert (run.status, await told_usage(world, run)) == (RunStatus.CANCELLED, None)


async def told_usage(world: World, run: Run) -> int | None:
    """Return the tokens of a run as its status tells them. None when they are not known."""
    usage = (await Client(world.context).get("/runs/{run_id}", run.id)).json["usage"]
    return usage and usage["total_tokens"]


async def test_a_provider_that_is_gone_ends_the_run(world, chat):
    run = await world.start()
    world.context.chats.clear()
    run = await world.until_terminal(run.id)
    assert (run.status, run.error.code) == (RunStatus.FAILED, "provider_gone")


async def test_a_session_replays_what_was_generated(world, chat):
    chat.streams = [[ChatText("one"), END], [ChatText("two"), END]]
    first = await world.start()
    await world.until_terminal(first.id)
    second = await world.start(session_id=first.session_id)
    await world.until_terminal(second.id)
    messages = json.loads(chat.requests[1].messages)
    assert [each["role"] for each in messages] == ["system", "user", "assistant", "user"]


async def test_what_was_taken_back_is_not_continued_when_the_provider_learns_to(chat):
    world = a_world(chat)
    chat.streams = [
        [ChatText("old "), passes(world, 2), ChatText("text "), dies],
        [ChatText("new "), passes(world, 2), ChatText("text "), dies],
        [ChatText("end"), END],
    ]
    run = await world.start()
    for _ in range(2):
        with pytest.raises(Killed):
            await world.drive(1, seconds=20)
    world.context.chats["chat"] = ChatService(chat, continues=True)
    await world.drive(1, seconds=20)
    run = await world.run(run.id)
    assert chat.requests[2].prefix == "new text "
    assert await feed_text(world, run) == text_of(await output_of(world, run)) == "new text end"


async def test_an_output_that_is_too_large_ends_the_run(world, chat):
    chat.streams = [[*([ChatText("x" * 2**20)] * 9), ChatText("never"), END]]
    run = await world.start()
    run = await world.until_terminal(run.id)
    assert (run.status, run.error.code, chat.closed) == (RunStatus.FAILED, "output_too_large", 1)


async def test_a_stream_that_brings_nothing_ends_before_its_function_does(world, chat):
    chat.streams = [[ChatText("a"), END]]
    load = world.context.content.load

    async def slow(*given):
        world.clock.pass_(7)
        return await load(*given)

    world.context.content.load = slow
    run = await world.until_terminal((await world.start()).id)
    assert run.status is RunStatus.COMPLETED
    # A minute before the time-out, counted from the begin of the invocation.
    assert chat.requests[0].within == world.context.longest_work - timedelta(seconds=7)


@pytest.mark.parametrize("continues", [True, False])
@pytest.mark.parametrize(
    "begin", [[], [ChatText("I look.")], [ChatReasoning("hm")]], ids=["", "text", "reasoning"]
)
async def test_a_call_that_is_too_long_for_a_function_is_written_a_few_times_only(chat, continues, begin):
    world = a_world(chat, continues=continues)
    world.agents.changes |= {"deadline": timedelta(hours=23)}
    # Longer than a function may last.
    cut = [*begin, ChatCall(0, "call_a", "look_up", "{"), passes(world, 1741), ChatCall(0, "", "", "1")]
    chat.streams = [cut] * 9
    run = await world.until_terminal((await world.start()).id, seconds=20)
    assert (run.status, run.error.code, len(chat.requests)) == (RunStatus.FAILED, "generate_too_long", 4)
    assert not run.calls


async def test_nothing_of_a_deleted_run_is_left_although_it_brought_tools(world, chat):
    tools = CallerTools(frozenset({"mine"}), '[{"type": "function", "name": "mine"}]')
    run = await world.start(tools=tools)
    assert run.tools
    await delete_run(world.context, CALLER, run.id)
    assert (await world.run(run.id)).tools is None


@pytest.mark.parametrize("gone", ["provider", "agent", "setting"])
async def test_a_host_of_the_version_before_does_not_end_a_run_of_the_next_one(world, chat, gone):
    chat.streams = [[ChatText("a"), passes(world, 2), ChatText("b"), DOWN], [ChatText("c"), END]]
    run = await world.start()
    await world.drive(1)
    changes, chats = world.agents.changes, dict(world.context.chats)
    if gone == "provider":
        world.context.chats.clear()
    elif gone == "agent":
        world.context.__dict__["agents"] = NoAgents()
    else:
        world.agents.changes = changes | {"missing_settings": ("CLERK_MODEL",)}
    await world.drive(3)
    world.agents.changes = changes
    world.context.chats.update(chats)
    world.context.__dict__["agents"] = world.agents
    run = await world.until_terminal(run.id)
    assert (run.status, run.restarts, await feed_text(world, run)) == (RunStatus.COMPLETED, 0, "abc")


async def test_a_run_whose_provider_stays_away_ends_after_a_minute(world, chat):
    run = await world.start()
    world.context.chats.clear()
    began = world.clock.now()
    run = await world.until_terminal(run.id)
    assert timedelta(seconds=60) <= run.completed_at - began <= timedelta(seconds=90)
    assert (run.error.code, len(chat.requests)) == ("provider_gone", 0)


def requests_in_memory() -> list[ChatRequest]:
    return [each for each in gc.get_objects() if isinstance(each, ChatRequest)]


async def test_a_worker_keeps_no_conversation_while_it_holds_a_stream(world, chat):
    # Those of other tests.
    before, kept = {id(each) for each in requests_in_memory()}, []

    async def generate(request):
        del request
        yield ChatText("a")
        kept.extend(each for each in requests_in_memory() if id(each) not in before)
        yield END

    chat.generate = generate
    run = await world.until_terminal((await world.start()).id)
    assert (run.status, kept) == (RunStatus.COMPLETED, [])


async def test_a_cancellation_does_not_wait_for_other_streams(world, chat):
    """The workers of the other queue may all hold streams."""
    run = await world.start()

    async def stalls() -> None:
        await cancel(world.context, CALLER, run.id)
        # Its worker hears nothing, and its lease ends.
        world.clock.pass_(16)
        for message in await world.tick(0):
            assert queue_of(message) is Queue.WORK
            await world.work(message)
        assert (await world.run(run.id)).status is RunStatus.CANCELLED

    chat.streams = [[ChatText("a"), stalls, ChatText("b"), END]]
    await world.drive()
    assert (await world.run(run.id)).status is RunStatus.CANCELLED
    assert len(chat.requests) == 1


async def test_an_answer_is_not_lost_with_one_write(world, chat):
    chat.streams = [[ChatText("a"), END]]
    run, failures = await world.start(), [1, 2]
    write = world.table.write

    async def failing(partition, writes):
        if failures and any(f"turn_{1:02d}" in str(each) for each in writes):
            failures.pop()
            raise StorageUnavailable("busy")
        return await write(partition, writes)

    world.table.write = failing
    await world.drive()
    assert ((await world.run(run.id)).status, failures) == (RunStatus.COMPLETED, [])
    assert len(chat.requests) == 1


@pytest.mark.parametrize("taken", [True, False])
async def test_a_worker_that_knows_that_nothing_counts_any_more_saves_no_text(world, chat, taken):
    run, rows = await world.start(), []

    async def ends() -> None:
        world.clock.pass_(9)
        await (delete_run if taken else cancel)(world.context, CALLER, run.id)
        rows.append(len(world.content_table._partitions[run.id]))
        await world.keeper.kept[0].renewal.renew(world.table)

    chat.streams = [[ChatText("a"), passes(world, 2), ChatText("b"), ends, ChatText("c"), END]]
    await world.drive()
    assert (await world.run(run.id)).status is (RunStatus.DELETED if taken else RunStatus.CANCELLED)
    assert len(world.content_table._partitions[run.id]) == rows[0]
    assert chat.closed == 1


async def test_a_long_name_of_a_model_is_cut_in_the_log(world, chat):
    chat.streams = [[ChatText("a"), END]]
    world.agents.changes |= {"model": "m" * 100_000}
    run = await world.until_terminal((await world.start()).id)
    feed = await read_feed(world.context, CALLER, run.id, after=0, limit=1000)
    [model] = [line.entry.model for line in feed.lines if line.entry.type == "turn.started"]
    assert (run.status, len(model)) == (RunStatus.COMPLETED, MAX_MODEL)
