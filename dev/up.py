"""`python -m dev up`: run the complete stack in the foreground until Ctrl-C, and serve what changes in the app."""

import argparse
import os
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from dev import azurite, local_settings, stack, up_address, up_text
from dev.changed_files import ChangedFiles
from dev.host.errors import StartupError
from dev.host.host import ADDRESS
from dev.host.key_file import load_keys
from dev.host.program import DEFAULT_PORT
from dev.local_settings import LocalSettings
from dev.processes import ChildFailed, interrupt_on_sigterm
from dev.served_host import ServedHost, State

# A change takes effect once nothing has changed for this long.
TICK_SECONDS = 0.4
# A host that ends by itself sooner than this after its start would only end again.
SHORT_LIFE_SECONDS = 5


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m dev up", description=__doc__)
    parser.add_argument(
        "--port",
        type=_port_number,
        help=f"of the Functions host; default: {DEFAULT_PORT}, or a free one if it is taken",
    )
    parser.add_argument("--log", action="store_true", help="show everything that the host writes")
    parser.add_argument(
        "--app", type=Path, default=stack.ROOT, help="folder of the app; default: this project"
    )
    options = parser.parse_args(argv)
    interrupt_on_sigterm()
    try:
        port = _port(options.port)
        with ExitStack() as running:
            return _Up(running, options.app.resolve(), port, log=options.log).run()
    except ChildFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
        return 0


def _port_number(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def _port(wanted: int | None) -> int:
    """Return the port to serve, 0 for any free one. Raises ChildFailed if the port that was asked for is taken."""
    port = DEFAULT_PORT if wanted is None else wanted
    try:
        socket.create_server((ADDRESS, port)).close()
    except OSError as error:
        if wanted is None:
            return 0
        reason = f"Port {port} cannot be used: {error.strerror}. Leave out --port to get a free one."
        raise ChildFailed(reason) from None
    return port


class _Up:
    """Storage, and if needed the emulator, run throughout. The host is started again after each change."""

    def __init__(self, running: ExitStack, app: Path, port: int, *, log: bool) -> None:
        self._running = running
        self._app = app
        self._port = port
        self._log = log
        self._changes = ChangedFiles(app)
        storage, self._storage = azurite.start()
        self._servers = [running.enter_context(storage)]
        self._emulator: str | None = None
        self._host: ServedHost | None = None
        self._settings: dict[str, str] = {}
        self._printed: list[str] = []
        self._introduced = False

    def run(self) -> int:
        """Serve until a server ends by itself, which is an error."""
        _say("storage", up_text.storage(self._storage))
        try:
            return self._serve()
        finally:
            self._stop_host()  # before the servers that it uses

    def _serve(self) -> int:
        self._start_host()
        while True:
            for server in self._servers:
                if not server.running:
                    print(f"{server.name} ended by itself:\n{server.output}", file=sys.stderr)
                    return 1
            if changed := self._changes.poll():
                _say("changed", up_text.changed(changed))
                self._start_host()
            self._look_at_host()
            time.sleep(TICK_SECONDS)

    def _start_host(self) -> None:
        self._stop_host()
        try:
            found = local_settings.read(self._app, os.environ)
        except StartupError as error:
            print(up_text.failure(str(error)), flush=True)
            return
        if not found.provider and not self._emulator:
            provider, self._emulator = stack.start_provider("--pace", "20")
            self._servers.append(self._running.enter_context(provider))
        self._print_settings(found)
        self._settings = found.for_host(os.environ, self._storage, self._emulator)
        child = stack.launch_host(self._settings, port=self._port, app=self._app)
        self._host = ServedHost(child, _print_log, complete=self._log)

    def _stop_host(self) -> None:
        host, self._host = self._host, None
        if host:
            host.stop()
        up_address.forget(self._app)

    def _look_at_host(self) -> None:
        host = self._host
        before = host.state if host else None
        if host is None or (now := host.look()) is before:
            return
        if now is State.READY:
            self._announce(host)
        elif now is State.FAILED:
            self._stop_host()
            print(up_text.failure(host.why()), flush=True)
        elif now is State.ENDED:
            print(up_text.ended(host.why()), flush=True)
            if host.seconds < SHORT_LIFE_SECONDS:
                self._stop_host()
                print(up_text.WAITING, flush=True)
            else:
                self._start_host()

    def _announce(self, host: ServedHost) -> None:
        """Say that the host is ready; the first time, also what one can do with it."""
        self._port = urlsplit(host.base).port or 0
        up_address.remember(self._app, host.base)
        again = " again" if self._introduced else ""
        _say("functions", f"{host.base}/api, ready{again} after {host.seconds:.1f} s")
        if not self._introduced:
            self._introduced = True
            key, callers = load_keys(self._app, self._settings).host, self._settings.get("AUTH") == "callers"
            print(up_text.page(host.base, key, callers=callers), flush=True)

    def _print_settings(self, found: LocalSettings) -> None:
        """Print which settings count: all of it, and after a change what is new."""
        rows = up_text.settings(found, self._emulator)
        for each in rows:
            if each not in self._printed:
                print(each, flush=True)
        self._printed = rows


def _say(label: str, text: str) -> None:
    print(up_text.row(label, text), flush=True)


def _print_log(line: str) -> None:
    print(line, flush=True)
