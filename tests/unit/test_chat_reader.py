"""The bytes of chat completions: what they say, wherever they are cut and whatever is wrong with them."""

import json
import random
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.chat_api import calls, lines, reader
from shared.adapters.chat_api.broken import cut
from shared.adapters.chat_api.decode import CallPiece, read_piece
from shared.core.chat.echo import EchoFilter
from shared.core.response import Usage
from shared.ports.chat import ChatBroken, ChatEnd, ChatNotRepeated
from tests.support.chats import DONE, RECORDED, Collected, Recorded, a_reader, chunk, content, events, read

every = pytest.mark.parametrize("recorded", RECORDED.values(), ids=RECORDED)
CUT = cut("the test ends here")


def test_there_are_streams_of_many_services():
    assert len(RECORDED) >= 10


# Recorded streams, whole and cut.


@every
def test_a_recorded_stream_says_what_is_written_beside_it(recorded):
    assert read(recorded.body) == recorded.collected


@every
@pytest.mark.parametrize("size", [1, 2, 3, 97])
def test_packets_change_nothing(recorded, size):
    body = recorded.body
    assert read(*(body[at : at + size] for at in range(0, len(body), size))) == recorded.collected


@every
@pytest.mark.parametrize("broken", [None, CUT], ids=["the server ends it", "the connection breaks"])
def test_a_stream_that_is_cut_anywhere_is_a_beginning_of_the_whole(recorded, broken):
    whole, ended = recorded.collected, []
    for at in range(len(recorded.body)):
        found = read(recorded.body[:at], broken=broken)
        assert_beginning(found, whole)
        ended.append(isinstance(found.outcome, ChatEnd))
    # An answer is complete from some place on.
    assert ended == sorted(ended)
    assert not ended[0]


def assert_beginning(found: Collected, whole: Collected) -> None:
    assert found.begins(whole)
    if isinstance(found.outcome, ChatEnd):
        assert (found.text, found.reasoning, found.calls) == (whole.text, whole.reasoning, whole.calls)
        assert found.outcome.finish_reason == whole.outcome.finish_reason
    else:
        assert found.outcome.retryable
        assert found.outcome.error.code in {"stream_broken", "unreadable_reply"}


@pytest.mark.parametrize("seed", range(30))
def test_cuts_and_packets_at_random_places(seed):
    """A hundred of them for each seed."""
    luck = random.Random(seed)
    for _ in range(100):
        recorded = luck.choice(list(RECORDED.values()))
        end = luck.randrange(len(recorded.body) + 1)
        places = sorted({0, end, *(luck.randrange(end + 1) for _ in range(luck.randrange(12)))})
        chunks = [recorded.body[begin:after] for begin, after in pairwise(places)]
        broken = luck.choice([None, CUT])
        assert read(*chunks, broken=broken) == read(recorded.body[:end], broken=broken)
        assert_beginning(read(*chunks, broken=broken), recorded.collected)


@every
def test_no_complete_event_is_held_back(recorded):
    found, given = a_reader(), Collected()
    for at in range(len(recorded.body)):
        for event in found.feed(recorded.body[at : at + 1]):
            given.add(event)
        before = recorded.body[: at + 1]
        if before.endswith((b"\n\n", b"\r\r", b"\r\n\r\n")):
            whole = read(before, broken=CUT)
            assert (given.text, given.reasoning, given.calls) == (whole.text, whole.reasoning, whole.calls)


# The end.


