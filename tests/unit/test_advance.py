"""The rules of a run's life, one at a time."""

import itertools
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from shared.core import log
from shared.core.calls import AnswerType, CallerCalls, CallKind, CallStatus, ToolCall, Wait, WaitKind
from shared.core.delivery import CancelResponse
from shared.core.life import events
from shared.core.life.advance import MOVES, advance
from shared.core.life.calling import MAX_CALL_ID_BYTES, MAX_CALLS_PER_RUN, id_bytes
from shared.core.life.creating import MAX_UNUSABLE_CREATES, verdict
from shared.core.life.events import Deliver, Join, Wake
from shared.core.life.generating import MAX_RESTARTS
from shared.core.life.leasing import RENEWED_FOR
from shared.core.life.polling import MISSING_GRACE, read_verdict
from shared.core.life.rule import IllegalTransition
from shared.core.life.session import SessionChange, session_change
from shared.core.response import (
    RESPONSE_SLOW,
    ItemStarted,
    NotNow,
    Refused,
    ResponseStatus,
    RunError,
    Slice,
    Snapshot,
    TextAdded,
    Usage,
)
from shared.core.run import (
    OUTCOMES,
    UNANSWERED_CALL,
    Chaining,
    Content,
    Continuation,
    Lease,
    OpenItem,
    Run,
    RunStatus,
    Step,
    Waiting,
)
from shared.core.transcript import ItemOutline, PartOutline
from tests.support.runs import NOW, a_run

LEASE = Lease("mine", NOW + timedelta(seconds=60))
OTHER = Lease("other", NOW + timedelta(seconds=60))
OUTPUT = Content(inline=b"items")
# The continuation of a response that is read completely, and of one that is read in slices.
PLAIN, STREAM = Continuation("resp_1"), Continuation("resp_1", 3)
LATER = NOW + timedelta(seconds=61)
# Shortly before the end of the lease, when it can be renewed.
SOON = NOW + timedelta(seconds=55)
HOUR_LATER = NOW + timedelta(hours=1)
BUSY = RunError("rate_limited", "The provider answered HTTP 429.", "rate_limit_exceeded")
OUTAGE = RunError("provider_unavailable", "The provider answered HTTP 503.", "server_error")


def creating(**changes) -> Run:
    return a_run(**({"lease": LEASE, "due": LEASE.expires_at} | changes))


def polling(**changes) -> Run:
    base = {
        "status": RunStatus.IN_PROGRESS,
        "step": Step.POLL,
        "continuation": PLAIN,
        "responses": ("resp_1",),
        "turn_started_at": NOW,
    }
    return a_run(**(base | changes))


def call(name="pay", status=CallStatus.QUEUED, *, idempotent=False, turn=1) -> ToolCall:
    return ToolCall(call_id=f"call_{name}", name=name, turn=turn, idempotent=idempotent, status=status)


def streaming(**changes) -> Run:
    """Return a run with five characters, from slices, of a message that is not finished."""
    at_work = {
        "stream": True,
        "continuation": STREAM,
        "written": 5,
        "items": 1,
        "turn_items": 1,
        "open_items": (OpenItem(0, 0, parts=1, part_open=True),),
    }
    return polling(**(at_work | changes))


def a_slice(text="", after=3, sequence=4, **changes) -> Slice:
    added = (TextAdded(0, text),) if text else ()
    return Slice(response_id="resp_1", after=after, sequence=sequence, **({"changes": added} | changes))


def finished(given: Run, snapshot: Snapshot, **changes) -> events.Polled:
    """Return a read of a finished response, compared with all that the run has of its text."""
    return events.Polled(snapshot, OUTPUT, **({"compared": given.continuation} | changes))


def writes(characters: int) -> tuple[ItemOutline, ...]:
    return (ItemOutline("message", parts=(PartOutline("output_text", characters),)),)


def owing_tools(*calls: ToolCall, **changes) -> Run:
    base = {"status": RunStatus.IN_PROGRESS, "step": Step.TOOLS, "calls": calls, "responses": ("resp_1",)}
    return a_run(**(base | changes))


def snapshot(status=ResponseStatus.COMPLETED, *names: str, **changes) -> Snapshot:
    calls = tuple(ToolCall(f"call_{name}", name, "{}") for name in names)
    return Snapshot(response_id="resp_1", status=status, calls=calls, usage=Usage(1, 2, 3), **changes)


def claims(run: Run, lease: Lease = OTHER, wait: Wait | None = None) -> events.Claimed:
    """Return the claim of a worker that read the run as it is. All of its calls need `wait`, if it is given."""
    calls = {call.call_id: wait for call in run.calls}
    return events.Claimed(lease, run.step, run.turn, calls, written=run.written)


def approval(since=NOW, **changes) -> Wait:
    return Wait(WaitKind.APPROVAL, since, since + timedelta(seconds=60), **changes)


def output(since=NOW) -> Wait:
    return Wait(WaitKind.OUTPUT, since, since + timedelta(seconds=60))


def waiting_call(name="pay", wait: Wait | None = None, **changes) -> ToolCall:
    return replace(call(name, CallStatus.WAITING), wait=wait or approval(), **changes)


def generating(**changes) -> Run:
    """Return a run whose worker holds a stream, of which five characters are stored."""
    base = {
        "generates": True,
        "step": Step.GENERATE,
        "continuation": None,
        "responses": (),
        "due": NOW,
        **{name: getattr(streaming(), name) for name in ("written", "items", "turn_items", "open_items")},
    }
    return polling(**(base | changes))


def paused(*calls: ToolCall, **changes) -> Run:
    """Return a run that only people can move."""
    base = {"status": RunStatus.REQUIRES_ACTION, "step": Step.ANSWER, "paused_at": NOW}
    return owing_tools(*(calls or (waiting_call(),)), **(base | changes))


def after(given: Run, event, now=NOW) -> Run:
    return advance(given, event, now)[0]


def kinds(given: Run, event, now=NOW) -> list[str]:
    return [getattr(effect, "type", type(effect).__name__) for effect in advance(given, event, now)[1]]


def entries(given: Run, event, now=NOW) -> list[log.LogEntry]:
    return [effect for effect in advance(given, event, now)[1] if not isinstance(effect, Wake | Deliver)]


