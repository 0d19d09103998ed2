import json

import pytest

from shared.core import items
from shared.core.model import FunctionCall
from tests.fakes import message


def text_of(*found: object) -> str:
    return json.dumps(found)


def test_the_text_is_all_output_text_of_all_messages():
    two = {
        "type": "message",
        "content": [{"type": "output_text", "text": "b"}, {"type": "refusal", "refusal": "no"}],
    }
    assert items.output_text(text_of(*message("a"), {"type": "reasoning", "content": []}, two)) == "ab"


@pytest.mark.parametrize(
    "odd",
    ["", "[]", "null", "3", '["x", 1, null]', '[{"type": "message"}]', '[{"type": "message", "content": "x"}]',
     '[{"type": "message", "content": [{"type": "output_text", "text": 3}, "y"]}]'],
)  # fmt: skip
def test_what_is_not_as_documented_is_overlooked(odd):
    assert items.output_text(odd) == ""
    assert items.calls(odd) == ()


def test_calls_without_a_usable_id_are_left_out_and_the_first_of_twins_counts():
    def call(call_id, arguments="{}"):
        return {"type": "function_call", "call_id": call_id, "name": "pay", "arguments": arguments}

    found = items.calls(
        text_of(call("a"), call("a", '{"twice": 1}'), call(""), call("x" * 65), call(3), call("b", {"n": 1}))
    )
    assert found == (FunctionCall("a", "pay", "{}"), FunctionCall("b", "pay", '{"n": 1}'))


def test_replayed_items_lose_what_ties_them_to_a_response():
    given = [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "c",
            "name": "pay",
            "arguments": "{}",
            "status": "completed",
        },
        items.tool_output("c", "paid"),
        {"type": "web_search_call", "id": "ws_1"},
    ]
    assert items.replayable(given) == [
        {"role": "user", "content": "hi"},
        {"type": "function_call", "call_id": "c", "name": "pay", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "paid"},
    ]
