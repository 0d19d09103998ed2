"""Runs that wait for people, and for callers that run tools: promises 11 and 12, and what is sent to the model."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.core import log
from shared.core.caller import Caller, Recognition, Role
from shared.core.calls import AnswerType, CallerCalls, CallKind, CallStatus, ToolCall, Wait, WaitKind
from shared.core.delivery import WAIT, ClockRow
from shared.core.ids import all_shards, call_id
from shared.core.life import events
from shared.core.life.advance import advance
from shared.core.life.events import Wake
from shared.core.limits import MAX_CALLS_BYTES
from shared.core.queues import Queue
from shared.core.quota import Limits
from shared.core.response import ResponseStatus, Snapshot, Usage
from shared.core.run import Lease, Run, RunStatus, Step
from shared.errors import BatonError, Conflict, InvalidInput, NotFound, TooMany
from shared.ports.agents import WaitNeeded
from shared.ports.tables import Put, Row
from shared.steps.messages import clock_message, queue_of
from shared.steps.transition import apply
from shared.steps.waits import load_calls
from shared.store import rows
from shared.store.waits import wait_writes
from shared.usecases.answer import Approve, Refuse, SendError, SendOutput, answer_call
from shared.usecases.calls import list_calls, list_waits
from shared.usecases.cancel import cancel
from shared.usecases.continued import Answers
from shared.usecases.delete import delete_run
from shared.usecases.health import oldest_wait
from shared.usecases.overdue import LATE, Waker
from shared.usecases.retry import retry
from shared.usecases.start import CallerTools
from tests.support.client import Client
from tests.support.fakes import FakeAgents, answer, asks, broken_chain
from tests.support.runs import NOW, OWNER, a_run, an_id
from tests.support.world import CALLER, World

DAY = timedelta(days=1)
APPROVAL = WaitNeeded(WaitKind.APPROVAL, 2 * DAY)
OUTPUT = WaitNeeded(WaitKind.OUTPUT, 3 * DAY)
ANNA = Caller("key:anna", frozenset({Role.APPROVER}), Recognition.API_KEY, "Anna")
BEN = Caller("key:ben", frozenset({Role.APPROVER}), Recognition.API_KEY)
LEASE = Lease("mine", NOW + timedelta(seconds=15))
REFUND = CallerTools(frozenset({"refund"}), '[{"type": "function", "name": "refund"}]')


@pytest.fixture
def world() -> World:
    return World(agents=FakeAgents(waiting={"pay": APPROVAL, "ask": OUTPUT}))


async def waits(world: World, *names: str, first="resp_1", **changes) -> Run:
    """Return a run whose first response asks for these tools, once only people can move it."""
    run = await world.start(**changes)
    world.provider.state |= {first: asks(first, *names)}
    await world.drive(2)
    return await world.run(run.id)


def ids_of(run: Run) -> list[str]:
    return [call_id(call.turn, call.call_id) for call in run.calls]


async def gives(world: World, run: Run, given, who=CALLER, number=0):
    return await answer_call(world.context, who, run.id, ids_of(run)[number], given)


async def refused(kind: type[BatonError], code: str, given) -> BatonError:
    with pytest.raises(kind) as raised:
        await given
    assert raised.value.code == code
    return raised.value


def sent(world: World, number=-1) -> list[dict]:
    """Return the input of a request to the provider."""
    return json.loads(world.provider.creates[number].input)


def told(world: World) -> dict[str, object]:
    """Return what the model was told last, by call."""
    return {
        item["call_id"]: item["output"] for item in sent(world) if item.get("type") == "function_call_output"
    }


async def log_of(world: World, run: Run) -> list[str]:
    return [line.entry.type for line in await world.context.runs.log(run.id)]


async def rows_of(world: World) -> list[str]:
    """Return the kinds of the rows that are only there for waits."""
    found = [row.key for shard in all_shards() for row in await world.table.query(shard, "", "~")]
    return sorted(
        key.partition("|")[0].partition("~2")[0] for key in found if "paused|" in key or "|wait" in key
    )


async def test_11_a_tool_runs_only_after_its_approval(world):
    run = await waits(world, "pay")
    assert (run.status, run.step, run.lease) == (RunStatus.REQUIRES_ACTION, Step.ANSWER, None)
    assert await world.owed() == []
    await world.drive(5)
    assert not world.agents.runs
    view, applied = await gives(world, run, Approve())
    assert (view.call.status, view.answer.type) == (CallStatus.QUEUED, AnswerType.APPROVED)
    assert not world.agents.runs
    for message in applied.messages:
        await world.work(message)
    assert list(world.agents.runs.values()) == [1]
    assert told(world) == {run.calls[0].call_id: f"result of {run.calls[0].call_id}"}
    world.provider.state["resp_2"] = answer("resp_2")
    ended = await world.until_terminal(run.id)
    assert ended.status is RunStatus.COMPLETED
    logged = await log_of(world, run)
    shown = ("run.requires_action", "call.", "tool.", "run.completed")
    assert [each for each in logged if each.startswith(shown)] == [
        "call.waiting",
        "run.requires_action",
        "call.answered",
        "tool.started",
        "tool.completed",
        "run.completed",
    ]
    assert await rows_of(world) == []


async def test_11_changed_arguments_run_and_the_model_s_stay_visible(world):
    run = await waits(world, "pay")
    seen = []
    world.agents.during = lambda call: seen.append(call.arguments)
    view, applied = await gives(world, run, Approve({"amount": 20}))
    assert (view.call.arguments, view.changed) == ("{}", '{"amount":20}')
    await world.work(*applied.messages)
    assert seen == ['{"amount":20}']
    [view], _ = await list_calls(world.context, CALLER, run.id, after=0, limit=20)
    assert (view.call.arguments, view.changed, view.answer.by) == ("{}", '{"amount":20}', OWNER)


async def test_11_true_is_not_one(world):
    run = await waits(world, "pay")
    stored = await world.context.runs.read(run.id)
    output = asks("resp_1", "pay").output.replace('"{}"', '"{\\"amount\\": 1}"')
    content = await world.context.content.save(run.id, "turn-01-other", output)
    await world.context.runs.commit(stored, replace(stored.run, turns=(content,), rev=stored.run.rev + 1))
    view, _ = await gives(world, run, Approve({"amount": True}))
    assert view.changed == '{"amount":true}'


async def test_11_long_changed_arguments_run_too(world):
    run = await waits(world, "pay")
    seen = []
    world.agents.during = lambda call: seen.append(json.loads(call.arguments))
    changed = {"text": "".join(chr(200 + n * 7919 % 50_000) for n in range(60_000))}
    _, applied = await gives(world, run, Approve(changed))
    await world.work(*applied.messages)
    assert seen == [changed]


async def test_11_arguments_that_do_not_fit_the_tool_are_refused(world):
    world.agents.unfit = {'{"amount":-1}': "amount must be positive"}
    run = await waits(world, "pay")
    fault = await refused(InvalidInput, "invalid_arguments", gives(world, run, Approve({"amount": -1})))
    assert (str(fault), fault.field) == ("amount must be positive", "arguments")
    assert (await world.run(run.id)) == run


async def test_11_the_same_arguments_are_no_change(world):
    run = await waits(world, "pay")
    view, _ = await gives(world, run, Approve({}))
    assert view.changed is None
    assert (await gives(world, run, Approve()))[0].answer == view.answer


async def test_11_a_call_does_not_run_with_arguments_that_nobody_approved(world):
    run = await waits(world, "pay")
    _, applied = await gives(world, run, Approve())
    other = asks("resp_1", "pay").output.replace('"{}"', '"{\\"amount\\": 1000000}"')
    content = await world.context.content.save(run.id, "turn-01-other", other)
    stored = await world.context.runs.read(run.id)
    await world.context.runs.commit(stored, replace(stored.run, turns=(content,), rev=stored.run.rev + 1))
    await world.work(*applied.messages)
    assert not world.agents.runs
    assert "approval_void" in told(world)[run.calls[0].call_id]


async def test_11_a_call_runs_only_when_its_answer_is_stored(world):
    run = await waits(world, "pay")
    _, applied = await gives(world, run, Approve())
    for shard in all_shards():
        for row in await world.table.query(shard, "answer|", "answer}"):
            del world.table._partitions[shard][row.key]
    await world.work(*applied.messages)
    assert not world.agents.runs


async def test_11_an_answer_counts_once(world):
    run = await waits(world, "pay")
    first, _ = await gives(world, run, Refuse("too much"), ANNA)
    for who in (ANNA, BEN):
        again, applied = await gives(world, run, Refuse("too much"), who)
        assert (again.answer, applied.messages) == (first.answer, ())
        assert again.answer.by == "key:anna"
    for other in (Approve(), Refuse(), Refuse("much"), Approve({"a": 1})):
        fault = await refused(Conflict, "call_answered", gives(world, run, other, BEN))
        assert "Anna" in str(fault)
    assert not world.agents.runs


async def test_11_two_answers_at_the_same_moment(world):
    run = await waits(world, "pay")
    commit = world.context.runs.commit

    async def overtaken(*args, **kwargs):
        world.context.runs.commit = commit
        await gives(world, run, Refuse("no"), ANNA)
        return await commit(*args, **kwargs)

    world.context.runs.commit = overtaken
    await refused(Conflict, "call_answered", gives(world, run, Approve({"long": "x" * 10}), BEN))
    ended = await world.run(run.id)
    assert ended.calls[0].status is CallStatus.REFUSED


async def test_11_a_call_does_not_run_when_it_was_not_decided_whether_it_needs_an_approval(world):
    world.agents.unclear = frozenset({"pay"})
    run = await waits(world, "pay", "look_up")
    assert [call.status for call in run.calls] == [CallStatus.FAILED, CallStatus.COMPLETED]
    assert list(world.agents.runs) == [run.calls[1].call_id]


async def test_a_refusal_is_told_with_its_reason(world):
    run = await waits(world, "pay")
    await gives(world, run, Refuse("It was paid \N{EURO SIGN} 20 before."))
    await world.drive()
    error = json.loads(told(world)[run.calls[0].call_id])["error"]
    assert error["code"] == "refused"
    assert error["message"].endswith("The reason: It was paid \N{EURO SIGN} 20 before.")
    assert not world.agents.runs


@pytest.mark.parametrize(
    ("given", "output"),
    [
        (SendOutput("42"), "42"),
        (SendOutput('[{"type":"input_text","text":"a"}]', parts=True), [{"type": "input_text", "text": "a"}]),
        (SendError("no such order"), '{"error": {"code": "tool_error", "message": "no such order"}}'),
    ],
)
async def test_the_caller_runs_a_tool(world, given, output):
    run = await waits(world, "ask")
    await gives(world, run, given)
    await world.drive()
    assert told(world) == {run.calls[0].call_id: output}
    assert not world.agents.runs


async def test_tools_of_a_start_request_are_sent_with_the_agent_s_and_run_by_the_caller(world):
    world.agents.changes = {"tools": '[{"type": "web_search"}]'}
    run = await waits(world, "refund", tools=REFUND)
    assert json.loads(world.provider.creates[0].tools) == [
        {"type": "web_search"},
        {"type": "function", "name": "refund"},
    ]
    assert run.waits_for == (WaitKind.OUTPUT, NOW + timedelta(seconds=5))
    await gives(world, run, SendOutput("done"))
    await world.drive()
    assert json.loads(world.provider.creates[1].tools) == json.loads(world.provider.creates[0].tools)


async def test_a_tool_of_a_start_request_must_not_have_the_name_of_the_agent_s(world):
    tools = CallerTools(frozenset({"pay"}), '[{"type": "function", "name": "pay"}]')
    fault = await refused(InvalidInput, "tool_name_taken", world.start(tools=tools))
    assert fault.field == "tools"


async def test_calls_that_need_nobody_run_at_once(world):
    run = await waits(world, "look_up", "pay")
    assert [call.status for call in run.calls] == [CallStatus.COMPLETED, CallStatus.WAITING]
    assert run.status is RunStatus.REQUIRES_ACTION
    assert list(world.agents.runs) == [run.calls[0].call_id]


async def test_the_next_turn_begins_only_when_all_calls_are_answered(world):
    run = await waits(world, "pay", "pay", "ask")
    await gives(world, run, Approve())
    await world.drive()
    assert (await world.run(run.id)).status is RunStatus.REQUIRES_ACTION
    await gives(world, run, Refuse("no"), number=1)
    await world.drive(3)
    assert len(world.provider.creates) == 1
    await gives(world, run, SendOutput("yes"), number=2)
    await world.drive()
    assert len(world.provider.creates) == 2
    assert len(told(world)) == 3
    assert sum(world.agents.runs.values()) == 1


async def test_an_answer_that_comes_while_other_calls_run(world):
    run = await world.start()
    world.provider.state["resp_1"] = asks("resp_1", "look_up", "pay")
    answers, seen = [], []

    def while_it_runs(call: ToolCall) -> None:
        seen.append(call.name)
        answers.append(call.name)

    world.agents.during = while_it_runs
    [message] = await world.tick()
    run_tools = world.agents.run_tools

    async def answered_meanwhile(agent, calls, permit):
        async for result in run_tools(agent, calls, permit):
            if result.call_id == calls[0].call_id and len(seen) == 1:
                now = await world.run(run.id)
                assert (now.status, now.step) == (RunStatus.IN_PROGRESS, Step.TOOLS)
                view, applied = await gives(world, now, Approve(), number=1)
                assert (view.call.status, applied.messages) == (CallStatus.QUEUED, ())
            yield result

    world.agents.run_tools = answered_meanwhile
    messages = [message]
    while messages:
        messages += await world.work(messages.pop())
    assert seen == ["look_up", "pay"]
    assert len(world.provider.creates) == 2


async def test_a_call_that_is_approved_while_a_worker_loads_is_not_started_unseen(world):
    """The worker has loaded the calls of the turn before the approval with its changed arguments."""
    run = await waits(world, "pay", "pay")
    _, applied = await gives(world, run, Approve())
    apply_claim = world.context.runs.commit
    seen = []
    world.agents.during = lambda call: seen.append(call.arguments)

    async def approved_meanwhile(stored, after, *args, **kwargs):
        if after.lease and len(world.agents.runs) == 0:
            world.context.runs.commit = apply_claim
            _, more = await gives(world, run, Approve({"amount": 1}), number=1)
            messages.extend(more.messages)
        return await apply_claim(stored, after, *args, **kwargs)

    messages = list(applied.messages)
    world.context.runs.commit = approved_meanwhile
    while messages:
        messages += await world.work(messages.pop(0))
    assert sorted(seen) == ['{"amount":1}', "{}"]


async def test_12_a_run_whose_clock_goes_on_by_a_clock_that_is_behind_is_still_read(world):
    """The clocks of two hosts differ by up to two seconds, and a row holds no negative time."""
    run = await waits(world, "pay")
    world.clock.at = run.paused_at - timedelta(seconds=2)
    await gives(world, run, Approve())
    going = await world.run(run.id)
    assert (going.paused_at, going.paused, going.expires_at) == (None, timedelta(), run.expires_at)


async def test_11_who_loaded_a_call_before_it_waited_does_not_start_it_once_it_is_approved(world):
    """He has the model's arguments, and not those that were approved."""
    run = await world.start()
    world.provider.state |= {"resp_1": asks("resp_1", "pay")}
    messages = await world.tick()
    early = await load_calls(world.context, await world.run(run.id))
    await world.work(*messages)
    await gives(world, await world.run(run.id), Approve({"amount": 1}))
    approved = await world.run(run.id)
    lease = Lease("late", world.clock.now() + timedelta(seconds=15))
    late, effects = advance(approved, events.Claimed(lease, Step.TOOLS, 1, early.queued), world.clock.now())
    assert late.calls == approved.calls
    assert (late.step, late.lease, effects) == (Step.TOOLS, None, (Wake(),))


