"""Serves the emulator with hypercorn on loopback until a signal ends it."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextvars import ContextVar

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from dev.provider.app import Emulator
from dev.provider.chat.service import ChatService
from dev.provider.handler import Writer
from dev.provider.idempotency import IdempotencyKeys
from dev.provider.model import ModelMissingError, ModelWriter, bundled_model
from dev.provider.service import Service

DEFAULT_SECONDS = 20.0

_connection: ContextVar[asyncio.StreamWriter] = ContextVar("connection")


def run(argv: list[str]) -> int:
    options = _parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    # The engine warns at every start that a crash loses its state. The emulator needs no other.
    logging.getLogger("azure.ai.agentserver").setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="provider-") as state:
            os.environ["AGENTSERVER_STATE_ROOT"] = state
            asyncio.run(_serve(options))
    except (ModelMissingError, OSError) as error:
        print(f"The provider emulator cannot start: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dev provider", description="Emulate the Responses API on loopback."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--pace",
        type=float,
        default=DEFAULT_SECONDS,
        help=f"seconds a novel takes (default {DEFAULT_SECONDS:g})",
    )
    parser.add_argument(
        "--model-server",
        metavar="URL|auto",
        help="let a chat completions server write the prose; auto starts one with a small bundled model",
    )
    parser.add_argument(
        "--idempotency",
        action="store_true",
        help="honour the Idempotency-Key of creates, which OpenAI ignores",
    )
    return parser.parse_args(argv)


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with _writer(options.model_server) as writer:
        service = Service(seconds=options.pace, writer=writer)
        chats = ChatService(seconds=options.pace, writer=writer)
        app = Emulator(service, chats, _cut_connection, IdempotencyKeys(options.idempotency))
        with socket.create_server((options.host, options.port), backlog=1024) as listener:
            url = f"http://{options.host}:{listener.getsockname()[1]}"
            await _listen(app, listener, stop, url)


@contextlib.asynccontextmanager
async def _writer(source: str | None) -> AsyncIterator[Writer | None]:
    if source is None:
        yield None
        return
    if source != "auto":
        yield ModelWriter(source)
        return
    with bundled_model() as url:
        yield ModelWriter(url)


async def _listen(app: Emulator, listener: socket.socket, stop: asyncio.Event, url: str) -> None:
    """Serve connections with hypercorn until `stop`, then close those that are still open.

    hypercorn's own `serve` does not give access to the connection; faults need it, to close it without a reply.
    """
    config = Config()
    config.keep_alive_timeout = 120.0
    wrapped = ASGIWrapper(app)
    context = WorkerContext(None)
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _connection.set(writer)
        # hypercorn sends head and body separately; without TCP_NODELAY the body waits 40 ms for an acknowledgement.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.current_task()
        connections.add(task)
        try:
            await TCPServer(wrapped, loop, config, context, {}, reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            connections.discard(task)

    server = await asyncio.start_server(connected, sock=listener, backlog=1024)
    ready = {
        "ready": True,
        "service": "provider",
        "port": listener.getsockname()[1],
        "url": url,
        "base_url": url + "/v1",
    }
    print(json.dumps(ready), flush=True)
    await stop.wait()
    server.close()
    for task in connections:
        if task is not None:
            task.cancel()


def _cut_connection() -> None:
    _connection.get().close()
