"""`python -m dev watch RUN_ID`: show the text of a run while it is written, even while hosts restart."""

import argparse
import io
import os
import shutil
import sys
import time
from datetime import UTC, datetime
from typing import Any, BinaryIO, Protocol, TextIO
from urllib.error import URLError
from urllib.parse import urlsplit

from dev import stack, up_address
from dev.client import Client, Refused
from dev.feed import Reader, Refresh, follow
from dev.host.errors import StartupError
from dev.host.guard import is_loopback
from dev.processes import interrupt_on_sigterm
from dev.screen import Screen, one_line, visible
from dev.watch_answers import Answers

DEFAULT_URL = "http://127.0.0.1:7071"
TICK_SECONDS = 0.2
_NARROWEST = 20
_EXPLAINED = {
    401: "{url} does not accept this key: set BATON_KEY to the function key, or to one of the app's own keys.",
    403: "{url} does not let this key read runs: set BATON_KEY to another one, with AUTH=callers to one of a reader.",
    404: "There is no run {run_id} at {url}, or it belongs to another owner. Check the id and BATON_URL.",
}


class NobodyThere(Exception):
    """Nothing listens at the address, and nothing has been read from it yet."""


class View(Protocol):
    """Where a run is shown."""

    def show(self, refresh: Refresh) -> None: ...

    def say(self, line: str) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def close(self) -> None: ...


class TerminalView:
    """Text as it arrives, and a status line under it."""

    def __init__(self, reader: Reader, out: TextIO, *, window: int | None = None) -> None:
        self._reader = reader
        self._out = out
        self._screen = Screen(window)
        self._shown = False
        self._unreachable = False

    def show(self, refresh: Refresh) -> None:
        self._shown = True
        self._unreachable = refresh.unreachable
        for line in refresh.changes.notes:
            self._screen.note(line, _width())
        if refresh.changes.replaces:
            self._screen.start_new_text()
        self._screen.write(refresh.changes.text, _width())
        self._paint()

    def note(self, line: str) -> None:
        self._screen.note(line, _width())
        self._paint()

    def say(self, line: str) -> None:
        """Write a line that the terminal breaks, so that it can be copied as a whole."""
        self._write(self._screen.finish() + one_line(line) + "\n")

    def ask(self, prompt: str) -> str:
        """Show a prompt in the place of the status, and return the line that is typed then. Raises EOFError."""
        self._write(self._screen.finish())
        _forget_typed()
        return input(one_line(prompt))

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, TICK_SECONDS))
            self._paint()

    def close(self) -> None:
        # Before the first answer no status is known.
        self._write(self._screen.leave(self._status(), _width()) if self._shown else self._screen.finish())

    def _paint(self) -> None:
        self._write(self._screen.paint(self._status(), _width()))

    def _status(self) -> str:
        return status_line(self._reader, datetime.now(UTC), unreachable=self._unreachable)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _forget_typed() -> None:
    """Drop what was typed before, so that it does not answer a question that nobody has seen."""
    if sys.platform != "win32":
        import termios  # noqa: PLC0415 - Windows has none

        termios.tcflush(sys.stdin, termios.TCIFLUSH)


class PipeView:
    """Exactly the text on `out`, notes on `err`. `escaped` is for a terminal that cannot move its cursor."""

    def __init__(self, out: BinaryIO, err: TextIO, *, escaped: bool) -> None:
        self._out = out
        self._err = err
        self._escaped = escaped
        self._wrote = False
        self._unreachable = False

    def show(self, refresh: Refresh) -> None:
        changes = refresh.changes
        for line in changes.notes:
            self.say(line)
        if refresh.unreachable and not self._unreachable:
            self.say("the host does not answer; trying again")
        self._unreachable = refresh.unreachable
        if changes.replaces and self._wrote:
            self.say("the text so far is not part of the run's text, which follows")
        text = visible(changes.text) if self._escaped else changes.text
        self._wrote = self._wrote or bool(text)
        # A lone surrogate has no UTF-8. To drop it would change the text, to raise would stop the output.
        self._out.write(text.encode("utf-8", "surrogatepass"))
        self._out.flush()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        if self._escaped and self._wrote:
            self._out.write(b"\n")
            self._out.flush()

    def say(self, line: str) -> None:
        print(one_line(line), file=self._err, flush=True)


