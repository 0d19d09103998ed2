"""All triggers of the app. Each one only calls the application."""

from collections.abc import Awaitable, Callable
from typing import List  # noqa: UP035

import azure.functions as func

from shared.app import application
from shared.web.http import Reply, Request
from shared.web.runs_api import handlers

# The app refuses to start when a setting is wrong, so that requests cannot fail because of it.
baton = application()
# With AUTH=callers the host lets every request in, and the app refuses those without a caller.
app = func.FunctionApp(http_auth_level=func.AuthLevel[baton.settings.access.host_level])

# The Functions worker accepts only `typing.List` here.
Messages = func.Out[List[str]]  # noqa: UP006
QUEUE, STORAGE = "%WORK_QUEUE%", "AzureWebJobsStorage"


@app.timer_trigger("timer", schedule="%POLL_SCHEDULE%", use_monitor=False)
@app.queue_output("work", QUEUE, STORAGE)
async def poll(timer: func.TimerRequest, work: Messages) -> None:  # noqa: ARG001  (a binding)
    work.set(await baton.tick())


@app.queue_trigger("message", QUEUE, STORAGE)
@app.queue_output("more", QUEUE, STORAGE)
async def work(message: func.QueueMessage, more: Messages) -> None:
    more.set(await baton.work(message.get_body().decode(errors="replace")))


@app.route("runs", methods=["POST"])
@app.queue_output("work", QUEUE, STORAGE)
async def start_run(req: func.HttpRequest, work: Messages) -> func.HttpResponse:
    return await _answer(req, handlers.start_run, work)


# A Functions host answers a HEAD with 404 unless the function names it beside GET.
@app.route("runs", methods=["GET", "HEAD"])
async def get_runs(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_runs)


@app.route("runs/{run_id}", methods=["GET", "HEAD"])
@app.queue_output("work", QUEUE, STORAGE)
async def get_run(req: func.HttpRequest, work: Messages) -> func.HttpResponse:
    return await _answer(req, handlers.get_run, work)


@app.route("runs/{run_id}", methods=["DELETE"])
@app.queue_output("work", QUEUE, STORAGE)
async def delete_run(req: func.HttpRequest, work: Messages) -> func.HttpResponse:
    return await _answer(req, handlers.delete_run, work)


@app.route("runs/{run_id}/cancel", methods=["POST"])
@app.queue_output("work", QUEUE, STORAGE)
async def cancel_run(req: func.HttpRequest, work: Messages) -> func.HttpResponse:
    return await _answer(req, handlers.cancel_run, work)


@app.route("runs/{run_id}/retry", methods=["POST"])
@app.queue_output("work", QUEUE, STORAGE)
async def retry_run(req: func.HttpRequest, work: Messages) -> func.HttpResponse:
    return await _answer(req, handlers.retry_run, work)


@app.route("runs/{run_id}/events", methods=["GET", "HEAD"])
async def get_events(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_events)


@app.route("sessions/{session_id}", methods=["GET", "HEAD"])
async def get_session(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_session)


@app.route("sessions/{session_id}", methods=["DELETE"])
@app.queue_output("work", QUEUE, STORAGE)
async def delete_session(req: func.HttpRequest, work: Messages) -> func.HttpResponse:
    return await _answer(req, handlers.delete_session, work)


@app.route("agents", methods=["GET", "HEAD"])
async def get_agents(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_agents)


@app.route("me", methods=["GET", "HEAD"])
async def get_me(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_me)


@app.route("health", methods=["GET", "HEAD"])
async def get_health(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_health)


@app.route("openapi.json", methods=["GET", "HEAD"])
async def get_openapi(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_openapi)


# The page holds no data. It asks the user for the key, and sends the key with each of its requests.
@app.route("dashboard", methods=["GET", "HEAD"], auth_level=func.AuthLevel.ANONYMOUS)
async def get_dashboard(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_dashboard)


async def _answer(
    req: func.HttpRequest, handler: Callable[..., Awaitable[Reply]], work: Messages | None = None
) -> func.HttpResponse:
    request = Request(
        url=req.url,
        method=req.method.upper(),
        headers={name.lower(): value for name, value in req.headers.items()},
        query=dict(req.params),
        body=req.get_body(),
    )
    reply = await handlers.answer(handler, baton.api, request, *req.route_params.values())
    if work is not None and reply.messages:
        work.set(list(reply.messages))
    return func.HttpResponse(reply.body, status_code=reply.status, headers=dict(reply.headers))