def test_a_created_response_is_what_the_run_continues_and_ends_the_lease():
    made = after(
        creating(), events.Created("mine", Snapshot(response_id="resp_1", status=ResponseStatus.QUEUED))
    )
    assert (made.continuation, made.step, made.lease, made.responses) == (PLAIN, Step.POLL, None, ("resp_1",))
    assert made.status is RunStatus.QUEUED
    assert made.rev == 2


def test_a_later_turn_never_goes_back_to_queued():
    given = creating(status=RunStatus.IN_PROGRESS, turn=2)
    made = after(given, events.Created("mine", Snapshot(response_id="r", status=ResponseStatus.QUEUED)))
    assert made.status is RunStatus.IN_PROGRESS


@pytest.mark.parametrize(
    "given",
    [
        creating(lease=OTHER),
        polling(continuation=Continuation("resp_0")),
        a_run(status=RunStatus.EXPIRED, step=Step.NOTHING),
    ],
)
def test_a_response_that_comes_too_late_is_abandoned(given):
    noted, effects = advance(given, events.Created("mine", snapshot(ResponseStatus.QUEUED)), NOW)
    assert (noted.status, noted.step, noted.responses) == (given.status, given.step, given.responses)
    cancelled = Deliver(CancelResponse(given.provider, "resp_1")) in effects
    assert (cancelled, noted.abandoned == ("resp_1",)) == ("resp_1" not in given.responses,) * 2
    assert advance(noted, events.Created("mine", snapshot(ResponseStatus.QUEUED)), NOW) == (noted, ())


def test_a_response_created_while_cancelling_is_cancelled():
    given = creating(status=RunStatus.CANCELLING)
    made, effects = advance(given, events.Created("mine", snapshot(ResponseStatus.QUEUED)), NOW)
    assert (made.status, made.step, made.continuation) == (RunStatus.CANCELLING, Step.CANCEL, PLAIN)
    assert Wake() in effects


def test_refused_creates_end_the_run():
    error = RunError("provider_denied", "no")
    assert after(creating(), events.CreateRefused("mine", error)).error == error
    assert (
        after(creating(status=RunStatus.CANCELLING), events.CreateRefused("mine", error)).status
        is RunStatus.CANCELLED
    )
    assert after(creating(), events.CreateRefused("other", error)).status is RunStatus.QUEUED


def test_a_deferred_create_waits_without_a_lease():
    made = after(creating(), events.CreateDeferred("mine", LATER, BUSY, unknown=True))
    assert (made.due, made.lease, made.unknown_creates) == (LATER, None, 1)
    assert after(creating(), events.CreateDeferred("mine", LATER, BUSY)).unknown_creates == 0


def test_the_third_success_that_cannot_be_used_ends_the_run():
    run = creating()
    for number in (1, 2, 3):
        run = replace(run, lease=LEASE)
        assert run.status is RunStatus.QUEUED
        run = after(run, events.CreateDeferred("mine", LATER, BUSY, unknown=True, unusable=True))
        assert (run.unusable_creates, run.unknown_creates) == (number, number)
    assert (run.status, run.error.code) == (RunStatus.FAILED, "provider_unusable")
    assert BUSY.message in run.error.message
    adopted = after(creating(unusable_creates=2), events.Created("mine", snapshot(ResponseStatus.QUEUED)))
    assert adopted.unusable_creates == 0


def test_the_ids_of_responses_have_a_limit_together():
    ids = tuple(f"{number:02d}" + "x" * 1022 for number in range(40))
    long = Snapshot(response_id="y" * 1024, status=ResponseStatus.QUEUED)
    assert verdict(creating(responses=ids[:39]), long) is long
    refused = verdict(creating(responses=ids), long)
    assert isinstance(refused, Refused)
    assert refused.error.code == "provider_unusable"
    late = after(creating(lease=OTHER, abandoned=ids), events.Created("mine", long))
    assert late.abandoned == (*ids[1:], long.response_id)


@pytest.mark.parametrize("run_id", ["run_another", ""])
def test_the_response_of_another_run_is_not_adopted(run_id):
    reply = verdict(creating(), Snapshot(response_id="r", status=ResponseStatus.QUEUED, run_id=run_id))
    assert isinstance(reply, NotNow)
    assert (reply.unusable, reply.unknown) == (True, True)
    own = Snapshot(response_id="r", status=ResponseStatus.QUEUED, run_id=creating().id)
    assert verdict(creating(), own) is own
    assert isinstance(read_verdict(creating().id, replace(own, run_id=run_id)), NotNow)
    assert read_verdict(creating().id, own) is own


def test_why_a_run_waits_is_logged_once_for_each_reason():
    run, logged = creating(), []
    for error in (BUSY, replace(BUSY, message="Still busy."), OUTAGE, BUSY):
        event = events.CreateDeferred("mine", LATER, error)
        logged.append(kinds(replace(run, lease=LEASE), event))
        run = after(replace(run, lease=LEASE), event)
    assert logged == [["run.waiting"], [], ["run.waiting"], ["run.waiting"]]
    assert run.waiting == Waiting(BUSY, NOW, 4)
    assert (
        after(replace(run, lease=LEASE), events.Created("mine", snapshot(ResponseStatus.QUEUED))).waiting
        is None
    )


def test_a_refused_key_is_left_out_under_the_same_lease():
    made = after(creating(), events.KeyRefused(LEASE))
    assert (made.keyless, made.lease, made.step, made.repeats) == (True, LEASE, Step.CREATE, 0)
    cancelled = after(creating(status=RunStatus.CANCELLING), events.KeyRefused(LEASE))
    assert cancelled.status is RunStatus.CANCELLED
    late = creating(lease=OTHER)
    assert after(late, events.KeyRefused(LEASE)) is late


def test_a_deadline_says_for_what_the_run_waited():
    late = NOW + timedelta(hours=1)
    waited = after(creating(waiting=Waiting(OUTAGE, NOW)), events.DeadlinePassed(), late)
    assert (waited.error.code, waited.error.provider_code) == ("expired", OUTAGE.provider_code)
    assert OUTAGE.message in waited.error.message
    assert after(creating(), events.DeadlinePassed(), late).error.code == "expired"


