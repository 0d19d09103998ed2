"""What was streamed is not given up for a finished response that has nothing in its place."""

import json

import pytest

from shared.core.response import (
    ItemCompleted,
    ItemStarted,
    ResponseStatus,
    Slice,
    Snapshot,
    TextAdded,
)
from shared.core.streamed import Streamed, streamed_by
from shared.core.transcript import Item, message_of, output_text
from tests.unit.test_items import CUSTOM, call

REFUSAL = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}


def ended(*output: Item, status: ResponseStatus = ResponseStatus.COMPLETED) -> Snapshot:
    return Snapshot(response_id="resp_1", status=status, output=json.dumps(output))


def kept(streamed: Streamed, *output: Item) -> list[Item]:
    return json.loads(streamed.kept_in(ended(*output)).output)


@pytest.mark.parametrize(
    ("streamed", "output", "denied"),
    [
        (Streamed(), [], False),
        (Streamed("Once "), [message_of("Once upon a time")], False),
        (Streamed("Once "), [], True),
        (Streamed("Once "), [message_of("Once")], True),
        (Streamed("Once "), [REFUSAL], True),
        (Streamed(items=(call("c"),)), [], True),
        (Streamed(items=(call("c"),)), [message_of("4")], True),
        (Streamed(items=(call("c"),)), [call("c")], False),
        (Streamed(items=(REASONING,)), [message_of("4")], False),
        (Streamed(items=(REASONING,)), [], True),
        (Streamed(begun=True), [], True),
        (Streamed(begun=True), [REASONING], False),
    ],
)
def test_a_response_denies_what_it_does_not_contain(streamed, output, denied):
    assert streamed.denied_by(ended(*output)) is denied


def test_a_text_is_kept_when_there_is_none():
    assert kept(Streamed("Once ")) == [message_of("Once ")]
    assert kept(Streamed("Once "), REASONING) == [message_of("Once "), REASONING]


def test_a_complete_item_is_kept_rather_than_its_text():
    whole = message_of("Once upon") | {"id": "msg_1", "phase": "final_answer"}
    assert kept(Streamed("Once ", (REASONING, whole))) == [REASONING, whole]
    assert kept(Streamed("Twice", (REASONING, whole)))[0] == message_of("Twice")


@pytest.mark.parametrize("output", [[message_of("Twice")], [REFUSAL], [message_of(""), REFUSAL]])
def test_another_text_or_a_refusal_counts(output):
    assert kept(Streamed("Once "), *output) == output


def test_a_lost_call_is_kept_and_can_be_answered():
    streamed = Streamed(items=(call("c"), CUSTOM | {"call_id": "d"}))
    snapshot = streamed.kept_in(ended(message_of("4")))
    assert [one.call_id for one in snapshot.calls] == ["c"]
    assert snapshot.unanswerable
    assert output_text(snapshot.output) == "4"
    failed = streamed.kept_in(ended(status=ResponseStatus.FAILED))
    assert (failed.calls, failed.unanswerable) == ((), False)


def test_a_response_that_has_everything_is_not_changed():
    snapshot = ended(message_of("Once upon"))
    assert Streamed("Once ").kept_in(snapshot) is snapshot


def test_a_slice_adds_to_the_text_before_it_and_leaves_out_commentary():
    changes = (
        TextAdded(0, "I look. "),
        ItemStarted(1, "message", commentary=True),
        TextAdded(1, "I look again. "),
        TextAdded(2, "is 42."),
        ItemCompleted(2, call("c")),
        ItemCompleted(3),
    )
    found = streamed_by(
        Slice(response_id="resp_1", after=3, sequence=9, changes=changes), "It ", frozenset({0})
    )
    assert found == Streamed("It is 42.", (call("c"),), begun=True)
