"""One function for each thing that the local host must do."""

# ruff: noqa: UP006 # parameters are bindings; the worker library refuses func.Out[list[str]]

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import List  # noqa: UP035

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
logger = logging.getLogger(__name__)


def reply(value: object, **options: object) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(value), mimetype="application/json", **options)


@app.route(route="echo/{name}", methods=["GET", "POST"])
async def echo(req: func.HttpRequest) -> func.HttpResponse:
    call = {
        "method": req.method,
        "url": req.url,
        "name": req.route_params["name"],
        "query": dict(req.params),
        "accept": req.headers.get("accept"),
        "encoding": req.headers.get("content-encoding"),
        "transfer": req.headers.get("transfer-encoding"),
        "length": len(req.get_body()),
        "begins": req.get_body()[:8].hex(),
    }
    return reply(call, status_code=201, headers={"ETag": '"1"'})


@app.route(route="echo/fixed", methods=["PUT"])
def not_async(req: func.HttpRequest) -> str:
    return req.get_body().decode()


@app.route(route="cookies", auth_level=func.AuthLevel.ANONYMOUS)
def cookies(req: func.HttpRequest) -> func.HttpResponse:
    response = func.HttpResponse(bytes(range(256)), mimetype="application/octet-stream")
    response.headers.add("Set-Cookie", "a=1; Path=/")
    response.headers.add("Set-Cookie", "b=2; HttpOnly")
    return response


@app.route(route="status/{code:int}", auth_level=func.AuthLevel.ANONYMOUS)
def status(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=int(req.route_params["code"]))


@app.route(route="head/{length:int}", methods=["GET", "HEAD"], auth_level=func.AuthLevel.ANONYMOUS)
def head(req: func.HttpRequest) -> func.HttpResponse:
    length = int(req.route_params["length"])
    headers = {"ETag": '"1"'}
    if req.method == "HEAD" and length:
        headers["Content-Length"] = str(length)
    return func.HttpResponse(b"x" * length, headers=headers)


@app.route(route="broken", auth_level=func.AuthLevel.ANONYMOUS)
@app.queue_output(arg_name="messages", queue_name="%WORK_QUEUE%", connection="AzureWebJobsStorage")
async def broken(req: func.HttpRequest, messages: func.Out[List[str]]) -> func.HttpResponse:
    messages.set(["never written"])
    raise RuntimeError("planted fault")


def is_held() -> bool:
    return Path(os.environ.get("HELD", "")).is_file()


async def until_released() -> None:
    """Keep the function running as long as the file of `HELD` exists."""
    while is_held():  # noqa: ASYNC110  (the test is another process)
        await asyncio.sleep(0.02)


@app.route(route="held", auth_level=func.AuthLevel.ANONYMOUS)
async def held(req: func.HttpRequest) -> func.HttpResponse:
    logger.info("held has started")
    await until_released()
    return reply("done")


@app.route(route="settings", auth_level=func.AuthLevel.ANONYMOUS)
def settings(req: func.HttpRequest) -> func.HttpResponse:
    return reply({name: os.environ[name] for name in ("GREETING", "WORK_QUEUE")})


@app.route(route="send", methods=["POST"])
@app.queue_output(arg_name="messages", queue_name="%WORK_QUEUE%", connection="AzureWebJobsStorage")
def send(req: func.HttpRequest, messages: func.Out[List[str]]) -> func.HttpResponse:
    messages.set(req.get_json())
    return reply("sent", status_code=202)


@app.queue_trigger(arg_name="message", queue_name="%WORK_QUEUE%", connection="AzureWebJobsStorage")
@app.queue_output(arg_name="$return", queue_name="host-results", connection="AzureWebJobsStorage")
async def work(message: func.QueueMessage) -> str:
    text = message.get_body().decode()
    logger.info("work takes %s, time %s", text, message.dequeue_count)
    if text == "held":
        await until_released()
        logger.info("work has done the held message")
    if text == "bad":
        raise RuntimeError("planted fault in a message")
    return json.dumps({"worked": text, "count": message.dequeue_count, "dated": bool(message.insertion_time)})


@app.timer_trigger(arg_name="timer", schedule="%TICKS%")
async def tick(timer: func.TimerRequest) -> None:
    logger.info("tick, past due %s", timer.past_due)


@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True)
async def at_start(timer: func.TimerRequest) -> None:
    logger.info("at_start began")
    await until_released()
    logger.info("at_start ended")


@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
async def returns_a_value(timer: func.TimerRequest) -> str:
    return "a timer has nowhere to return this to"