def test_an_answer_that_nobody_here_can_continue_is_incomplete_and_not_chained():
    asked = replace(snapshot(ResponseStatus.COMPLETED), unanswerable=True)
    ended = after(polling(), finished(polling(), asked))
    assert (ended.status, ended.incomplete_reason) == (RunStatus.INCOMPLETE, UNANSWERED_CALL)
    assert (ended.in_conversation, ended.chainable) == (True, False)
    assert session_change(polling(), ended) == SessionChange(released=True, last_response_id="")
    with_tools = replace(snapshot(ResponseStatus.COMPLETED, "pay"), unanswerable=True)
    assert after(polling(), finished(polling(), with_tools)).incomplete_reason == UNANSWERED_CALL


def test_a_poll_by_a_worker_is_claimed_once():
    claimed = after(polling(), events.PollClaimed(NOW, LEASE, LATER))
    assert (claimed.due, claimed.step, claimed.lease) == (LATER, Step.POLL, LEASE)
    assert after(claimed, events.PollClaimed(NOW, LEASE, LATER)) is claimed
    assert after(creating(), events.PollClaimed(NOW, LEASE, LATER)).due != LATER
    soon = after(polling(), events.PollClaimed(NOW, LEASE, NOW))
    assert soon.due == LEASE.expires_at
    near_its_deadline = after(polling(expires_at=LATER), events.PollClaimed(NOW, LEASE, HOUR_LATER))
    assert near_its_deadline.due == LATER


def test_a_poll_that_failed_ends_its_claim_and_keeps_the_time_of_the_next_one():
    claimed = after(polling(), events.PollClaimed(NOW, LEASE, LATER))
    failed = after(claimed, events.PollDeferred("resp_1", BUSY))
    assert (failed.due, failed.lease) == (LATER, None)


def test_the_same_reason_for_a_failed_poll_is_stored_once():
    failed = after(polling(), events.PollDeferred("resp_1", BUSY))
    assert failed.waiting == Waiting(BUSY, NOW)
    assert after(failed, events.PollDeferred("resp_1", BUSY)) is failed
    slow = RunError(RESPONSE_SLOW, "slow")
    twice = after(after(failed, events.PollDeferred("resp_1", slow)), events.PollDeferred("resp_1", slow))
    assert twice.waiting.attempts == 3
    read = after(failed, events.Polled(snapshot(ResponseStatus.IN_PROGRESS)))
    assert read.waiting is None


def test_a_broken_chain_is_replayed_under_the_same_lease():
    made = after(creating(), events.ChainRefused(LEASE))
    assert (made.chaining, made.lease, made.step) == (Chaining.REPLAY, LEASE, Step.CREATE)


def test_a_lease_that_ran_out_on_a_create_is_counted():
    made = after(creating(), claims(creating()), LATER)
    assert (made.unknown_creates, made.lease) == (1, OTHER)
    assert after(a_run(), claims(a_run())).unknown_creates == 0


@pytest.mark.parametrize(
    "given", [creating(), polling(), a_run(due=LATER), a_run(status=RunStatus.FAILED, step=Step.NOTHING)]
)
def test_a_step_that_is_not_due_is_not_claimed(given):
    assert after(given, claims(given)) is given


def test_a_worker_that_read_another_step_or_turn_claims_nothing():
    given = owing_tools(call("pay"), turn=2)
    assert after(given, claims(given)).lease == OTHER
    assert after(given, claims(replace(given, turn=1))) is given
    assert after(given, claims(replace(given, step=Step.CREATE))) is given


def test_only_the_first_sign_of_work_changes_the_run():
    seen = after(polling(status=RunStatus.QUEUED), events.Polled(snapshot(ResponseStatus.IN_PROGRESS)))
    assert seen.status is RunStatus.IN_PROGRESS
    assert after(seen, events.Polled(snapshot(ResponseStatus.IN_PROGRESS))) is seen
    assert after(seen, events.Polled(snapshot(ResponseStatus.QUEUED))) is seen


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (ResponseStatus.COMPLETED, RunStatus.COMPLETED),
        (ResponseStatus.FAILED, RunStatus.FAILED),
        (ResponseStatus.CANCELLED, RunStatus.CANCELLED),
        (ResponseStatus.INCOMPLETE, RunStatus.INCOMPLETE),
    ],
)
@pytest.mark.parametrize("before", [RunStatus.QUEUED, RunStatus.IN_PROGRESS, RunStatus.CANCELLING])
def test_a_finished_response_ends_the_run_in_any_status(status, outcome, before):
    late = NOW + timedelta(hours=1)
    given = polling(status=before)
    ended = after(given, finished(given, snapshot(status)), late)
    assert (ended.status, ended.continuation, ended.step) == (outcome, None, Step.NOTHING)
    assert (ended.turns, ended.usage, ended.completed_at) == ((OUTPUT,), Usage(1, 2, 3), late)


def test_a_run_without_open_calls_belongs_to_the_conversation():
    def ended(given, *names):
        return after(polling(), finished(polling(), snapshot(given, *names)))

    assert ended(ResponseStatus.COMPLETED).in_conversation
    assert ended(ResponseStatus.INCOMPLETE).in_conversation
    assert not ended(ResponseStatus.INCOMPLETE, "pay").in_conversation
    assert not ended(ResponseStatus.FAILED).in_conversation
    last_turn = polling(turn=3)
    assert not after(
        last_turn, finished(last_turn, snapshot(ResponseStatus.COMPLETED, "pay"))
    ).in_conversation


@pytest.mark.parametrize(
    "given",
    [
        polling(continuation=Continuation("resp_2")),
        a_run(status=RunStatus.EXPIRED, step=Step.NOTHING),
        owing_tools(call()),
    ],
)
def test_events_of_another_response_are_ignored(given):
    assert after(given, finished(given, snapshot())) is given


def test_function_calls_are_owed_and_wake_a_worker():
    made, effects = advance(
        polling(),
        finished(
            polling(),
            snapshot(ResponseStatus.COMPLETED, "pay", "look_up"),
            repeatable=frozenset({"look_up"}),
        ),
        NOW,
    )
    assert (made.step, made.continuation, made.due) == (Step.TOOLS, None, NOW)
    assert [(one.name, one.idempotent, one.status) for one in made.calls] == [
        ("pay", False, CallStatus.QUEUED),
        ("look_up", True, CallStatus.QUEUED),
    ]
    assert Wake() in effects