ENDS: dict[str, tuple[bytes, ChatEnd | str]] = {
    "[DONE] alone": (events(content("a")) + DONE, ChatEnd(None, None)),
    "a reason alone": (events(content("a"), chunk(finish="stop")), ChatEnd("stop", None)),
    "a reason without a line end": (events(content("a"), chunk(finish="stop")).rstrip(), ChatEnd("stop", None)),
    "a reason and text": (events(chunk({"content": "a"}, "length")), ChatEnd("length", None)),
    "nothing more": (events(content("a")), "stream_broken"),
    "half of [DONE]": (events(content("a")) + b"data: [DON", "stream_broken"),
    "an empty reason": (events(chunk({"content": "a"}, "")), "stream_broken"),
    "a reason that is a number": (events(chunk({"content": "a"}, 7)), "stream_broken"),
    "a list as a reason": (events(chunk({"content": "a"}, ["stop"])), "stream_broken"),
    "the provider gives up": (events(content("a"), chunk(finish="error")), "provider_unavailable"),
    "no resources": (events(content("a"), chunk(finish="insufficient_system_resource")), "provider_unavailable"),
    "an unknown reason": (events(chunk({"content": "a"}, "eos\ud800" + "x" * 99)), ChatEnd("eos\ufffd" + "x" * 59 + "…", None)),
    "a reason twice": (events(content("a"), chunk(finish="stop"), chunk(finish="length")) + DONE, ChatEnd("length", None)),
    "text after [DONE]": (events(content("a")) + DONE + events(content("b")), ChatEnd(None, None)),
    "an error after the reason": (events(chunk({"content": "a"}, "stop"), {"error": {"message": "x"}}), ChatEnd("stop", None)),
    "junk after the reason": (events(chunk({"content": "a"}, "stop")) + b"data: {junk\n\n" + DONE, ChatEnd("stop", None)),
    "no reason as a word": (events(chunk({"content": "a"}, "null"), chunk(finish="None")), "stream_broken"),
    "the provider gives up in capitals": (events(content("a"), chunk(finish="ERROR")), "provider_unavailable"),
    "the provider has lost its model": (events(content("a"), chunk(finish="network_error")), "provider_unavailable"),
    "the whole answer once more": (events(content("a"), {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}) + DONE, ChatEnd("stop", None)),
    "the whole answer beside an empty delta": (events(content("a"), {"choices": [{"delta": {}, "message": {"content": "a"}, "finish_reason": "stop"}]}), ChatEnd("stop", None)),
}  # fmt: skip


@pytest.mark.parametrize(("body", "outcome"), ENDS.values(), ids=ENDS)
def test_how_a_stream_ends(body, outcome):
    found = read(body)
    assert found.text == "a"
    assert (found.outcome.error.code if isinstance(outcome, str) else found.outcome) == outcome


# Errors inside.

LATER = ("provider_unavailable", True)
ERRORS: dict[str, tuple[Any, tuple[str, bool]]] = {
    "an object": ({"error": {"message": "Overloaded.", "code": "overloaded_error"}}, LATER),
    "a text": ({"error": "Overloaded."}, LATER),
    "a status": ({"error": {"message": "Bad gateway.", "code": 502}}, LATER),
    "a rate limit": ({"error": {"message": "Slow down.", "code": 429}}, ("rate_limited", True)),
    "no money": ({"error": {"message": "Pay.", "type": "insufficient_quota"}}, ("quota_exhausted", False)),
    "no money by status": ({"error": {"message": "Pay.", "code": 402}}, ("quota_exhausted", False)),
    "a refusal": ({"error": {"message": "Too long.", "code": "context_length_exceeded"}}, ("provider_rejected", False)),
    "a wrong key": ({"error": {"message": "No.", "code": "invalid_api_key"}}, ("provider_denied", False)),
    "no model": ({"error": {"message": "No.", "code": "model_not_found"}}, ("model_not_found", False)),
    "vLLM's": ({"object": "error", "message": "Broken.", "type": "InternalServerError", "code": 500}, LATER),
    "the event itself": ({"message": "Broken."}, LATER),
    "a detail": ({"detail": "Broken."}, LATER),
    "a list": ([{"error": {"code": 503, "message": "Busy.", "status": "UNAVAILABLE"}}], LATER),
    "in the choices": ({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": {"code": 502, "message": "Bad."}}]}, LATER),
    "beside the choices": ({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}], "error": {"code": 502, "message": "Bad."}}, LATER),
    "a text in the choices": ({"choices": [{"error": "Bad."}]}, LATER),
    "a short name for the message": ({"code": 401, "msg": "No."}, ("provider_denied", False)),
    "a list of details": ({"detail": [{"loc": ["body"], "msg": "Broken."}]}, LATER),
    "a list of errors": ({"success": False, "errors": [{"code": 7, "message": "Broken."}]}, LATER),
}  # fmt: skip


