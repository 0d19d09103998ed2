"""One function for each operation of the API: parse, call, render."""

import importlib.resources
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from shared.core.caller import Caller, Role
from shared.core.input_items import InputRules
from shared.core.run import Run, Step
from shared.errors import BatonError
from shared.ports.queues import NoQueues, Queues
from shared.steps.context import Context
from shared.steps.transition import Applied
from shared.steps.turns import bundled
from shared.usecases import health, read
from shared.usecases.answer import answer_call
from shared.usecases.calls import list_calls, list_waits, waiting_calls
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run as delete
from shared.usecases.delete import delete_session as delete_session_with_runs
from shared.usecases.feed import read_feed
from shared.usecases.listing import list_runs
from shared.usecases.overdue import Waker
from shared.usecases.retry import retry
from shared.usecases.start import start
from shared.usecases.waiting import WaitingFor, waiting_for
from shared.web.dashboard import page
from shared.web.http import EVENT_STREAM, JSON, UNSHARED, Reply, Request, Stored, json_reply
from shared.web.links import link, root
from shared.web.runs_api import answers, parse, queries, render
from shared.web.runs_api.permissions import admitted
from shared.web.runs_api.problems import problem

# The headers that a page of another origin may read. Which origins may send requests is a setting of the platform.
_EXPOSED = "Location, ETag, Retry-After"


@dataclass(frozen=True, slots=True)
class Api:
    """What the handlers need of the application."""

    context: Context
    # Finds the caller of a request. Raises Unidentified, Unauthenticated or Forbidden.
    callers: Callable[[Request], Caller]
    public_base_url: str | None
    # Creates the tables if they are missing.
    prepare: Callable[[], Awaitable[None]]
    # Whether a proxy in front of the app sets the headers that name its own scheme and host.
    trust_forwarded: bool = False
    input_rules: InputRules = field(default_factory=InputRules)
    waker: Waker = field(default_factory=Waker)
    queues: Queues = field(default_factory=NoQueues)

    def link(self, request: Request, path: str, **query: str) -> str:
        base = self.public_base_url or root(request, trust_forwarded=self.trust_forwarded)
        return link(base, path, query)

    def next_link(self, request: Request, path: str, parameters: Sequence[str], cursor: str) -> str:
        """Return the URL of the next page, with those of the request's `parameters` that it has."""
        kept = {name: request.query[name] for name in parameters if name in request.query}
        return self.link(request, path, **kept, cursor=cursor)


async def answer(
    handler: Callable[..., Awaitable[Reply]], api: Api, request: Request, *ids: str, **named_ids: str
) -> Reply:
    """Call a handler with the caller, if that one may do this. A BatonError becomes a problem document.

    The ids are those in the path of the request. The host gives them by name, in any order. A HEAD is answered like a GET, without the body.
    """
    try:
        caller = admitted(handler.__name__, api.callers, request)
        reply = await handler(api, caller, request, *ids, **named_ids)
    except BatonError as error:
        reply = problem(error)
    headers = {
        **reply.headers,
        "Access-Control-Expose-Headers": _EXPOSED,
        "X-Content-Type-Options": "nosniff",
    }
    if request.method != "HEAD":
        return replace(reply, headers=headers)
    if reply.body:
        # RFC 9110, 8.6: the length of the body that a GET gets.
        headers["Content-Length"] = str(len(reply.body))
    return replace(reply, body=b"", headers=headers)


async def start_run(api: Api, caller: Caller, request: Request) -> Reply:
    await api.prepare()
    applied = await start(api.context, caller, parse.start_request(request, api.input_rules))
    return await _started(api, request, applied)


async def retry_run(api: Api, caller: Caller, request: Request, run_id: str) -> Reply:
    await api.prepare()
    parse.no_fields(request)
    key = parse.idempotency_key(request)
    applied = await retry(api.context, caller, parse.run_id(run_id), key=key)
    return await _started(api, request, applied)