async def test_12_the_clock_stands_still_while_people_decide(world):
    run = await waits(world, "pay")
    assert run.paused_at == NOW + timedelta(seconds=5)
    await world.drive(3, seconds=12 * 3600)
    pause = world.clock.now() - run.paused_at
    assert (await world.run(run.id)).status is RunStatus.REQUIRES_ACTION
    await gives(world, run, Approve())
    going = await world.run(run.id)
    assert (going.paused_at, going.paused) == (None, pause)
    assert going.expires_at == run.expires_at + pause
    expired = await world.until_terminal(run.id, seconds=60)
    assert expired.status is RunStatus.EXPIRED
    assert expired.completed_at - expired.created_at - pause < timedelta(minutes=32)


async def test_12_a_tool_that_waits_beside_one_that_runs_does_not_stop_the_clock(world):
    given = _waiting(CallStatus.IN_PROGRESS, lease=LEASE)
    assert given.paused_at is None
    made, _ = advance(given, events.Answered(1, "call_b", AnswerType.REFUSED), NOW + timedelta(hours=1))
    assert (made.expires_at, made.paused) == (given.expires_at, timedelta())


async def test_who_reads_a_run_comes_soon_after_its_answer_however_long_it_has_waited(world):
    client = Client(world.context)
    run = await waits(world, "pay")
    world.clock.pass_(86400)
    assert (await client.get("/runs/{run_id}", run.id)).headers["Retry-After"] == "30"
    await gives(world, run, Approve())
    assert (await client.get("/runs/{run_id}", run.id)).headers["Retry-After"] == "2"


