"""Requests that cannot be carried out: each gets a clear answer, stores nothing and sends nothing to the provider."""

import gzip
import json
import time
import tracemalloc
from copy import deepcopy
from dataclasses import replace

import pytest

from shared.core.input_items import InputRules
from shared.core.response import ResponseStatus, Snapshot
from shared.errors import StorageUnavailable
from tests.support.client import DOCUMENT, OWNER_HEADER, Answer, Client, conform, routes
from tests.support.fakes import FakeAgents, answer
from tests.support.world import World

GOOD = {"agent": "writer", "input": "hi"}
NOBODYS_RUN = "run_0f" + "0" * 26
NOBODYS_SESSION = "ses_0f" + "0" * 26


class TwoAgents(FakeAgents):
    """The writer, and a reader that is the same but for its name."""

    def names(self):
        return ("reader", "writer")

    def spec(self, name):
        spec = super().spec("writer")
        return replace(spec, name=name) if name in self.names() else None


class Town:
    """A world with runs of two owners: `ann`, whose requests are tested, and `bob`."""

    def __init__(self) -> None:
        self.world = World(agents=TwoAgents())
        self.ann, self.bob = Client(self.world.context, owner="ann"), Client(self.world.context, owner="bob")

    async def settle(self) -> "Town":
        """Give ann a completed run, a pending one and a deleted one with a key, and bob a pending one."""
        self.done = (await self.ann.start(headers={"Idempotency-Key": "used"})).json
        self.world.provider.state["resp_1"] = answer("resp_1")
        await self.world.until_terminal(self.done["id"])
        self.pending = (await self.ann.start()).json
        self.deleted = (await self.ann.start(headers={"Idempotency-Key": "of a deleted run"})).json
        await self.ann.delete("/runs/{run_id}", self.deleted["id"])
        self.bobs = (await self.bob.start()).json
        return self

    def everything(self) -> object:
        """Return everything that is stored, and every request to provider and tools."""
        tables = (self.world.table, self.world.content_table)
        rows = [{name: dict(part) for name, part in table._partitions.items() if part} for table in tables]
        provider, agents = self.world.provider, self.world.agents
        asked = (
            provider.creates,
            provider.reads,
            provider.slices,
            provider.cancels,
            provider.deletes,
            agents.runs,
        )
        return deepcopy((rows, asked))

    async def refused(self, asking, status: int, code: str, field: str | None = None) -> Answer:
        """Await a request, and check that it was refused like this and changed nothing."""
        before = self.everything()
        reply = await asking
        assert (reply.status, reply.json["code"], reply.json.get("field")) == (status, code, field)
        assert not reply.messages
        assert self.everything() == before
        return reply


@pytest.fixture
async def town() -> Town:
    return await Town().settle()


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    return f'{{"agent": "writer", "input": {opening * levels}{closing * levels}}}'.encode()


def with_extra(text: str) -> bytes:
    """Return a good body with one more input item, written as it stands."""
    return f'{{"agent": "writer", "input": [{{"role": "user", "content": "hi"}}, {text}]}}'.encode()


def with_parameters(text: str) -> bytes:
    """Return a start with a tool, whose parameters are written as they stand."""
    tool = f'{{"type": "function", "name": "look", "parameters": {text}}}'
    return f'{{"agent": "writer", "input": "hi", "tools": [{tool}]}}'.encode()


UNREADABLE = {
    "empty": (b"", "not_json", None),
    "blank": (b" \r\n", "not_json", None),
    "cut off": (b'{"agent": "writer"', "not_json", None),
    "more than one value": (b"{} {}", "not_json", None),
    "single quotes": (b"{'agent': 'writer'}", "not_json", None),
    "a form": (b"agent=writer&input=hi", "not_json", None),
    "line break in a string": (b'{"agent": "wri\nter"}', "not_json", None),
    "byte order mark alone": (b"\xef\xbb\xbf", "not_json", None),
    "byte order mark twice": (b"\xef\xbb\xbf" * 2 + json.dumps(GOOD).encode(), "not_json", None),
    "byte order mark at the end": (json.dumps(GOOD).encode() + b"\xef\xbb\xbf", "not_json", None),
    "byte order mark cut off": (b"\xef\xbb" + json.dumps(GOOD).encode(), "not_utf8", None),
    "Latin-1": ('{"agent": "writer", "input": "é"}'.encode("latin-1"), "not_utf8", None),
    "UTF-16": (json.dumps(GOOD).encode("utf-16"), "not_utf8", None),
    "surrogate in UTF-8": (b'{"input": "\xed\xa0\x80"}', "not_utf8", None),
    "NaN": (with_extra('{"n": NaN}'), "not_json", None),
    "Infinity": (with_extra('{"n": Infinity}'), "not_json", None),
    "-Infinity": (with_extra('{"n": -Infinity}'), "not_json", None),
    "NaN as deadline": (b'{"agent": "writer", "input": "hi", "deadline_seconds": NaN}', "not_json", None),
    "number out of range": (with_extra('{"n": 1e999}'), "not_json", None),
    "negative number out of range": (with_extra('{"n": [-1e999]}'), "not_json", None),
    "very long number": (with_extra(f'{{"n": {"9" * 5000}}}'), "not_json", None),
    "list": (b'[{"agent": "writer"}]', "not_an_object", None),
    "string": (b'"hi"', "not_an_object", None),
    "null": (b"null", "not_an_object", None),
    "key twice": (b'{"agent": "writer", "input": "hi", "input": "ho"}', "duplicate_key", "input"),
    "key twice, once escaped": (b'{"input": "hi", "\\u0069nput": "ho"}', "duplicate_key", "input"),
    "key twice, deep down": (with_extra('{"a": [{"b": 1, "c": 2, "b": 1}]}'), "duplicate_key", "b"),
    "keys that only surrogates tell apart": (
        b'{"agent": "writer", "input": "hi", "metadata": {"\\ud800": "a", "\\ud801": "b"}}',
        "duplicate_key",
        "\ufffd",
    ),
    "key twice among many": (
        with_extra("{" + ",".join(f'"{n}":0' for n in [*range(40_000), 39_999]) + "}"),
        "duplicate_key",
        "39999",
    ),
    "nested a little too deep": (nested(66), "nested_too_deep", None),
    "parameters nested too deep": (
        with_parameters('{"type": "object", "items": ' * 70 + "{}" + "}" * 70),
        "nested_too_deep",
        None,
    ),
    "NaN in parameters": (with_parameters('{"type": "object", "minimum": NaN}'), "not_json", None),
    "nested lists": (nested(100_000), "nested_too_deep", None),
    "nested objects": (nested(100_000, '{"a":', "}").replace(b":}", b":1}"), "nested_too_deep", None),
    "nested and never closed": (b"[" * 100_000, "nested_too_deep", None),
}