@pytest.mark.parametrize(
    ("given", "now", "status", "why"),
    [
        (polling(status=RunStatus.CANCELLING), NOW, RunStatus.CANCELLED, None),
        (polling(), NOW + timedelta(hours=1), RunStatus.EXPIRED, None),
        (polling(turn=3), NOW, RunStatus.INCOMPLETE, "max_turns"),
    ],
)
def test_calls_that_come_too_late_are_not_run(given, now, status, why):
    ended = after(given, finished(given, snapshot(ResponseStatus.COMPLETED, "pay")), now)
    assert (ended.status, ended.incomplete_reason, ended.calls) == (status, why, ())


def test_a_run_with_too_many_calls_fails():
    names = [f"t{n}" for n in range(MAX_CALLS_PER_RUN + 1)]
    too_many, most = (snapshot(ResponseStatus.COMPLETED, *asked) for asked in (names, names[1:]))
    assert after(polling(), finished(polling(), too_many)).error.code == "too_many_tool_calls"
    assert after(polling(), finished(polling(), most)).step is Step.TOOLS


@pytest.mark.parametrize("character", ["\x00", "\n", '"', "ü", "a"])
def test_ids_count_as_long_as_they_are_stored(character):
    """JSON writes six bytes for a control character, and a run that cannot be stored would never end."""
    length = MAX_CALL_ID_BYTES // id_bytes(character)
    fits, too_long = (
        replace(snapshot(), calls=(ToolCall(character * n, "pay"),)) for n in (length, length + 1)
    )
    assert after(polling(), finished(polling(), fits)).step is Step.TOOLS
    assert after(polling(), finished(polling(), too_long)).error.code == "too_many_tool_calls"


def test_calls_are_started_before_they_run():
    given = owing_tools(call("pay"), call("look_up", idempotent=True))
    made = after(given, claims(given, LEASE))
    assert {one.status for one in made.calls} == {CallStatus.IN_PROGRESS}
    assert made.lease == LEASE


def test_a_lost_lease_repeats_only_idempotent_calls():
    started = owing_tools(
        call("pay", CallStatus.IN_PROGRESS),
        call("look_up", CallStatus.IN_PROGRESS, idempotent=True),
        lease=LEASE,
        due=LEASE.expires_at,
    )
    made = after(started, claims(started), LATER)
    assert [one.status for one in made.calls] == [CallStatus.UNKNOWN, CallStatus.IN_PROGRESS]
    assert made.step is Step.TOOLS


def test_the_next_turn_follows_when_every_lost_call_is_unknown():
    started = owing_tools(call("pay", CallStatus.IN_PROGRESS), lease=LEASE, due=LEASE.expires_at)
    made = after(started, claims(started), LATER)
    assert (made.step, made.turn, made.lease) == (Step.CREATE, 2, OTHER)


def test_the_last_checkpoint_leads_to_the_next_turn_under_a_renewed_lease():
    started = owing_tools(
        call("a", CallStatus.IN_PROGRESS),
        call("b", CallStatus.IN_PROGRESS),
        lease=LEASE,
        due=LEASE.expires_at,
    )
    renewed = Lease("mine", LATER)
    one = after(started, events.ToolDone(renewed, "call_a", CallStatus.COMPLETED))
    assert (one.step, one.turn) == (Step.TOOLS, 1)
    both = after(one, events.ToolDone(renewed, "call_b", CallStatus.FAILED))
    assert (both.step, both.turn, both.lease, both.due) == (Step.CREATE, 2, renewed, LATER)
    assert [one.status for one in both.calls] == [CallStatus.COMPLETED, CallStatus.FAILED]


def test_a_checkpoint_under_a_lost_lease_is_ignored():
    started = owing_tools(call("a", CallStatus.IN_PROGRESS), lease=OTHER, due=OTHER.expires_at)
    assert after(started, events.ToolDone(LEASE, "call_a", CallStatus.COMPLETED)) is started
    done = owing_tools(
        call("a", CallStatus.UNKNOWN), call("b", CallStatus.IN_PROGRESS), lease=LEASE, due=LEASE.expires_at
    )
    assert after(done, events.ToolDone(LEASE, "call_a", CallStatus.COMPLETED)) is done


@pytest.mark.parametrize(
    ("given", "status", "step"),
    [
        (polling(), RunStatus.CANCELLING, Step.CANCEL),
        (creating(), RunStatus.CANCELLING, Step.CREATE),
        (a_run(due=LATER), RunStatus.CANCELLED, Step.NOTHING),
        (owing_tools(call()), RunStatus.CANCELLED, Step.NOTHING),
        (
            owing_tools(call(status=CallStatus.IN_PROGRESS), lease=OTHER, due=OTHER.expires_at),
            RunStatus.CANCELLING,
            Step.TOOLS,
        ),
    ],
)
def test_cancelling_waits_only_for_work_that_may_be_running(given, status, step):
    made = after(given, events.CancelRequested(LEASE))
    assert (made.status, made.step) == (status, step)
    assert after(made, events.CancelRequested(OTHER)) is made
    assert CallStatus.QUEUED not in {one.status for one in made.calls}


def test_no_further_tool_starts_after_a_cancellation():
    given = owing_tools(
        call("a", CallStatus.IN_PROGRESS),
        call("b", CallStatus.IN_PROGRESS, idempotent=True),
        status=RunStatus.CANCELLING,
        lease=LEASE,
        due=LEASE.expires_at,
    )
    made = after(given, claims(given), LATER)
    assert {one.name: one.status for one in made.calls}["a"] is CallStatus.UNKNOWN
    assert CallStatus.IN_PROGRESS not in {one.status for one in made.calls}


def test_a_cancelled_run_ends_after_its_running_tool():
    given = owing_tools(
        call("a", CallStatus.IN_PROGRESS), status=RunStatus.CANCELLING, lease=LEASE, due=LEASE.expires_at
    )
    made = after(given, events.ToolDone(LEASE, "call_a", CallStatus.COMPLETED))
    assert (made.status, made.calls[0].status) == (RunStatus.CANCELLED, CallStatus.COMPLETED)


