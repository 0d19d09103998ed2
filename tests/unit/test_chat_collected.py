"""The stream of a chat completion as the output of a turn."""

import json
import re
import tracemalloc
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core import transcript
from shared.core.chat.collected import Collected
from shared.core.chat.echo import EchoFilter
from shared.core.chat.events import (
    ChatBroken,
    ChatCall,
    ChatEnd,
    ChatEvent,
    ChatReasoning,
    ChatRefusal,
    ChatText,
)
from shared.core.chat.messages import chat_messages
from shared.core.life.calling import MAX_CALLS_PER_RUN
from shared.core.limits import MAX_OUTPUT_BYTES
from shared.core.response import ResponseStatus, RunError, Snapshot, Usage
from shared.core.transcript import MAX_CALL_ID, tool_output
from tests.support.chat_rules import faults

USAGE = Usage(3, 4, 7)
STOP = ChatEnd("stop", USAGE)
CALLS = ChatEnd("tool_calls", USAGE)
CUT = ChatBroken(
    RunError("provider_unreachable", "The connection was lost."), timedelta(seconds=3), retryable=True
)


def collected(*events: ChatEvent, **begun: str) -> Snapshot:
    found = Collected("run_1-2", **begun)
    for event in events:
        found.add(event)
    snapshot = found.snapshot("chat_1")
    assert found.snapshot("chat_1") == snapshot
    return snapshot


def output(*events: ChatEvent, **begun: str) -> list[dict[str, Any]]:
    return json.loads(collected(*events, **begun).output)


def calls(*events: ChatEvent) -> list[tuple[str, str, str]]:
    """Return id, name and arguments of each call."""
    snapshot = collected(*events)
    items = [item for item in json.loads(snapshot.output) if item["type"] == "function_call"]
    found = [(item["call_id"], transcript.shown_name(item["name"]), item["arguments"]) for item in items]
    assert [(each.call_id, each.name, each.arguments) for each in snapshot.calls] == found
    return found


def test_an_answer_is_a_message():
    snapshot = collected(ChatText("It is "), ChatText(""), ChatText("4."), STOP)
    assert snapshot == Snapshot(
        response_id="chat_1", status=ResponseStatus.COMPLETED, output=snapshot.output, usage=USAGE
    )
    assert json.loads(snapshot.output) == [transcript.message_of("It is 4.")]


def test_reasoning_comes_first_and_is_not_sent_back():
    items = output(ChatReasoning("I "), ChatReasoning("add."), ChatText("4"), STOP)
    assert items == [
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "I add."}]},
        transcript.message_of("4"),
    ]
    assert chat_messages("", items) == [{"role": "assistant", "content": "4"}]