@pytest.mark.parametrize("whole", [False, True], ids=["in a stream", "alone"])
@pytest.mark.parametrize(("value", "expected"), ERRORS.values(), ids=ERRORS)
def test_an_error_inside_an_answer(value, expected, whole):
    body = json.dumps(value).encode() if whole else events(content("a"), value, content("b")) + DONE
    found = read(body)
    assert found.text == ("" if whole else "a")
    assert isinstance(found.outcome, ChatBroken)
    assert (found.outcome.error.code, found.outcome.retryable) == expected


def test_an_error_may_have_a_field_of_its_own():
    """llama.cpp has sent it in the place of `data`."""
    line = b'error: {"code":400,"message":"Too long.","type":"invalid_request_error"}\n\n'
    found = read(events(content("a")) + line)
    assert (found.text, found.outcome.error.code, found.outcome.retryable) == (
        "a",
        "provider_rejected",
        False,
    )


@pytest.mark.parametrize("error", [None, {}, "", [], 0, False])
def test_no_error_is_none(error):
    value = {**content("a"), "error": error}
    assert read(events(value) + DONE) == Collected("a", outcome=ChatEnd(None, None))


# Junk.

NOTHING: dict[str, bytes] = {
    "a comment": b": ping\n\n",
    "an empty comment": b":\n\n",
    "other fields": b"event: ping\nid: 7\nretry: 10\n\n",
    "empty data": b"data:\n\ndata: \n\n",
    "a word": b"data: ping\n\n",
    "a mark": b"data: [HEARTBEAT]\n\n",
    "a word without an empty line": b"data: ping\n",
    "a mark without an empty line": b"data: [HEARTBEAT]\n",
    "no field": b"ping\n\n",
    "NUL": b"\x00\n\n",
    "invalid UTF-8": b": \xff\xfe\n\n",
    "other JSON": b"data: []\n\ndata: [1, [2]]\n\ndata: null\n\ndata: 7\n\n",
    "an empty object": b"data: {}\n\n",
    "no choices": events({"choices": []}, {"choices": None}, {"choices": 7}, {"choices": {"index": 0}}),
    "empty choices": events({"choices": [{}]}, {"choices": [None, 7, "x", []]}),
    "empty deltas": events(*({"choices": [{"index": 0, "delta": d}]} for d in (None, {}, [], 7, "x"))),
    "null contents": events(chunk({"content": None, "reasoning_content": None, "reasoning": None, "tool_calls": None})),
    "odd contents": events(*(chunk({"content": c, "reasoning": c, "tool_calls": c, "refusal": c}) for c in (7, True, {}, [], [7, None, {}, [[]]], {"x": 1}))),
    "odd parts": events(chunk({"content": [{"type": "text", "text": 7}, {"type": [], "text": "x"}, {"type": "thinking", "thinking": [7, {"type": "text"}]}]})),
    "odd calls": events(chunk({"tool_calls": [None, 7, "x", []]})),
    "odd usage": events(*({"choices": [], "usage": u} for u in (None, {}, [], 7, {"prompt_tokens": "x"}, {"prompt_tokens": None}))),
}  # fmt: skip


@pytest.mark.parametrize("junk", NOTHING.values(), ids=NOTHING)
def test_what_brings_nothing_changes_nothing(junk):
    body = junk + events(content("a")) + junk + events(content("b"), chunk(finish="stop")) + junk + DONE
    assert read(body) == Collected("ab", outcome=ChatEnd("stop", None))


LOST = {
    "not JSON": b'data: {"choices": [}\n\n',
    "half an event": b'data: {"choices": [{"delta": {"content": "b\n\n',
    "too deep": b"data: " + b'{"a":' * 100_000 + b"\n\n",
    "a huge number": b'data: {"created": ' + b"9" * 5_000 + b"}\n\n",
}


@pytest.mark.parametrize("junk", LOST.values(), ids=LOST)
def test_an_event_that_cannot_be_read_ends_the_answer(junk):
    """Its text would be missing in the middle."""
    found = read(events(content("a")) + junk + events(content("c")) + DONE)
    assert (found.text, found.outcome.error.code, found.outcome.retryable) == ("a", "unreadable_reply", True)


# Lines.

