"""All triggers of the app. Each one only calls the application."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, List  # noqa: UP035

import azure.functions as func

from shared.app import application
from shared.core.queues import Queue
from shared.steps.messages import queue_of
from shared.web.http import Reply, Request
from shared.web.runs_api import handlers

# The app refuses to start when a setting is wrong, so that requests cannot fail because of it.
baton = application()
# With AUTH=callers the host lets every request in, and the app refuses those without a caller.
app = func.FunctionApp(http_auth_level=func.AuthLevel[baton.settings.access.host_level])

# The Functions worker accepts only `typing.List` here.
Messages = func.Out[List[str]]  # noqa: UP006
QUEUES, STORAGE = baton.settings.storage.queues, "AzureWebJobsStorage"


def sends(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function an output for each queue. Each is a parameter of it."""
    for queue, name in QUEUES.items():
        function = app.queue_output(f"to_{queue}", name, STORAGE)(function)
    return function


@app.timer_trigger("timer", schedule=baton.settings.poll.schedule, use_monitor=False)
@sends
async def poll(
    timer: func.TimerRequest,  # noqa: ARG001  (a binding)
    to_work: Messages,
    to_generate: Messages,
    to_deliver: Messages,
) -> None:
    _send(await baton.tick(), to_work, to_generate, to_deliver)


@app.queue_trigger("message", QUEUES[Queue.WORK], STORAGE)
@sends
async def work(
    message: func.QueueMessage, to_work: Messages, to_generate: Messages, to_deliver: Messages
) -> None:
    _send(await baton.work(_text(message)), to_work, to_generate, to_deliver)


@app.queue_trigger("message", QUEUES[Queue.GENERATE], STORAGE)
@sends
async def generate(
    message: func.QueueMessage, to_work: Messages, to_generate: Messages, to_deliver: Messages
) -> None:
    _send(await baton.work(_text(message)), to_work, to_generate, to_deliver)


@app.queue_trigger("message", QUEUES[Queue.DELIVER], STORAGE)
@sends
async def deliver(
    message: func.QueueMessage, to_work: Messages, to_generate: Messages, to_deliver: Messages
) -> None:
    _send(await baton.work(_text(message)), to_work, to_generate, to_deliver)


@app.route("runs", methods=["POST"])
@sends
async def start_run(
    req: func.HttpRequest, to_work: Messages, to_generate: Messages, to_deliver: Messages
) -> func.HttpResponse:
    return await _answer(req, handlers.start_run, to_work, to_generate, to_deliver)


# A Functions host answers a HEAD with 404 unless the function names it beside GET.
@app.route("runs", methods=["GET", "HEAD"])
async def get_runs(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_runs)


@app.route("runs/{run_id}", methods=["GET", "HEAD"])
@sends
async def get_run(
    req: func.HttpRequest, to_work: Messages, to_generate: Messages, to_deliver: Messages
) -> func.HttpResponse:
    return await _answer(req, handlers.get_run, to_work, to_generate, to_deliver)


@app.route("runs/{run_id}", methods=["DELETE"])
@sends
async def delete_run(
    req: func.HttpRequest, to_work: Messages, to_generate: Messages, to_deliver: Messages
) -> func.HttpResponse:
    return await _answer(req, handlers.delete_run, to_work, to_generate, to_deliver)


@app.route("runs/{run_id}/cancel", methods=["POST"])
@sends
async def cancel_run(
    req: func.HttpRequest, to_work: Messages, to_generate: Messages, to_deliver: Messages
) -> func.HttpResponse:
    return await _answer(req, handlers.cancel_run, to_work, to_generate, to_deliver)


@app.route("runs/{run_id}/retry", methods=["POST"])
@sends
async def retry_run(
    req: func.HttpRequest, to_work: Messages, to_generate: Messages, to_deliver: Messages
) -> func.HttpResponse:
    return await _answer(req, handlers.retry_run, to_work, to_generate, to_deliver)


@app.route("runs/{run_id}/events", methods=["GET", "HEAD"])
async def get_events(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_events)


@app.route("runs/{run_id}/calls", methods=["GET", "HEAD"])
async def get_calls(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_calls)


@app.route("runs/{run_id}/calls/{call_id}", methods=["POST"])
@sends
async def post_answer(
    req: func.HttpRequest, to_work: Messages, to_generate: Messages, to_deliver: Messages
) -> func.HttpResponse:
    return await _answer(req, handlers.post_answer, to_work, to_generate, to_deliver)


@app.route("waits", methods=["GET", "HEAD"])
async def get_waits(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_waits)


@app.route("sessions/{session_id}", methods=["GET", "HEAD"])
async def get_session(req: func.HttpRequest) -> func.HttpResponse:
    return await _answer(req, handlers.get_session)


@app.route("sessions/{session_id}", methods=["DELETE"])
@sends
async def delete_session(
    req: func.HttpRequest, to_work: Messages, to_generate: Messages, to_deliver: Messages
) -> func.HttpResponse:
    return await _answer(req, handlers.delete_session, to_work, to_generate, to_deliver)


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
    req: func.HttpRequest, handler: Callable[..., Awaitable[Reply]], *outputs: Messages
) -> func.HttpResponse:
    request = Request(
        url=req.url,
        method=req.method.upper(),
        headers={name.lower(): value for name, value in req.headers.items()},
        query=dict(req.params),
        body=req.get_body(),
    )
    reply = await handlers.answer(handler, baton.api, request, **req.route_params)
    if outputs:
        _send(reply.messages, *outputs)
    return func.HttpResponse(reply.body, status_code=reply.status, headers=dict(reply.headers))


def _send(messages: Sequence[str], *outputs: Messages) -> None:
    """Send each message to its queue. The outputs are in the order of `Queue`."""
    for queue, output in zip(Queue, outputs, strict=True):
        if own := [message for message in messages if queue_of(message) is queue]:
            output.set(own)


def _text(message: func.QueueMessage) -> str:
    return message.get_body().decode(errors="replace")
