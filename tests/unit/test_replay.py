"""The conversation so far as input: what a provider accepts is kept, and what is left out is counted."""

import time
from collections.abc import Sequence

import pytest

from shared.core import transcript
from shared.core.replay import Replay
from shared.core.transcript import Item
from tests.unit.test_items import CUSTOM, call, message

CUSTOM_OUTPUT = {"type": "custom_tool_call_output", "call_id": "c", "output": "1"}


def replayed(items: Sequence[Item], own: Sequence[Item] = (), later: Sequence[Item] = ()) -> list[Item]:
    replay = Replay()
    replay.add(items)
    replay.add_own(own)
    replay.add(later)
    return replay.items


def test_a_conversation_is_replayed_without_what_ties_it_to_its_responses():
    user = {"role": "user", "content": [{"type": "input_text", "text": "Go"}], "id": "msg_0"}
    answered = message("Wait", "!") | {"phase": "commentary"}
    refusal = {"type": "refusal", "refusal": "no", "more": 1}
    answered["content"].append(refusal)
    found = replayed([user, answered, call("c"), transcript.tool_output("c", "4") | {"id": "fco_1"}])
    assert found == [
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
    assert replayed([item, *pair]) == replayed(pair)
    assert replayed([*pair, item]) == replayed(pair)


def test_what_is_stored_at_another_provider_is_left_out():
    image = {"type": "input_image", "file_id": "file_1"}
    both = image | {"image_url": "https://example.org/a.png"}
    items = [
        {"role": "user", "content": [image, both, {"type": "input_file", "file_id": "file_2"}]},
        {"type": "item_reference", "id": "msg_1"},
        call("c"),
        transcript.tool_output("c", [image]),
    ]
    replay = Replay()
    replay.add(items, foreign=True)
    gone = {"type": "input_text", "text": "(A file was here. It is stored at another provider.)"}
    assert replay.items == [
        {"role": "user", "content": [gone, {key: both[key] for key in ("type", "image_url")}, gone]},
        *replayed([call("c"), transcript.tool_output("c", "")])[:1],
        transcript.tool_output("c", [gone]),
    ]
    assert replay.left_out == {"item_reference": 1, "part input_image": 2, "part input_file": 1}
    assert replayed(items)[0] == items[0]


def test_each_turn_may_use_the_same_call_id_again():
    turn = [call("c"), call("c", "again"), transcript.tool_output("c", "4"), transcript.tool_output("c", "5")]
    once = [replayed(turn)[0], transcript.tool_output("c", "4")]
    assert replayed(turn) == once
    assert replayed(turn + turn) == once + [item | {"call_id": "c_2"} for item in once]


def test_an_output_answers_the_last_call_with_its_id():
    replay = Replay()
    replay.add([call("c", "forgotten")])
    replay.add([{"role": "user", "content": "go on"}])
    replay.add([call("c", "answered")])
    replay.add([transcript.tool_output("c", "4")])
    names = [item.get("name") for item in replay.items if item.get("type") == "function_call"]
    assert names == ["answered"]
    assert replay.left_out == {"function_call": 1}


def test_references_and_plain_messages_are_replayed_as_they_are():
    plain = [{"type": "item_reference", "id": "msg_9"}, {"role": "assistant", "content": "hello"}]
    assert replayed(plain) == plain


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("look-up_2", "look-up_2"),
        ("multi_tool_use.parallel", "multi_tool_use_parallel"),
        ("two words", "two_words"),
        ("\u540d", "_"),
        ("look_up\n", "look_up_"),
        ("x" * 65, "x" * 63 + "_"),
        (None, "_no_name_"),
    ],
)
def test_a_replayed_call_has_a_name_that_the_provider_accepts(name, sent):
    call_item, _ = replayed([call("c", name, {"a": 1}), transcript.tool_output("c", "no such tool")])
    assert (call_item["name"], call_item["arguments"]) == (sent, '{"a": 1}')


def test_content_parts_are_replayed_as_parts():
    parts = [{"type": "input_text", "text": "Chart"}, {"type": "input_image", "file_id": "file_1"}]
    _, output = replayed([call("c"), transcript.tool_output("c", parts)])
    assert output == {"type": "function_call_output", "call_id": "c", "output": parts}


def test_pairs_of_every_type_are_kept_with_all_their_fields():
    computer = {
        "type": "computer_call",
        "id": "cu_1",
        "call_id": "d",
        "status": "completed",
        "action": {"type": "click"},
    }
    seen = {
        "type": "computer_call_output",
        "call_id": "d",
        "output": {"type": "computer_screenshot"},
        "more": 1,
    }
    assert replayed([CUSTOM, computer, seen, CUSTOM_OUTPUT]) == [
        {name: value for name, value in CUSTOM.items() if name != "id"},
        {"type": "computer_call", "call_id": "d", "action": {"type": "click"}},
        seen,
        CUSTOM_OUTPUT,
    ]


