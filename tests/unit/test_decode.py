import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.http.shown_error import MAX_MESSAGE_CHARACTERS, read_error
from shared.adapters.http.tokens import MAX_TOKENS
from shared.adapters.responses_api.decode import Unreadable, decode, is_response_id
from shared.core import transcript
from shared.core.calls import ToolCall
from shared.core.response import ResponseStatus, RunError, Snapshot, Usage

CALL = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "look_up", "arguments": "{}"}


def text_item(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def body(**fields: Any) -> bytes:
    return json.dumps({"id": "resp_1", "status": "completed", "output": []} | fields).encode()


def ignore(_status: str) -> None:
    pass


def read(content: bytes) -> Snapshot | Unreadable:
    return decode(content, "resp_1", ignore)


def snapshot(**fields: Any) -> Snapshot:
    found = read(body(**fields))
    assert isinstance(found, Snapshot)
    return found


@pytest.mark.parametrize("status", ["queued", "in_progress"])
@pytest.mark.parametrize("output", [[], None, "junk", [CALL]])
def test_an_unfinished_response_is_its_id_and_status(status, output):
    assert snapshot(status=status, output=output) == Snapshot(
        response_id="resp_1", status=ResponseStatus(status)
    )


def test_a_completed_response_is_read_completely():
    usage = {"input_tokens": 40, "output_tokens": 400, "total_tokens": 441}
    found = snapshot(output=[text_item("Once"), CALL], usage=usage, error=None, incomplete_details=None)
    assert found == Snapshot(
        response_id="resp_1",
        status=ResponseStatus.COMPLETED,
        output=json.dumps([text_item("Once"), CALL]),
        calls=(ToolCall("c", "look_up", "{}"),),
        usage=Usage(40, 400, 441),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><html></html>",
        b"[1, 2, 3]",
        b'"hello"',
        b"null",
        b"NaN",
        b"7",
        b"\xff\xfe",
        b"\x00",
        body()[:-1],
        body() + b"x",
        b"[" * 100_000,
        b'{"id": "resp_1", "status": "completed", "output": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"id": "resp_1", "status": "completed", "output": [' + b"9" * 5000 + b"]}",
        body(status=None),
        body(status=True),
        body(status=["completed"]),
    ],
)
def test_a_body_without_the_expected_response_is_unreadable(content):
    assert isinstance(read(content), Unreadable)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "incomplete"])
@pytest.mark.parametrize("output", ["text", {}, 7, True])
def test_a_finished_response_without_a_list_of_items_is_unreadable(status, output):
    assert isinstance(read(body(status=status, output=output)), Unreadable)


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_an_answer_without_output_is_unreadable(status):
    assert isinstance(read(body(status=status, output=None)), Unreadable)
    assert isinstance(read(json.dumps({"id": "resp_1", "status": status}).encode()), Unreadable)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_response_that_failed_needs_no_output(status):
    for content in (body(status=status, output=None), json.dumps({"id": "r", "status": status}).encode()):
        found = read(content)
        assert isinstance(found, Snapshot)
        assert (found.status, found.output) == (status, "[]")


@pytest.mark.parametrize(
    "content",
    [
        {"id": "resp_1"},
        {"id": "resp_1", "status": None},
        {"id": "resp_1", "status": "completed"},
        {"id": "resp_1", "status": "completed", "output": None},
    ],
)
def test_of_a_new_response_only_the_id_matters(content):
    found = decode(json.dumps(content).encode(), None, ignore)
    assert isinstance(found, Snapshot)
    assert not found.status.finished
    failed = json.dumps(content | {"status": None, "error": {"code": "x"}}).encode()
    assert isinstance(decode(failed, None, ignore), Unreadable)


def test_no_reason_repeats_the_body():
    secret = "xyzzy"
    for content in (secret, json.dumps(secret), json.dumps({"id": secret, "output": secret})):
        found = read(content.encode())
        assert isinstance(found, Unreadable)
        assert secret not in found.reason


def test_any_usable_id_is_accepted_when_none_is_expected():
    for good in ("resp_2", "a/b", "../x", "a b", "x" * 1024, "r\u00e9sp", "a+b==", "a%2Fb", "?#"):
        found = decode(body(id=good), None, ignore)
        assert isinstance(found, Snapshot)
        assert found.response_id == good
    for bad in ("", ".", "..", "x" * 1025, "resp_1\n", "\ud800", None, 7):
        assert isinstance(decode(body(id=bad), None, ignore), Unreadable)
        assert not is_response_id(bad)