def test_a_cancellation_is_confirmed_by_polls():
    given = polling(status=RunStatus.CANCELLING, step=Step.CANCEL, lease=LEASE, due=LEASE.expires_at)
    sent = after(given, events.CancelSent("mine"))
    assert (sent.step, sent.lease, sent.status) == (Step.POLL, None, RunStatus.CANCELLING)
    assert after(sent, finished(sent, snapshot(ResponseStatus.CANCELLED))).status is RunStatus.CANCELLED


def test_a_missing_response_fails_the_run_only_after_the_grace():
    lost = after(polling(), events.Missing("resp_1"))
    assert lost.missing_since == NOW
    assert after(lost, events.Missing("resp_1"), NOW + MISSING_GRACE / 2) is lost
    gone = after(lost, events.Missing("resp_1"), NOW + MISSING_GRACE)
    assert (gone.status, gone.error.code) == (RunStatus.FAILED, "background_unsupported")
    found = after(lost, events.Polled(snapshot(ResponseStatus.IN_PROGRESS)))
    assert found.missing_since is None
    assert after(polling(), events.Missing("resp_0")).missing_since is None


def test_a_response_that_turns_up_while_cancelling_is_cancelled_again():
    given = polling(status=RunStatus.CANCELLING, missing_since=NOW)
    found, effects = advance(given, events.Polled(snapshot(ResponseStatus.IN_PROGRESS)), NOW)
    assert (found.step, Wake() in effects) == (Step.CANCEL, True)
    assert after(given, events.Missing("resp_1"), NOW + MISSING_GRACE).status is RunStatus.CANCELLED


def test_a_due_time_is_only_ever_moved_later():
    later = after(polling(), events.PollDeferred("resp_1", BUSY, LATER))
    assert later.due == LATER
    assert after(later, events.PollDeferred("resp_1", BUSY, NOW)) is later
    assert after(polling(), events.PollDeferred("resp_0", BUSY, LATER)).due == NOW


@pytest.mark.parametrize(
    "given",
    [
        creating(),
        polling(),
        polling(status=RunStatus.CANCELLING),
        owing_tools(call(status=CallStatus.IN_PROGRESS), lease=LEASE),
    ],
)
def test_the_deadline_ends_everything(given):
    ended = after(given, events.DeadlinePassed(response_id="resp_1"), given.expires_at)
    assert (ended.status, ended.lease, ended.continuation) == (RunStatus.EXPIRED, None, None)
    assert not any(one.status.open for one in ended.calls)
    # The deadline was read before the clock of the run stood still.
    before = given.expires_at - timedelta(seconds=1)
    assert after(given, events.DeadlinePassed(response_id="resp_1"), before) is given


def test_a_tombstone_keeps_only_what_must_still_be_deleted():
    full = streaming(metadata={"a": "b"}, turns=(OUTPUT,), calls=(call(),), error=RunError("a", "b"))
    gone = after(full, events.DeleteRequested(LEASE))
    assert (gone.status, gone.step, gone.responses, gone.continuation, gone.open_items) == (
        RunStatus.DELETED,
        Step.PURGE,
        ("resp_1",),
        STREAM,
        (),
    )
    assert (gone.owner, gone.metadata, gone.turns, gone.calls, gone.error, gone.input) == (
        "",
        {},
        (),
        (),
        None,
        Content(),
    )
    purged = after(gone, events.Purged("mine"))
    assert (purged.step, purged.responses, purged.continuation) == (Step.NOTHING, (), None)
    assert after(gone, events.Purged("other")) is gone


def test_a_deferred_purge_releases_its_lease():
    gone = after(polling(), events.DeleteRequested(LEASE))
    waits = after(gone, events.PurgeDeferred("mine", LATER))
    assert (waits.step, waits.lease, waits.due) == (Step.PURGE, None, LATER)
    assert after(gone, events.PurgeDeferred("other", LATER)) is gone
    assert after(waits, claims(waits), LATER).lease == OTHER


def test_a_created_stream_is_read_from_the_event_that_named_it():
    queued = Snapshot(response_id="resp_2", status=ResponseStatus.QUEUED, sequence=7)
    given = creating(
        turn=2, status=RunStatus.IN_PROGRESS, written=90, items=4, turn_items=3, activity="writing"
    )
    made = after(given, events.Created("mine", queued))
    assert (made.continuation, made.written, made.activity) == (Continuation("resp_2", 7), 0, "")
    # Items are counted over all turns, and over the turn.
    assert (made.items, made.turn_items) == (4, 0)
    plain = after(creating(), events.Created("mine", replace(queued, sequence=None)))
    assert plain.continuation == Continuation("resp_2")


def test_a_slice_changes_the_run():
    where = Content(name="slice-1", chunks=2)
    brought = (ItemStarted(1, "reasoning"), ItemStarted(2, "message"), TextAdded(2, "four"))
    read = a_slice(sequence=9, changes=brought, status=ResponseStatus.IN_PROGRESS)
    made, effects = advance(streaming(missing_since=NOW), events.Sliced(read, where), NOW)
    assert (made.continuation, made.written) == (Continuation("resp_1", 9), 9)
    assert (made.items, made.turn_items, made.activity) == (3, 3, "writing")
    assert (made.missing_since, made.due) == (None, NOW)
    assert effects == (
        log.ItemStarted(1, 1, "reasoning"),
        log.ItemStarted(1, 2, "message"),
        log.PartStarted(1, 2, 0, "output_text"),
        log.TextDelta(1, 2, 0, 0, 4, where),
    )
    assert made.open_items == (
        OpenItem(0, 0, parts=1, part_open=True),
        OpenItem(1, 1),
        OpenItem(2, 2, parts=1, part_open=True),
    )
    assert after(made, events.Sliced(a_slice(after=9, sequence=10))).activity == "writing"


def test_text_of_an_item_that_is_open_is_one_delta():
    where = Content(name="slice-1", chunks=2)
    assert entries(streaming(), events.Sliced(a_slice("four"), where)) == [
        log.TextDelta(1, 0, 0, 0, 4, where)
    ]