LINES = {
    "CR LF": b"data: 1\r\n\r\ndata: 2\r\n\r\n",
    "CR": b"data: 1\r\rdata: 2\r\r",
    "a byte order mark": b"\xef\xbb\xbfdata: 1\n\ndata: 2\n\n",
    "no blank": b"data:1\n\ndata:2\n\n",
    "no end": b"data: 1\n\ndata: 2",
    "many empty lines": b"\n\n\r\n\rdata: 1\n\n\n\n\ndata: 2\n\n\n",
}


@pytest.mark.parametrize("body", LINES.values(), ids=LINES)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_events_are_found_whatever_their_line_ends(body, size):
    found = lines.LineReader()
    data = [each for at in range(0, len(body), size) for each in found.feed(body[at : at + size])]
    assert [*data, *found.end()] == [b"1", b"2"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 100])
def test_an_event_of_many_lines_is_one_and_events_of_one_line_need_no_empty_line(end, size):
    body = end.join([b"data: {", b'data: "a": {},', b'data:  "b": 1}', b"", b'data: {"c": 2}', b'data: {"d": 3}', b"data: [DONE]", b""])  # fmt: skip
    found = lines.LineReader()
    data = [
        each for at in range(0, len(body), size) for each in found.feed(body[at : at + size])
    ] + found.end()
    assert [json.loads(each) for each in data[:-1]] == [{"a": {}, "b": 1}, {"c": 2}, {"d": 3}]
    assert data[-1] == lines.DONE


# Characters.


@given(st.text(st.characters(codec=None), max_size=30), st.randoms(use_true_random=False))
def test_characters_that_deltas_split_are_joined(text, luck):
    """JSON escapes UTF-16: a character may be split between two deltas, and half of one may be alone."""
    units = text.encode("utf-16-le", "surrogatepass")
    halves = [units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2)]
    pieces: list[str] = []
    for half in halves:
        if pieces and luck.random() < 0.5:
            pieces[-1] += half
        else:
            pieces.append(half)
    whole = units.decode("utf-16-le", "replace")
    for kind, name in (("content", "text"), ("reasoning_content", "reasoning"), ("refusal", "refusal")):
        found = read(events(*(chunk({kind: piece}) for piece in pieces)) + DONE)
        assert getattr(found, name) == whole
    call = [chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces]
    found = read(events(*call) + DONE)
    assert "".join(arguments for _, _, arguments in found.calls) == whole


def test_half_a_character_at_a_cut_is_not_given():
    assert read(events(content("a\ud83d"))).text == "a"
    assert read(events(content("a\ud83d")) + DONE).text == "a\ufffd"


def test_a_refusal_is_no_text():
    """OpenAI has it in a field of its own."""
    deltas = [chunk({"role": "assistant", "content": "", "refusal": None}), chunk({"refusal": "I "}), chunk({"refusal": "cannot."}, "stop")]  # fmt: skip
    refused = Collected(refusal="I cannot.", outcome=ChatEnd("stop", None))
    assert read(events(*deltas) + DONE) == refused
    message = {"content": None, "refusal": "I cannot."}
    assert read(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()) == refused
    assert (
        read(events(*deltas[:2], {"choices": [{"message": message, "finish_reason": "stop"}]})).refusal
        == "I "
    )


# Calls.


def pieces(*given: dict[str, Any]) -> list[list[str]]:
    """Return the calls of deltas with `i`, `id`, `name` and `args`, each in an event of its own."""
    found = read(events(*(chunk({"tool_calls": [_piece(**each)]}) for each in given), chunk(finish="stop")))
    assert isinstance(found.outcome, ChatEnd)
    return found.calls


def _piece(**given: Any) -> dict[str, Any]:
    function = {"name": given.get("name"), "arguments": given.get("args")}
    fields = {"index": given.get("i"), "id": given.get("id"), "function": function}
    return {key: value for key, value in fields.items() if value is not None}