@pytest.mark.parametrize(("body", "code", "field"), UNREADABLE.values(), ids=UNREADABLE)
async def test_a_body_that_cannot_be_read_is_refused(town, body, code, field):
    reply = await town.refused(town.ann.post("/runs", body=body), 400, code, field)
    assert "python" not in reply.json["detail"]
    assert "sys." not in reply.json["detail"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"Content-Length": "0"}, {"Content-Length": "17"}],
    ids=["without a length", "length 0", "length of a lost body"],
)
@pytest.mark.parametrize("body", [b"", b" \r\n", b"\xef\xbb\xbf"], ids=["empty", "blank", "byte order mark"])
async def test_an_empty_body_is_called_empty(town, headers, body):
    reply = await town.refused(town.ann.post("/runs", body=body, headers=headers), 400, "not_json")
    assert reply.json["detail"] == "The body is empty. Send a JSON object, with a Content-Length."


@pytest.mark.parametrize("coding", ["chunked", "Chunked", "gzip, chunked"])
@pytest.mark.parametrize("further", [{}, {"Content-Encoding": "identity"}, {"Content-Length": "17"}], ids=str)
async def test_a_body_that_did_not_arrive_needs_a_length(town, coding, further):
    headers = {"Transfer-Encoding": coding, **further}
    asking = town.ann.post("/runs", body=b"", headers=headers)
    reply = await town.refused(asking, 411, "length_required", "Content-Length")
    assert reply.json["title"] == "Length Required"
    for words in ("No body arrived", "Content-Length"):
        assert words in reply.json["detail"]


async def test_a_body_that_arrived_needs_no_length(town):
    started = await town.ann.post("/runs", body=GOOD, headers={"Transfer-Encoding": "chunked"})
    assert started.status == 202


ENCODINGS = {
    "gzip": "gzip",
    "GZip": "GZip",
    " gzip\t": "gzip",
    "x-gzip": "x-gzip",
    "deflate": "deflate",
    "br": "br",
    "zstd": "zstd",
    "compress": "compress",
    "aws-chunked": "aws-chunked",
    "gzip, br": "gzip, br",
    "gzip,identity": "gzip",
    "identity , ,gzip": "gzip",
    "gzip\x00": "gzip\\x00",
    "\udcff": "\\udcff",
    "e" * 10_000: "e" * 64,
}


@pytest.mark.parametrize(("given", "shown"), ENCODINGS.items(), ids=ascii)
@pytest.mark.parametrize(
    "body",
    [gzip.compress(json.dumps(GOOD).encode()), json.dumps(GOOD).encode(), b""],
    ids=["packed", "plain", "empty"],
)
async def test_an_encoded_body_is_refused(town, given, shown, body):
    asking = town.ann.post("/runs", body=body, headers={"Content-Encoding": given})
    reply = await town.refused(asking, 415, "unsupported_encoding", "Content-Encoding")
    assert reply.json["title"] == "Unsupported Media Type"
    assert f"'{shown}'" in reply.json["detail"]
    assert reply.json["detail"].isprintable()
    assert reply.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("given", ["", " ", "identity", "IDENTITY", "identity, identity", ",identity,"])
async def test_identity_is_no_encoding(town, given):
    assert (await town.ann.post("/runs", body=GOOD, headers={"Content-Encoding": given})).status == 202


async def test_an_encoded_body_that_is_too_large_is_refused_for_its_encoding(town):
    asking = town.ann.post("/runs", body=bytes(8 * 1024 * 1024 + 1), headers={"Content-Encoding": "gzip"})
    await town.refused(asking, 415, "unsupported_encoding", "Content-Encoding")


