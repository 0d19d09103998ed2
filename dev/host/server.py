"""HTTP: the app's routes and the admin endpoints."""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from aiohttp import web
from multidict import CIMultiDict

from dev.host.datums import HttpCall, HttpReply, http_datum, http_reply, timer_datum
from dev.host.definitions import Function, HttpTrigger, TimerTrigger
from dev.host.errors import StartupError
from dev.host.guard import Guard
from dev.host.invocations import Invoker, Running
from dev.host.keys import AuthLevel, Keys, presented_key
from dev.host.routes import Route, find_route, in_order
from dev.host.worker import Datum, FunctionFailed

MAX_BODY_BYTES = 104_857_600  # the real host's limit
# Headers that the server writes itself.
FRAMING = {"content-length", "transfer-encoding", "connection"}
# What Kestrel accepts as a host, which may be empty. Source: IsHostHeaderValid in HttpUtilities.cs of ASP.NET Core.
HOST = re.compile(r"(?:[A-Za-z0-9!$&'()._~-]+|\[[0-9A-Fa-f:.]{3,}\])(?::[0-9]+)?|")

logger = logging.getLogger(__name__)

STATUS = Route.parse("status", "admin/host/status", ["GET"])
INVOKE = Route.parse("invoke", "admin/functions/{name}", ["POST"])


def parse_routes(functions: Iterable[Function], prefix: str) -> list[Route]:
    """Return the routes in order of precedence. Raises StartupError with every route that this host cannot match."""
    routes, problems = [], []
    for function in functions:
        if isinstance(function.trigger, HttpTrigger):
            template = f"{prefix}/{function.trigger.route.strip('/')}"
            try:
                routes.append(Route.parse(function.name, template, function.trigger.methods))
            except ValueError as error:
                problems.append(f"function {function.name}: {error}")
    if problems:
        raise StartupError.of(problems)
    return in_order(routes)


class Server:
    def __init__(
        self,
        functions: Iterable[Function],
        routes: Iterable[Route],
        *,
        keys: Keys,
        guard: Guard,
        invoker: Invoker,
        running: Running,
    ) -> None:
        self._functions = {function.name.lower(): function for function in functions}
        self._routes = list(routes)
        self._keys = keys
        self._guard = guard
        self._invoker = invoker
        self._running = running

    def application(self) -> web.Application:
        application = web.Application(client_max_size=0)  # `_body` limits
        application.router.add_route("*", r"/{path:[\s\S]*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.Response:
        path = request.rel_url.raw_path
        if _malformed(request):
            return _empty(HTTPStatus.BAD_REQUEST)
        if refusal := self._guard.refusal(request):
            # A browser does not show the answer to the developer of a page whose request is refused.
            logger.warning("refused %s %s: %s", request.method, path, refusal.reason)
            return _refused(refusal.reason, refusal.status)
        if path.lower().startswith("/admin/"):
            return await self._admin(request, path)
        found = find_route(self._routes, request.method, path)
        if found is None:
            return _empty(HTTPStatus.NOT_FOUND)
        route, parameters = found
        return await self._call(request, self._functions[route.function.lower()], parameters)

    async def _call(
        self, request: web.Request, function: Function, parameters: Mapping[str, str]
    ) -> web.Response:
        assert isinstance(function.trigger, HttpTrigger)
        if not self._allowed(request, function.trigger.auth_level):
            return _empty(HTTPStatus.UNAUTHORIZED)
        url = f"{request.scheme}://{request.host}{request.rel_url.raw_path_qs}"
        try:
            body = await _body(request)
            call = HttpCall(request.method, url, request.headers, request.query, parameters, body)
            returned = await self._invoker.invoke(function, http_datum(call))
        except web.HTTPRequestEntityTooLarge:
            return _empty(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        except FunctionFailed:
            return _empty(HTTPStatus.INTERNAL_SERVER_ERROR)
        return _response(http_reply(returned), head=request.method == "HEAD")

    async def _admin(self, request: web.Request, path: str) -> web.Response:
        if not self._allowed(request, AuthLevel.ADMIN):
            return _empty(HTTPStatus.UNAUTHORIZED)
        found = find_route([STATUS, INVOKE], request.method, path)
        match found:
            case (route, _) if route is STATUS:
                return web.json_response({"id": "local", "state": "Running", "version": "4", "errors": []})
            case (route, parameters) if route is INVOKE:
                return await self._fire(request, parameters["name"])
        return _empty(HTTPStatus.NOT_FOUND)

    async def _fire(self, request: web.Request, name: str) -> web.Response:
        function = self._functions.get(name.lower())
        if function is None:
            return _empty(HTTPStatus.NOT_FOUND)
        if isinstance(function.trigger, HttpTrigger):
            return _refused("an HTTP function is called by its route")
        try:
            text = _admin_input(await request.read())
        except ValueError as error:
            return _refused(str(error))
        timer = isinstance(function.trigger, TimerTrigger)
        trigger = timer_datum(past_due=False) if timer else Datum(text, "string")
        self._running.spawn(self._invoker.fire(function, trigger))
        return _empty(HTTPStatus.ACCEPTED)

    def _allowed(self, request: web.Request, level: AuthLevel) -> bool:
        return self._keys.allow(level, presented_key(request.headers, request.query))


async def _body(request: web.Request) -> bytes:
    """Return the body, which the real host passes on only with a `Content-Length`."""
    length = request.content_length or 0
    if length > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, length)
    return await request.read() if length else b""


def _admin_input(body: bytes) -> str:
    document = json.loads(body or b"null")
    text = document.get("input") or "" if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise ValueError('the body must be a JSON object such as {"input": "text"}')  # noqa: TRY004 # as bad JSON
    return text


def _malformed(request: web.Request) -> bool:
    """Return whether Kestrel refuses it: NUL or non-ASCII in the path, a wrong host, header values that are not UTF-8."""
    path = request.rel_url.raw_path
    if not path.isascii() or "%00" in path or not HOST.fullmatch(request.headers.get("Host", "")):
        return True
    values = (value for value in request.headers.values() if not value.isascii())
    return any("\ud800" <= letter <= "\udfff" for value in values for letter in value)


def _response(reply: HttpReply, *, head: bool) -> web.Response:
    """Return what the client gets. The answer to a HEAD has no body, and its length is the one that the function sets."""
    written = FRAMING - {"content-length"} if head else FRAMING
    headers = CIMultiDict((name, value) for name, value in reply.headers if name.lower() not in written)
    return web.Response(status=reply.status, headers=headers, body=b"" if head else reply.body)


def _refused(reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> web.Response:
    return web.Response(status=status, text=f"{reason}\n")


def _empty(status: HTTPStatus) -> web.Response:
    return web.Response(status=status)