ONE = [["a", "f", '{"x": 1}']]
TWO = [["a", "f", '{"x": 1}'], ["b", "f", '{"x": 2}']]
FULL = ({"id": "a", "name": "f", "args": '{"x": 1}'}, {"id": "b", "name": "f", "args": '{"x": 2}'})
CALLS: dict[str, tuple[list[dict[str, Any]], list[list[str]]]] = {
    "as OpenAI": ([{"i": 0, "id": "a", "name": "f", "args": ""}, {"i": 0, "args": '{"x"'}, {"i": 0, "args": ": 1}"}], ONE),
    "id and name repeated": ([{"i": 0, "id": "a", "name": "f", "args": each} for each in ('{"x"', ": 1}")], ONE),
    "name repeated": ([{"i": 0, "id": "a", "name": "f", "args": '{"x"'}, {"i": 0, "name": "f", "args": ": 1}"}], ONE),
    "another id with each piece": ([{"i": 0, "id": "a", "name": "f", "args": '{"x"'}, {"i": 0, "id": "b", "args": ": 1}"}], ONE),
    "another id and the name with each piece": ([{"i": 0, "id": "a", "name": "f", "args": '{"x"'}, {"i": 0, "id": "b", "name": "f", "args": ": 1}"}], ONE),
    "no index": ([{"id": "a", "name": "f", "args": '{"x"'}, {"args": ": 1}"}], ONE),
    "no index, id repeated": ([{"id": "a", "name": "f", "args": '{"x"'}, {"id": "a", "args": ": 1}"}], ONE),
    "no index, all repeated": ([{"id": "a", "name": "f", "args": each} for each in ('{"x"', ": 1}")], ONE),
    "the id comes late": ([{"i": 0, "name": "f", "args": '{"x"'}, {"i": 0, "id": "a", "args": ": 1}"}], ONE),
    "the name comes late": ([{"i": 0, "id": "a"}, {"i": 0, "name": "f", "args": '{"x": 1}'}], ONE),
    "empty texts": ([{"i": 0, "id": "a", "name": "f", "args": '{"x"'}, {"i": 0, "id": "", "name": "", "args": ": 1}"}], ONE),
    "an object as arguments": ([{"i": 0, "id": "a", "name": "f", "args": {"x": 1}}], ONE),
    "an empty list as arguments": ([{"i": 0, "id": "a", "name": "f", "args": []}], [["a", "f", ""]]),
    "a list as arguments": ([{"i": 0, "id": "a", "name": "f", "args": [1]}], [["a", "f", "[1]"]]),
    "an index that begins at 1": ([{"i": 1, "id": "a", "name": "f", "args": '{"x": 1}'}, {"i": 2, "id": "b", "name": "f", "args": '{"x": 2}'}], TWO),
    "calls in turn": ([{"i": 0, "id": "a", "name": "f", "args": '{"x"'}, {"i": 1, "id": "b", "name": "f", "args": '{"x"'}, {"i": 0, "args": ": 1}"}, {"i": 1, "args": ": 2}"}], TWO),
    "complete calls without an index": (list(FULL), TWO),
    "complete calls with the same index": ([{"i": 0, **each} for each in FULL], TWO),
    "calls in turn by id": ([{"id": "a", "name": "f", "args": '{"x"'}, {"id": "b", "name": "f", "args": '{"x"'}, {"id": "a", "args": ": 1}"}, {"id": "b", "args": ": 2}"}], TWO),
    "only names": ([{"name": "f", "args": '{"x": 1}'}, {"name": "f", "args": '{"x": 2}'}], [["", "f", '{"x": 1}'], ["", "f", '{"x": 2}']]),
    "only names, repeated": ([{"name": "f", "args": '{"x"'}, {"name": "f", "args": ": 1}"}, {"name": "g", "args": "{}"}], [["", "f", '{"x": 1}'], ["", "g", "{}"]]),
    "no arguments": ([{"id": "a", "name": "f", "args": ""}, {"id": "b", "name": "f", "args": ""}], [["a", "f", ""], ["b", "f", ""]]),
    "the name once more at the end": ([{"i": 0, "name": "f", "args": '{"x": 1}'}, {"i": 0, "id": "a", "name": "f", "args": ""}], ONE),
    "no arguments, the same index": ([{"i": 0, "id": "a", "name": "f", "args": ""}, {"i": 0, "id": "b", "name": "f", "args": ""}], [["a", "f", ""], ["b", "f", ""]]),
    "only a name at first": ([{"name": "f", "args": ""}, {"name": "f", "args": '{"x": 1}'}], [["", "f", '{"x": 1}']]),
    "the same id at another index": ([{"i": 0, "id": "a", "name": "f", "args": "{}"}, {"i": 1, "id": "a", "name": "g", "args": "{}"}], [["a", "f", "{}"], ["a", "g", "{}"]]),
    "odd indexes": ([{"i": True, "id": "a", "name": "f", "args": '{"x"'}, {"i": -1, "args": ": 1}"}, {"i": "0", "id": "b", "name": "f", "args": '{"x": 2}'}], TWO),
    "complete calls with the same index and no ids": ([{"i": 0, "id": "", "name": name, "args": args} for name, args in (("f", '{"x": 1}'), ("f", '{"x": 2}'), ("g", "{}"))], [["", "f", '{"x": 1}'], ["", "f", '{"x": 2}'], ["", "g", "{}"]]),
    "the name in pieces": ([{"i": 0, "id": "a", "name": "look_"}, {"i": 0, "name": "up", "args": ""}, {"i": 0, "args": "{}"}], [["a", "look_up", "{}"]]),
    "the name in pieces with the id": ([{"i": 0, "id": "a", "name": each} for each in ("look", "_", "up")], [["a", "look_up", ""]]),
    "the name as far as it came": ([{"i": 0, "id": "a", "name": each} for each in ("look", "look_up")], [["a", "look_up", ""]]),
    "odd fields": ([{"i": 0, "id": 7, "name": ["f"], "args": 1.5}, {"i": 0, "id": "a", "name": "f", "args": '{"x": 1}'}], ONE),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), CALLS.values(), ids=CALLS)