async def test_a_body_over_the_limit_is_refused(town):
    body = json.dumps(GOOD).encode().ljust(8 * 1024 * 1024 + 1)
    await town.refused(town.ann.post("/runs", body=body), 413, "body_too_large")
    assert (await town.ann.post("/runs", body=body[:-1])).status == 202


async def test_nesting_up_to_the_limit_is_read(town):
    deep = "[" * 61 + "1" + "]" * 61
    anything = Client(town.world.context, "ann", input_rules=InputRules(anything=True))
    assert (await anything.post("/runs", body=with_extra(f'{{"a": {deep}}}'))).status == 202


MISSING = object()
LONG = {"role": "user", "content": "a" * 1_000_000}
PAIRS = {f"key {n}": "value" for n in range(17)}


def with_tool(**changes: object) -> tuple[dict[str, object], int, str, str]:
    """Return a start whose only tool is changed like this, with its refusal."""
    tool = {"type": "function", "name": "look"} | changes
    fields = {name: value for name, value in tool.items() if value is not MISSING}
    return {"tools": [fields]}, 422, "invalid_tools", "tools"


TOOL = {"type": "function", "name": "look"}
# Changes of a good body, each with its refusal.
UNACCEPTABLE = {
    "no agent": ({"agent": MISSING}, 422, "unknown_agent", "agent"),
    "agent null": ({"agent": None}, 422, "unknown_agent", "agent"),
    "agent a number": ({"agent": 1}, 422, "unknown_agent", "agent"),
    "agent empty": ({"agent": ""}, 422, "unknown_agent", "agent"),
    "agent unknown": ({"agent": "nobody"}, 422, "unknown_agent", "agent"),
    "agent in capitals": ({"agent": "Writer"}, 422, "unknown_agent", "agent"),
    "agent very long": ({"agent": "w" * 10_000}, 422, "unknown_agent", "agent"),
    "agent with NUL": ({"agent": "writer\x00"}, 422, "unknown_agent", "agent"),
    "agent with line break": ({"agent": "writer\n"}, 422, "unknown_agent", "agent"),
    "no input": ({"input": MISSING}, 422, "invalid_input", "input"),
    "input null": ({"input": None}, 422, "invalid_input", "input"),
    "input empty": ({"input": ""}, 422, "invalid_input", "input"),
    "input blank to JavaScript alone": ({"input": "\ufeff"}, 422, "invalid_input", "input"),
    "input blank to Python alone": ({"input": "\x1c\x85"}, 422, "invalid_input", "input"),
    "input blank": ({"input": " \t\r\n\u3000"}, 422, "invalid_input", "input"),
    "input a number": ({"input": 7}, 422, "invalid_input", "input"),
    "input a boolean": ({"input": True}, 422, "invalid_input", "input"),
    "input an object": ({"input": {"role": "user", "content": "hi"}}, 422, "invalid_input", "input"),
    "input an empty list": ({"input": []}, 422, "invalid_input", "input"),
    "input a list of strings": ({"input": ["hi"]}, 422, "invalid_input", "input"),
    "input a list with one string": ({"input": [{"role": "user"}, "hi"]}, 422, "invalid_input", "input"),
    "input too long": ({"input": "a" * 2_000_001}, 413, "input_too_long", "input"),
    "input of too many items": ({"input": [{}] * 1001}, 413, "input_too_long", "input"),
    "input items too long": ({"input": [LONG, LONG]}, 413, "input_too_long", "input"),
    "session a number": ({"session_id": 7}, 422, "invalid_session_id", "session_id"),
    "session a list": ({"session_id": []}, 422, "invalid_session_id", "session_id"),
    "session empty": ({"session_id": ""}, 404, "session_not_found", "session_id"),
    "session no id": ({"session_id": "../../etc/passwd"}, 404, "session_not_found", "session_id"),
    "session unknown": ({"session_id": NOBODYS_SESSION}, 404, "session_not_found", "session_id"),
    "metadata a string": ({"metadata": "a=b"}, 422, "invalid_metadata", "metadata"),
    "metadata a list": ({"metadata": []}, 422, "invalid_metadata", "metadata"),
    "metadata of 17 pairs": ({"metadata": PAIRS}, 422, "invalid_metadata", "metadata"),
    "metadata key too long": ({"metadata": {"k" * 65: ""}}, 422, "invalid_metadata", "metadata"),
    "metadata value too long": ({"metadata": {"k": "v" * 513}}, 422, "invalid_metadata", "metadata"),
    "metadata value a number": ({"metadata": {"k": 1}}, 422, "invalid_metadata", "metadata"),
    "metadata value null": ({"metadata": {"k": None}}, 422, "invalid_metadata", "metadata"),
    "metadata value an object": ({"metadata": {"k": {}}}, 422, "invalid_metadata", "metadata"),
    "deadline a boolean": ({"deadline_seconds": True}, 422, "invalid_deadline", "deadline_seconds"),
    "deadline a string": ({"deadline_seconds": "60"}, 422, "invalid_deadline", "deadline_seconds"),
    "deadline a list": ({"deadline_seconds": [60]}, 422, "invalid_deadline", "deadline_seconds"),
    "deadline 0": ({"deadline_seconds": 0}, 422, "invalid_deadline", "deadline_seconds"),
    "deadline negative": ({"deadline_seconds": -60}, 422, "invalid_deadline", "deadline_seconds"),
    "deadline too short": ({"deadline_seconds": 9.99}, 422, "invalid_deadline", "deadline_seconds"),
    "deadline too long": ({"deadline_seconds": 86_400.5}, 422, "invalid_deadline", "deadline_seconds"),
    "deadline huge": ({"deadline_seconds": 1e308}, 422, "invalid_deadline", "deadline_seconds"),
    "deadline a huge integer": ({"deadline_seconds": 10**4000}, 422, "invalid_deadline", "deadline_seconds"),
    "stream a string": ({"stream": "true"}, 422, "invalid_stream", "stream"),
    "stream a number": ({"stream": 1}, 422, "invalid_stream", "stream"),
    "stream a list": ({"stream": []}, 422, "invalid_stream", "stream"),
    "caller_calls a word": ({"caller_calls": "stop"}, 422, "invalid_caller_calls", "caller_calls"),
    "caller_calls in capitals": ({"caller_calls": "WAIT"}, 422, "invalid_caller_calls", "caller_calls"),
    "caller_calls empty": ({"caller_calls": ""}, 422, "invalid_caller_calls", "caller_calls"),
    "caller_calls true": ({"caller_calls": True}, 422, "invalid_caller_calls", "caller_calls"),
    "caller_calls a list": ({"caller_calls": ["wait"]}, 422, "invalid_caller_calls", "caller_calls"),
    "caller_calls an object": ({"caller_calls": {"end": 1}}, 422, "invalid_caller_calls", "caller_calls"),
    "tools an object": ({"tools": {"look": TOOL}}, 422, "invalid_tools", "tools"),
    "tools a text": ({"tools": "look"}, 422, "invalid_tools", "tools"),
    "tools false": ({"tools": False}, 422, "invalid_tools", "tools"),
    "tools a number": ({"tools": 0}, 422, "invalid_tools", "tools"),
    "tools of texts": ({"tools": ["look"]}, 422, "invalid_tools", "tools"),
    "tools of nothing": ({"tools": [None]}, 422, "invalid_tools", "tools"),
    "tools of lists": ({"tools": [TOOL, [TOOL]]}, 422, "invalid_tools", "tools"),
    "tools with one name": ({"tools": [TOOL, TOOL | {"strict": True}]}, 422, "invalid_tools", "tools"),
    "too many tools": (
        {"tools": [TOOL | {"name": f"look_{n}"} for n in range(65)]},
        413,
        "too_many_tools",
        "tools",
    ),
    "tools too long": ({"tools": [TOOL | {"description": "a" * 300_000}]}, 413, "tools_too_long", "tools"),
    "tools too long in bytes": (
        {"tools": [TOOL | {"description": "漢" * 100_000}]},
        413,
        "tools_too_long",
        "tools",
    ),
    "tool of the agent": ({"tools": [TOOL | {"name": "pay"}]}, 422, "tool_name_taken", "tools"),
    "tool without a type": with_tool(type=MISSING),
    "tool of a hosted type": with_tool(type="web_search"),
    "tool of an odd type": with_tool(type=["function"]),
    "tool without a name": with_tool(name=MISSING),
    "tool with the name null": with_tool(name=None),
    "tool with an empty name": with_tool(name=""),
    "tool with a long name": with_tool(name="a" * 65),
    "tool with a very long name": with_tool(name="a" * 1_000_000),
    "tool with a blank in its name": with_tool(name="look up"),
    "tool with a line break in its name": with_tool(name="look\n"),
    "tool with a name of other letters": with_tool(name="\uff4c\uff4f\uff4f\uff4b"),
    "tool with a list as name": with_tool(name=["look"]),
    "tool with a number as description": with_tool(description=7),
    "tool with a list of parameters": with_tool(parameters=[]),
    "tool with parameters of no type": with_tool(parameters={}),
    "tool with parameters of another type": with_tool(parameters={"type": "string"}),
    "tool with parameters of two types": with_tool(parameters={"type": ["object", "null"]}),
    "tool that is strict to a degree": with_tool(strict=1),
    "tool with a field more": with_tool(approval=True),
    "tool with a long field more": with_tool(**{"x" * 1000: 1}),
    "tool of Chat Completions": with_tool(name=MISSING, function={"name": "look"}),
    "unknown field": ({"colour": "red"}, 422, "unknown_field", "colour"),
    "unknown field, in capitals": ({"Metadata": {}}, 422, "unknown_field", "Metadata"),
    "unknown field, empty": ({"": 1}, 422, "unknown_field", None),
    "unknown field, very long": ({"x" * 1000: 1}, 422, "unknown_field", "x" * 64),
}
# Refusals that a schema cannot express, and the line break, which only Python's $ accepts.
NOT_IN_THE_SCHEMA = {
    "agent unknown",
    "agent in capitals",
    "agent with line break",
    "session unknown",
    "input items too long",
    "tools with one name",
    "tools too long",
    "tools too long in bytes",
    "tool of the agent",
    "tool with a line break in its name",
}


