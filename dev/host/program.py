"""`python -m dev host`: read the settings, index the app, and serve it until a signal."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from dev.host import worker
from dev.host.definitions import Function, HttpTrigger, QueueTrigger, TimerTrigger, parse_functions
from dev.host.errors import StartupError
from dev.host.guard import Guard
from dev.host.host import ADDRESS, Host
from dev.host.key_file import load_keys
from dev.host.keys import AuthLevel
from dev.host.queue_service import QueueServices
from dev.host.settings import LOCAL_SETTINGS, load_app_settings, load_host_settings

DEFAULT_PORT = 7071
# The reasons follow in the lines after this one, up to the last: programs that start the host look for them.
CANNOT_START = "The host cannot start."
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m dev host", description="Serve a Functions app.")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 = any free port")
    parser.add_argument("--app", type=Path, default=Path(), help="folder with function_app.py and host.json")
    parser.add_argument(
        "--environment-only", action="store_true", help=f"take no settings from {LOCAL_SETTINGS}"
    )
    options = parser.parse_args(argv)
    status = 0
    try:
        if not options.environment_only:
            load_app_settings(options.app.resolve(), os.environ)
        asyncio.run(_serve(options.app.resolve(), options.port))
    except StartupError as error:
        print(f"{error.trace}{CANNOT_START}\n{error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:  # while it was starting
        status = 130
    if threading.active_count() > 1:
        # A function that is not async still runs in its thread. Only the end of the process ends a thread.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


async def _serve(app: Path, port: int) -> None:
    settings = load_host_settings(app, os.environ)
    keys, guard = load_keys(app, os.environ), Guard.from_environment(os.environ)
    _configure_logging(settings.log_level)
    functions = parse_functions(await worker.index(app), os.environ)
    async with QueueServices() as services:
        host = Host(functions, settings, keys=keys, guard=guard, environ=os.environ, services=services)
        try:
            served = await host.start(port)
            _announce(host, functions, served)
            await _until_stopped(host)
        finally:
            await host.stop()


async def _until_stopped(host: Host) -> None:
    """Return after a signal; a second signal ends the process at once. Raises the error of a host that failed."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop() -> None:
        stopped.set()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, stop)
    watch = asyncio.create_task(host.watch())
    signalled = asyncio.create_task(stopped.wait())
    ended, waiting = await asyncio.wait([watch, signalled], return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    for task in ended:
        task.result()


def _configure_logging(level: int) -> None:
    logging.basicConfig(
        level=level,
        format="%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    library = logging.getLogger("azure.functions")
    library.setLevel(logging.WARNING)
    # The host reports failures itself, with the function's name.
    library.addFilter(lambda record: record.msg != "Native invocation failed")


def _announce(host: Host, functions: Iterable[Function], port: int) -> None:
    """Print what is served. The last line starts with `ready`: programs that start the host wait for it."""
    base = f"http://{ADDRESS}:{port}"
    templates = {route.function: route.template for route in host.routes}
    rows = [_row(function, base, templates) for function in functions]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in sorted(rows, key=lambda row: (row[1], row[0])):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"x-functions-key: {host.keys.host} (functions), {host.keys.master} (everything)")
    print(f"ready {base}", flush=True)


def _row(function: Function, base: str, templates: Mapping[str, str]) -> tuple[str, str, str]:
    match function.trigger:
        case HttpTrigger(methods=methods, auth_level=level):
            key = "" if level is AuthLevel.ANONYMOUS else f"  [{level} key]"
            address = f"{','.join(methods) or 'any'} {base}/{templates[function.name]}{key}"
            return function.name, "http", address
        case TimerTrigger(schedule=schedule):
            return function.name, "timer", schedule
        case QueueTrigger(queue=queue):
            return function.name, "queue", queue