def test_the_pieces_of_calls_are_joined(given, expected):
    assert pieces(*given) == expected


def test_a_complete_answer_may_have_calls_of_the_same_function():
    body = {"message": {"content": None, "tool_calls": [_piece(**each) for each in FULL]}}
    found = read(json.dumps({"choices": [{**body, "finish_reason": "tool_calls"}]}).encode())
    assert found == Collected(calls=TWO, outcome=ChatEnd("tool_calls", None))


@pytest.mark.parametrize("ids", [[""], ["a"], ["a", "b"]], ids=["none", "one", "changing"])
def test_a_long_call_whose_name_is_repeated_with_each_piece_is_one(ids):
    """It is not parsed again and again, and so not known to be incomplete. Its index says that it is one."""
    words = ["{", '"x": "', *["a} "] * 3 * calls.MAX_PARSES, "y" * calls.MAX_PARSED_CHARACTERS, "z", '"}']
    given = [{"i": 0, "id": ids[n % len(ids)], "name": "f", "args": word} for n, word in enumerate(words)]
    assert pieces(*given) == [[ids[0], "f", "".join(words)]]


def test_a_name_that_is_repeated_with_each_piece_costs_little():
    placed, began = calls.Calls(), time.process_time()
    for number in range(60_000):
        placed.place(CallPiece(0, str(number), "f", "x" if number else "{"))
    assert placed.count == 1
    # To join the pieces each time took five seconds.
    assert time.process_time() - began < 2


@pytest.mark.parametrize("index", [{}, {"i": 0}])
def test_calls_beside_each_other_are_several(index):
    """Without ids and arguments, only their places tell them apart."""
    beside = [_piece(name=name, args="", **index) for name in ("f", "f", "g")]
    found = read(events(chunk({"tool_calls": beside}, "tool_calls")))
    assert found.calls == [["", "f", ""], ["", "f", ""], ["", "g", ""]]


def test_arguments_that_cannot_be_written_as_a_text_are_not_empty():
    """The host would take them for those of a call without arguments, and run it."""
    nested: dict[str, Any] = {}
    for _ in range(100_000):
        nested = {"a": nested}
    [found] = read_piece(chunk({"tool_calls": [_piece(name="f", args=nested)]})).calls
    assert found.arguments.strip()