def changed(change: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in (GOOD | change).items() if value is not MISSING}


@pytest.mark.parametrize(("change", "status", "code", "field"), UNACCEPTABLE.values(), ids=UNACCEPTABLE)
async def test_a_body_with_an_invalid_field_is_refused(town, change, status, code, field):
    await town.refused(town.ann.post("/runs", body=changed(change)), status, code, field)


@pytest.mark.parametrize("name", [name for name in UNACCEPTABLE if name not in NOT_IN_THE_SCHEMA])
def test_the_documented_schema_refuses_it_too(name):
    with pytest.raises(AssertionError):
        conform(DOCUMENT["components"]["schemas"]["NewRun"], changed(UNACCEPTABLE[name][0]))


VALUES = [
    None,
    True,
    0,
    -1,
    1.5,
    60,
    10**30,
    "",
    " ",
    "a",
    "writer",
    [],
    [[]],
    [{}],
    {},
    {"a": "b"},
    {"a": 1},
]


@pytest.mark.parametrize(
    "field",
    [
        "agent",
        "input",
        "session_id",
        "metadata",
        "deadline_seconds",
        "stream",
        "tools",
        "caller_calls",
        "x",
    ],
)
async def test_any_value_of_any_field_is_accepted_or_refused(field):
    for value in VALUES:
        town = Town()
        before = town.everything()
        reply = await town.ann.post("/runs", body=GOOD | {field: value})
        assert (town.everything() == before) == (reply.status >= 400)


