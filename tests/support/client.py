"""A client of the HTTP API without HTTP. It compares every reply with openapi.json before a test sees it."""

import ast
import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from shared.core.caller import Caller
from shared.core.input_items import InputRules
from shared.steps.context import Context
from shared.web.callers.header import header_callers
from shared.web.http import PROBLEM, Reply, Request
from shared.web.runs_api import handlers
from shared.web.runs_api.handlers import Api, answer
from tests.support.document_rules import check_rules

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = json.loads((ROOT / "shared/web/openapi.json").read_text(encoding="utf-8"))
OWNER_HEADER = "X-Owner"
# Clients are told that there may be others, so the document lists them as examples.
EVENT_TYPES = frozenset(DOCUMENT["components"]["schemas"]["Event"]["properties"]["type"]["examples"])
_PROBLEM_CONTENT = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}

_REGISTRY = Registry().with_resource("urn:api", Resource.from_contents(DOCUMENT, DRAFT202012))


@dataclass(frozen=True)
class Route:
    """A route of function_app.py: the handler it calls, whether it can wake workers, and whether it takes HEAD too."""

    method: str
    template: str
    handler: str
    wakes: bool
    head: bool


@functools.cache
def routes() -> tuple[Route, ...]:
    """Read the routes from the source, because importing function_app.py needs settings."""
    functions = ast.parse((ROOT / "function_app.py").read_text(encoding="utf-8")).body
    return tuple(
        Route(method, f"/{decorator.args[0].value}", _handler(function), _wakes(function), "HEAD" in methods)
        for function in functions
        if isinstance(function, ast.AsyncFunctionDef)
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "app.route"
        for methods in [ast.literal_eval(next(w.value for w in decorator.keywords if w.arg == "methods"))]
        for method in methods
        if method != "HEAD"
    )


def _handler(function: ast.AsyncFunctionDef) -> str:
    [name] = (
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "handlers"
    )
    return name


def _wakes(function: ast.AsyncFunctionDef) -> bool:
    return "sends" in map(ast.unparse, function.decorator_list)


@dataclass(frozen=True)
class Answer:
    """A reply that the document allows."""

    status: int
    headers: Mapping[str, str]
    messages: tuple[str, ...]
    text: str
    # None when the body is no JSON.
    json: Any


async def _nothing() -> None:
    """Stand in for the creation of tables."""


class Client:
    """Calls the handlers of an app by the routes of function_app.py.

    With an `owner` the app is set to tell owners apart, and the client is that one.
    """

    def __init__(
        self,
        context: Context,
        owner: str | None = None,
        public_base_url: str | None = None,
        *,
        trust_forwarded: bool = False,
        input_rules: InputRules | None = None,
    ) -> None:
        owner_header = OWNER_HEADER if owner is not None else None
        rules = input_rules or InputRules(ids=owner is None)
        self._api = Api(
            context,
            header_callers(owner_header),
            public_base_url,
            _nothing,
            trust_forwarded,
            rules,
        )
        self._headers = {OWNER_HEADER.lower(): owner} if owner else {}

    @classmethod
    def with_callers(
        cls, context: Context, callers: Callable[[Request], Caller], headers: Mapping[str, str]
    ) -> Self:
        """Return a client of an app that finds its callers by `callers`. `headers` go with each request."""
        client = cls(context)
        client._api = replace(client._api, callers=callers, input_rules=InputRules(ids=False))
        client._headers = {name.lower(): value for name, value in headers.items()}
        return client

    async def get(
        self, template: str, *ids: str, headers: Mapping[str, str] | None = None, **query: str
    ) -> Answer:
        return await self.ask("GET", template, *ids, headers=headers, query=query)

    async def head(
        self, template: str, *ids: str, headers: Mapping[str, str] | None = None, **query: str
    ) -> Answer:
        return await self.ask("HEAD", template, *ids, headers=headers, query=query)

    async def post(
        self, template: str, *ids: str, headers: Mapping[str, str] | None = None, body: object = b""
    ) -> Answer:
        """Send `body`: bytes as they are, anything else as JSON."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask("POST", template, *ids, headers=headers, body=sent)

    async def delete(self, template: str, *ids: str) -> Answer:
        return await self.ask("DELETE", template, *ids)

    async def start(self, *, headers: Mapping[str, str] | None = None, **fields: object) -> Answer:
        return await self.post("/runs", headers=headers, body={"agent": "writer", "input": "hi", **fields})

    async def follow(self, next_link: str) -> Answer:
        """Request the page of a nextLink."""
        path, _, query = next_link.removeprefix("https://app.example/api").partition("?")
        [(template, ids)] = [
            (route.template, found.groups())
            for route in routes()
            if route.method == "GET"
            and (found := re.fullmatch(route.template.replace("{", "(?P<").replace("}", ">[^/]+)"), path))
        ]
        return await self.get(template, *ids, **dict(parse_qsl(query)))

    async def ask(
        self,
        method: str,
        template: str,
        *ids: str,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        [route] = [
            one
            for one in routes()
            if one.template == template and (one.method == method or (method == "HEAD" and one.head))
        ]
        request = Request(
            url=f"https://app.example/api{template}",
            method=method,
            headers={**self._headers, **{name.lower(): value for name, value in (headers or {}).items()}},
            query=query or {},
            body=body,
        )
        reply = await answer(getattr(handlers, route.handler), self._api, request, *ids)
        if method == "HEAD":
            check_head(route, reply)
        else:
            check(route, reply)
        if reply.status < 400 and not self._api.input_rules.anything:
            check_request(route, request)
        text = reply.body.decode()
        parsed = json.loads(text) if text and _is_json(reply) else None
        return Answer(reply.status, reply.headers, reply.messages, text, parsed)


def check(route: Route, reply: Reply) -> None:
    """Raise AssertionError unless the document allows this reply for the route."""
    responses = DOCUMENT["paths"][route.template][route.method.lower()]["responses"]
    assert str(reply.status) in responses, (
        f"{reply.status} is not among {list(responses)}: {reply.body[:300]!r}"
    )
    response = resolve(responses[str(reply.status)])
    _check_headers(response.get("headers", {}), reply.headers)
    assert route.wakes or not reply.messages, f"{route} has no queue outputs for messages"
    text = reply.body.decode()
    assert "Traceback" not in text
    assert '.py"' not in text
    # The document describes no content of a 401, because the Functions host sends one without.
    content = _PROBLEM_CONTENT if reply.status == 401 and text else response.get("content")
    if content is None:
        assert not text
        return
    schema = content[_media_type(reply)]["schema"]
    if not _is_json(reply):
        conform(schema, text)
        return
    value = json.loads(text, parse_constant=_no_json)
    json.dumps(value, ensure_ascii=False).encode()
    conform(schema, value)
    check_rules(value, EVENT_TYPES)
    if reply.headers["Content-Type"] == PROBLEM:
        assert value["status"] == reply.status == problem_codes()[value["code"]]


def _no_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def check_head(route: Route, reply: Reply) -> None:
    """Raise AssertionError unless the document allows the headers of this reply for the route's GET."""
    response = resolve(DOCUMENT["paths"][route.template]["get"]["responses"][str(reply.status)])
    _check_headers(response.get("headers", {}) | {"Content-Length": {"schema": {}}}, reply.headers)
    assert not reply.body