def test_a_call_may_have_the_form_of_before_there_were_several():
    deltas = [chunk({"function_call": each}) for each in ({"name": "f", "arguments": ""}, {"arguments": '{"x"'}, {"arguments": ": 1}"}, None)]  # fmt: skip
    assert read(events(*deltas, chunk(finish="function_call"))).calls == [["", "f", '{"x": 1}']]
    message = {"content": None, "function_call": {"name": "f", "arguments": '{"x": 1}'}}
    assert read(json.dumps({"choices": [{"message": message}]}).encode()).calls == [["", "f", '{"x": 1}']]


def test_a_call_whose_arguments_have_not_begun_is_not_whole_without_a_reason():
    """The host would take it for a call without arguments, and run it."""
    begun = events(chunk({"tool_calls": [_piece(i=0, id="a", name="f", args="")]}))
    assert read(begun + DONE).outcome.error.code == "stream_broken"
    assert read(begun + events(chunk(finish="tool_calls")) + DONE).outcome == ChatEnd("tool_calls", None)
    more = events(chunk({"tool_calls": [_piece(i=0, args="{}")]}))
    assert read(begun + more + DONE).outcome == ChatEnd(None, None)


# Complete answers.


@pytest.mark.parametrize("before", [b"", b" \r\n\n", b"\xef\xbb\xbf", b"\n" * 100_000])
@pytest.mark.parametrize("size", [1, 50, 10**6])
def test_an_answer_in_one_piece(before, size):
    message = {"role": "assistant", "content": "a\ud83d\ude80\x00", "reasoning_content": "Hm."}
    body = before + json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}, {"message": {"content": "other"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}).encode()  # fmt: skip
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    assert read(*chunks) == Collected("a\U0001f680\x00", "Hm.", outcome=ChatEnd("stop", Usage(1, 2, 3)))
    assert read(*chunks, broken=CUT) == Collected(outcome=CUT)


def test_an_answer_in_one_piece_needs_no_reason():
    assert read(b'{"choices": [{"message": {"content": "a"}}]}') == Collected(
        "a", outcome=ChatEnd(None, None)
    )


JUNK = {
    "nothing": b"",
    "blanks": b" \n\n",
    "a page": b"<html><body>Sign in</body></html>",
    "a list": b"[1, 2]",
    "half": b'{"choices": [',
    "no choices": b'{"choices": []}',
    "another object": b'{"id": "resp_1", "output": []}',
    "too deep": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("body", JUNK.values(), ids=JUNK)
def test_a_reply_that_is_no_answer(body):
    found = read(body)
    assert (found.text, found.outcome.error.code, found.outcome.retryable) == ("", "unreadable_reply", True)


# Usage.

USAGES: dict[str, tuple[dict[str, Any], Usage | None]] = {
    "OpenAI's": ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 8, "prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 2}}, Usage(3, 4, 8, 1, 2)),
    "without a total": ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4, 7)),
    "of responses": ({"input_tokens": 3, "output_tokens": 4}, Usage(3, 4, 7)),
    "zero": ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage()),
    "odd": ({"prompt_tokens": -5, "completion_tokens": 10**30, "prompt_tokens_details": [7]}, Usage(0, 10**12, 10**12)),
    "none": ({"total_time": 0.5}, None),
}  # fmt: skip


@pytest.mark.parametrize(("usage", "expected"), USAGES.values(), ids=USAGES)
def test_usage_is_read_or_unknown(usage, expected):
    for value in ({"choices": [], "usage": usage}, {"choices": [{"index": 0, "delta": {}, "usage": usage}]}):
        assert read(events(content("a"), value, chunk(usage=None)) + DONE).outcome == ChatEnd(None, expected)


# Limits.


def test_no_event_is_longer_than_its_limit(monkeypatch):
    for module in (lines, reader):
        monkeypatch.setattr(module, "MAX_EVENT_BYTES", 2**20)
    long = events(content("x" * 2**20))
    bodies = [long, long[:-2] + b"}\n\n", b": " + b"x" * 2**21, b"data: {\n" + b"data: 1,\n" * 2**18]
    for body in bodies:
        for size in (2**16, len(body)):
            found = a_reader()
            for at in range(0, len(body), size):
                found.feed(body[at : at + size])
            assert (found.outcome.error.code, found.outcome.retryable) == ("output_too_large", False)


