import json

import pytest
from openai.types.responses import Response

from shared.core import transcript
from shared.core.calls import ToolCall


def message(*texts: str, role: str = "assistant") -> transcript.Item:
    content = [{"type": "output_text", "text": text, "annotations": [{"type": "x"}]} for text in texts]
    return {"type": "message", "id": "msg_1", "role": role, "status": "completed", "content": content}


def call(call_id: object, name: object = "look_up", arguments: object = "{}") -> transcript.Item:
    return {
        "type": "function_call",
        "id": "fc_1",
        "status": "completed",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def kept_calls(*found: object) -> tuple[ToolCall, ...]:
    return transcript.calls(json.dumps(found))


@pytest.mark.parametrize("text", ["", "{", "null", "7", '"text"', '{"a": 1}', "[" * 100_000])
def test_output_that_is_no_list_has_no_items(text):
    assert transcript.parse(text) == []
    assert transcript.calls(text) == ()
    assert transcript.output_text(text) == ""


def test_items_are_the_objects_of_a_list():
    assert transcript.parse('[{"type": "a"}, 1, null, [], "x", {}]') == [{"type": "a"}, {}]


def test_calls_keep_their_order_and_the_text_of_their_arguments():
    arguments = '{"topic": "漢 \\ud83d\\ude80"}'
    found = kept_calls(message("hm"), call("c2", "b", arguments), call("c1", "a"))
    assert found == (ToolCall("c2", "b", arguments), ToolCall("c1", "a", "{}"))


@pytest.mark.parametrize("call_id", ["", "x" * 65, None, 7, True, ["c"], {}, "a\nb", "é", "\ud800"])
def test_a_call_without_a_usable_id_does_not_count(call_id):
    assert kept_calls(call(call_id), call("c")) == (ToolCall("c", "look_up", "{}"),)


def test_of_calls_with_one_id_the_first_counts():
    assert kept_calls(call("c", "a"), call("c", "b"), call("x" * 64, "c")) == (
        ToolCall("c", "a", "{}"),
        ToolCall("x" * 64, "c", "{}"),
    )


@pytest.mark.parametrize("name", ["", "x" * 65, "two words", "a/b", "名", None, 7, ["a"], "look_up\n"])
def test_a_call_with_a_bad_name_counts_under_a_name_no_tool_has(name):
    (found,) = kept_calls(call("c", name))
    assert found.name == transcript.NOT_A_NAME
    assert not found.name.isidentifier()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (None, ""),
        ({"a": "é"}, '{"a": "é"}'),
        ([1], "[1]"),
        ("no JSON", "no JSON"),
        ("a\ud800b", "a\ufffdb"),
        ({"a": "\ud800"}, '{"a": "\ufffd"}'),
    ],
)
def test_arguments_are_always_a_text(arguments, text):
    assert kept_calls(call("c", "a", arguments))[0].arguments == text


def test_output_text_joins_the_texts_of_messages_and_nothing_else():
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
    reasoning = {"type": "reasoning", "content": [{"type": "output_text", "text": "hidden"}]}
    junk = [
        {"type": "message"},
        {"type": "message", "content": "x"},
        {"type": "message", "content": [None, 1]},
    ]
    badly = {"type": "message", "content": [{"type": "output_text", "text": 7}, {"type": "output_text"}]}
    found = [message("Once ", "upon"), refusal, reasoning, *junk, badly, message(" a time\x00\U0001f680")]
    assert transcript.output_text(json.dumps(found)) == "Once upon a time\x00\U0001f680"


def test_output_text_is_the_same_as_in_openais_sdk():
    found = [message("Once ", "upon"), call("c"), message(" a time")]
    theirs = Response.construct(output=found)
    assert transcript.output_text(json.dumps(found)) == theirs.output_text


def test_a_tool_output_answers_its_call():
    assert transcript.tool_output("c", "4 moons") == {
        "type": "function_call_output",
        "call_id": "c",
        "output": "4 moons",
    }


def test_a_conversation_is_replayed_without_what_ties_it_to_its_responses():
    user = {"role": "user", "content": [{"type": "input_text", "text": "Go"}], "id": "msg_0"}
    answered = message("Wait", "!") | {"phase": "commentary"}
    refusal = {"type": "refusal", "refusal": "no", "more": 1}
    answered["content"].append(refusal)
    replayed = transcript.replayable(
        [user, answered, call("c"), transcript.tool_output("c", "4") | {"id": "fco_1"}]
    )
    assert replayed == [
        {"role": "user", "content": [{"type": "input_text", "text": "Go"}]},
        {
            "type": "message",
            "role": "assistant",
            "phase": "commentary",
            "content": [
                {"type": "output_text", "text": "Wait"},
                {"type": "output_text", "text": "!"},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {"type": "function_call", "call_id": "c", "name": "look_up", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "4"},
    ]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}},
        {"type": "mcp_list_tools", "id": "mcpl_1", "tools": []},
        {"type": "quantum_call", "id": "qc_1"},
        {"type": ["message"]},
        {"type": "message", "role": "assistant", "content": []},
        {"type": "message", "content": "nobody said this"},
        {},
        call("", "unusable"),
        call("unanswered"),
        transcript.tool_output("unasked", "4"),
        {"type": "function_call_output", "call_id": ["c"], "output": "4"},
    ],
)
def test_items_that_a_provider_refuses_are_not_replayed(item):
    pair = [call("c"), transcript.tool_output("c", "4")]
    assert transcript.replayable([item, *pair]) == transcript.replayable(pair)
    assert transcript.replayable([*pair, item]) == transcript.replayable(pair)


def test_each_turn_may_use_the_same_call_id_again():
    turn = [call("c"), call("c", "again"), transcript.tool_output("c", "4"), transcript.tool_output("c", "5")]
    once = [transcript.replayable(turn)[0], transcript.tool_output("c", "4")]
    assert transcript.replayable(turn + turn) == once + once


def test_references_and_plain_messages_are_replayed_as_they_are():
    plain = [{"type": "item_reference", "id": "msg_9"}, {"role": "assistant", "content": "hello"}]
    assert transcript.replayable(plain) == plain


def test_a_replayed_call_has_the_name_that_its_run_shows():
    call_item, _ = transcript.replayable(
        [call("c", "two words", {"a": 1}), transcript.tool_output("c", "no such tool")]
    )
    assert (call_item["name"], call_item["arguments"]) == (transcript.NOT_A_NAME, '{"a": 1}')