def _media_type(reply: Reply) -> str:
    return reply.headers.get("Content-Type", "").partition(";")[0]


def _is_json(reply: Reply) -> bool:
    return _media_type(reply).endswith("json")


def check_request(route: Route, request: Request) -> None:
    """Raise AssertionError if the document does not allow a request that was carried out."""
    operation = DOCUMENT["paths"][route.template][route.method.lower()]
    declared = {
        (one["in"], one["name"].lower()): one for one in map(resolve, operation.get("parameters", []))
    }
    for name, value in request.query.items():
        if ("query", name) in declared:
            schema = declared["query", name]["schema"]
            conform(schema, int(value) if schema.get("type") == "integer" else value)
    for name, value in request.headers.items():
        if ("header", name) in declared:
            conform(declared["header", name]["schema"], value)
    if "requestBody" in operation:
        conform(operation["requestBody"]["content"]["application/json"]["schema"], json.loads(request.body))


def _check_headers(declared: Mapping[str, Any], sent: Mapping[str, str]) -> None:
    declared = {name: resolve(header) for name, header in declared.items()}
    assert set(sent) <= {*declared, "Content-Type"}
    missing = {name for name, header in declared.items() if header.get("required")} - set(sent)
    assert not missing
    for name in set(sent) & set(declared):
        value = int(sent[name]) if name == "Retry-After" else sent[name]
        conform(declared[name]["schema"], value)


def resolve(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, or the part that its $ref names."""
    if "$ref" not in part:
        return part
    found: Any = DOCUMENT
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return resolve(found)


def conform(schema: dict[str, Any], value: object) -> None:
    """Raise AssertionError unless `value` is valid by `schema`, a part of the document."""
    faults = [
        f"{fault.json_path}: {fault.message[:300]}"
        for fault in _validator(json.dumps(schema)).iter_errors(value)
    ]
    assert not faults, faults


@functools.cache
def _validator(schema: str) -> Draft202012Validator:
    absolute = json.loads(schema.replace('"#/', '"urn:api#/'))
    return Draft202012Validator(absolute, registry=_REGISTRY)


@functools.cache
def problem_codes() -> dict[str, int]:
    """Return the status that belongs to each code of a problem."""
    text = DOCUMENT["components"]["schemas"]["ProblemCode"]["description"]
    return {code: int(status) for code, status in re.findall(r"^- `(\w+)`: (\d{3}), ", text, re.MULTILINE)}