def test_items_of_a_later_turn_count_on():
    given = streaming(turn=2, items=6, turn_items=2, open_items=(OpenItem(1, 5),))
    brought = a_slice(changes=(ItemStarted(2, "message"),))
    assert entries(given, events.Sliced(brought)) == [log.ItemStarted(2, 6, "message")]
    assert after(given, events.Sliced(brought)).items == 7


def test_the_first_slice_that_shows_work_logs_it_once():
    queued = streaming(status=RunStatus.QUEUED, written=0)
    assert kinds(queued, events.Sliced(a_slice())) == []
    assert after(queued, events.Sliced(a_slice())).status is RunStatus.QUEUED
    for at_work in (a_slice("text"), a_slice(status=ResponseStatus.IN_PROGRESS)):
        text = OUTPUT if at_work.text else None
        assert kinds(queued, events.Sliced(at_work, text))[0] == "run.in_progress"
        assert "run.in_progress" not in kinds(streaming(), events.Sliced(at_work, text))


@pytest.mark.parametrize(
    "given",
    [
        streaming(continuation=Continuation("resp_1", 4)),
        streaming(continuation=Continuation("resp_1", 2)),
        streaming(continuation=PLAIN),
        streaming(continuation=Continuation("resp_2", 3)),
        streaming(status=RunStatus.CANCELLING),
        streaming(status=RunStatus.CANCELLING, step=Step.CANCEL, lease=LEASE),
        creating(turn=2),
        owing_tools(call()),
        a_run(status=RunStatus.COMPLETED, step=Step.NOTHING),
        a_run(status=RunStatus.DELETED, step=Step.PURGE, continuation=STREAM),
    ],
)
def test_a_slice_that_follows_something_else_is_ignored(given):
    assert after(given, events.Sliced(a_slice("text"), OUTPUT)) is given


def test_an_empty_slice_changes_nothing():
    given = streaming()
    assert after(given, events.Sliced(a_slice(sequence=3, complete=False))) is given


def test_after_a_lost_stream_the_complete_response_is_read():
    made, effects = advance(streaming(), events.StreamLost("resp_1"), NOW)
    assert (made.continuation, made.written, effects) == (PLAIN, 5, ())
    assert made.open_items == streaming().open_items
    assert after(made, events.StreamLost("resp_1")) is made
    assert after(made, events.Sliced(a_slice("text"), OUTPUT)) is made
    for unmoved in (
        streaming(continuation=Continuation("resp_2", 3)),
        streaming(status=RunStatus.CANCELLING),
        owing_tools(call()),
        a_run(status=RunStatus.EXPIRED, step=Step.NOTHING),
    ):
        assert after(unmoved, events.StreamLost("resp_1")) is unmoved


DELTA, REPLACED = log.TextDelta(1, 0, 0, 5, 9), log.TextReplaced(1)
CLOSED = [log.PartCompleted(1, 0, 0), log.ItemCompleted(1, 0)]


@pytest.mark.parametrize(
    ("characters", "agrees", "told"),
    [
        (5, True, []),
        (9, True, [DELTA]),
        (9, False, [REPLACED]),
        (5, False, [REPLACED]),
        (0, False, [REPLACED]),
    ],
    ids=["all was told", "more follows", "other and longer", "other", "nothing is left"],
)
@pytest.mark.parametrize("names", [(), ("pay",)], ids=["the end", "calls follow"])
def test_the_text_of_the_finished_response_counts(characters, agrees, told, names):
    given = streaming()
    polled = finished(
        given,
        snapshot(ResponseStatus.COMPLETED, *names),
        outline=writes(characters),
        agrees=agrees,
    )
    made = after(given, polled)
    added = entries(given, polled)
    assert added[:-1] == [*told, *CLOSED]
    assert added[-1].type == ("turn.completed" if names else "run.completed")
    assert (made.continuation, made.open_items) == (None, ())


def test_a_text_that_was_not_sliced_is_logged_at_the_end():
    polled = finished(polling(), snapshot(), outline=writes(9))
    assert entries(polling(), polled) == [
        log.ItemStarted(1, 0, "message"),
        log.PartStarted(1, 0, 0, "output_text"),
        log.TextDelta(1, 0, 0, 0, 9),
        *CLOSED,
        log.RunEnded("completed"),
    ]
    assert kinds(polling(), finished(polling(), snapshot())) == ["run.completed"]


@pytest.mark.parametrize(
    "compared",
    [Continuation("resp_1", 2), Continuation("resp_1", 4), PLAIN, Continuation("resp_2", 3), None],
)
def test_an_answer_compared_with_an_older_text_waits_for_the_next_poll(compared):
    given = streaming()
    for agrees in (True, False):
        polled = finished(given, snapshot(), outline=writes(9), compared=compared, agrees=agrees)
        assert after(given, polled) is given


def test_an_answer_without_its_output_is_an_error():
    with pytest.raises(IllegalTransition):
        advance(polling(), events.Polled(snapshot(), compared=PLAIN), NOW)


ENDS_WITHOUT_AN_ANSWER = {
    "deadline": (streaming(), events.DeadlinePassed(response_id="resp_1"), RunStatus.EXPIRED),
    "missing": (
        streaming(missing_since=NOW - MISSING_GRACE),
        events.Missing("resp_1"),
        RunStatus.FAILED,
    ),
    "missing while cancelling": (
        streaming(missing_since=NOW - MISSING_GRACE, status=RunStatus.CANCELLING),
        events.Missing("resp_1"),
        RunStatus.CANCELLED,
    ),
}


@pytest.mark.parametrize(
    ("given", "event", "status"), ENDS_WITHOUT_AN_ANSWER.values(), ids=ENDS_WITHOUT_AN_ANSWER
)
@pytest.mark.parametrize(
    ("turns", "written", "replaced"),
    [(0, 5, True), (0, 0, False), (2, 5, True), (2, 0, True)],
    ids=["text of a first turn", "no text", "text of a later turn", "no text in a later turn"],
)
def test_text_of_a_turn_without_an_answer_is_taken_back(given, event, status, turns, written, replaced):
    given = replace(given, turns=(OUTPUT,) * turns, turn=turns + 1, written=written)
    late = NOW + timedelta(hours=1)
    ended, effects = advance(given, event, late)
    taken_back = [log.TextReplaced(turns)] if replaced else []
    closed = [log.PartCompleted(turns + 1, 0, 0), log.ItemCompleted(turns + 1, 0)]
    assert list(effects) == [*closed, *taken_back, log.RunEnded(status)]
    assert (ended.status, ended.continuation, ended.open_items) == (status, None, ())
    assert ended.entries == given.entries + len(effects)


