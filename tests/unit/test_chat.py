"""A conversation as messages of Chat Completions."""

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core import transcript
from shared.core.chat.content import NotSendable
from shared.core.chat.messages import chat_messages
from shared.core.chat.tools import chat_tools
from shared.core.limits import MAX_SENT_ARGUMENT_MARKS
from shared.core.replay import Replay
from shared.core.transcript import Item, tool_output
from tests.support.chat_rules import faults
from tests.unit.test_items import call, message

HOSTED = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
PNG = "data:image/png;base64,iVBORw0KGgo="
BRIDGE = {"role": "assistant", "content": "I have the results."}


def text(content: str) -> Item:
    return {"type": "input_text", "text": content}


def image(url: object = PNG, **fields: Any) -> Item:
    return {"type": "input_image", "image_url": url, **fields}


def shown(url: str = PNG, **fields: str) -> Item:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def user(content: object) -> Item:
    return {"role": "user", "content": content}


def assistant(content: str | None, *calls: Item) -> Item:
    written = {"role": "assistant", "content": content}
    return written | {"tool_calls": list(calls)} if calls else written


def asks(call_id: str, name: str = "look_up", arguments: str = "{}") -> Item:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def answers(call_id: str, content: str) -> Item:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


# The id under which a second call "c" is sent. Providers cache a conversation by its beginning, so it must not change.
AGAIN = "Lg4iXSVxR"
# What is sent for which items, without instructions.
CASES: dict[str, tuple[list[Item], list[Item]]] = {
    "nothing": ([], []),
    "a text": ([user("Go")], [user("Go")]),
    "a text part": ([user([text("Go")])], [user("Go")]),
    "texts become one": (
        [user([text("A log:"), text(" "), text("What failed?")])],
        [user("A log:\n\nWhat failed?")],
    ),
    "two users in a row stay two": ([user("a"), user([text("b")])], [user("a"), user("b")]),
    "an image": (
        [user([text("What is it?"), image("https://example.org/a.png", detail="high")])],
        [user([{"type": "text", "text": "What is it?"}, shown("https://example.org/a.png", detail="high")])],
    ),
    "an image alone": ([user([image(), text("\n")])], [user([shown()])]),
    "an unknown detail": (
        [user([image(detail="original"), image(detail=["low"])])],
        [user([shown(), shown()])],
    ),
    "an image without a place": (
        [user([text("a"), {"type": "input_image"}, image(7), image(" ")])],
        [user("a")],
    ),
    "an answer": (
        [user("Hi"), message("Hel", "lo", ".") | {"phase": "final_answer"}, user("Go on")],
        [user("Hi"), assistant("Hello."), user("Go on")],
    ),
    "an answer as a text": ([{"type": "message", **assistant("Hello")}], [assistant("Hello")]),
    "commentary": (
        [message("I look.") | {"phase": "commentary"}, message("It is 4.")],
        [assistant("I look."), assistant("It is 4.")],
    ),
    "a refusal": (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}, {"type": "odd"}, "x"]}],
        [assistant("No.")],
    ),
    "empty turns": (
        [
            user(""),
            user(" \n"),
            user([]),
            user([text("")]),
            user(None),
            user({"a": 1}),
            message(),
            message("", " "),
        ],
        [],
    ),
    "roles that no item has": (
        [{"role": "tool", "content": "a"}, {"role": ["user"], "content": "a"}, {"content": "a"}],
        [],
    ),
    "what instructs comes first": (
        [
            {"role": "developer", "content": "Be brief."},
            user("Hi"),
            {"role": "system", "content": [text("In"), text("French.")]},
        ],
        [{"role": "system", "content": "Be brief.\n\nIn\n\nFrench."}, user("Hi")],
    ),
    "a call": (
        [user("Go"), call("c", arguments='{"a": 1}'), tool_output("c", "4")],
        [user("Go"), assistant(None, asks("c", arguments='{"a": 1}')), answers("c", "4")],
    ),
    "a call after a text": (
        [message("I look."), REASONING, call("c"), tool_output("c", "4"), message("It is 4.")],
        [assistant("I look.", asks("c")), answers("c", "4"), assistant("It is 4.")],
    ),
    "calls at once": (
        [call("c"), REASONING, call("d", "add"), tool_output("d", "5"), tool_output("c", "4")],
        [assistant(None, asks("c"), asks("d", "add")), answers("c", "4"), answers("d", "5")],
    ),
    "calls one after another": (
        [call("c"), tool_output("c", "4"), call("d"), tool_output("d", "5")],
        [assistant(None, asks("c")), answers("c", "4"), assistant(None, asks("d")), answers("d", "5")],
    ),
    "a text between calls": (
        [call("c"), message("And"), call("d"), tool_output("c", "4"), tool_output("d", "5")],
        [assistant(None, asks("c")), answers("c", "4"), assistant("And", asks("d")), answers("d", "5")],
    ),
    "a user between a call and its output": (
        [call("c"), user("Well?"), tool_output("c", "4")],
        [assistant(None, asks("c")), answers("c", "4"), BRIDGE, user("Well?")],
    ),
    "a user after an output": (
        [call("c"), tool_output("c", "4"), user("Thanks")],
        [assistant(None, asks("c")), answers("c", "4"), BRIDGE, user("Thanks")],
    ),
    "what has no other half": (
        [
            call("c"),
            call("d"),
            tool_output("d", "5"),
            tool_output("d", "6"),
            tool_output("e", "7"),
            message("Done"),
        ],
        [assistant(None, asks("d")), answers("d", "5"), assistant("Done")],
    ),
    "a text before a call without an output": ([message("I look."), call("c")], [assistant("I look.")]),
    "an output before its call": ([tool_output("c", "4"), call("c")], []),
    "a call twice": (
        [call("c", "first"), call("c", "again"), tool_output("c", "4"), tool_output("c", "5")],
        [assistant(None, asks("c", "first")), answers("c", "4")],
    ),
    "an id of a call without an output again": (
        [call("c", "forgotten"), user("Go on"), call("c", "answered"), tool_output("c", "4")],
        [user("Go on"), assistant(None, asks(AGAIN, "answered")), answers(AGAIN, "4")],
    ),
    "a call under the id of its item": (
        [call(None), tool_output("fc_1", "4")],
        [assistant(None, asks("fc_1")), answers("fc_1", "4")],
    ),
    "outputs that are no text": (
        [
            call("c"),
            call("d"),
            call("e"),
            tool_output("c", " \n"),
            tool_output("d", {"a": 1}),
            tool_output("e", [1, "x"]),
        ],
        [
            assistant(None, asks("c"), asks("d"), asks("e")),
            answers("c", "(no output)"),
            answers("d", '{"a": 1}'),
            answers("e", '[1, "x"]'),
        ],
    ),
    "an output that is missing": (
        [call("c"), {"type": "function_call_output", "call_id": "c"}],
        [assistant(None, asks("c")), answers("c", "(no output)")],
    ),
    "an output of parts": (
        [call("c"), tool_output("c", [text("a"), {"type": "output_text", "text": "b"}])],
        [assistant(None, asks("c")), answers("c", "a\n\nb")],
    ),
    "images in outputs": (
        [
            call("c", "draw"),
            call("d"),
            call("e", "plot"),
            tool_output("c", [image(detail="low")]),
            tool_output("d", "5"),
            tool_output("e", [text("A plot"), image(), image("https://example.org/b.png")]),
        ],
        [
            assistant(None, asks("c", "draw"), asks("d"), asks("e", "plot")),
            answers("c", "(images, in the next message of the user)"),
            answers("d", "5"),
            answers("e", "A plot"),
            BRIDGE,
            user(
                [
                    {"type": "text", "text": "Images in the output of the call c (draw):"},
                    shown(detail="low"),
                    {"type": "text", "text": "Images in the output of the call e (plot):"},
                    shown(),
                    shown("https://example.org/b.png"),
                ]
            ),
        ],
    ),
    "a custom tool": (
        [
            {"type": "custom_tool_call", "call_id": "c", "name": "run sql", "input": 'SELECT "a"'},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "1"},
        ],
        [assistant(None, asks("c", "run_sql", '{"input": "SELECT \\"a\\""}')), answers("c", "1")],
    ),
    "what chat has nothing for": (
        [
            user("Go"),
            REASONING,
            HOSTED,
            {"type": "mcp_list_tools", "id": "mcpl_1", "tools": []},
            {"type": "mcp_call", "id": "mcp_1", "name": "ask", "arguments": "{}", "output": "4"},
            {"type": "mcp_approval_request", "id": "mcpr_1", "name": "delete", "arguments": "{}"},
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
            {"type": "computer_call", "call_id": "cu", "action": {}},
            {"type": "computer_call_output", "call_id": "cu", "output": {"type": "computer_screenshot"}},
            {"type": "a_type_of_the_future", "id": "f_1"},
            {"type": ["message"], "role": "user", "content": "a"},
            message("Done"),
        ],
        [user("Go"), assistant("Done")],
    ),
    "half characters": (
        [user("a\ud800"), call("c", arguments={"a": "\udc00"}), tool_output("c", "\ud83d")],
        [user("a\ufffd"), assistant(None, asks("c", arguments='{"a": "\ufffd"}')), answers("c", "\ufffd")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_items_become_messages(name):
    items, messages = CASES[name]
    assert chat_messages("", items) == messages
    assert faults(messages) == []


def test_the_instructions_come_first():
    assert chat_messages("Be brief.", [user("Hi")]) == [
        {"role": "system", "content": "Be brief."},
        user("Hi"),
    ]
    developer = {"role": "developer", "content": "In French."}
    assert chat_messages("Be brief.", [user("Hi"), developer])[0]["content"] == "Be brief.\n\nIn French."
    assert chat_messages(" \n", [user("Hi")]) == [user("Hi")]


@pytest.mark.parametrize(
    ("items", "named"),
    [
        (
            [user("Hi"), user([text("a"), {"type": "input_file", "file_data": "x"}])],
            r"input_file\) in .* position 1",
        ),
        (
            [user([{"type": "input_image", "file_id": "file_1"}])],
            r"input_image\) with a file_id in .* position 0",
        ),
        ([user([{"type": "input_audio", "input_audio": {}}])], "the type input_audio in the user's message"),
        ([user([{"type": ["input_text"]}])], "the type unknown in the user's message"),
        (
            [call("c", "read"), tool_output("c", [{"type": "input_file", "file_url": "x"}])],
            r"input_file\) in the output of the call c \(read\)",
        ),
        ([user("Hi"), {"type": "item_reference", "id": "msg_1"}], "item_reference at position 1"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(items, named):
    with pytest.raises(NotSendable, match=named) as refused:
        chat_messages("", items)
    said = str(refused.value)
    assert "cannot be sent to a provider of chat completions. " in said
    assert re.search(r"\. [A-Z].*\.$", said), "it says what to do"


def test_a_file_in_an_output_without_a_call_refuses_nothing():
    assert chat_messages("", [tool_output("c", [{"type": "input_file", "file_url": "x"}])]) == []


def test_values_that_are_nested_too_deeply_are_refused():
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(NotSendable, match="nested"):
        chat_messages("", [call("c"), tool_output("c", nested)])


def sent_ids(items: list[Item]) -> list[str]:
    messages = chat_messages("", items)
    assert faults(messages) == []
    return [each["id"] for one in messages for each in one.get("tool_calls", ())]


def pair(call_id: Any) -> list[Item]:
    return [call(call_id) | {"id": None}, {"type": "function_call_output", "call_id": call_id, "output": "4"}]


@pytest.mark.parametrize("call_id", ["c", "call_0-A", "x" * 40])
def test_an_id_that_every_provider_accepts_is_kept(call_id):
    assert sent_ids(pair(call_id)) == [call_id]


@pytest.mark.parametrize(
    "call_id", ["x" * 41, "x" * 16384, "functions.look_up:0", "a b", "\u00e9", "c\n", "\ud800", "", None, 7]
)
def test_any_other_id_is_replaced_by_a_stable_one(call_id):
    (sent,) = sent_ids(pair(call_id))
    assert re.fullmatch("[a-zA-Z0-9]{9}", sent)
    assert sent_ids([*pair(call_id), *pair("another")])[0] == sent
    assert sent_ids(pair("y" * 41)) != [sent]


def test_an_id_is_that_of_earlier_releases():
    # Providers cache a conversation by its beginning, and a run may go on with another release.
    assert sent_ids([*pair("x" * 41), *pair("c"), *pair("c")]) == ["epg89hgnj", "c", "Lg4iXSVxR"]


def test_calls_without_ids_are_answered_in_their_order():
    first, second = pair(None), pair(None)
    messages = chat_messages(
        "", [first[0], second[0], first[1] | {"output": "a"}, second[1] | {"output": "b"}]
    )
    assert faults(messages) == []
    assert [each["content"] for each in messages] == [None, "a", "b"]


def test_each_turn_may_use_the_same_ids_again():
    ids = sent_ids([*pair("c"), *pair("c"), *pair(None), *pair("c"), *pair(None)])
    assert len(set(ids)) == 5
    assert ids[0] == "c"
    assert ids[:3] == sent_ids([*pair("c"), *pair("c"), *pair(None)])


def test_an_id_that_repeats_costs_no_more_than_others():
    def seconds(ids: list[str]) -> float:
        items = [item for call_id in ids for item in pair(call_id)]
        began = time.process_time()
        chat_messages("", items)
        return time.process_time() - began

    assert seconds(["a"] * 10_000) < 5 * seconds(["x" * 41 + str(n) for n in range(10_000)]) + 0.1


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a" : 1}', '{"a" : 1}'),
        ({"a": 1}, '{"a": 1}'),
        ("", "{}"),
        (None, "{}"),
        (" \n", "{}"),
        ("{", '{"unreadable_arguments": "{"}'),
        ("[1]", '{"unreadable_arguments": "[1]"}'),
        ('{"a": NaN}', '{"unreadable_arguments": "{\\"a\\": NaN}"}'),
        ({"a": float("inf")}, '{"unreadable_arguments": "{\\"a\\": Infinity}"}'),
    ],
)
def test_arguments_are_sent_as_an_object(arguments, sent):
    messages = chat_messages("", [call("c", arguments=arguments), tool_output("c", "4")])
    assert messages[0]["tool_calls"][0]["function"]["arguments"] == sent


@pytest.mark.parametrize(
    ("marks", "readable"), [(MAX_SENT_ARGUMENT_MARKS, True), (MAX_SENT_ARGUMENT_MARKS + 1, False)]
)
def test_arguments_that_cost_too_much_to_parse_are_sent_as_a_text(marks, readable):
    arguments = '{"a":[' + ",".join(["1"] * (marks - 3)) + "]}"
    (sent,) = chat_messages("", [call("c", arguments=arguments), tool_output("c", "4")])[0]["tool_calls"]
    assert (sent["function"]["arguments"] == arguments) is readable
    assert ("unreadable_arguments" in sent["function"]["arguments"]) is not readable


@pytest.mark.parametrize("name", ["multi_tool_use.parallel", "", None, 7, "\u540d", "x" * 99])
def test_a_call_has_a_name_that_providers_accept(name):
    assert faults(chat_messages("", [call("c", name), tool_output("c", "no such tool")])) == []


def test_the_items_are_not_changed():
    items = [
        message("I look."),
        call("c", arguments=None),
        tool_output("c", [text("a"), image()]),
        user([text("a")]),
    ]
    before = json.dumps(items)
    chat_messages("", items)
    assert json.dumps(items) == before


def test_function_tools_become_those_of_a_chat():
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}}
    given = {"type": "function", "name": "f", "description": "d", "parameters": parameters, "strict": True}
    assert chat_tools([given, {"type": "function", "name": "g", "strict": None, "defer_loading": True}]) == [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": parameters, "strict": True},
        },
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert chat_tools([given | {"strict": False}])[0]["function"]["strict"] is False
    assert chat_tools([]) == []


@pytest.mark.parametrize(
    ("tool", "named"),
    [
        ({"type": "web_search"}, "tool web_search "),
        ({"type": "mcp", "server_label": "a"}, "tool mcp "),
        ({"type": "custom", "name": "a"}, "tool custom "),
        ({"type": ["function"]}, "no name"),
        ({}, "no name"),
        ({"type": "function"}, "without a name"),
    ],
)
def test_other_tools_are_refused_by_name(tool, named):
    with pytest.raises(NotSendable, match=named):
        chat_tools([{"type": "function", "name": "f"}, tool])


# Values that nearly are what the format documents, so that many of them count.
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_TEXT = st.sampled_from(["", " ", "a", "b\ud800", "\ud83d\ude80", "{", '{"a": 1}']) | st.text(
    st.characters(), max_size=8
)
_ID = st.sampled_from(["c", "d", "c_2", "", "x" * 41, "a b", "\ud800"]) | st.none() | _JSON
_PART = st.one_of(
    st.builds(
        lambda kind, value: {"type": kind, "text": value},
        st.sampled_from(["input_text", "output_text"]),
        _TEXT | _JSON,
    ),
    st.builds(lambda value: {"type": "refusal", "refusal": value}, _TEXT | _JSON),
    st.builds(
        lambda url, detail: image(url, detail=detail), _TEXT | _JSON, st.sampled_from(["low", "x"]) | _JSON
    ),
)
_ODD_PART = st.builds(
    lambda kind: {"type": kind, "file_id": "f"}, st.sampled_from(["input_file", "input_image", "odd"]) | _JSON
)
_CONTENT = _TEXT | st.lists(_PART | _JSON, max_size=3) | _JSON
_KINDS = st.sampled_from(
    [
        "function_call",
        "custom_tool_call",
        "function_call_output",
        "custom_tool_call_output",
        "reasoning",
        "mcp_call",
    ]
)
_ITEM = st.one_of(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["user", "assistant", "system", "developer"]) | _JSON,
        _CONTENT,
    ),
    st.builds(
        lambda kind, call_id, name, value, content: {
            "type": kind,
            "call_id": call_id,
            "name": name,
            "arguments": value,
            "input": value,
            "output": content,
        },
        _KINDS | _JSON,
        _ID,
        _TEXT | _JSON,
        _TEXT | _JSON,
        _CONTENT | st.lists(_PART, max_size=3),
    ),
)
_ODD_ITEM = st.builds(user, st.lists(_PART | _ODD_PART, max_size=3)) | st.dictionaries(
    st.sampled_from(["type", "role", "content", "call_id", "output", "id"]), _JSON | _CONTENT
)