@pytest.mark.parametrize(
    ("whose", "agent", "refusal"),
    [
        ("bobs", "writer", (404, "session_not_found", "session_id")),
        ("bobs", "reader", (404, "session_not_found", "session_id")),
        ("pending", "writer", (409, "session_busy", "session_id")),
        ("done", "reader", (409, "session_of_another_agent", "agent")),
    ],
    ids=["foreign", "foreign and of another agent", "busy", "of another agent"],
)
@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "new"}], ids=["without key", "with key"])
async def test_a_session_that_cannot_be_continued_is_refused(town, whose, agent, refusal, key):
    session_id = getattr(town, whose)["session_id"]
    await town.refused(town.ann.start(session_id=session_id, agent=agent, headers=key), *refusal)


async def test_a_key_of_a_refused_start_is_still_unused(town):
    key = {"Idempotency-Key": "new"}
    assert (await town.ann.start(session_id=NOBODYS_SESSION, headers=key)).status == 404
    assert (await town.ann.start(headers=key)).status == 202


async def test_a_deleted_session_is_not_found(town):
    session_id = town.done["session_id"]
    assert (await town.ann.delete("/sessions/{session_id}", session_id)).status == 204
    for ask in (
        lambda: town.ann.start(session_id=session_id),
        lambda: town.ann.get("/sessions/{session_id}", session_id),
        lambda: town.ann.get("/runs", session_id=session_id),
        lambda: town.ann.delete("/sessions/{session_id}", session_id),
    ):
        await town.refused(ask(), 404, "session_not_found", "session_id")


KEYS = ["", " ", " a", "a ", "a\tb", "a\n", "é", "a\x00", "a\x7f", "漢字", "\U0001f680", "k" * 256]


@pytest.mark.parametrize("key", KEYS, ids=ascii)
async def test_an_invalid_idempotency_key_is_refused(town, key):
    asking = town.ann.start(headers={"Idempotency-Key": key})
    await town.refused(asking, 400, "invalid_idempotency_key", "Idempotency-Key")