async def get_run(api: Api, caller: Caller, request: Request, run_id: str) -> Reply:
    """Return a run. A worker is woken for one that the timer has forgotten."""
    stored = await read.owned_run(api.context, caller, parse.run_id(run_id))
    messages = await api.waker.messages(api.context, stored.run)
    headers = _run_headers(api, stored.run, waiting_for(api.context, stored.run))
    if _etags(request) & {headers["ETag"], "*"}:
        return Reply(304, b"", headers, messages)
    complete = queries.includes_input(request.query)
    return await _run_reply(api, Applied(stored), 200, messages=messages, complete_input=complete)


async def get_runs(api: Api, caller: Caller, request: Request) -> Reply:
    runs, after = await list_runs(api.context, caller, queries.listing(request))
    body: dict[str, object] = {"object": "list", "data": [_summary(api, run) for run in runs]}
    if after:
        body["nextLink"] = api.next_link(request, "runs", queries.list_parameters(request.query), after)
    return json_reply(200, body)


async def cancel_run(api: Api, caller: Caller, _request: Request, run_id: str) -> Reply:
    applied = await cancel(api.context, caller, parse.run_id(run_id))
    return await _run_reply(api, applied, 200 if applied.stored.run.terminal else 202)


async def delete_run(api: Api, caller: Caller, _request: Request, run_id: str) -> Reply:
    applied = await delete(api.context, caller, parse.run_id(run_id))
    return Reply(204, messages=applied.messages)


async def get_calls(api: Api, caller: Caller, request: Request, run_id: str) -> Reply:
    """Return the calls of a run; of another owner's run, those that the caller may approve."""
    views, after = await list_calls(
        api.context,
        caller,
        parse.run_id(run_id),
        after=answers.calls_cursor(request),
        limit=queries.page_limit(request.query),
    )
    body: dict[str, object] = {"object": "list", "data": [answers.call_view(view) for view in views]}
    if after is not None:
        body["nextLink"] = api.next_link(request, f"runs/{run_id}/calls", queries.PAGE_PARAMETERS, str(after))
    return json_reply(200, body, {"Cache-Control": "no-store"})


async def post_answer(api: Api, caller: Caller, request: Request, run_id: str, call_id: str) -> Reply:
    """Answer a call that waits."""
    run, call = parse.run_id(run_id), answers.call_id(call_id)
    given = answers.answer(request, api.input_rules)
    view, applied = await answer_call(api.context, caller, run, call, given)
    body = answers.call_view(view) | {"run_status": applied.stored.run.status}
    return json_reply(200, body, {"Cache-Control": "no-store"}, messages=applied.messages)


async def get_waits(api: Api, caller: Caller, request: Request) -> Reply:
    """Return the calls that wait for the caller's approval, those that have waited longest first."""
    limit, after = queries.page_limit(request.query), answers.waits_cursor(request)
    views, last = await list_waits(api.context, caller, after=after, limit=limit)
    body: dict[str, object] = {"object": "list", "data": [answers.wait_view(view) for view in views]}
    if last:
        cursor = answers.waits_cursor_text(last)
        body["nextLink"] = api.next_link(request, "waits", queries.PAGE_PARAMETERS, cursor)
    return json_reply(200, body, {"Cache-Control": "no-store"})


async def get_events(api: Api, caller: Caller, request: Request, run_id: str) -> Reply:
    """Return the events that are stored after the one that the client names, without waiting for more."""
    after = queries.after_event(request)
    limit = queries.page_limit(request.query, queries.DEFAULT_EVENTS, queries.MAX_EVENTS)
    feed = await read_feed(api.context, caller, parse.run_id(run_id), after=after, limit=limit)
    retry_ms = 0 if feed.more else math.ceil(_pause(api, feed.run).total_seconds() * 1000)
    if queries.wants_stream(request):
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


async def get_dashboard(_api: Api, _caller: None, _request: Request) -> Reply:
    return page()


async def get_session(api: Api, caller: Caller, request: Request, session_id: str) -> Reply:
    begin = queries.session_cursor(request)
    page = await read.session_page(
        api.context,
        caller,
        parse.session_id(session_id),
        begin=begin,
        limit=queries.page_limit(request.query),
    )
    body = render.session_view(page, [_summary(api, run) for run in page.runs])
    if page.next_run_id:
        path = f"sessions/{session_id}"
        body["nextLink"] = api.next_link(request, path, queries.PAGE_PARAMETERS, page.next_run_id)
    return json_reply(200, body)