async def test_12_a_wait_ends_and_the_model_is_told(world):
    run = await waits(world, "pay", "ask")
    await world.drive(1, seconds=2 * 86400 - 20)
    assert (await world.run(run.id)).calls == run.calls
    await world.drive(1, seconds=30)
    waiting = await world.run(run.id)
    assert [call.status for call in waiting.calls] == [CallStatus.TIMED_OUT, CallStatus.WAITING]
    assert waiting.status is RunStatus.REQUIRES_ACTION
    await refused(Conflict, "wait_ended", gives(world, run, Approve()))
    await world.drive(1, seconds=86400)
    await world.drive()
    outputs = [json.loads(output)["error"]["message"] for output in told(world).values()]
    assert outputs == [
        "The call did not run. Nobody answered within 2 days.",
        "The call did not run. Nobody answered within 3 days.",
    ]
    world.provider.state["resp_2"] = answer("resp_2")
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED
    assert not world.agents.runs


async def test_12_an_answer_is_too_late_from_the_end_of_the_wait_on(world):
    run = await waits(world, "pay")
    world.clock.at = run.wait_ends_at - timedelta(microseconds=1)
    early = await world.run(run.id)
    world.clock.at = run.wait_ends_at
    await refused(Conflict, "wait_ended", gives(world, run, Approve()))
    assert await world.run(run.id) == early
    given = events.Answered(1, run.calls[0].call_id, AnswerType.APPROVED)
    assert advance(run, given, run.wait_ends_at)[0] is run
    assert advance(run, given, run.wait_ends_at - timedelta(microseconds=1))[0] is not run