def status_line(reader: Reader, now: datetime, *, unreachable: bool = False) -> str:
    minutes, seconds = divmod(int(reader.elapsed(now)), 60)
    parts = (
        reader.status,
        f"turn {reader.turn}" if reader.turn else "",
        "the host does not answer; trying again"
        if unreachable
        else reader.activity * (reader.activity != reader.status),
        f"{len(reader.text):,} characters",
        f"{minutes}:{seconds:02}",
    )
    return "  ".join(part for part in parts if part)


def main(argv: list[str]) -> int:
    options = _parse(argv)
    interrupt_on_sigterm()
    try:
        client = Client(options.url, _key(options.url))
    except StartupError as error:
        print(
            f"Set BATON_KEY to the function key, because that of this folder is not known.\n{error}",
            file=sys.stderr,
        )
        return 2
    try:
        return watch(client, options.run_id)
    except Refused as refusal:
        explanation = _EXPLAINED.get(refusal.status, "{url} refused: {why}.")
        print(
            explanation.format(url=client.base, run_id=one_line(options.run_id), why=refusal), file=sys.stderr
        )
        return 2
    except NobodyThere:
        print(
            f"Nothing listens at {client.base}: run `make up`, or set BATON_URL to the host.", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("No longer watching; the run goes on.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the pipe has closed it. Python would report that again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def watch(client: Client, run_id: str) -> int:
    """Show a run to its end and return the exit status. Raises NobodyThere."""
    reader = Reader()
    view = _view(reader)
    ask = view.ask if isinstance(view, TerminalView) and sys.stdin.isatty() else None
    answers = Answers(client, run_id, ask=ask, say=view.say)
    try:
        for refresh in follow(reader, lambda after: _events(client, run_id, after)):
            view.show(refresh)
            if not refresh.unreachable:
                answers.look_at(reader)
            view.wait(refresh.pause)
    finally:
        view.close()
    if reader.status == "completed":
        return 0
    print(one_line(_why(client, run_id, reader.status)), file=sys.stderr)
    return 1


def _events(client: Client, run_id: str, after: int) -> dict[str, Any]:
    """Return a page of the feed. A host that has answered before is only away, and is asked again."""
    try:
        return client.events(run_id, after)
    except URLError as error:
        if after == 0 and isinstance(error.reason, ConnectionRefusedError):
            raise NobodyThere from None
        raise


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dev watch",
        description="Show the text of a run while it is written. A pipe gets exactly the text, without notes.",
        epilog="The function key comes from BATON_KEY; the default is that of the local hosts of this folder. "
        "Exit status: 0 completed, 1 ended otherwise, 2 cannot be watched.",
    )
    parser.add_argument("run_id", metavar="RUN_ID")
    parser.add_argument(
        "--url",
        type=_url,
        default=os.environ.get("BATON_URL") or up_address.remembered(stack.ROOT) or DEFAULT_URL,
        help=f"of the host; default: BATON_URL, or that of `make up` in this folder, or {DEFAULT_URL}",
    )
    return parser.parse_args(argv)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with http:// or https://")
    try:
        urlsplit(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address: {error}") from error
    return text


def _key(url: str) -> str:
    """Return the function key, which for a host on this machine is by default that of this folder.

    No other host gets that key: it will ask for one. Raises StartupError.
    """
    given = os.environ.get("BATON_KEY", "")
    if given or not is_loopback(urlsplit(url).hostname or ""):
        return given
    return stack.keys().host


def moves_cursor() -> bool:
    """Return whether stdout is a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _view(reader: Reader) -> View:
    if moves_cursor():
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal without Unicode shows a question mark; an error would end the program.
            sys.stdout.reconfigure(errors="replace")
        return TerminalView(reader, sys.stdout)
    return PipeView(sys.stdout.buffer, sys.stderr, escaped=sys.stdout.isatty())


def _width() -> int:
    # The last column stays free: terminals differ in what they do once it is filled.
    return max(_NARROWEST, shutil.get_terminal_size().columns - 1)


def _why(client: Client, run_id: str, status: str) -> str:
    """Return why a run did not complete."""
    try:
        run = client.get(run_id)
    except (OSError, Refused):
        return f"The run is {status}."
    error, incomplete = run.get("error"), run.get("incomplete_details")
    if error:
        return f"The run is {status}: {error['code']}: {error['message']}"
    return f"The run is {status}: {incomplete['reason']}." if incomplete else f"The run is {status}."
