"""The requests of clients, as the handlers of the API get them."""

import json

from shared.core.caller import Caller, Recognition, Role
from shared.web.callers.header import caller_of
from shared.web.http import Reply, Request
from shared.web.runs_api import handlers
from shared.web.runs_api.handlers import Api
from tests.proofs.simulation.answers import ClientRequest


def caller_of_request(request: Request) -> Caller:
    """Return the caller of a request: an owner whom a proxy names, or somebody with a key of the app."""
    if roles := request.headers.get("x-roles"):
        named = frozenset(Role(role) for role in roles.split())
        return Caller(request.headers["x-owner"], named, Recognition.API_KEY)
    return caller_of(request, "x-owner")


async def call(api: Api, request: ClientRequest) -> Reply:
    headers = {"x-owner": request.owner, "x-roles": request.roles}
    if request.key:
        headers["idempotency-key"] = request.key
    if request.etag:
        headers["if-none-match"] = request.etag
    body = json.dumps(request.body).encode() if request.body else b""
    over_http = Request(url="http://localhost/api/x", headers=headers, query=request.query, body=body)
    match request.operation:
        case "start":
            return await handlers.answer(handlers.start_run, api, over_http)
        case "list":
            return await handlers.answer(handlers.get_runs, api, over_http)
        case "waits":
            return await handlers.answer(handlers.get_waits, api, over_http)
        case "answer":
            path = request.run_id or "", request.call_id or ""
            return await handlers.answer(handlers.post_answer, api, over_http, *path)
        case "health":
            return await handlers.answer(handlers.get_health, api, over_http)
        case "session page":
            return await handlers.answer(handlers.get_session, api, over_http, request.session_id or "")
        case "delete session":
            return await handlers.answer(handlers.delete_session, api, over_http, request.session_id or "")
    handler = {
        "events": handlers.get_events,
        "read": handlers.get_run,
        "calls": handlers.get_calls,
        "cancel": handlers.cancel_run,
        "delete": handlers.delete_run,
    }
    return await handlers.answer(handler[request.operation], api, over_http, request.run_id or "")