@pytest.mark.parametrize("other", ["resp_2", None, 7, "", ".."])
def test_the_requested_response_counts_whatever_id_the_body_has(other):
    found = read(body(id=other))
    assert isinstance(found, Snapshot)
    assert found.response_id == "resp_1"


@pytest.mark.parametrize(
    ("metadata", "run_id"),
    [({"baton_run": "run_1"}, "run_1"), ({"baton_run": 7}, None), ({}, None), (None, None), ("run_1", None)],
)
@pytest.mark.parametrize("status", ["completed", "in_progress"])
def test_the_metadata_name_the_run(metadata, run_id, status):
    assert snapshot(status=status, metadata=metadata).run_id == run_id


@pytest.mark.parametrize(("word", "status"), [("pending", "queued"), ("running", "in_progress")])
def test_other_words_for_a_status_are_known(word, status):
    assert snapshot(status=word).status == status


def test_usage_has_its_details():
    details = {
        "input_tokens_details": {"cached_tokens": 64},
        "output_tokens_details": {"reasoning_tokens": 11},
    }
    found = snapshot(usage={"input_tokens": 100, "output_tokens": 20, "total_tokens": 120} | details)
    assert found.usage == Usage(100, 20, 120, cached_tokens=64, reasoning_tokens=11)
    odd = {"input_tokens_details": [], "output_tokens_details": {"reasoning_tokens": "11"}}
    assert snapshot(usage={"input_tokens": 1} | odd).usage == Usage(1, 0, 1)


def test_an_unknown_status_is_reported_and_taken_as_in_progress():
    reported: list[str] = []
    found = decode(body(status="contemplating"), "resp_1", reported.append)
    assert found == Snapshot(response_id="resp_1", status=ResponseStatus.IN_PROGRESS)
    assert reported == ["contemplating"]


def test_unknown_items_are_kept_if_they_are_objects():
    found = snapshot(output=[{"type": "quantum_call", "x": [1]}, 7, None, "text", [CALL], {"type": None}])
    assert json.loads(found.output) == [{"type": "quantum_call", "x": [1]}, {"type": None}]
    assert found.calls == ()


def test_of_duplicate_keys_the_last_counts():
    content = b'{"id": "resp_2", "status": "queued", "id": "resp_1", "status": "in_progress"}'
    assert read(content) == Snapshot(response_id="resp_1", status=ResponseStatus.IN_PROGRESS)


@pytest.mark.parametrize(
    "text", ["漢字 かな 한글", "\U0001f680\U0001f468‍\U0001f469", "\x00\x1f\x7f", "\ufeff\ufffe\u2028"]
)
@pytest.mark.parametrize("escaped", [True, False])
def test_text_comes_through_unchanged(text, escaped):
    content = json.dumps(
        {"id": "resp_1", "status": "completed", "output": [text_item(text)]}, ensure_ascii=escaped
    )
    found = read(content.encode())
    assert isinstance(found, Snapshot)
    assert transcript.output_text(found.output) == text
    assert "\\u" not in found.output or text == "\x00\x1f\x7f"


def test_a_lone_surrogate_becomes_one_replacement_character_and_nothing_else_changes():
    found = snapshot(output=[text_item("a\ud800b\U0001f680\x00漢\udc00"), CALL | {"arguments": "\ud800"}])
    assert transcript.output_text(found.output) == "a\ufffdb\U0001f680\x00漢\ufffd"
    assert found.calls[0].arguments == "\ufffd"
    found.output.encode()


def test_bytes_that_are_no_utf8_are_replaced():
    content = body(output=[text_item("a?b")]).replace(b"?", b"\xc3\x28\xff")
    found = read(content)
    assert isinstance(found, Snapshot)
    assert transcript.output_text(found.output) == "a\ufffd(\ufffdb"


def test_numbers_that_json_does_not_have_become_null():
    content = b'{"id": "resp_1", "status": "completed", "output": [{"a": [NaN, -Infinity, 1e999, 1.5, 10]}]}'
    found = read(content)
    assert isinstance(found, Snapshot)
    assert found.output == '[{"a": [null, null, null, 1.5, 10]}]'


def test_five_megabytes_are_decoded():
    text = "Beyond the last charted star 漢字. " * 140_000
    found = snapshot(output=[text_item(text)])
    assert transcript.output_text(found.output) == text