# Calls and outputs as providers write them, with few ids: most of them meet.
_FEW_IDS = st.sampled_from(["c", "d", "x" * 41, ""])
_LIKELY = st.one_of(
    st.builds(user, st.sampled_from(["a", " ", [text("b"), image()]])),
    st.builds(message, st.sampled_from(["a", "", "\n"])),
    st.builds(call, _FEW_IDS, st.sampled_from(["f", "g h"]), st.sampled_from(["{}", "{", "[]"])),
    st.builds(call, _FEW_IDS),
    st.builds(tool_output, _FEW_IDS, st.sampled_from(["4", " ", [], [image()], [text("b"), image()]])),
    st.builds(tool_output, _FEW_IDS, st.just([image()])),
    st.just({"role": "developer", "content": "c"}),
)


@given(_TEXT, st.lists(_LIKELY, max_size=16))
def test_a_provider_accepts_the_messages_of_a_likely_conversation(instructions, items):
    messages = chat_messages(instructions, items)
    assert faults(messages) == []
    assert sum(each["role"] == "tool" for each in messages) <= sum("output" in each for each in items)
    # What is added to a conversation changes nothing of the messages before its last calls.
    longer = chat_messages(instructions, [*items, user("and?")])
    assert longer[: len(messages)] == messages


@given(_TEXT, st.lists(_ITEM, max_size=10))
def test_whatever_the_items_are_a_provider_accepts_the_messages(instructions, items):
    try:
        messages = chat_messages(instructions, items)
    except NotSendable:
        return
    assert faults(messages) == []
    assert chat_messages(instructions, items) == messages