def test_an_answer_is_not_longer_than_its_limit(monkeypatch):
    monkeypatch.setattr(reader, "MAX_ANSWER_BYTES", 3_000)
    for delta in (
        {"content": "ä" * 500},
        {"reasoning": "ä" * 500},
        {"refusal": "ä" * 500},
        {"tool_calls": [_piece(i=0, name="f", args="ä" * 500)]},
    ):
        assert isinstance(read(events(*[chunk(delta)] * 3) + DONE).outcome, ChatEnd)
        found = read(events(*[chunk(delta)] * 4, chunk(finish="stop")) + DONE).outcome
        assert (found.error.code, found.retryable) == ("output_too_large", False)


def test_a_stream_is_not_longer_than_its_limit(monkeypatch):
    monkeypatch.setattr(reader, "MAX_STREAM_BYTES", 10_000)
    found = a_reader()
    for _ in range(11):
        assert found.outcome is None
        found.feed(b":" * 999 + b"\n")
    assert found.outcome.error.code == "output_too_large"


def test_a_complete_answer_is_not_longer_than_its_limit(monkeypatch):
    monkeypatch.setattr(reader, "MAX_REPLY_BYTES", 10_000)
    found = read(b'{"a": "' + b"x" * 9_000, b"x" * 9_000, b'"}')
    assert (found.outcome.error.code, found.outcome.retryable) == ("output_too_large", False)


def test_an_answer_has_no_more_calls_than_the_limit():
    many = [
        chunk({"tool_calls": [_piece(id=str(number), name="f", args="{}")]})
        for number in range(calls.MAX_CALLS + 1)
    ]
    assert len(read(events(*many[:-1]) + DONE).calls) == calls.MAX_CALLS
    assert read(events(*many) + DONE).outcome.error.code == "output_too_large"


# Echoes.


@given(st.text("ab", max_size=6), st.lists(st.text("ab", max_size=4), max_size=6))
def test_only_a_complete_repetition_is_removed(prefix, deltas):
    text, echo = "".join(deltas), EchoFilter(prefix)
    given_on = "".join([*(echo.passed(each) for each in deltas), echo.rest()])
    assert given_on == text.removeprefix(prefix)


def test_what_may_be_a_repetition_is_not_given_when_the_stream_breaks():
    deltas = events(content("On"), content("ce u"))
    assert read(deltas, echo="Once upon").text == ""
    assert read(deltas + DONE, echo="Once upon").text == "Once u"
    assert read(events(content("Once upon a"), content(" time")) + DONE, echo="Once upon").text == " a time"


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        (["Once upon", " a time"], [" a time"]),
        (["O", "nce upo", "n a time"], [" a time"]),
        ([], []),
        (["Once upin a time"], ["missed", "Once upin a time"]),
        (["O", "nce up", "in a time"], ["missed", "Once upin a time"]),
        ([" a time", " there was"], ["missed", " a time", " there was"]),
        (["Once u"], ["missed", "Once u"]),
    ],
)
def test_it_is_told_once_that_the_text_so_far_was_not_repeated(pieces, told):
    answer = a_reader("Once upon")
    found = answer.feed(events(*map(content, pieces), chunk(finish="stop")) + DONE) + answer.end()
    assert ["missed" if isinstance(each, ChatNotRepeated) else each.text for each in found] == told


# Anything.


def _recorded_or_junk() -> st.SearchStrategy[bytes]:
    streams: list[Recorded] = list(RECORDED.values())
    return st.sampled_from(streams).flatmap(
        lambda recorded: st.lists(
            st.tuples(st.integers(0, len(recorded.body)), st.binary(max_size=6)), max_size=4
        ).map(lambda damage: _damaged(recorded.body, damage))
    )


def _damaged(body: bytes, damage: list[tuple[int, bytes]]) -> bytes:
    for at, junk in damage:
        body = body[:at] + junk + body[at + len(junk) :]
    return body


@given(st.one_of(_recorded_or_junk(), st.binary(max_size=200)))
def test_no_bytes_raise_and_packets_never_matter(body):
    whole = read(body)
    assert read(*(body[at : at + 1] for at in range(len(body)))) == whole
    whole.text.encode()