async def test_12_a_stored_answer_is_not_overtaken_by_the_end_of_its_wait(world):
    run = await waits(world, "pay")
    await gives(world, run, Approve())
    approved = await world.run(run.id)
    assert advance(approved, events.WaitEnded(), NOW + 30 * DAY)[0] is approved


async def test_a_waiting_run_can_be_cancelled(world):
    run = await waits(world, "pay")
    cancelled = (await cancel(world.context, CALLER, run.id)).stored.run
    assert (cancelled.status, cancelled.calls[0].status) == (RunStatus.CANCELLED, CallStatus.CANCELLED)
    await refused(Conflict, "run_ended", gives(world, run, Approve()))
    assert await rows_of(world) == []
    assert (await world.context.sessions.read(run.session_id)).session.held_by is None


async def test_a_waiting_run_can_be_deleted(world):
    run = await waits(world, "pay", "pay")
    await gives(world, run, Refuse("no"))
    await delete_run(world.context, CALLER, run.id)
    await refused(NotFound, "run_not_found", gives(world, run, Approve(), number=1))
    await world.drive(3, seconds=900)
    left = [row.key for shard in all_shards() for row in await world.table.query(shard, "", "~")]
    assert not [key for key in left if key.startswith(("paused|", "answer|", "pending~"))]


