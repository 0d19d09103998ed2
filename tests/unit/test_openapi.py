"""The description of the API is valid and agrees with the code."""

import ast
import json
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared import errors
from shared.core import ids, log
from shared.core.calls import CallStatus
from shared.core.pace import MAX_DEADLINE, MIN_DEADLINE
from shared.core.run import TERMINAL, RunStatus
from shared.core.text import NAME
from shared.web import bodies
from shared.web.http import Reply
from shared.web.runs_api import parse, problems
from tests.support.client import DOCUMENT, ROOT, check, conform, problem_codes, resolve, routes

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
    assert (limit["maximum"], limit["default"]) == (parse.MAX_PAGE, parse.DEFAULT_PAGE)
    for page in (SCHEMAS["RunList"]["properties"]["data"], SCHEMAS["Session"]["properties"]["runs"]):
        assert page["maxItems"] == parse.MAX_PAGE
    body = DOCUMENT["paths"]["/runs"]["post"]["requestBody"]["description"]
    assert f"{bodies.MAX_BODY_BYTES // 1024**2} MiB" in body
    assert f"{bodies.MAX_NESTING} levels" in body


def test_ids_and_names_are_those_of_the_code():
    for kind, name in (("run", "RunId"), ("ses", "SessionId")):
        letters = f"[{ids._ALPHABET}]{{{ids._LENGTH}}}"
        assert SCHEMAS[name]["pattern"] == f"^{kind}_0[0-9a-f]{letters}$"
    assert SCHEMAS["AgentName"]["pattern"] == f"^{NAME}$"
    assert re.fullmatch(SCHEMAS["Event"]["properties"]["item_id"]["pattern"], ids.item_id(RUN_ID, 12))
    assert set(SCHEMAS["NewRun"]["properties"]) == parse._FIELDS


def test_events_are_the_entries_of_a_log():
    ends = [log.RunEnded(status).type for status in RunStatus if status in TERMINAL - {RunStatus.DELETED}]
    kinds = [kind.type for kind in get_args(log.LogEntry) if kind not in {log.RunEnded, log.UnknownEntry}]
    assert sorted(SCHEMAS["Event"]["properties"]["type"]["enum"]) == sorted([*kinds, *ends])


def test_statuses_are_those_of_the_code():
    shown = [status for status in RunStatus if status is not RunStatus.DELETED]
    assert SCHEMAS["RunStatus"]["enum"] == shown
    assert SCHEMAS["EndedStatus"]["enum"] == [status for status in shown if status in TERMINAL]
    assert SCHEMAS["PendingStatus"]["enum"] == [status for status in shown if status not in TERMINAL]
    assert SCHEMAS["ToolCall"]["properties"]["status"]["enum"] == list(CallStatus)


def _examples(part: object):
    """Yield each media type of the document that has a schema and examples."""
    if isinstance(part, dict):
        if "schema" in part and ("example" in part or "examples" in part):
            yield part
        for inner in part.values():
            yield from _examples(inner)


def test_examples_match_their_schemas():
    found = list(_examples(DOCUMENT["paths"])) + list(_examples(DOCUMENT["components"]))
    assert len(found) >= 5
    for media in found:
        values = [resolve(one)["value"] for one in media.get("examples", {}).values()]
        values += [media["example"]] if "example" in media else []
        for value in values:
            conform(media["schema"], value)


def test_example_ids_are_ids():
    for name in ("RunId", "SessionId", "AgentName"):
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