@given(st.lists(_ITEM | _ODD_ITEM | _JSON.map(lambda value: {"type": value}), max_size=6))
def test_nothing_else_is_raised(items):
    try:
        assert faults(chat_messages("a", items)) == []
    except NotSendable:
        return


@given(st.lists(_ITEM, max_size=10))
def test_no_text_of_the_conversation_is_lost(items):
    """Each text of user and assistant that says something is in the messages, in its order."""
    try:
        messages = chat_messages("", items)
    except NotSendable:
        return
    said = [
        each["content"] for each in items if each.get("role") in ("user", "assistant") and "type" not in each
    ]
    said = [transcript.representable(each) for each in said if isinstance(each, str) and each.strip()]
    contents = iter([each["content"] for each in messages])
    assert all(each in contents for each in said)


@given(st.lists(_ITEM, max_size=10))
def test_what_a_replay_keeps_is_sendable(items):
    replay = Replay()
    replay.add(items)
    try:
        assert faults(chat_messages("", replay.items)) == []
    except NotSendable:
        return


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["type", "name", "parameters", "strict"]), _JSON | st.just("function")
        )
    )
)
def test_tools_are_sent_or_refused(definitions):
    try:
        tools = chat_tools(definitions)
    except NotSendable:
        return
    assert [each["function"]["name"] for each in tools] == [each["name"] for each in definitions]


CALLED = [user("a"), assistant(None, asks("c"), asks("d")), answers("c", "4"), answers("d", "5")]


@pytest.mark.parametrize(
    "messages",
    [
        [*CALLED, user("b")],
        [*CALLED, answers("d", "5")],
        CALLED[:2],
        CALLED[:3],
        [*CALLED[:2], CALLED[3], CALLED[2]],
        [*CALLED[:3], user("b"), CALLED[3]],
        [*CALLED, BRIDGE, *CALLED],
        [user("a"), {"role": "system", "content": "b"}],
        [answers("c", "4")],
        [user("")],
        [user([{"type": "text", "text": "a"}])],
        [user([shown(), {"type": "text", "text": " "}])],
        [assistant(None)],
        [assistant("a") | {"tool_calls": []}],
        [assistant("a") | {"phase": "commentary"}],
        [assistant(None, asks("c", arguments="[]")), answers("c", "4")],
        [assistant(None, asks("c", name="a b")), answers("c", "4")],
        [assistant(None, asks("x" * 41)), answers("x" * 41, "4")],
        [user("\ud800")],
    ],
)
def test_the_rules_find_what_a_provider_refuses(messages):
    assert faults(messages) != []