async def test_an_answer_to_a_run_that_is_being_cancelled_is_refused(world):
    given = _waiting(CallStatus.IN_PROGRESS, status=RunStatus.CANCELLING, lease=LEASE)
    assert advance(given, events.Answered(1, "call_b", AnswerType.APPROVED), NOW)[0] is given


async def test_a_session_is_busy_while_its_run_waits(world):
    run = await waits(world, "pay")
    await refused(Conflict, "session_busy", world.start(session_id=run.session_id))


async def test_an_approved_call_whose_worker_dies_has_an_unknown_outcome(world):
    run = await waits(world, "pay")
    _, applied = await gives(world, run, Approve())

    def die(_call):
        raise KeyboardInterrupt

    world.agents.during = die
    with pytest.raises(KeyboardInterrupt):
        await world.work(*applied.messages)
    world.agents.during = None
    await world.drive(2, seconds=20)
    assert (await world.run(run.id)).calls[0].status is CallStatus.UNKNOWN
    assert sum(world.agents.runs.values()) == 1


async def test_a_replay_carries_what_was_answered(world):
    run = await waits(world, "pay", "pay")
    await gives(world, run, Approve())
    await gives(world, run, Refuse("no"), number=1)
    world.provider.create_replies = [broken_chain("resp_1 is gone")]
    await world.drive(2)
    kinds = [item.get("type", "message") for item in sent(world)]
    assert kinds == ["message", "function_call", "function_call", *2 * ["function_call_output"]]
    assert len(told(world)) == 2


def hosted(number=1, **changes) -> Snapshot:
    call = ToolCall(f"mcpr_{number}", "delete_page", '{"page":7}', kind=CallKind.MCP_APPROVAL, server="docs")
    item = {
        "type": "mcp_approval_request",
        "id": call.call_id,
        "server_label": "docs",
        "name": call.name,
        "arguments": call.arguments,
    }
    return Snapshot(
        response_id="resp_1",
        status=ResponseStatus.COMPLETED,
        output=json.dumps([item]),
        calls=(call,),
        usage=Usage(1, 1, 2),
        **changes,
    )


async def waits_for_hosted(world: World) -> Run:
    run = await world.start()
    world.provider.state["resp_1"] = hosted()
    await world.drive(2)
    return await world.run(run.id)


@pytest.mark.parametrize(
    ("given", "response"),
    [
        (Approve(), {"approve": True}),
        (Refuse("not this page"), {"approve": False, "reason": "not this page"}),
        (Refuse(), {"approve": False, "reason": "A person refused this call."}),
        (None, {"approve": False, "reason": "Nobody answered within 7 days."}),
    ],
    ids=["approved", "refused", "refused without a reason", "nobody answers"],
)
async def test_the_approval_of_a_hosted_call_is_sent_to_the_provider(world, given, response):
    run = await waits_for_hosted(world)
    assert run.waits_for == (WaitKind.APPROVAL, NOW + timedelta(seconds=5))
    if given:
        await gives(world, run, given)
    else:
        world.clock.pass_(7 * 86400)
    await world.drive(2)
    assert sent(world) == [{"type": "mcp_approval_response", "approval_request_id": "mcpr_1", **response}]
    assert not world.agents.runs


async def test_a_hosted_approval_is_replayed_with_its_request(world):
    run = await waits_for_hosted(world)
    await gives(world, run, Approve())
    world.provider.create_replies = [broken_chain("resp_1 is gone")]
    await world.drive(2)
    kinds = [item.get("type", "message") for item in sent(world)]
    assert kinds == ["message", "mcp_approval_request", "mcp_approval_response"]


async def test_the_arguments_of_a_hosted_call_cannot_be_changed(world):
    run = await waits_for_hosted(world)
    fault = await refused(InvalidInput, "arguments_fixed", gives(world, run, Approve({"page": 8})))
    assert fault.field == "arguments"
    # Not even by nothing: whoever sends arguments expects them to count.
    await refused(InvalidInput, "arguments_fixed", gives(world, run, Approve({"page": 7})))


async def test_calls_of_the_caller_are_handed_over_and_the_next_run_brings_their_outputs(world):
    run = await waits(world, "look_up", "ask", caller_calls=CallerCalls.END)
    own, handed = run.calls
    assert (run.status, own.status, handed.status) == (
        RunStatus.COMPLETED,
        CallStatus.COMPLETED,
        CallStatus.HANDED_OVER,
    )
    session = (await world.context.sessions.read(run.session_id)).session
    assert (session.awaits_outputs, session.last_response_id) == (True, "resp_1")
    fault = await refused(InvalidInput, "output_missing", world.start(session_id=session.id))
    assert fault.field == "input"
    item = {"type": "function_call_output", "call_id": handed.call_id, "output": "yes"}
    following = await world.start(
        session_id=session.id,
        input=json.dumps([item]),
        answers=Answers({handed.call_id: "function_call_output"}),
    )
    assert world.provider.creates[-1].previous_response_id == "resp_1"
    assert sent(world) == [
        {"type": "function_call_output", "call_id": own.call_id, "output": f"result of {own.call_id}"},
        item,
    ]
    world.provider.state["resp_2"] = answer("resp_2")
    await world.until_terminal(following.id)
    assert not (await world.context.sessions.read(run.session_id)).session.awaits_outputs
    await world.start(session_id=session.id)
    assert len(sent(world)) == 1