def test_the_input_of_the_run_answers_a_call_of_the_conversation():
    sent = replayed([CUSTOM], own=[CUSTOM_OUTPUT])
    assert [item["type"] for item in sent] == ["custom_tool_call", "custom_tool_call_output"]


def test_an_approval_is_kept_with_the_request_that_it_names():
    request = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "delete_page", "arguments": "{}"}
    response = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    assert replayed([request], own=[response]) == [request, response]
    assert replayed([request]) == []


def test_an_approval_is_not_given_again_once_the_conversation_went_on():
    request = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "delete_page", "arguments": "{}"}
    response = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    asked, done = {"role": "user", "content": "Go"}, message("Deleted")
    replay = Replay()
    for items in ([asked], [request], [response]):
        replay.add(items)
    replay.add_own([asked])
    assert replay.items == [asked, request, response, asked]
    replay.add([done])
    assert [item.get("role") for item in replay.items] == ["user", "user", "assistant"]
    assert replay.left_out == {"mcp_approval_request": 1, "mcp_approval_response": 1}


def test_a_refusal_of_a_hosted_call_stays_in_the_conversation():
    request = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "delete_page", "arguments": "{}"}
    response = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": False}
    assert replayed([request], own=[response], later=[message("No")])[:2] == [request, response]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "custom_tool_call_output", "call_id": "nobody", "output": "1", "id": "x"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "a_type_of_the_future", "id": "f_1"},
        call("own"),
        {"type": "message", "role": "assistant", "content": [], "id": "msg_1"},
        {},
    ],
)
def test_nothing_of_the_own_input_is_dropped_or_changed(item):
    assert replayed([message("Hello")], own=[item])[1:] == [item]


def test_call_ids_are_unique_in_a_request():
    pair = [call("call_0"), transcript.tool_output("call_0", "4")]
    sent = replayed([*pair, *pair], own=[{"role": "user", "content": "go"}], later=pair)
    ids = [item["call_id"] for item in sent if "call_id" in item]
    assert ids == ["call_0", "call_0", "call_0_2", "call_0_2", "call_0_3", "call_0_3"]


def test_a_call_of_the_client_with_a_used_id_gets_another_one():
    pair = [call("c"), transcript.tool_output("c", "4")]
    assert [item["call_id"] for item in replayed(pair, own=pair)] == ["c", "c", "c_2", "c_2"]


def test_the_own_call_replaces_one_without_an_output():
    own = [call("c", "again"), transcript.tool_output("c", "4")]
    assert [item.get("name") for item in replayed([call("c", "first")], own=own)] == ["again", None]


def test_an_id_that_is_too_long_for_a_number_is_replaced_where_it_repeats():
    pair = [call("x" * 64), transcript.tool_output("x" * 64, "4")]
    ids = [item["call_id"] for item in replayed([*pair, *pair])]
    assert ids[0] == ids[1] == "x" * 64
    assert ids[2] == ids[3] != ids[0]
    assert len(ids[2]) <= 64


def test_an_id_that_is_longer_than_openai_accepts_is_replaced_except_in_what_the_client_sends():
    """Other providers give longer ones."""
    pair = [call("x" * 65), transcript.tool_output("x" * 65, "4")]
    one, two = [item["call_id"] for item in replayed(pair)]
    assert one == two
    assert len(one) <= 64
    assert replayed([], own=pair) == pair


def test_what_is_left_out_is_counted_by_type():
    replay = Replay()
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    answered = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "a"}, {"type": "x"}],
    }
    replay.add([reasoning, reasoning, CUSTOM, answered, {"type": ["odd"]}])
    assert replay.left_out == {"reasoning": 2, "custom_tool_call": 1, "part x": 1, "unknown": 1}


def test_call_ids_that_repeat_cost_no_more_than_others():
    def seconds(ids: list[str]) -> float:
        items = [
            item
            for call_id in ids
            for item in (
                {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": call_id, "output": "1"},
            )
        ]
        began = time.process_time()
        replay = Replay()
        replay.add(items)
        taken = time.process_time() - began
        assert len({item["call_id"] for item in replay.items}) == len(ids)
        return taken

    assert seconds(["a"] * 10_000) < 5 * seconds([str(n) for n in range(10_000)]) + 0.1
