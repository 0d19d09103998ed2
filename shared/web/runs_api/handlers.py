"""One function for each operation of the API: parse, call, render."""

import importlib.resources
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from shared.core.caller import Caller
from shared.core.run import Run
from shared.errors import BatonError
from shared.steps.context import Context
from shared.steps.transition import Applied
from shared.usecases import health, read
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run as delete
from shared.usecases.delete import delete_session as delete_session_with_runs
from shared.usecases.feed import read_feed
from shared.usecases.listing import list_runs
from shared.usecases.start import start
from shared.web.caller import caller_of
from shared.web.dashboard import page
from shared.web.http import EVENT_STREAM, JSON, Reply, Request, json_reply
from shared.web.links import link
from shared.web.runs_api import parse, render
from shared.web.runs_api.problems import problem


@dataclass(frozen=True, slots=True)
class Api:
    """What the handlers need of the application."""

    context: Context
    owner_header: str | None
    public_base_url: str | None
    # Creates the tables if they are missing.
    prepare: Callable[[], Awaitable[None]]

    def caller(self, request: Request) -> Caller:
        return caller_of(request, self.owner_header)

    def link(self, request: Request, path: str, **query: str) -> str:
        return link(request, self.public_base_url, path, query)


async def answer(handler: Callable[..., Awaitable[Reply]], api: Api, request: Request, *path: str) -> Reply:
    """Call a handler. A BatonError becomes a problem document."""
    try:
        return await handler(api, request, *path)
    except BatonError as error:
        return problem(error)


async def start_run(api: Api, request: Request) -> Reply:
    await api.prepare()
    applied = await start(api.context, api.caller(request), parse.start_request(request))
    run = applied.stored.run
    headers = {"Location": api.link(request, f"runs/{run.id}")}
    return await _run_reply(api, applied, 200 if run.terminal else 202, headers)


async def get_run(api: Api, request: Request, run_id: str) -> Reply:
    stored = await read.owned_run(api.context, api.caller(request), parse.run_id(run_id))
    if _etags(request) & {render.etag(stored.run), "*"}:
        return Reply(304, b"", _run_headers(api, stored.run))
    return await _run_reply(api, Applied(stored), 200)


async def get_runs(api: Api, request: Request) -> Reply:
    runs, after = await list_runs(api.context, api.caller(request), parse.listing(request))
    body: dict[str, object] = {"object": "list", "data": [render.run_summary(run) for run in runs]}
    if after:
        body["nextLink"] = api.link(request, "runs", **_kept_parameters(request), cursor=after)
    return json_reply(200, body)


async def cancel_run(api: Api, request: Request, run_id: str) -> Reply:
    applied = await cancel(api.context, api.caller(request), parse.run_id(run_id))
    return await _run_reply(api, applied, 200 if applied.stored.run.terminal else 202)


async def delete_run(api: Api, request: Request, run_id: str) -> Reply:
    applied = await delete(api.context, api.caller(request), parse.run_id(run_id))
    return Reply(204, messages=applied.messages)


async def get_events(api: Api, request: Request, run_id: str) -> Reply:
    """Return the events that are stored after the one that the client names, without waiting for more."""
    caller, after = api.caller(request), parse.after_event(request)
    limit = parse.page_limit(request.query, parse.DEFAULT_EVENTS, parse.MAX_EVENTS)
    feed = await read_feed(api.context, caller, parse.run_id(run_id), after=after, limit=limit)
    retry_ms = 0 if feed.more else math.ceil(_pause(api, feed.run).total_seconds() * 1000)
    if parse.wants_stream(request):
        if feed.done and not feed.lines:
            # A 204 tells an EventSource not to reconnect.
            return Reply(204, headers={"Cache-Control": "no-store"})
        headers = {"Content-Type": f"{EVENT_STREAM}; charset=utf-8", "Cache-Control": "no-store"}
        return Reply(200, render.event_stream(feed, retry_ms), headers)
    body = {
        "object": "list",
        "data": [render.feed_event(feed.run, line) for line in feed.lines],
        "last_id": feed.last_number,
        "done": feed.done,
        "retry_ms": retry_ms,
    }
    return json_reply(200, body)


async def get_dashboard(_api: Api, _request: Request) -> Reply:
    return page()


async def get_session(api: Api, request: Request, session_id: str) -> Reply:
    begin = parse.session_cursor(request)
    page = await read.session_page(
        api.context,
        api.caller(request),
        parse.session_id(session_id),
        begin=begin,
        limit=parse.page_limit(request.query),
    )
    body = render.session_view(page)
    if page.next_run_id:
        body["nextLink"] = api.link(
            request, f"sessions/{session_id}", **_kept_parameters(request), cursor=page.next_run_id
        )
    return json_reply(200, body)


async def delete_session(api: Api, request: Request, session_id: str) -> Reply:
    purges = await delete_session_with_runs(api.context, api.caller(request), parse.session_id(session_id))
    return Reply(204, messages=tuple(purges))


async def get_agents(api: Api, _request: Request) -> Reply:
    specs = [api.context.agents.spec(name) for name in api.context.agents.names()]
    return json_reply(200, {"object": "list", "data": [render.agent_view(spec) for spec in specs if spec]})


async def get_health(api: Api, _request: Request) -> Reply:
    state = await health.check(api.context)
    return json_reply(200 if state.ok else 503, render.health_view(state), {"Cache-Control": "no-store"})


async def get_openapi(_api: Api, _request: Request) -> Reply:
    document = importlib.resources.files("shared.web").joinpath("openapi.json").read_bytes()
    return Reply(200, document, {"Content-Type": JSON, "Cache-Control": "no-cache"})


async def _run_reply(api: Api, applied: Applied, status: int, headers: dict[str, str] | None = None) -> Reply:
    run = applied.stored.run
    body = render.run_view(run, await read.output_of(api.context, run))
    return json_reply(status, body, _run_headers(api, run) | (headers or {}), messages=applied.messages)


def _run_headers(api: Api, run: Run) -> dict[str, str]:
    headers = {"ETag": render.etag(run), "Cache-Control": "no-cache"}
    if not run.terminal:
        headers["Retry-After"] = str(math.ceil(_pause(api, run).total_seconds()))
    return headers


def _pause(api: Api, run: Run) -> timedelta:
    """Return how long a client should wait: about as long as until the run's next poll."""
    age = api.context.clock.now() - (run.turn_started_at or run.created_at)
    return max(api.context.schedule_for(run.continuation).gap(age), timedelta(seconds=1))


def _etags(request: Request) -> set[str]:
    given = request.headers.get("if-none-match", "")
    return {tag.strip().removeprefix("W/") for tag in given.split(",")}


def _kept_parameters(request: Request) -> dict[str, str]:
    """Return the query parameters that the link to the next page has too. Keys are never put into a link."""
    return {
        name: value for name, value in request.query.items() if name not in {"cursor", "code", "clientId"}
    }
