"""The description of the API is valid and agrees with the code."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared import errors
from shared.core import ids, log, times
from shared.core.calls import AnswerType, CallerCalls, CallStatus, WaitKind
from shared.core.life.calling import MAX_CALLS_PER_RUN
from shared.core.limits import MAX_REASON_CHARACTERS, MAX_TOOL_OUTPUT_BYTES
from shared.core.pace import MAX_DEADLINE, MIN_DEADLINE
from shared.core.run import TERMINAL, RunStatus
from shared.core.text import NAME
from shared.web import bodies
from shared.web.callers.principal import MAX_SHOWN_NAME_CHARACTERS
from shared.web.http import Reply
from shared.web.runs_api import answers, caller_tools, parse, problems, queries
from tests.support.client import DOCUMENT, EVENT_TYPES, ROOT, check, conform, problem_codes, resolve, routes
from tests.support.document_rules import check_rules

SCHEMAS = DOCUMENT["components"]["schemas"]
RUN_ID = "run_0" + "0" * 27
METHODS = {"get", "post", "put", "patch", "delete"}
STATUSES = {kind.__name__: status for kind, (status, _) in problems._STATUSES.items()}


def test_the_document_is_valid_openapi_3_1():
    assert DOCUMENT["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_document_has_exactly_the_routes_of_the_app():
    described = {
        (method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in METHODS & set(item)
    }
    assert described == {(route.method, route.template) for route in routes()}


def test_each_get_can_be_sent_as_head_and_nothing_else():
    assert {route.head for route in routes() if route.method == "GET"} == {True}
    assert {route.head for route in routes() if route.method != "GET"} == {False}


def test_every_operation_has_a_name_of_its_own_and_declares_its_path_parameters():
    names = []
    for path, item in DOCUMENT["paths"].items():
        declared = {resolve(one)["name"] for one in item.get("parameters", [])}
        assert declared == {part.strip("{}") for part in path.split("/") if part.startswith("{")}
        names += [item[method]["operationId"] for method in METHODS & set(item)]
    assert len(set(names)) == len(names)


def test_no_key_occurs_twice_in_one_object():
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len(dict(pairs)) == len(pairs), [name for name, _ in pairs]
        return dict(pairs)

    json.loads((ROOT / "shared/web/openapi.json").read_text(encoding="utf-8"), object_pairs_hook=once)


def _objects(part: object) -> Iterator[dict[str, Any]]:
    """Yield each object of the document."""
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _objects(inner)


def test_schemas_have_no_conditions_because_generators_of_clients_cannot_read_them():
    found = {
        key
        for one in _objects(DOCUMENT)
        for key in {"allOf", "if", "not", "unevaluatedProperties"} & set(one)
    }
    assert found == set()


def test_constants_are_texts_and_no_choice_is_between_them_because_generated_clients_would_be_wrong():
    assert {type(one["const"]) for one in _objects(SCHEMAS) if "const" in one} == {str}
    choices = [one[key] for one in _objects(DOCUMENT) for key in {"oneOf", "anyOf"} & set(one)]
    assert choices
    assert not [kinds for kinds in choices if any("const" in kind for kind in kinds)]


def test_every_kind_of_run_has_the_fields_of_a_run_in_a_list():
    summary, *complete = (SCHEMAS[name] for name in ("RunSummary", "PendingRun", "EndedRun"))
    for schema in (summary, *complete):
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False
    for schema in complete:
        assert schema["required"] == [*summary["required"], *schema["required"][-5:]]


def test_the_document_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert DOCUMENT["info"]["version"] == project["version"]
    assert DOCUMENT["info"]["summary"] == project["description"]


def test_every_part_is_used():
    text = json.dumps(DOCUMENT)
    for kind, parts in DOCUMENT["components"].items():
        for name in parts if kind != "securitySchemes" else ():
            assert f'"#/components/{kind}/{name}"' in text, f"{kind} {name}"


def test_the_codes_of_problems_are_those_that_the_code_raises():
    raised = [use for path in sorted((ROOT / "shared").rglob("*.py")) for use in _raised(path)]
    assert problem_codes() == dict(raised)
    assert len(set(raised)) == len(problem_codes()), "a code belongs to one status"


def _raised(path: Path) -> list[tuple[str, int]]:
    """Return the code and status of each error that a module raises for clients."""
    made = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in STATUSES:
            kind = ast.unparse(node.func)
            given = [ast.literal_eval(word.value) for word in node.keywords if word.arg == "code"]
            made += [((given or [getattr(errors, kind).code])[0], STATUSES[kind])]
    return made


def test_every_error_of_a_request_has_an_answer():
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.BatonError)
    }
    assert kinds - {errors.BatonError} == set(problems._STATUSES)
    assert not issubclass(errors.CannotStart, errors.BatonError)


def test_limits_are_those_of_the_code():
    text, items = SCHEMAS["NewRun"]["properties"]["input"]["oneOf"]
    assert text["maxLength"] == parse.MAX_INPUT_CHARACTERS
    assert items["maxItems"] == parse.MAX_INPUT_ITEMS
    assert f"{parse.MAX_INPUT_CHARACTERS:,} characters" in items["description"]
    assert SCHEMAS["Metadata"]["maxProperties"] == parse.MAX_METADATA_PAIRS
    assert SCHEMAS["Metadata"]["propertyNames"]["maxLength"] == parse.MAX_METADATA_KEY
    assert SCHEMAS["Metadata"]["additionalProperties"]["maxLength"] == parse.MAX_METADATA_VALUE
    for deadline in (
        SCHEMAS["NewRun"]["properties"]["deadline_seconds"],
        SCHEMAS["Agent"]["properties"]["deadline_seconds"],
    ):
        assert deadline["minimum"] == MIN_DEADLINE.total_seconds()
        assert deadline["maximum"] == MAX_DEADLINE.total_seconds()
    limit = DOCUMENT["components"]["parameters"]["Limit"]["schema"]
    assert (limit["maximum"], limit["default"]) == (queries.MAX_PAGE, queries.DEFAULT_PAGE)
    lists = [SCHEMAS[name]["properties"]["data"] for name in ("RunList", "CallList", "WaitList")]
    for page in (*lists, SCHEMAS["Session"]["properties"]["runs"]):
        assert page["maxItems"] == queries.MAX_PAGE
    assert f"from {times.FIRST_YEAR} to {times.LAST_YEAR}" in SCHEMAS["GivenTime"]["description"]
    body = DOCUMENT["paths"]["/runs"]["post"]["requestBody"]["description"]
    assert f"{bodies.MAX_BODY_BYTES // 1024**2} MiB" in body
    assert f"{bodies.MAX_NESTING} levels" in body


def test_limits_of_calls_are_those_of_the_code():
    required, _ = SCHEMAS["RequiredAction"]["oneOf"]
    assert required["maxItems"] == MAX_CALLS_PER_RUN
    tools, fields = SCHEMAS["NewRun"]["properties"]["tools"], SCHEMAS["CallerTool"]["properties"]
    assert tools["oneOf"][0]["maxItems"] == caller_tools.MAX_CALLER_TOOLS
    assert f"{caller_tools.MAX_CALLER_TOOLS_BYTES // 1024} KiB" in tools["description"]
    assert set(fields) == caller_tools._FIELDS
    reasons = [SCHEMAS[name]["properties"]["reason"] for name in ("Decision", "Answer")]
    for text in (*reasons, SCHEMAS["CallError"]["properties"]["error"]):
        assert text["maxLength"] == MAX_REASON_CHARACTERS
    output = SCHEMAS["CallOutput"]["properties"]["output"]["description"]
    assert f"{MAX_TOOL_OUTPUT_BYTES // 1024**2} MiB" in output
    assert SCHEMAS["Answer"]["properties"]["by_name"]["maxLength"] == MAX_SHOWN_NAME_CHARACTERS
    shapes = [SCHEMAS[name]["properties"] for name in ("Decision", "CallOutput", "CallError")]
    assert {name for shape in shapes for name in shape} == answers._FIELDS


def test_every_kind_of_call_has_the_fields_of_a_call():
    call, answered, waiting = (SCHEMAS[name] for name in ("Call", "AnsweredCall", "WaitingCall"))
    for schema in (call, answered, waiting):
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False
    for schema, more in ((answered, ["run_status"]), (waiting, ["agent", "owner"])):
        assert schema["required"] == [*call["required"], *more]
        assert {name: schema["properties"][name] for name in call["properties"]} == call["properties"]


def test_ids_and_names_are_those_of_the_code():
    for kind, name in (("run", "RunId"), ("ses", "SessionId")):
        letters = f"[{ids._ALPHABET}]{{{ids._LENGTH}}}"
        assert SCHEMAS[name]["pattern"] == f"^{kind}_0[0-9a-f]{letters}$"
    assert SCHEMAS["AgentName"]["pattern"] == SCHEMAS["ToolName"]["pattern"] == f"^{NAME}$"
    assert SCHEMAS["CallId"]["pattern"] == f"^{ids._CALL.pattern}$"
    assert re.fullmatch(SCHEMAS["CallId"]["pattern"], ids.call_id(99, "any 🚀 id"))
    assert re.fullmatch(SCHEMAS["Event"]["properties"]["item_id"]["pattern"], ids.item_id(RUN_ID, 12))
    assert set(SCHEMAS["NewRun"]["properties"]) == parse._FIELDS


def test_events_are_the_entries_of_a_log():
    ends = [log.RunEnded(status).type for status in RunStatus if status in TERMINAL - {RunStatus.DELETED}]
    kinds = [kind.type for kind in get_args(log.LogEntry) if kind not in {log.RunEnded, log.UnknownEntry}]
    assert sorted(SCHEMAS["Event"]["properties"]["type"]["examples"]) == sorted([*kinds, *ends])


def test_statuses_are_those_of_the_code():
    shown = [status for status in RunStatus if status is not RunStatus.DELETED]
    assert SCHEMAS["RunStatus"]["enum"] == shown
    assert SCHEMAS["EndedStatus"]["enum"] == [status for status in shown if status in TERMINAL]
    assert SCHEMAS["PendingStatus"]["enum"] == [status for status in shown if status not in TERMINAL]
    for name, values in (
        ("CallStatus", CallStatus),
        ("WaitKind", WaitKind),
        ("AnswerType", AnswerType),
        ("CallerCalls", CallerCalls),
    ):
        assert SCHEMAS[name]["enum"] == list(values)


def _examples(part: object) -> Iterator[dict[str, Any]]:
    """Yield each media type of the document that has a schema and examples."""
    if isinstance(part, dict):
        if "schema" in part and ("example" in part or "examples" in part):
            yield part
        for inner in part.values():
            yield from _examples(inner)


def test_every_successful_answer_in_json_has_an_example():
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS & set(item):
            for status, response in item[method]["responses"].items():
                media = resolve(response).get("content", {}).get("application/json")
                if media and status.startswith("2"):
                    assert {"example", "examples"} & set(media), (method, path, status)


def test_examples_match_their_schemas():
    found = list(_examples(DOCUMENT["paths"])) + list(_examples(DOCUMENT["components"]))
    assert len(found) >= 15
    for media in found:
        values = [resolve(one)["value"] for one in media.get("examples", {}).values()]
        values += [media["example"]] if "example" in media else []
        for value in values:
            conform(media["schema"], value)
            if isinstance(value, dict):
                check_rules(value, EVENT_TYPES)


def test_examples_of_problems_have_the_title_of_their_status():
    titles = dict(problems._STATUSES.values())
    found = [one["example"] for one in _objects(DOCUMENT) if "code" in one.get("example", {})]
    assert len(found) >= 3
    for problem in found:
        assert problem["title"] == titles[problem["status"]]
        assert problem_codes()[problem["code"]] == problem["status"]


def test_example_ids_are_ids():
    for name in ("RunId", "SessionId", "CallId", "AgentName", "ToolName"):
        for example in SCHEMAS[name]["examples"]:
            conform(SCHEMAS[name], example)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "done"},
        {"colour": "red"},
        {"completed_at": "2026-01-01T00:00:00.000Z"},
        {"output": []},
        {"error": {"code": "a", "message": "b"}},
        {"created_at": "2026-01-01 00:00:00"},
        {"id": None},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_reply_that_breaks_its_schema_is_refused(client, change):
    run = (await client.start()).json
    conform(SCHEMAS["PendingRun"], run)
    with pytest.raises(AssertionError):
        conform(SCHEMAS["PendingRun"], run | change)
    with pytest.raises(AssertionError):
        conform(SCHEMAS["PendingRun"], {name: run[name] for name in run if name not in change} | {"more": 1})


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("CompletedRun", {"completed_at": None}),
        ("CompletedRun", {"duration_seconds": None}),
        ("CompletedRun", {"progress": {}}),
        ("CompletedRun", {"waiting_for": {"code": "rate_limited"}}),
        ("CompletedRun", {"error": {"code": "server_error"}}),
        ("CompletedRun", {"incomplete_details": {"reason": "max_turns"}}),
        ("FailedRun", {"error": None}),
        ("PendingRun", {"completed_at": "2026-01-01T00:00:00.000Z"}),
        ("PendingRun", {"duration_seconds": 1}),
        ("PendingRun", {"progress": None}),
        ("PendingRun", {"expires_at": None}),
        ("PendingRun", {"required_action": []}),
        ("WaitingRun", {"expires_at": "2026-01-01T00:30:00.000Z"}),
        ("WaitingRun", {"required_action": None}),
        ("WaitingRun", {"required_action": []}),
        ("WaitingRun", {"tool_calls": []}),
        ("WaitingRun", {"status": "in_progress"}),
    ],
)
def test_a_run_that_breaks_a_rule_is_refused(kind, change):
    run = DOCUMENT["components"]["examples"][kind]["value"]
    check_rules({"data": [run]}, EVENT_TYPES)
    for answer in (run | change, {"data": [run, run | change]}, {"runs": [run | change]}):
        with pytest.raises(AssertionError):
            check_rules(answer, EVENT_TYPES)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("waiting", {"type": None}),
        ("waiting", {"expires_at": None}),
        ("waiting", {"waiting_since": None}),
        ("answered", {"status": "waiting"}),
        ("answered", {"status": "refused"}),
        ("answered", {"status": "timed_out"}),
        ("answered", {"type": None, "waiting_since": None, "expires_at": None}),
        ("refused", {"status": "completed"}),
    ],
)
def test_a_call_that_breaks_a_rule_is_refused(kind, change):
    examples = DOCUMENT["components"]["examples"]
    answered = examples["AnsweredCall"]["value"]
    calls = {
        "waiting": examples["CallList"]["value"]["data"][0],
        "answered": answered,
        "refused": answered
        | {"status": "refused", "answer": answered["answer"] | {"type": "refused", "arguments": None}},
    }
    call = calls[kind]
    check_rules({"data": [call]}, EVENT_TYPES)
    for answer in (call | change, {"data": [call, call | change]}):
        with pytest.raises(AssertionError):
            check_rules(answer, EVENT_TYPES)


def test_an_event_of_a_type_that_is_not_documented_is_refused():
    event = {"id": 1, "type": "run.queued", "at": "2026-01-01T00:00:00.000Z"}
    check_rules({"data": [event]}, EVENT_TYPES)
    with pytest.raises(AssertionError):
        check_rules({"data": [event | {"type": "run.paused"}]}, EVENT_TYPES)


async def test_the_document_is_served_as_it_is(client):
    reply = await client.get("/openapi.json")
    assert reply.status == 200
    assert reply.json == DOCUMENT


def test_a_status_or_header_that_is_not_documented_is_refused():
    [route] = [one for one in routes() if (one.method, one.template) == ("DELETE", "/runs/{run_id}")]
    headers = {
        "Access-Control-Expose-Headers": "Location, ETag, Retry-After",
        "X-Content-Type-Options": "nosniff",
    }
    check(route, Reply(204, headers=headers))
    for reply in (
        Reply(200, headers=headers),
        Reply(204),
        Reply(204, headers=headers | {"X-Powered-By": "me"}),
        Reply(204, b"{}", headers),
    ):
        with pytest.raises(AssertionError):
            check(route, reply)
