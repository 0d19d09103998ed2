import json

import pytest
from openai.types.responses import Response

from shared.core import transcript
from shared.core.calls import ToolCall
from shared.core.text import is_name


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


@pytest.mark.parametrize("call_id", ["", "x" * 16385, 7, True, ["c"], {}, "\ud800"])
def test_a_call_without_a_usable_id_does_not_count(call_id):
    assert kept_calls(call(call_id), call("c")) == (ToolCall("c", "look_up", "{}"),)


@pytest.mark.parametrize("call_id", ["x" * 16384, "a\nb", "\u00e9", "../call", "a b"])
def test_a_call_is_answered_under_whatever_id_it_has(call_id):
    assert kept_calls(call(call_id)) == (ToolCall(call_id, "look_up", "{}"),)


def test_a_call_without_a_call_id_is_answered_under_the_id_of_its_item():
    assert kept_calls(call(None)) == (ToolCall("fc_1", "look_up", "{}"),)


def test_a_call_that_the_provider_answered_itself_is_not_run():
    assert kept_calls(call("c"), transcript.tool_output("c", "4"), message("It is 4.")) == ()


@pytest.mark.parametrize(
    ("items", "ends"),
    [
        ([], False),
        ([message("hm")], False),
        ([call("c"), transcript.tool_output("c", "4")], True),
        ([{"type": "custom_tool_call_output", "call_id": "c"}], True),
        ([{"type": "mcp_approval_response"}], True),
        ([transcript.tool_output("c", "4"), message("and then?")], False),
    ],
)
def test_outputs_are_handed_in_at_the_end(items, ends):
    assert transcript.ends_with_output(items) is ends


def test_of_calls_with_one_id_the_first_counts():
    assert kept_calls(call("c", "a"), call("c", "b"), call("x" * 64, "c")) == (
        ToolCall("c", "a", "{}"),
        ToolCall("x" * 64, "c", "{}"),
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("multi_tool_use.parallel", "multi_tool_use.parallel"),
        ("two words", "two words"),
        (" a/b ", " a/b "),
        ("\u540d\u524d \U0001f680", "\u540d\u524d \U0001f680"),
        ("look_up\n", "look_up\ufffd"),
        ("a\x00\u202eb\ud800", "a\ufffd\ufffdb\ufffd"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 63 + "\u2026"),
        ("\u00e9" * 64, "\u00e9" * 64),
        ("\u00e9" * 65, "\u00e9" * 62 + "\u2026"),
        ("\u540d" * 50, "\u540d" * 41 + "\u2026"),
        ("\U0001f680" * 99, "\U0001f680" * 31 + "\u2026"),
        *((nothing, "(no name)") for nothing in ("", " \n", None, 7, True, ["look_up"], {"a": 1})),
    ],
)
def test_a_call_with_a_name_that_no_tool_can_have_counts_under_what_the_model_wrote(name, shown):
    (found,) = kept_calls(call("c", name))
    assert found.name == shown
    assert found.name.isprintable()
    assert not is_name(found.name) or found.name == name


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


@pytest.mark.parametrize("name", ["", "x" * 99, "\ud800\n", "a b", "\U0001f680" * 70])
def test_every_name_can_be_sent(name):
    assert is_name(transcript.sendable_name(name))


ANSWER = message("Done.")
CUSTOM = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "run_sql", "input": "SELECT 1"}


@pytest.mark.parametrize(
    "items",
    [
        [CUSTOM],
        [message("Wait."), CUSTOM],
        [CUSTOM, {"type": "reasoning", "id": "rs_1", "summary": []}],
        [CUSTOM, {"type": "custom_tool_call_output", "call_id": "another", "output": "1"}],
        [{"type": "computer_call", "id": "cu_1", "call_id": "c", "action": {}}],
        [{"type": "local_shell_call", "id": "ls_1", "call_id": "c", "status": "completed"}],
        [{"type": "apply_patch_call", "id": "ap_1"}],
        [{"type": "call_of_the_future_call", "call_id": "c"}],
        [{"type": "mcp_approval_request", "name": "delete_page"}],
        [{"type": "mcp_approval_request", "id": ["mcpr_1"], "name": "delete_page"}],
        [call(7)],
        [CUSTOM, message("Reading.") | {"phase": "commentary"}],
        [CUSTOM, {"type": "message", "content": []}],
        [call("c"), CUSTOM | {"call_id": "d"}],
    ],
)
def test_output_that_ends_with_a_call_of_the_app_is_unanswered(items):
    assert transcript.ends_unanswered(items)


@pytest.mark.parametrize(
    "items",
    [
        [],
        [ANSWER],
        [call("c")],
        [{"type": "mcp_approval_request", "id": "mcpr_1", "name": "delete_page"}],
        [{"type": "web_search_call", "id": "ws_1", "status": "completed"}],
        [{"type": "mcp_call", "id": "mcp_1", "output": "4"}],
        [CUSTOM, {"type": "custom_tool_call_output", "call_id": "c", "output": "1"}],
        [{"type": "shell_call", "call_id": "c"}, {"type": "shell_call_output", "call_id": "c"}],
        [CUSTOM, ANSWER],
        [{"type": ["custom_tool_call"], "call_id": "c"}, None, 7],
        [{"type": "reasoning", "id": "rs_1", "summary": []}],
    ],
)
def test_output_whose_calls_are_answered_or_ours_is_not_unanswered(items):
    assert not transcript.ends_unanswered(items)


def phased(text: str, phase: object) -> transcript.Item:
    return message(text) | {"phase": phase}


def test_where_there_is_a_final_answer_it_is_the_text():
    items = [
        phased("I look. ", "commentary"),
        phased("It ", "final_answer"),
        message("Hm. "),
        phased("is 42.", "final_answer"),
    ]
    assert transcript.text_of(items) == "It is 42."
    assert transcript.commentary_of(items) == "I look. Hm. "
    assert [each.commentary for each in transcript.outline(items)] == [True, False, True, False]


@pytest.mark.parametrize("phase", [None, "commentary", "analysis", ["final_answer"], 7])
def test_without_a_final_answer_every_message_is_the_text(phase):
    items = [phased("I look. ", phase), message("It is 42.")]
    assert (transcript.text_of(items), transcript.commentary_of(items)) == ("I look. It is 42.", "")


def test_refusals_are_joined_and_no_text():
    refusal = {
        "type": "message",
        "content": [{"type": "refusal", "refusal": "I cannot "}, {"type": "refusal", "refusal": 7}],
    }
    items = [refusal, {"type": "message", "content": [{"type": "refusal", "refusal": "help."}]}]
    assert (transcript.refusal_of(items), transcript.text_of(items)) == ("I cannot help.", "")
    assert [part.characters for each in transcript.outline(items) for part in each.parts] == [9, 0, 5]
