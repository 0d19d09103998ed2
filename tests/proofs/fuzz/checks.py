"""Checks of every answer that the document cannot express, and a filter for answers of the Functions host itself.

Importing this module registers its checks and its hook.
"""

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.generation.meta import CoveragePhaseData, CoverageScenario
from schemathesis.generation.modes import GenerationMode
from schemathesis.hooks import HookContext

from tests.support.client import DOCUMENT, EVENT_TYPES, conform, problem_codes, resolve
from tests.support.document_rules import check_rules

PROBLEM = "application/problem+json"

# Refusals of requests that are valid by the schema: they depend on earlier requests.
_STATE = {"idempotency_key_reused", "run_deleted", "run_ended", "session_busy", "session_of_another_agent"}
_STATE |= {"run_not_found", "run_pending", "session_not_found"}
_STATE |= {"call_not_found", "call_answered", "call_not_waiting", "run_cancelling", "wait_ended"}
# What a call waits for, and what it is about, is known only when it is answered.
_STATE |= {"answer_does_not_fit", "arguments_fixed", "invalid_arguments", "output_missing"}
# One schema is for approvals, which have no reason, and for refusals, which have no arguments.
_STATE |= {"invalid_answer"}
# A schema cannot say that tools have different names, and none of the agent's.
_STATE |= {"invalid_tools", "tool_name_taken"}
# In the document a cursor is any string, because clients must not rely on its format.
_STATE |= {"invalid_cursor"}
# A schema cannot say between which years a time must be.
_STATE |= {"invalid_time"}

# The schemas of bodies, by operation.
_BODIES = {"POST /runs": "NewRun", "POST /runs/{run_id}/calls/{call_id}": "NewAnswer"}

OFF = {
    # A Functions host answers 404 to a wrong method, as to every address without a function: see
    # `a_wrong_method_is_not_found`.
    "unsupported_method",
    # It looks at the status alone, and a reused Idempotency-Key is a 422 like an invalid field: see
    # `a_valid_request_is_accepted`.
    "positive_data_acceptance",
    # A key of an app gives access to all of its runs, so there is no second identity to test with. Owners are tested
    # in tests/unit/test_api.py.
    "object_level_authorization",
}


@schemathesis.check
def a_wrong_method_is_not_found(_ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    phase = case.meta.phase.data if case.meta else None
    if isinstance(phase, CoveragePhaseData) and phase.scenario is CoverageScenario.UNSPECIFIED_HTTP_METHOD:
        assert (response.status_code, response.content) == (404, b""), "expected the host's empty 404"


@schemathesis.check
def a_valid_request_is_accepted(_ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    positive = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
    if positive and response.status_code >= 400 and _body_is_valid(response, case):
        code = _problem_code(response)
        if code in {"input_not_allowed", "output_not_allowed"}:
            assert _names_something(response), f"refused as {code}, although it names nothing"
        else:
            assert code in _STATE, f"refused as {code}"


@schemathesis.check
def a_problem_has_the_status_of_its_code(_ctx: CheckContext, response: Response, _case: Case[Any]) -> None:
    if code := _problem_code(response):
        assert problem_codes()[code] == response.status_code
        assert response.json()["status"] == response.status_code


@schemathesis.check
def an_answer_keeps_the_rules(_ctx: CheckContext, response: Response, _case: Case[Any]) -> None:
    if response.content and response.headers.get("content-type", [""])[0] == "application/json":
        check_rules(response.json(), EVENT_TYPES)


@schemathesis.check
def no_internal_detail_is_shown(_ctx: CheckContext, response: Response, _case: Case[Any]) -> None:
    if response.status_code >= 400:
        assert b"Traceback" not in response.content
        assert b".py" not in response.content


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Return whether a failure is the app's own. The others are answers of a Functions host that does not call the app."""
    if isinstance(failure, AcceptedNegativeData):
        return not _only_has_ignored_parameters(response, case)
    return not (response.status_code == 400 and not response.content and _is_unreadable(response))


def _body_is_valid(response: Response, case: Case[Any]) -> bool:
    """Return whether the body fits its schema.

    Schemathesis counts a body with a value from an earlier answer as positive, even if required fields are missing.
    """
    schema = _BODIES.get(case.operation.label)
    if schema is None:
        return True
    body = response.request.body
    assert isinstance(body, bytes | str)
    return _fits(DOCUMENT["components"]["schemas"][schema], json.loads(body))


def _names_something(response: Response) -> bool:
    """Return whether an input or an output has a URL, a part, or answers a call.

    A schema cannot tell which of them are allowed.
    """
    body = response.request.body
    assert isinstance(body, bytes | str)
    return any(name in json.dumps(json.loads(body)) for name in ('_url"', '_output"', '"input_'))


def _only_has_ignored_parameters(response: Response, case: Case[Any]) -> bool:
    """Return whether the query is valid except for parameters that are ignored.

    The host removes those without a value, and the app ignores those that it does not have.
    """
    item = DOCUMENT["paths"][case.path]
    declared = {
        one["name"]: one["schema"]
        for one in map(
            resolve, [*item.get("parameters", ()), *item[case.method.lower()].get("parameters", ())]
        )
        if one["in"] == "query"
    }
    query = parse_qsl(urlsplit(str(response.request.url)).query, keep_blank_values=True)
    values = [(declared[name], value) for name, value in query if name in declared and value]
    return len(values) < len(query) and all(
        _fits(schema, int(value) if value.isascii() and value.isdigit() else value)
        for schema, value in values
    )


def _fits(schema: dict[str, Any], value: object) -> bool:
    try:
        conform(schema, value)
    except AssertionError:
        return False
    return True


def _is_unreadable(response: Response) -> bool:
    """Return whether Kestrel refuses the request with an empty 400: a header is not UTF-8, or the path has a NUL."""
    return "%00" in urlsplit(response.request.url).path or not all(
        _is_utf8(value) for value in response.request.headers.values()
    )


def _is_utf8(value: str | bytes) -> bool:
    try:
        (value if isinstance(value, bytes) else value.encode("latin-1")).decode()
    except UnicodeError:
        return False
    return True


def _problem_code(response: Response) -> str | None:
    content_type = response.headers.get("content-type", [""])[0]
    return str(response.json()["code"]) if content_type == PROBLEM else None