def test_text_of_finished_turns_stays_when_a_run_ends_between_turns():
    given = owing_tools(call(), turns=(OUTPUT,), written=5)
    assert kinds(given, events.CancelRequested(LEASE)) == ["run.cancelled"]
    late = NOW + timedelta(hours=1)
    assert kinds(
        creating(turns=(OUTPUT,), turn=2, written=5), events.DeadlinePassed(response_id="resp_1"), late
    ) == ["run.expired"]


def everything_that_can_happen(run):
    yield from (
        claims(run),
        events.Created("mine", snapshot(ResponseStatus.IN_PROGRESS)),
        events.Created("late", Snapshot(response_id="resp_9", status=ResponseStatus.QUEUED)),
        events.Created("mine", snapshot(ResponseStatus.QUEUED)),
        events.CreateRefused("mine", RunError("a", "b")),
        events.CreateDeferred("mine", LATER, BUSY, unknown=True),
        events.CreateDeferred("mine", LATER, BUSY, unusable=True),
        events.ChainRefused(LEASE),
        events.KeyRefused(LEASE),
        events.PollDeferred("resp_1", BUSY, LATER),
        events.PollClaimed(run.due, LEASE, LATER),
        events.Renewed("mine", HOUR_LATER),
        events.Sliced(a_slice("text"), OUTPUT),
        events.Sliced(a_slice()),
        events.Sliced(a_slice(status=ResponseStatus.IN_PROGRESS)),
        events.Sliced(a_slice(sequence=3)),
        events.Sliced(a_slice("text", after=2), OUTPUT),
        events.StreamLost("resp_1"),
        events.StreamLost("resp_9"),
        events.Missing("resp_1"),
        events.ToolDone(LEASE, "call_pay", CallStatus.COMPLETED),
        claims(run, wait=approval()),
        claims(run, wait=output()),
        *(
            events.Answered(1, f"call_{name}", answer)
            for answer in AnswerType
            if answer is not AnswerType.TIMED_OUT
            for name in ("pay", "b")
        ),
        events.WaitEnded(),
        events.Claimed(OTHER, run.step, run.turn, join=Join.EXACT, written=run.written),
        events.Generated(LEASE, (ItemStarted(0, "message"), TextAdded(0, "text")), OUTPUT),
        events.GenerateDeferred("mine", LATER),
        events.GenerateDeferred("mine", LATER, BUSY),
        events.GenerateRefused("mine", RunError("a", "b")),
        events.GenerateFinished("mine", snapshot(), OUTPUT),
        events.GenerateFinished("mine", snapshot(ResponseStatus.INCOMPLETE), OUTPUT),
        events.GenerateFinished("mine", snapshot(), OUTPUT, invalid=RunError("a", "b")),
        events.GenerateFinished("mine", snapshot(ResponseStatus.COMPLETED, "pay"), OUTPUT),
        events.CancelRequested(LEASE),
        events.CancelSent("mine"),
        events.CancelDeferred("mine", LATER, BUSY),
        events.DeadlinePassed(response_id="resp_1"),
        events.DeleteRequested(LEASE),
        events.PurgeDeferred("mine", LATER),
        events.Purged("mine"),
    )
    for status, compared in itertools.product(ResponseStatus, (PLAIN, STREAM)):
        yield events.Polled(snapshot(status), OUTPUT, compared=compared)
        yield events.Polled(snapshot(status, "pay"), OUTPUT, compared=compared)
        yield events.Polled(replace(snapshot(status), unanswerable=True), OUTPUT, compared=compared)
        yield events.Polled(snapshot(status), OUTPUT, writes(9), compared)
        yield events.Polled(snapshot(status), OUTPUT, writes(2), compared, agrees=False)


def every_state():
    yield polling(status=RunStatus.CANCELLING, waiting=Waiting(BUSY, NOW))
    for status in (RunStatus.QUEUED, RunStatus.IN_PROGRESS):
        yield creating(status=status, unusable_creates=MAX_UNUSABLE_CREATES - 1)
    calls = (call(status=CallStatus.IN_PROGRESS),)
    for status, lease in itertools.product(
        (RunStatus.QUEUED, RunStatus.IN_PROGRESS, RunStatus.CANCELLING), (None, LEASE, OTHER)
    ):
        yield a_run(status=status, lease=lease)
        yield polling(status=status, lease=lease)
        yield polling(status=status, missing_since=NOW - MISSING_GRACE)
        yield streaming(status=status, lease=lease)
        yield streaming(status=status, continuation=PLAIN)
        if status is RunStatus.CANCELLING:
            yield polling(status=status, step=Step.CANCEL, lease=lease)
            yield polling(status=status, step=Step.CANCEL, lease=lease, missing_since=NOW - MISSING_GRACE)
        if status is not RunStatus.QUEUED:
            yield owing_tools(*calls, status=status, lease=lease)
            yield owing_tools(
                call(idempotent=True, status=CallStatus.IN_PROGRESS), status=status, lease=lease
            )
            yield owing_tools(*calls, call("b", CallStatus.IN_PROGRESS), status=status, lease=lease)
    for caller_calls in CallerCalls:
        yield owing_tools(call(), call("b"), caller_calls=caller_calls)
        yield owing_tools(
            call(status=CallStatus.IN_PROGRESS),
            replace(call("b"), status=CallStatus.HANDED_OVER),
            lease=LEASE,
        )
    for status in (RunStatus.IN_PROGRESS, RunStatus.CANCELLING):
        yield owing_tools(call(status=CallStatus.IN_PROGRESS), waiting_call("b"), status=status, lease=LEASE)
        yield owing_tools(
            call(status=CallStatus.IN_PROGRESS),
            replace(call("b"), wait=approval(approved=True)),
            status=status,
            lease=LEASE,
        )
    yield a_run(step=Step.GENERATE, generates=True)
    yield generating(due=NOW, lease=LEASE, waiting=Waiting(BUSY, NOW))
    for status, lease, restarts in itertools.product(
        (RunStatus.IN_PROGRESS, RunStatus.CANCELLING), (None, LEASE), (0, MAX_RESTARTS)
    ):
        yield generating(status=status, lease=lease, restarts=restarts)
    yield owing_tools(call(), generates=True)
    yield owing_tools(call(status=CallStatus.IN_PROGRESS), generates=True, lease=LEASE)
    yield paused(generates=True)
    yield paused()
    yield paused(waiting_call(), waiting_call("b", output()))
    yield paused(waiting_call(), waiting_call("b", approval(HOUR_LATER)))
    yield paused(waiting_call(), replace(call("b"), status=CallStatus.HANDED_OVER))
    yield paused(waiting_call(kind=CallKind.MCP_APPROVAL))
    for status in OUTCOMES:
        yield a_run(status=status, step=Step.NOTHING, completed_at=NOW, responses=("resp_1",))
    for lease in (None, LEASE):
        yield a_run(status=RunStatus.DELETED, step=Step.PURGE, lease=lease, responses=("resp_1",))
    yield a_run(status=RunStatus.DELETED, step=Step.NOTHING)