async def test_a_replay_after_calls_were_handed_over(world):
    run = await waits(world, "look_up", "ask", caller_calls=CallerCalls.END)
    item = {"type": "function_call_output", "call_id": run.calls[1].call_id, "output": "yes"}
    world.provider.create_replies = [broken_chain("resp_1 is gone")]
    await world.start(
        session_id=run.session_id,
        input=json.dumps([item]),
        answers=Answers({run.calls[1].call_id: "function_call_output"}),
    )
    assert [each.get("type", "message") for each in sent(world)] == [
        "message",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
    ]


async def test_calls_that_are_handed_over_wait_for_approvals_beside_them(world):
    run = await waits(world, "pay", "ask", caller_calls=CallerCalls.END)
    assert run.status is RunStatus.REQUIRES_ACTION
    assert [call.name for call, _ in run.waits] == ["pay"]
    await gives(world, run, Approve())
    await world.drive()
    ended = await world.run(run.id)
    assert (ended.status, len(world.provider.creates)) == (RunStatus.COMPLETED, 1)
    await refused(Conflict, "call_not_waiting", gives(world, run, SendOutput("x"), number=1))


async def test_a_retry_brings_the_same_tools_and_has_the_same_time(world):
    run = await waits(world, "refund", tools=REFUND, caller_calls=CallerCalls.WAIT)
    world.clock.pass_(86400)
    await cancel(world.context, CALLER, run.id)
    again = (await retry(world.context, CALLER, run.id, key=None)).stored.run
    assert again.expires_at - again.created_at == timedelta(minutes=30)
    assert "refund" in world.provider.creates[-1].tools


async def test_who_may_answer(world):
    run = await waits(world, "pay", "ask")
    pay, ask = ids_of(run)
    reader = Caller(OWNER, frozenset({Role.READER, Role.CALLER}), Recognition.API_KEY)
    approver = Caller(OWNER, frozenset({Role.APPROVER, Role.READER}), Recognition.API_KEY)
    stranger = Caller("key:eve", frozenset({Role.READER, Role.CALLER}), Recognition.API_KEY)
    proxied = Caller("eve", recognition=Recognition.OWNER_HEADER)
    context = world.context
    await refused(BatonError, "role_missing", answer_call(context, reader, run.id, pay, Approve()))
    await refused(BatonError, "role_missing", answer_call(context, approver, run.id, ask, SendOutput("x")))
    await refused(NotFound, "call_not_found", answer_call(context, ANNA, run.id, ask, SendOutput("x")))
    for foreign in (stranger, proxied):
        await refused(NotFound, "run_not_found", answer_call(context, foreign, run.id, pay, Approve()))
        await refused(NotFound, "run_not_found", list_calls(context, foreign, run.id, after=0, limit=20))
    assert (await world.run(run.id)).calls == run.calls
    await answer_call(context, ANNA, run.id, pay, Approve())
    await answer_call(context, reader, run.id, ask, SendOutput("x"))


async def test_an_answer_must_fit_what_the_call_waits_for(world):
    run = await waits(world, "pay", "ask")
    for given, number, field in (
        (SendOutput("x"), 0, "output"),
        (SendError("x"), 0, "error"),
        (Approve(), 1, "approve"),
        (Refuse(), 1, "approve"),
    ):
        fault = await refused(InvalidInput, "answer_does_not_fit", gives(world, run, given, number=number))
        assert fault.field == field


async def test_an_approver_sees_the_waiting_calls_of_another_owner_and_nothing_else(world):
    run = await waits(world, "look_up", "pay", "pay", "ask")
    views, _ = await list_calls(world.context, ANNA, run.id, after=0, limit=20)
    assert [view.id for view in views] == ids_of(run)[1:3]
    await gives(world, run, Refuse(), ANNA, number=1)
    views, _ = await list_calls(world.context, ANNA, run.id, after=0, limit=20)
    assert [view.id for view in views] == ids_of(run)[2:3]


async def test_waits_are_listed_oldest_first_in_pages(world):
    runs = []
    for number in range(5):
        run = await world.start()
        response = f"resp_{number + 1}"
        world.provider.state[response] = asks(response, "pay", "pay", "ask")
        await world.drive(2)
        runs.append(await world.run(run.id))
    expected = [each for run in runs for each in ids_of(run)[:2]]
    for limit in (1, 3, 4, 10, 100):
        found, cursor, pages = [], None, 0
        while True:
            views, cursor = await list_waits(world.context, ANNA, after=cursor, limit=limit)
            found += [view.id for view in views]
            pages += 1
            assert len(views) <= limit
            if cursor is None:
                break
        assert found == expected
        assert pages <= 10 // limit + 2
    assert await oldest_wait(world.context) == runs[0].calls[0].wait.since
    await gives(world, runs[0], Refuse())
    await gives(world, runs[0], Refuse(), number=1)
    assert await oldest_wait(world.context) == runs[1].calls[0].wait.since
    proxied = Caller("eve", recognition=Recognition.OWNER_HEADER)
    assert await list_waits(world.context, proxied, after=None, limit=10) == ([], None)