@pytest.mark.parametrize(
    "change",
    [
        {"input": "ho"},
        {"metadata": {"a": "b"}},
        {"agent": "reader"},
        {"deadline_seconds": 60},
        {"stream": True},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_an_idempotency_key_with_another_body_is_refused(town, change):
    asking = town.ann.start(headers={"Idempotency-Key": "used"}, **change)
    await town.refused(asking, 422, "idempotency_key_reused", "Idempotency-Key")


async def test_an_idempotency_key_whose_run_is_deleted_is_refused(town):
    asking = town.ann.start(headers={"Idempotency-Key": "of a deleted run"})
    await town.refused(asking, 409, "run_deleted", "Idempotency-Key")


BAD_LISTS = {
    "status": ({"status": "done"}, 422, "invalid_status", "status"),
    "status in capitals": ({"status": "QUEUED"}, 422, "invalid_status", "status"),
    "status of tombstones": ({"status": "deleted"}, 422, "invalid_status", "status"),
    "several statuses": ({"status": "queued,failed"}, 422, "invalid_status", "status"),
    "agent": ({"agent": "wri'ter"}, 422, "unknown_agent", "agent"),
    "agent too long": ({"agent": "a" * 65}, 422, "unknown_agent", "agent"),
    "session": ({"session_id": "ses_x' or '1' eq '1"}, 404, "session_not_found", "session_id"),
    "unknown session": ({"session_id": NOBODYS_SESSION}, 404, "session_not_found", "session_id"),
    "limit 0": ({"limit": "0"}, 422, "invalid_limit", "limit"),
    "limit 101": ({"limit": "101"}, 422, "invalid_limit", "limit"),
    "limit negative": ({"limit": "-1"}, 422, "invalid_limit", "limit"),
    "limit a fraction": ({"limit": "1.5"}, 422, "invalid_limit", "limit"),
    "limit a word": ({"limit": "all"}, 422, "invalid_limit", "limit"),
    "limit in Arabic digits": ({"limit": "\u0661\u0660"}, 422, "invalid_limit", "limit"),
    "limit huge": ({"limit": "9" * 5000}, 422, "invalid_limit", "limit"),
    "limit twice": ({"limit": "1,2"}, 422, "invalid_limit", "limit"),
    "cursor": ({"cursor": "next"}, 400, "invalid_cursor", "cursor"),
    "cursor in capitals": ({"cursor": "A" * 26}, 400, "invalid_cursor", "cursor"),
    "cursor too long": ({"cursor": "0" * 27}, 400, "invalid_cursor", "cursor"),
    "cursor with slash": ({"cursor": "/" * 26}, 400, "invalid_cursor", "cursor"),
    "cursor with NUL": ({"cursor": "\x00" * 26}, 400, "invalid_cursor", "cursor"),
    "cursor a run": ({"cursor": NOBODYS_RUN}, 400, "invalid_cursor", "cursor"),
    "beside an unknown parameter": ({"colour": "red", "limit": "0"}, 422, "invalid_limit", "limit"),
}


@pytest.mark.parametrize(("query", "status", "code", "field"), BAD_LISTS.values(), ids=BAD_LISTS)
async def test_an_invalid_query_of_a_list_is_refused(town, query, status, code, field):
    await town.refused(town.ann.get("/runs", **query), status, code, field)


async def test_a_list_of_another_owners_session_is_refused(town):
    asking = town.ann.get("/runs", session_id=town.bobs["session_id"])
    await town.refused(asking, 404, "session_not_found", "session_id")


BAD_SESSION_PAGES = {name: row for name, row in BAD_LISTS.items() if name.startswith(("limit", "beside"))} | {
    "cursor": ({"cursor": "next"}, 400, "invalid_cursor", "cursor"),
    "cursor of nothing": ({"cursor": NOBODYS_RUN}, 400, "invalid_cursor", "cursor"),
}


@pytest.mark.parametrize(
    ("query", "status", "code", "field"), BAD_SESSION_PAGES.values(), ids=BAD_SESSION_PAGES
)
async def test_an_invalid_query_of_a_session_is_refused(town, query, status, code, field):
    asking = town.ann.get("/sessions/{session_id}", town.done["session_id"], **query)
    await town.refused(asking, status, code, field)


BAD_FEEDS = {
    "limit 0": ({"limit": "0"}, {}, "invalid_limit", "limit"),
    "limit 1001": ({"limit": "1001"}, {}, "invalid_limit", "limit"),
    "limit negative": ({"limit": "-1"}, {}, "invalid_limit", "limit"),
    "limit a fraction": ({"limit": "1.5"}, {}, "invalid_limit", "limit"),
    "limit empty": ({"limit": ""}, {}, "invalid_limit", "limit"),
    "limit huge": ({"limit": "9" * 5000}, {}, "invalid_limit", "limit"),
    "after a word": ({"after": "last"}, {}, "invalid_after", "after"),
    "after empty": ({"after": ""}, {}, "invalid_after", "after"),
    "after negative": ({"after": "-1"}, {}, "invalid_after", "after"),
    "after a fraction": ({"after": "1.0"}, {}, "invalid_after", "after"),
    "after with a sign": ({"after": "+1"}, {}, "invalid_after", "after"),
    "after in Arabic digits": ({"after": "\u0661"}, {}, "invalid_after", "after"),
    "after too long": ({"after": "1" * 10}, {}, "invalid_after", "after"),
    "after huge": ({"after": "9" * 5000}, {}, "invalid_after", "after"),
    "after twice": ({"after": "1,2"}, {}, "invalid_after", "after"),
    "last id a word": ({}, {"Last-Event-ID": "last"}, "invalid_after", "after"),
    "last id negative": ({}, {"Last-Event-ID": "-1"}, "invalid_after", "after"),
    "last id with a blank": ({}, {"Last-Event-ID": "1 "}, "invalid_after", "after"),
    "last id with NUL": ({}, {"Last-Event-ID": "1\x00"}, "invalid_after", "after"),
    "last id of another app": ({}, {"Last-Event-ID": "01JXYZ"}, "invalid_after", "after"),
    "last id huge": ({}, {"Last-Event-ID": "9" * 5000}, "invalid_after", "after"),
    "last id bad beside a good after": (
        {"after": "1"},
        {"Last-Event-ID": "x"},
        "invalid_after",
        "after",
    ),
    "beside an unknown parameter": ({"cursor": "0" * 26, "limit": "0"}, {}, "invalid_limit", "limit"),
}


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(("query", "headers", "code", "field"), BAD_FEEDS.values(), ids=BAD_FEEDS)
async def test_an_invalid_query_of_a_feed_is_refused(town, query, headers, code, field, accept):
    asking = town.ann.get(
        "/runs/{run_id}/events", town.done["id"], headers=headers | {"Accept": accept}, **query
    )
    await town.refused(asking, 422, code, field)


@pytest.mark.parametrize("whose", ["pending", "bobs"])
async def test_a_cursor_of_another_session_is_refused(town, whose):
    run_id = getattr(town, whose)["id"]
    session_id = town.done["session_id"]
    in_session = town.ann.get("/sessions/{session_id}", session_id, cursor=run_id)
    await town.refused(in_session, 400, "invalid_cursor", "cursor")
    in_list = town.ann.get("/runs", session_id=session_id, cursor=run_id[6:])
    await town.refused(in_list, 400, "invalid_cursor", "cursor")


A_CALL = "call_01_" + "0" * 32
CALLS = "/runs/{run_id}/calls"
ANSWER = "/runs/{run_id}/calls/{call_id}"
BY_RUN = [
    ("GET", CALLS),
    ("POST", ANSWER),
    ("GET", "/runs/{run_id}"),
    ("GET", "/runs/{run_id}/events"),
    ("DELETE", "/runs/{run_id}"),
    ("POST", "/runs/{run_id}/cancel"),
    ("POST", "/runs/{run_id}/retry"),
]
BY_SESSION = [("GET", "/sessions/{session_id}"), ("DELETE", "/sessions/{session_id}")]


def test_every_route_with_an_id_is_tested_here():
    assert {*BY_RUN, *BY_SESSION} == {(r.method, r.template) for r in routes() if "{" in r.template}


def by_ids(template: str, first: str) -> tuple[str, ...]:
    return (first, A_CALL) if "{call_id}" in template else (first,)


def body_of(template: str) -> bytes:
    return b'{"approve": true}' if template == ANSWER else b""


@pytest.mark.parametrize(("method", "template"), BY_RUN)
@pytest.mark.parametrize("whose", ["unknown", "foreign", "deleted"])
async def test_an_unknown_run_is_not_found(town, method, template, whose):
    run_id = {"unknown": NOBODYS_RUN, "foreign": town.bobs["id"], "deleted": town.deleted["id"]}[whose]
    asking = town.ann.ask(method, template, *by_ids(template, run_id), body=body_of(template))
    reply = await town.refused(asking, 404, "run_not_found", "run_id")
    assert "bob" not in json.dumps(reply.json)


@pytest.mark.parametrize(("method", "template"), BY_SESSION)
@pytest.mark.parametrize("whose", ["unknown", "foreign"])
async def test_an_unknown_session_is_not_found(town, method, template, whose):
    session_id = {"unknown": NOBODYS_SESSION, "foreign": town.bobs["session_id"]}[whose]
    await town.refused(town.ann.ask(method, template, session_id), 404, "session_not_found", "session_id")


ODD_TAILS = [
    "",
    "\x00",
    "%00",
    "/",
    "%2F..%2F",
    "..",
    "'",
    "#",
    "?",
    "漢",
    "\U0001f680",
    "\udc80",
    "\n",
    " ",
    "x" * 10_000,
]
ODD_IDS = [
    *(kind + tail for kind in ("run_0f", "ses_0f") for tail in ODD_TAILS),
    *(NOBODYS_RUN + tail for tail in ODD_TAILS[1:]),
    NOBODYS_RUN.upper(),
    NOBODYS_RUN.replace("0f", "10"),
    NOBODYS_RUN.replace("0f", "0F"),
    "run_0f" + "\u0660" * 26,
    "run_0f" + "u" * 26,
    "run",
    "",
    "null",
]


@pytest.mark.parametrize(("method", "template"), [*BY_RUN, *BY_SESSION])
async def test_an_invalid_id_is_not_found(town, method, template):
    kind = "run" if (method, template) in BY_RUN else "session"
    for text in ODD_IDS:
        odd = text if kind == "run" else text.replace("run_", "ses_", 1)
        asking = town.ann.ask(method, template, *by_ids(template, odd))
        reply = await town.refused(asking, 404, f"{kind}_not_found", f"{kind}_id")
        assert len(reply.json["detail"]) < 100


async def test_an_id_of_the_other_kind_is_not_found(town):
    await town.refused(
        town.ann.get("/runs/{run_id}", town.done["session_id"]), 404, "run_not_found", "run_id"
    )
    asking = town.ann.get("/sessions/{session_id}", town.done["id"])
    await town.refused(asking, 404, "session_not_found", "session_id")


ENDS = {
    "completed": answer("resp_5"),
    "failed": Snapshot(response_id="resp_5", status=ResponseStatus.FAILED),
    "incomplete": Snapshot(response_id="resp_5", status=ResponseStatus.INCOMPLETE),
    "expired": Snapshot(response_id="resp_5", status=ResponseStatus.IN_PROGRESS),
}


@pytest.mark.parametrize("status", ENDS)
async def test_cancelling_a_run_that_has_ended_is_a_conflict(town, status):
    run_id = (await town.ann.start(deadline_seconds=10)).json["id"]
    town.world.provider.state["resp_5"] = ENDS[status]
    assert (await town.world.until_terminal(run_id)).status == status
    reply = await town.refused(town.ann.post("/runs/{run_id}/cancel", run_id), 409, "run_ended")
    assert status in reply.json["detail"]


async def test_deleting_twice_is_not_found(town):
    assert (await town.ann.delete("/runs/{run_id}", town.pending["id"])).status == 204
    asking = town.ann.delete("/runs/{run_id}", town.pending["id"])
    await town.refused(asking, 404, "run_not_found", "run_id")


# Each route as ann may use it, in an app with owners.
def every_request(town: Town, client: Client) -> dict[str, object]:
    return {
        "startRun": client.start,
        "listRuns": lambda: client.get("/runs"),
        "listRuns of a session": lambda: client.get("/runs", session_id=town.done["session_id"]),
        "getRun": lambda: client.get("/runs/{run_id}", town.done["id"]),
        "getRunEvents": lambda: client.get("/runs/{run_id}/events", town.done["id"]),
        "listCalls": lambda: client.get(CALLS, town.done["id"]),
        "answerCall": lambda: client.post(ANSWER, town.done["id"], A_CALL, body={"approve": True}),
        "listWaits": lambda: client.get("/waits"),
        "cancelRun": lambda: client.post("/runs/{run_id}/cancel", town.pending["id"]),
        "deleteRun": lambda: client.delete("/runs/{run_id}", town.done["id"]),
        "getSession": lambda: client.get("/sessions/{session_id}", town.done["session_id"]),
        "deleteSession": lambda: client.delete("/sessions/{session_id}", town.done["session_id"]),
    }


@pytest.mark.parametrize(
    ("owner", "code"),
    [
        ("", "owner_missing"),
        ("  ", "owner_missing"),
        ("a\x00", "invalid_owner"),
        ("\udcff", "invalid_owner"),
        ("a\nb", "invalid_owner"),
        ("a" * 257, "invalid_owner"),
    ],
    ids=ascii,
)
async def test_a_request_without_an_owner_is_refused(town, owner, code):
    for ask in every_request(town, Client(town.world.context, owner=owner)).values():
        await town.refused(ask(), 401, code, OWNER_HEADER)


async def test_routes_without_an_owners_data_need_no_owner(town):
    for template in ("/agents", "/health", "/openapi.json", "/dashboard"):
        assert (await Client(town.world.context, owner="").get(template)).status == 200


async def gone(*_args: object, **_kwargs: object) -> None:
    raise StorageUnavailable("https://account.table.core.windows.net said: AccountKey=s3cret")


async def test_a_storage_that_does_not_answer_is_a_503(town):
    for table in (town.world.table, town.world.content_table):
        for operation in ("get", "query", "query_each", "write"):
            setattr(table, operation, gone)
    requests = every_request(town, town.ann) | {"getHealth": lambda: town.ann.get("/health")}
    for ask in requests.values():
        reply = await town.refused(ask(), 503, "storage_unavailable")
        assert reply.headers["Retry-After"] == "5"
        assert reply.json["detail"] == "Try again in a few seconds."


@pytest.mark.parametrize("effect", ["before", "after"], ids=lambda when: f"fails {when} it takes effect")
async def test_a_start_can_be_repeated_after_any_write_failed(effect):
    for failing in range(4):
        town = Town()
        fail_once(town.world, failing, effect)
        key = {"Idempotency-Key": "a key"}
        first = await town.ann.start(headers=key)
        again = await town.ann.start(headers=key)
        assert {first.status, again.status} <= {202, 503}
        assert again.status == 202
        [listed] = (await town.ann.get("/runs")).json["data"]
        assert listed["id"] == again.json["id"]
        for n in (1, 2):
            town.world.provider.state[f"resp_{n}"] = answer(f"resp_{n}")
        await town.world.until_terminal(listed["id"])


def fail_once(world: World, failing: int, effect: str) -> None:
    """Let one write of the runs table raise, before or after it took effect."""
    write, writes = world.table.write, iter(range(1000))

    async def flaky(*args, **kwargs):
        fails = next(writes) == failing
        if fails and effect == "before":
            await gone()
        etag = await write(*args, **kwargs)
        if fails:
            await gone()
        return etag

    world.table.write = flaky


# Structure.


DENSE = {
    "empty lists": "[]",
    "empty objects": "{}",
    "objects with an empty name": '{"":0}',
    "numbers": "0",
    "nested lists": "[[[]]]",
    "empty texts": '""',
}


@pytest.mark.parametrize("element", DENSE.values(), ids=DENSE)
async def test_a_body_of_nothing_but_structure_is_refused_before_it_is_parsed(town, element):
    size = 8 * 1024 * 1024 - 200
    dense = with_extra("[" + ",".join([element] * (size // (len(element) + 1))) + "]")
    harmless = json.dumps(GOOD | {"input": "a" * 1_900_000, "x": "b" * 6_000_000}).encode()
    measured = {}
    for name, body, code in (("dense", dense, "too_many_values"), ("harmless", harmless, "unknown_field")):
        began = time.process_time()
        reply = await town.ann.post("/runs", body=body)
        seconds = time.process_time() - began
        tracemalloc.start()
        await town.ann.post("/runs", body=body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert reply.json["code"] == code
        measured[name] = seconds, peak
    (seconds, peak), (harmless_seconds, harmless_peak) = measured["dense"], measured["harmless"]
    assert peak < harmless_peak
    assert seconds < 5 * harmless_seconds + 0.1


async def test_a_body_may_have_fifty_thousand_brackets_and_commas(town):
    anything = Client(town.world.context, "ann", input_rules=InputRules(anything=True))
    # Those of a good body with one more item, around the list and inside of it.
    around = with_extra("").count(b"{") * 2 + 2 + 2 + 2
    for more, status in ((50_000 - around, 202), (50_001 - around, 413)):
        body = with_extra('{"a": [' + ",".join(["1"] * (more - 2)) + "]}")
        reply = await anything.post("/runs", body=body)
        assert (reply.status, reply.json.get("code")) == (
            status,
            None if status == 202 else "too_many_values",
        )


async def test_marks_inside_of_strings_do_not_count(town):
    text = 'He said "[a, b]", and {c}. \\ ' * 60_000
    assert (await town.ann.start(input=text)).status == 202