def with_everything_that_can_happen():
    return ((given, event) for given in every_state() for event in everything_that_can_happen(given))


def test_every_event_in_every_state_is_a_listed_move_or_changes_nothing():
    late = NOW + timedelta(hours=1)
    for given, event in with_everything_that_can_happen():
        made = after(given, event, late)
        if made is given:
            continue
        assert state(made) in MOVES[type(event)][state(given)]
        assert made.rev == given.rev + (0 if isinstance(event, events.Renewed) else 1)
        assert given.status not in OUTCOMES or made.status in {given.status, RunStatus.DELETED}
        assert made.status not in OUTCOMES or (made.continuation, made.lease, made.step) == (
            None,
            None,
            Step.NOTHING,
        )
        assert made.continuation is not None or made.step is not Step.POLL
        assert not made.open_items or made.continuation is not None or made.step is Step.GENERATE
        added = entries(given, event, late)
        assert made.entries == given.entries + len(added)
        assert made.stream_events == given.stream_events + sum(entry.stream_events for entry in added)


def unrenewed(run: Run) -> Run:
    """Return a run without what a renewal may change."""
    return replace(run, lease=None, due=NOW)


def test_a_renewal_changes_nothing_but_the_lease_and_when_the_run_is_due():
    shortly_before = LEASE.expires_at - timedelta(seconds=1)
    renewed = 0
    for given in every_state():
        made, effects = advance(given, events.Renewed("mine", HOUR_LATER), shortly_before)
        assert effects == ()
        assert unrenewed(made) == unrenewed(given)
        if made is not given:
            renewed += 1
            assert made.lease == Lease("mine", shortly_before + RENEWED_FOR)
            assert made.due == made.lease.expires_at
    assert renewed


@pytest.mark.parametrize(
    ("event", "now"),
    [
        (events.Renewed("theirs", HOUR_LATER), NOW),
        (events.Renewed("mine", HOUR_LATER), LEASE.expires_at),
        (events.Renewed("mine", HOUR_LATER), HOUR_LATER),
        (events.Renewed("mine", LEASE.expires_at), LEASE.expires_at - timedelta(seconds=1)),
        (events.Renewed("mine", NOW), LEASE.expires_at - timedelta(seconds=1)),
    ],
    ids=[
        "of another worker",
        "at its end",
        "after its end",
        "at the end of the work",
        "after the end of the work",
    ],
)
def test_a_lease_is_not_renewed(event, now):
    given = creating()
    assert after(given, event, now) is given


@pytest.mark.parametrize(
    "changes",
    [{"status": RunStatus.CANCELLING}, {"expires_at": LEASE.expires_at - timedelta(seconds=1)}],
    ids=["to be cancelled", "past its deadline"],
)
def test_a_stream_that_has_to_stop_does_not_keep_its_lease(changes):
    now, event = LEASE.expires_at - timedelta(seconds=1), events.Renewed("mine", HOUR_LATER)
    assert after(generating(lease=LEASE, **changes), event, now).lease == LEASE
    assert after(generating(lease=LEASE), event, now).lease.expires_at > LEASE.expires_at


def test_a_lease_is_renewed_up_to_the_end_of_the_work():
    ends_at = LEASE.expires_at + timedelta(seconds=3)
    made = after(creating(), events.Renewed("mine", ends_at), LEASE.expires_at - timedelta(seconds=1))
    assert (made.lease.expires_at, made.due) == (ends_at, ends_at)


def state(of: Run) -> tuple[RunStatus, Step]:
    return of.status, of.step


def test_every_listed_move_happens():
    late = NOW + timedelta(hours=1)
    seen = set()
    for (given, event), now in itertools.product(with_everything_that_can_happen(), (NOW, SOON, LATER, late)):
        try:
            made = after(given, event, now)
        except IllegalTransition:
            continue
        if made is not given:
            seen.add((type(event), state(given), state(made)))
    listed = {
        (event, before, then)
        for event, moves in MOVES.items()
        for before, thens in moves.items()
        for then in thens
    }
    assert listed - seen == set()


def test_a_run_is_frozen():
    assert all(not isinstance(getattr(a_run(), one.name), list | set) for one in fields(Run))


def test_a_cancelling_run_stops_waiting_when_its_provider_answers_again():
    waiting = Waiting(RunError("provider_unavailable", "503"), NOW)
    given = polling(status=RunStatus.CANCELLING, waiting=waiting)
    made = after(given, events.Polled(snapshot(ResponseStatus.IN_PROGRESS)), LATER)
    assert (made.status, made.step, made.waiting) == (RunStatus.CANCELLING, Step.POLL, None)


def test_the_deadline_waits_for_the_next_tick_when_a_response_was_created_meanwhile():
    given = polling()
    assert after(given, events.DeadlinePassed(), given.expires_at) is given
    assert after(given, events.DeadlinePassed(response_id="resp_0"), given.expires_at) is given