def test_a_refusal_is_a_part_of_its_own():
    (refused,) = output(ChatRefusal("I "), ChatRefusal("cannot."), STOP)
    part = {"type": "refusal", "refusal": "I cannot."}
    assert refused == {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
    (both,) = output(ChatRefusal("No.\ud83d"), ChatText("Hm."), STOP)
    assert both["content"] == [*transcript.message_of("Hm.")["content"], {**part, "refusal": "No.\ufffd"}]
    assert chat_messages("", [refused]) == [{"role": "assistant", "content": "I cannot."}]


def test_an_answer_without_anything_has_no_items():
    assert output(STOP) == []


def test_pieces_of_calls_are_joined_by_their_index():
    assert calls(
        ChatText("I look."),
        ChatCall(0, "c", "look_up", ""),
        ChatCall(0, "", "", '{"a"'),
        ChatCall(1, "d", "add", "{}"),
        ChatCall(0, "", "", ": 1}"),
        CALLS,
    ) == [("c", "look_up", '{"a": 1}'), ("d", "add", "{}")]


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call", "STOP", None])
def test_calls_count_whatever_the_provider_calls_their_end(reason):
    assert calls(ChatCall(0, "c", "f", "{}"), ChatEnd(reason, None)) == [("c", "f", "{}")]


@pytest.mark.parametrize("names", [["f", "f", "f"], ["f", "", ""], ["", "f", "f"]])
def test_a_name_that_is_repeated_is_one(names):
    pieces = zip(names, ["", '{"a"', ": 1}"], strict=True)
    assert calls(*(ChatCall(0, "c", name, text) for name, text in pieces), CALLS) == [("c", "f", '{"a": 1}')]


def test_a_name_may_come_in_pieces():
    assert calls(ChatCall(0, "c", "look_", ""), ChatCall(0, "", "up", "{}"), CALLS) == [
        ("c", "look_up", "{}")
    ]


def test_an_id_may_come_after_the_name():
    pieces = [ChatCall(0, "", "f", ""), ChatCall(0, "c", "", "{"), ChatCall(0, "c", "", "}")]
    assert calls(*pieces, CALLS) == [("c", "f", "{}")]


@pytest.mark.parametrize("bad", ["", "x" * (MAX_CALL_ID + 1), "\ud800", "c"])
def test_a_call_gets_an_own_id_when_its_own_is_missing_or_doubled(bad):
    pieces = [ChatCall(0, "c", "f", "{}"), ChatCall(1, bad, "g", "{}"), CALLS]
    (first, second) = calls(*pieces)
    assert first == ("c", "f", "{}")
    assert re.fullmatch("[a-zA-Z0-9]{9}", second[0])
    assert calls(*pieces) == [first, second]


def test_own_ids_differ_between_calls_and_turns():
    made = set()
    for turn in ("run_1-1", "run_1-2", "run_2-1"):
        found = Collected(turn)
        for event in (ChatCall(0, "", "f", "{}"), ChatCall(1, "", "f", "{}"), CALLS):
            found.add(event)
        made |= {call.call_id for call in found.snapshot("chat_1").calls}
    assert len(made) == 6


def test_an_own_id_is_never_that_of_another_call():
    (own,) = calls(ChatCall(0, "", "f", "{}"), CALLS)
    found = calls(ChatCall(0, "", "f", "{}"), ChatCall(1, own[0], "g", "{}"), CALLS)
    assert found[1][0] == own[0] != found[0][0]


def test_a_call_without_arguments_has_an_empty_object():
    assert calls(ChatCall(0, "c", "f", ""), CALLS) == [("c", "f", "{}")]


def test_a_call_with_wrong_arguments_is_kept_for_the_model_to_be_told():
    assert calls(ChatCall(0, "c", "f", "{a"), ChatCall(1, "d", "", "{}"), CALLS) == [
        ("c", "f", "{a"),
        ("d", "(no name)", "{}"),
    ]


def test_an_empty_object_before_the_arguments_is_none():
    first = ChatCall(0, "c", "f", "{}")
    assert calls(first, ChatCall(0, "", "", '{"a"'), ChatCall(0, "", "", ": 1}"), CALLS) == [
        ("c", "f", '{"a": 1}')
    ]
    assert calls(first, ChatCall(0, "", "", " "), CALLS) == [("c", "f", "{} ")]
    assert calls(first, ChatCall(0, "", "", '{"a"'), CALLS) == [("c", "f", '{}{"a"')]
    assert calls(first, ChatCall(0, "", "", '{"a"'), ChatEnd("length", None)) == []


def test_an_empty_piece_is_no_call():
    assert calls(ChatCall(0, "", "", ""), ChatCall(1, "c", "f", "{}"), STOP) == [("c", "f", "{}")]


@pytest.mark.parametrize(
    ("reason", "status", "shown"),
    [
        ("stop", "completed", None),
        (None, "completed", None),
        ("", "completed", None),
        ("tool_calls", "completed", None),
        ("eos", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("MAX_TOKENS", "incomplete", "max_output_tokens"),
        ("model_length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("SAFETY", "incomplete", "content_filter"),
        ("insufficient_system_resource", "incomplete", "insufficient_system_resource"),
        ("a reason\n", "incomplete", "unknown"),
    ],
)
def test_the_end_decides_the_status(reason, status, shown):
    snapshot = collected(ChatText("Once"), ChatEnd(reason, USAGE))
    assert (snapshot.status, snapshot.incomplete_reason) == (status, shown)
    assert json.loads(snapshot.output)[0]["status"] == status


def test_usage_that_did_not_come_is_none():
    assert collected(ChatText("a"), ChatEnd("stop", None)).usage is None
    assert collected(ChatText("a")).usage is None
    assert Usage(1, 2, 3) + None == Usage(1, 2, 3)


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_of_an_answer_that_was_cut_only_whole_calls_count(reason):
    whole, half = ChatCall(0, "c", "f", '{"a": 1}'), ChatCall(1, "d", "g", '{"a": ')
    end = ChatEnd(reason, None)
    assert calls(whole, half, end) == [("c", "f", '{"a": 1}')]
    assert calls(whole, ChatCall(1, "d", "g", ""), end) == [("c", "f", '{"a": 1}')]


@pytest.mark.parametrize(
    "end", [CUT, None, ChatEnd("error", None), ChatEnd("insufficient_system_resource", None)]
)
def test_the_calls_of_a_stream_that_broke_are_no_calls(end):
    events = [ChatText("I look."), ChatCall(0, "c", "f", "{}"), *([end] if end else [])]
    assert calls(*events) == []
    assert [item["type"] for item in output(*events)] == ["message"]


def test_a_stream_that_broke_has_not_finished():
    snapshot = collected(ChatText("Once"), CUT, ChatText(" more"), STOP)
    assert snapshot.status is ResponseStatus.IN_PROGRESS
    assert transcript.output_text(snapshot.output) == "Once"


def test_nothing_counts_after_the_end():
    assert collected(
        ChatText("Once"), STOP, ChatText(" more"), ChatCall(0, "c", "f", "{}"), CUT
    ) == collected(ChatText("Once"), STOP)


def test_a_turn_that_is_taken_up_again_begins_with_what_was_saved():
    found = output(ChatReasoning("b"), ChatText(" upon"), STOP, text="Once", reasoning="a")
    assert found == output(ChatReasoning("ab"), ChatText("Once upon"), STOP)


def test_a_character_that_came_in_halves_is_whole():
    halves = [ChatText("a\ud83d"), ChatText("\ude80b"), ChatReasoning("\ud83d"), ChatReasoning("\ude80")]
    found = Collected("t")
    seen = []
    for event in halves:
        found.add(event)
        seen.append(found.text)
    assert seen == ["a", "a\U0001f680b", "a\U0001f680b", "a\U0001f680b"]
    assert found.reasoning == "\U0001f680"
    assert calls(ChatCall(0, "c", "f", '{"a": "\ud83d'), ChatCall(0, "", "", '\ude80"}'), CALLS) == [
        ("c", "f", '{"a": "\U0001f680"}')
    ]


def test_half_a_character_alone_is_replaced():
    assert output(ChatReasoning("\ud83d"), STOP)[0]["content"][0]["text"] == "\ufffd"
    assert (
        transcript.output_text(collected(ChatText("a\ud83d"), ChatText("b\ude80"), STOP).output)
        == "a\ufffdb\ufffd"
    )


def test_the_usual_answer_as_it_grows_up_to_the_limit():
    found = Collected("t")
    found.add(ChatText("x" * (MAX_OUTPUT_BYTES - 200)))
    found.add(STOP)
    assert not found.too_large
    assert found.snapshot("chat_1").status is ResponseStatus.COMPLETED


@pytest.mark.parametrize(
    "events",
    [
        [ChatText("x" * (MAX_OUTPUT_BYTES + 1))],
        [ChatText("x" * MAX_OUTPUT_BYTES), ChatReasoning("y")],
        [ChatText("x" * MAX_OUTPUT_BYTES), ChatRefusal("y")],
        [ChatText("\u00e9" * (MAX_OUTPUT_BYTES // 2)), ChatCall(0, "c", "f", "{}")],
        [ChatCall(0, "x" * (MAX_OUTPUT_BYTES + 1), "f", "{}")],
    ],
    ids=["text", "reasoning", "refusal", "bytes", "call"],
)
def test_an_answer_beyond_the_limit_fails_the_run(events):
    found = Collected("t")
    for event in events:
        found.add(event)
    assert found.too_large
    kept = len(found.text)
    found.add(ChatText("more"))
    found.add(STOP)
    assert len(found.text) == kept <= MAX_OUTPUT_BYTES
    snapshot = found.snapshot("chat_1")
    assert (snapshot.status, snapshot.output, snapshot.usage) == (ResponseStatus.FAILED, "[]", USAGE)
    assert snapshot.error
    assert snapshot.error.code == "output_too_large"


def test_an_output_that_only_its_json_makes_too_large_fails_the_run():
    snapshot = collected(ChatText("\n" * (MAX_OUTPUT_BYTES - 10)), STOP)
    assert (snapshot.status, snapshot.output) == (ResponseStatus.FAILED, "[]")


def test_more_calls_than_a_run_may_have_are_not_collected():
    pieces = [ChatCall(number, f"c{number}", "f", "{}") for number in range(MAX_CALLS_PER_RUN + 99)]
    assert len(calls(*pieces, CALLS)) == MAX_CALLS_PER_RUN + 1


_TEXT = st.text(st.characters(), max_size=6) | st.sampled_from(["", "\ud83d", "\ude80", "{}", '{"a": 1}'])
_EVENT = st.one_of(
    st.builds(ChatText, _TEXT),
    st.builds(ChatReasoning, _TEXT),
    st.builds(ChatRefusal, _TEXT),
    st.builds(
        ChatCall,
        st.integers(0, 2),
        st.sampled_from(["", "c", "d"]) | _TEXT,
        st.sampled_from(["", "f", "g"]) | _TEXT,
        _TEXT,
    ),
)
_END = st.builds(
    ChatEnd, st.sampled_from(["stop", "length", "tool_calls", "error", None]) | _TEXT, st.none()
) | st.just(CUT)


@given(st.lists(_EVENT, max_size=12), _END)
def test_whatever_comes_the_next_turn_can_be_asked_for(events, end):
    snapshot = collected(*events, end)
    items = json.loads(snapshot.output.encode())
    assert len({call.call_id for call in snapshot.calls}) == len(snapshot.calls)
    called = [item["call_id"] for item in items if item["type"] == "function_call"]
    assert called == [call.call_id for call in snapshot.calls]
    assert not transcript.ends_unanswered(items)
    messages = chat_messages("", [*items, *(tool_output(call_id, "4") for call_id in called)])
    assert faults(messages) == []
    assert sum(len(each.get("tool_calls", ())) for each in messages) == len(called)


# Among others the halves of a character, which may meet and may stay alone.
_HALVES = st.sampled_from("ab\u00e9\ud83d\ude80")


@given(st.text(_HALVES, max_size=12), st.lists(st.integers(0, 12)))
def test_a_text_is_the_same_however_it_is_cut(text, cuts):
    places = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    pieces = [text[begin:end] for begin, end in pairwise(places)]
    found = Collected("t")
    before = ""
    for piece in pieces:
        found.add(ChatText(piece))
        assert found.text.startswith(before), "it only grows"
        before = found.text
    found.add(STOP)
    assert found.text == transcript.representable(text)


def filtered(prefix: str, *pieces: str) -> str:
    echo = EchoFilter(prefix)
    return "".join([*(echo.passed(piece) for piece in pieces), echo.rest()])


def test_a_repeated_prefix_is_held_back_and_removed():
    echo = EchoFilter("Once upon")
    assert [echo.passed(piece) for piece in ("On", "ce u", "pon a", " time. Once upon")] == [
        "",
        "",
        " a",
        " time. Once upon",
    ]
    assert echo.rest() == ""


@pytest.mark.parametrize(
    ("prefix", "pieces", "passed"),
    [
        ("Once upon", ["Once upon a time"], " a time"),
        ("Once upon", ["Once upon"], ""),
        ("Once upon", ["Once"], "Once"),
        ("Once upon", ["Once ", "a week"], "Once a week"),
        ("Once upon", [" a time"], " a time"),
        ("Once upon", ["", "O", "nly"], "Only"),
        ("aa", ["a", "aa"], "a"),
        ("", ["Once", " upon"], "Once upon"),
        ("Once upon", [], ""),
    ],
)
def test_only_a_whole_repetition_is_removed(prefix, pieces, passed):
    assert filtered(prefix, *pieces) == passed


@pytest.mark.parametrize("prefix", ["abab", "a", "\U0001f680\u00e9 \n", ""])
@pytest.mark.parametrize("text", ["abab", "ababab", "abc", "", "\U0001f680\u00e9 \n!", "\U0001f680"])
def test_the_cuts_of_the_stream_make_no_difference(prefix, text):
    expected = text.removeprefix(prefix)
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            assert filtered(prefix, text[:first], text[first:second], text[second:]) == expected


@given(st.text(_HALVES, max_size=8), st.text(_HALVES, max_size=12), st.lists(st.integers(0, 12)))
def test_halves_of_characters_make_no_difference(prefix, text, cuts):
    prefix = transcript.representable(prefix)
    places = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    pieces = [text[begin:end] for begin, end in pairwise(places)]
    assert filtered(prefix, *pieces) == transcript.representable(text).removeprefix(prefix)


@given(st.text("ab", max_size=8), st.text("ab", max_size=12), st.lists(st.integers(0, 12)))
def test_nothing_is_dropped_and_nothing_doubled(prefix, text, cuts):
    places = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    echo = EchoFilter(prefix)
    passed, received = "", ""
    for begin, end in pairwise(places):
        passed += echo.passed(text[begin:end])
        received += text[begin:end]
        # Nothing waits once it is known whether the prefix is repeated.
        decided = not prefix.startswith(received) or received == prefix
        assert passed == (received.removeprefix(prefix) if decided else "")
    assert passed + echo.rest() == text.removeprefix(prefix)


@given(st.text(_HALVES, max_size=8), st.lists(st.tuples(st.text(_HALVES, max_size=5), st.integers(0, 9))))
def test_the_parts_of_a_text_are_the_text(before, pieces):
    found = Collected("turn", text=before)
    kept = found.text_between(0, found.characters)
    for piece, held in pieces:
        found.add(ChatText(piece))
        # The last characters may have to wait for the next part.
        kept += found.text_between(len(kept), max(len(kept), found.characters - held))
    assert kept + found.text_between(len(kept), found.characters) == found.text
    assert found.characters == len(found.text)


def test_a_part_of_a_long_text_costs_no_more_than_that_of_a_short_one():
    found = Collected("turn", text="x" * 4_000_000)
    kept = found.characters
    tracemalloc.start()
    try:
        for _ in range(20):
            for _ in range(100):
                found.add(ChatText("word "))
            assert found.text_between(kept, found.characters) == "word " * 100
            kept = found.characters
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "event",
    [ChatText("word"), ChatReasoning("word"), ChatCall(0, "", "", "word")],
    ids=lambda e: type(e).__name__,
)
def test_what_comes_in_small_pieces_needs_little_more_memory_than_its_characters(event):
    found = Collected("turn")
    # As each event of a stream has a text of its own.
    field = "arguments" if isinstance(event, ChatCall) else "text"
    tracemalloc.start()
    try:
        for number in range(50_000):
            found.add(replace(event, **{field: f"{number:04d}"}))
        assert tracemalloc.get_traced_memory()[0] < 600_000
    finally:
        tracemalloc.stop()