@pytest.mark.parametrize(
    ("given_usage", "counted"),
    [
        (None, Usage()),
        ("many", Usage()),
        ([1, 2], Usage()),
        ({}, Usage()),
        ({"input_tokens": 3, "output_tokens": 4}, Usage(3, 4, 7)),
        ({"input_tokens": -3, "output_tokens": 4, "total_tokens": -1}, Usage(0, 4, 4)),
        ({"input_tokens": True, "output_tokens": "4", "total_tokens": 1.5}, Usage()),
        ({"input_tokens": 10**300, "output_tokens": 1}, Usage(MAX_TOKENS, 1, MAX_TOKENS + 1)),
        ({"input_tokens": float("nan"), "total_tokens": 10**18}, Usage(0, 0, MAX_TOKENS)),
    ],
)
def test_usage_is_whole_numbers_within_bounds(given_usage, counted):
    assert snapshot(usage=given_usage).usage == counted


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_calls_count_in_a_response_with_output(status):
    assert snapshot(status=status, output=[CALL, CALL]).calls == (ToolCall("c", "look_up", "{}"),)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_calls_do_not_count_in_a_response_that_failed(status):
    found = snapshot(status=status, output=[CALL])
    assert found.calls == ()
    assert json.loads(found.output) == [CALL]


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            {"code": "server_error", "message": "It broke."},
            RunError("server_error", "It broke.", "server_error"),
        ),
        (
            {"code": "insufficient_quota", "message": "Pay."},
            RunError("quota_exhausted", "Pay.", "insufficient_quota"),
        ),
        ({"message": "It broke."}, RunError("provider_error", "It broke.")),
        ({"code": "server_error"}, RunError("server_error", "The provider gave no reason.", "server_error")),
        ({"code": ["x"], "message": "It broke."}, RunError("provider_error", "It broke.")),
        ({"code": "two words\n", "message": "It broke."}, RunError("provider_error", "It broke.")),
        ("It broke.", RunError("provider_error", "It broke.")),
        (" a\r\n\tb\x00\x1b[31mc\ud800", RunError("provider_error", "a b [31mc\ufffd")),
        (None, None),
        ({}, None),
        ("", None),
        (7, None),
        ([], None),
    ],
)
def test_an_error_is_a_code_and_a_sentence(error, shown):
    assert snapshot(status="failed", error=error).error == shown


@pytest.mark.parametrize("length", [MAX_MESSAGE_CHARACTERS, 3_000, 100_000])
def test_a_long_error_keeps_both_ends(length):
    error = read_error("The value " + "na " * (length // 3) + "is not a valid address.")
    assert error is not None
    assert MAX_MESSAGE_CHARACTERS - 2 <= len(error.message) <= MAX_MESSAGE_CHARACTERS
    assert error.message.startswith("The value na")
    assert " … " in error.message
    assert error.message.endswith("is not a valid address.")


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcDEF123_-456",
        "sk-abc*********xyz",
        "Bearer abc.def",
        "eyJhbGciOiJIUzI1NiJ9.e30.abc-_",
        "0123456789abcdef0123456789abcdef",
        "my own key",
    ],
)
def test_an_error_never_shows_a_key(secret):
    error = read_error({"message": f"Wrong key: {secret}. See resp_{'0' * 48}."}, "my own key")
    assert error is not None
    assert secret not in error.message
    assert error.message.startswith("Wrong key: [secret]")
    assert "resp_" + "0" * 48 in error.message


@pytest.mark.parametrize(
    ("details", "reason"),
    [({"reason": "max_output_tokens"}, "max_output_tokens"), ({"reason": 7}, None), ({}, None), ("x", None)],
)
def test_an_incomplete_response_has_its_reason(details, reason):
    assert snapshot(status="incomplete", incomplete_details=details).incomplete_reason == reason


_fields = st.sampled_from(
    [
        *("status", "output", "usage", "error", "incomplete_details", "reason", "input_tokens"),
        *("type", "call_id", "name", "arguments", "message", "code"),
    ]
)
_value = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("function_call")
)
_object = st.dictionaries(_fields, _value | st.lists(_value, max_size=2), max_size=4)


@given(st.dictionaries(_fields, _value | _object | st.lists(_value | _object, max_size=3), max_size=5))
def test_decoding_never_raises_and_its_output_is_json(fields):
    found = read(body(**fields))
    if isinstance(found, Snapshot):
        assert isinstance(json.loads(found.output.encode()), list)
        assert transcript.calls(found.output) == found.calls or not found.calls


@given(st.binary())
def test_decoding_never_raises_for_bytes(content):
    assert isinstance(read(content), Unreadable)