async def test_runs_that_cannot_be_read_hide_no_other_wait(world):
    runs = [await _another_wait(world, number) for number in range(6)]
    for run in runs[:5]:
        stored = world.table._partitions[run.id[4:6]][f"run|{run.id}"]
        world.table._partitions[run.id[4:6]][stored.key] = replace(
            stored, values={**stored.values, "due": "?"}
        )
    found, cursor = [], None
    for _ in range(10):
        views, cursor = await list_waits(world.context, ANNA, after=cursor, limit=2)
        found += [view.run.id for view in views]
        if cursor is None:
            break
    assert (found, cursor) == ([runs[5].id], None)


async def _another_wait(world: World, number: int) -> Run:
    run = await world.start()
    response = f"resp_{number + 1}"
    world.provider.state[response] = asks(response, "pay")
    await world.drive(2)
    return await world.run(run.id)


async def test_waits_are_found_without_reading_runs_that_do_not_wait(world):
    await waits(world, "pay")
    for _ in range(30):
        await world.start()
    world.table.taken()
    rows = world.table.rows_read
    await list_waits(world.context, ANNA, after=None, limit=10)
    assert world.table.taken() == {"query": 16, "get": 1}
    assert world.table.rows_read - rows == 1


async def test_a_thousand_waiting_runs_cost_a_tick_no_row_more(world):
    async def rows_of_a_tick() -> tuple[int, dict[str, int]]:
        world.table.taken()
        before = world.table.rows_read
        await world.drive()
        return world.table.rows_read - before, world.table.taken()

    template = await waits(world, "pay")
    await world.drive()
    idle = await rows_of_a_tick()
    stored = await world.context.runs.read(template.id)

    for number in range(1000):
        run = replace(
            stored.run, id=an_id("run", number % 16, number // 16, at=NOW + number * timedelta(days=1))
        )
        await world.table.write(f"{number % 16:02x}", wait_writes(None, run))
    await world.drive()
    assert await rows_of_a_tick() == idle


async def test_a_run_that_does_not_wait_has_no_row_and_no_operation_more(world):
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "look_up"), "resp_2": answer("resp_2")}
    await world.until_terminal(run.id)
    assert await rows_of(world) == []
    assert world.agents.runs


async def test_paused_runs_count_as_pending(world):
    limited = World(agents=world.agents, limits=Limits(pending_runs=2))
    await waits(limited, "pay", "look_up")
    await limited.start()
    with pytest.raises(TooMany):
        await limited.start()


async def test_a_read_wakes_a_worker_when_the_timer_has_not_ended_a_wait(world):
    run = await waits(world, "pay")
    waker = Waker()
    world.clock.at = run.wait_ends_at + LATE
    assert await waker.messages(world.context, run) == ()
    world.clock.pass_(1)
    [message] = await waker.messages(world.context, run)
    assert queue_of(message) is Queue.WORK
    await world.work(message)
    assert (await world.run(run.id)).calls[0].status is CallStatus.TIMED_OUT


async def test_a_clock_row_that_ends_no_wait_is_removed(world):
    run = await waits(world, "pay")
    orphan = clock_message(replace(_clock(run), due=NOW))
    await world.work(orphan)
    assert (await world.run(run.id)).calls == run.calls
    assert await rows_of(world) == ["paused", "pending"]
    await cancel(world.context, CALLER, run.id)

    shard = run.id[4:6]
    await world.table.write(shard, [Put(Row(rows.clock_key(_clock(run)), {}))])
    await world.drive(1, seconds=3 * 86400)
    assert await rows_of(world) == []


def _clock(run: Run):

    return ClockRow(run.wait_ends_at, run.id, WAIT)


def _waiting(first: CallStatus, **changes) -> Run:
    """Return a run with a call that runs and one that waits."""
    wait = Wait(WaitKind.APPROVAL, NOW, NOW + DAY)
    calls = (
        ToolCall("call_a", "look_up", turn=1, status=first),
        ToolCall("call_b", "pay", turn=1, status=CallStatus.WAITING, wait=wait),
    )
    return a_run(**{"status": RunStatus.IN_PROGRESS, "step": Step.TOOLS, "calls": calls} | changes)


def test_an_answer_to_a_call_of_an_earlier_turn_changes_nothing():
    given = _waiting(CallStatus.IN_PROGRESS, lease=LEASE)
    assert advance(given, events.Answered(2, "call_b", AnswerType.APPROVED), NOW)[0] is given
    assert advance(given, events.Answered(1, "call_a", AnswerType.APPROVED), NOW)[0] is given