async def delete_session(api: Api, caller: Caller, _request: Request, session_id: str) -> Reply:
    purges = await delete_session_with_runs(api.context, caller, parse.session_id(session_id))
    return Reply(204, messages=bundled(purges))


async def get_agents(api: Api, _caller: Caller | None, _request: Request) -> Reply:
    specs = [api.context.agents.spec(name) for name in api.context.agents.names()]
    return json_reply(200, {"object": "list", "data": [render.agent_view(spec) for spec in specs if spec]})


async def get_me(_api: Api, caller: Caller, _request: Request) -> Reply:
    return json_reply(200, render.caller_view(caller), {"Cache-Control": "no-store"})


async def get_health(api: Api, caller: Caller | None, _request: Request) -> Reply:
    """Return the state of the app. Its counts are about the runs of all owners, so they are for admins."""
    state = await health.check(api.context, api.queues)
    counts = caller is not None and Role.ADMIN in caller.roles
    oldest_wait = await health.oldest_wait(api.context) if counts else None
    body = render.health_view(state, oldest_wait, counts=counts)
    return json_reply(200 if state.ok else 503, body, {"Cache-Control": "no-store"})


async def get_openapi(_api: Api, _caller: None, _request: Request) -> Reply:
    document = importlib.resources.files("shared.web").joinpath("openapi.json").read_bytes()
    return Reply(200, document, {"Content-Type": JSON, "Cache-Control": UNSHARED})


async def _started(api: Api, request: Request, applied: Applied) -> Reply:
    """Return the reply to a start. With a repeated key, the run may have ended."""
    run = applied.stored.run
    headers = {"Location": api.link(request, f"runs/{run.id}")}
    return await _run_reply(api, applied, 200 if run.terminal else 202, headers)


async def _run_reply(
    api: Api,
    applied: Applied,
    status: int,
    headers: dict[str, str] | None = None,
    messages: tuple[str, ...] = (),
    *,
    complete_input: bool = False,
) -> Reply:
    run = applied.stored.run
    waiting = waiting_for(api.context, run)
    output = await read.output_of(api.context, run)
    answer = await read.answer_of(api.context, run, output) if output else None
    waits = [view.call for view in await waiting_calls(api.context, run)]
    body = render.run_view(run, output, answer, waiting, waits)
    body["input"] = _stored(await read.input_of(api.context, run, complete=complete_input))
    headers = _run_headers(api, run, waiting) | (headers or {})
    return json_reply(status, body, headers, messages=messages + applied.messages)


def _stored(text: str | None) -> Stored | None:
    return None if text is None else Stored(text)


def _summary(api: Api, run: Run) -> dict[str, object]:
    return render.run_summary(run, waiting_for(api.context, run))


def _run_headers(api: Api, run: Run, waiting: WaitingFor | None) -> dict[str, str]:
    headers = {"ETag": render.etag(run, waiting), "Cache-Control": UNSHARED}
    if not run.terminal:
        headers["Retry-After"] = str(math.ceil(_pause(api, run).total_seconds()))
    return headers


def _pause(api: Api, run: Run) -> timedelta:
    """Return how long a client should wait: about as long as until the run's next poll.

    What a worker does changes the run soon, however old its turn is, or however long it has waited for people. Text that a
    worker generates comes as often as that of slices.
    """
    worked_on = run.step.worked_on and run.waiting is None
    since = run.updated_at if worked_on else run.turn_started_at or run.created_at
    generated = worked_on and run.step is Step.GENERATE
    schedule = api.context.streaming if generated else api.context.schedule_for(run.continuation)
    return max(schedule.gap(api.context.clock.now() - since), timedelta(seconds=1))


def _etags(request: Request) -> set[str]:
    given = request.headers.get("if-none-match", "")
    return {tag.strip().removeprefix("W/") for tag in given.split(",")}