def test_the_log_says_who_answered_and_how():
    given = _waiting(CallStatus.IN_PROGRESS, lease=LEASE)
    event = events.Answered(1, "call_b", AnswerType.REFUSED, "key:anna", "Anna", "no")
    _, effects = advance(given, event, NOW)
    assert effects == (
        log.CallAnswered(1, "call_b", "pay", "refused", "key:anna", "Anna", "no"),
        log.ToolCompleted(1, "call_b", "pay", "refused"),
    )


async def test_11_a_call_that_nobody_has_decided_about_is_not_begun_again(world):
    """It died before its end, and when it is taken up again, its arguments fit its tool."""
    world.agents.unclear = frozenset({"pay"})
    world.agents.changes = {"repeatable": frozenset({"pay"})}
    run = await world.start()
    world.provider.state["resp_1"] = asks("resp_1", "pay")
    await world.tick()
    stored = await world.context.runs.read(run.id)
    loaded = await load_calls(world.context, stored.run)
    event = events.Claimed(world.context.lease(), Step.TOOLS, 1, loaded.queued, loaded.unclear)
    await apply(world.context, stored, event)
    world.agents.unclear = frozenset()
    await world.drive(5, 20)
    ended = await world.run(run.id)
    assert not world.agents.runs
    assert ended.calls[0].status in {CallStatus.FAILED, CallStatus.UNKNOWN}


async def test_a_page_of_waits_that_is_full_of_bytes_hides_no_call(world):
    run = await waits(world, "pay", "pay", "pay")
    stored = await world.context.runs.read(run.id)
    items = json.loads(asks("resp_1", "pay", "pay", "pay").output)
    items.append({"type": "reasoning", "summary": "x" * (MAX_CALLS_BYTES + 1)})
    content = await world.context.content.save(run.id, "turn-01-other", json.dumps(items))
    await world.context.runs.commit(stored, replace(stored.run, turns=(content,), rev=stored.run.rev + 1))
    found, cursor = [], None
    for _ in range(6):
        views, cursor = await list_waits(world.context, ANNA, after=cursor, limit=10)
        found += [view.id for view in views]
        if cursor is None:
            break
    assert (found, cursor) == (ids_of(run), None)


async def test_an_approver_who_answers_page_by_page_misses_no_call(world):
    run = await waits(world, *["pay"] * 4)
    first, after = await list_calls(world.context, ANNA, run.id, after=0, limit=2)
    for view in first:
        await answer_call(world.context, ANNA, run.id, view.id, Refuse())
    rest, _ = await list_calls(world.context, ANNA, run.id, after=after, limit=2)
    assert [view.id for view in rest] == ids_of(run)[2:]


async def test_only_a_completed_run_hands_calls_over(world):
    run = await waits(world, "pay", "ask", caller_calls=CallerCalls.END)
    await cancel(world.context, CALLER, run.id)
    ended = await world.run(run.id)
    assert [call.status for call in ended.calls] == [CallStatus.CANCELLED, CallStatus.CANCELLED]


async def test_the_deletion_of_an_earlier_run_does_not_let_outputs_be_left_out(world):
    run = await waits(world, "ask", caller_calls=CallerCalls.END)
    first = run.calls[0].call_id
    item = {"type": "function_call_output", "call_id": first, "output": "yes"}
    following = await world.start(
        session_id=run.session_id,
        input=json.dumps([item]),
        answers=Answers({first: "function_call_output"}),
        caller_calls=CallerCalls.END,
    )
    world.provider.state["resp_2"] = asks("resp_2", "ask")
    await world.until_terminal(following.id)
    await delete_run(world.context, CALLER, run.id)
    await refused(InvalidInput, "output_missing", world.start(session_id=run.session_id))


async def test_broken_rows_of_waits_hide_no_other_wait(world):
    run = await waits(world, "pay")
    values = {"kind": WaitKind.APPROVAL.value, "owner": OWNER}
    for number in range(40):
        key = f"paused|2020-01-01T00:00:{number:02d}.000000Z|broken"
        await world.table.write(run.id[4:6], [Put(Row(key, values))])
    views, _ = await list_waits(world.context, ANNA, after=None, limit=2)
    assert [view.id for view in views] == ids_of(run)
    assert await oldest_wait(world.context) == run.calls[0].wait.since


async def test_a_tool_that_the_agent_gets_later_is_not_sent_beside_one_of_the_same_name(world):
    run = await waits(world, "refund", tools=REFUND)
    world.agents.changes = {"tools": '[{"type": "function", "name": "refund"}, {"type": "web_search"}]'}
    await gives(world, run, SendOutput("paid"))
    await world.drive()
    tools = json.loads(world.provider.creates[-1].tools)
    assert [each.get("name", each["type"]) for each in tools] == ["web_search", "refund"]


async def test_an_approver_sees_no_call_of_a_run_that_is_being_cancelled(world):
    found = []

    async def cancelled(*args):
        run_id = args[1][0].run_id
        await cancel(world.context, CALLER, run_id)
        found.append(await list_calls(world.context, ANNA, run_id, after=0, limit=20))
        async for result in run_tools(*args):
            yield result

    run_tools, world.agents.run_tools = world.agents.run_tools, cancelled
    run = await waits(world, "pay", "look_up")
    assert (run.status, found) == (RunStatus.CANCELLED, [([], None)])
