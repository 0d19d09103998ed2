"""`python -m dev watch RUN_ID`: the text of a run while it is written, to its end, whatever the host goes through."""

import argparse
import io
import os
import shutil
import sys
import time
from datetime import UTC, datetime
from typing import BinaryIO, Protocol, TextIO

from dev import stack
from dev.client import Client, Refused
from dev.feed import Moment, Reader, follow
from dev.processes import interrupt_on_sigterm
from dev.screen import Screen, one_line, visible

DEFAULT_URL = "http://127.0.0.1:7071"
TICK_SECONDS = 0.2
_NARROWEST = 20
_EXPLAINED = {
    401: "{url} does not take this key: put the function key into BATON_KEY.",
    403: "{url} does not take this key: put the function key into BATON_KEY.",
    404: "There is no run {run_id} at {url}, or it belongs to another key. Is the id complete, the URL right (--url)?",
}


class View(Protocol):
    """Where a run is shown."""

    def show(self, moment: Moment) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def close(self) -> None: ...


class TerminalView:
    """Text as it comes, and a status line under it."""

    def __init__(self, reader: Reader, out: TextIO, *, window: int | None = None) -> None:
        self._reader = reader
        self._out = out
        self._screen = Screen(window)
        self._away = False

    def show(self, moment: Moment) -> None:
        self._away = moment.away
        for line in moment.news.notes:
            self._screen.note(line, _width())
        if moment.news.anew:
            self._screen.begin_anew()
        self._screen.write(moment.news.text, _width())
        self._paint()

    def note(self, line: str) -> None:
        self._screen.note(line, _width())
        self._paint()

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, TICK_SECONDS))
            self._paint()

    def close(self) -> None:
        self._write(self._screen.finish())

    def _paint(self) -> None:
        status = status_line(self._reader, datetime.now(UTC), away=self._away)
        self._write(self._screen.paint(status, _width()))

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


class PipeView:
    """The text alone, to the byte, and notes beside it. On a terminal that knows no cursor, made harmless."""

    def __init__(self, out: BinaryIO, err: TextIO, *, harmless: bool) -> None:
        self._out = out
        self._err = err
        self._harmless = harmless
        self._began = False
        self._away = False

    def show(self, moment: Moment) -> None:
        news = moment.news
        for line in news.notes:
            self._note(line)
        if moment.away and not self._away:
            self._note("the host is away; trying again")
        self._away = moment.away
        if news.anew and self._began:
            self._note("what has been written so far is not part of the run's text, which follows")
        text = visible(news.text) if self._harmless else news.text
        self._began = self._began or bool(text)
        # A lone surrogate has no UTF-8; left out it would be missing, refused it would end the run here.
        self._out.write(text.encode("utf-8", "surrogatepass"))
        self._out.flush()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        if self._harmless and self._began:
            self._out.write(b"\n")
            self._out.flush()

    def _note(self, line: str) -> None:
        print(one_line(line), file=self._err, flush=True)


def status_line(reader: Reader, now: datetime, *, away: bool = False) -> str:
    minutes, seconds = divmod(int(reader.elapsed(now)), 60)
    parts = (
        reader.status,
        f"turn {reader.turn}" if reader.turn else "",
        "the host is away; trying again" if away else reader.activity * (reader.activity != reader.status),
        f"{len(reader.text):,} characters",
        f"{minutes}:{seconds:02}",
    )
    return "  ".join(part for part in parts if part)


def main(argv: list[str]) -> int:
    options = _parse(argv)
    interrupt_on_sigterm()
    client = Client(options.url, os.environ.get("BATON_KEY") or stack.KEY)
    try:
        return watch(client, options.run_id)
    except Refused as refusal:
        told = _EXPLAINED.get(refusal.status, "{url} refused: {why}.")
        print(told.format(url=client.base, run_id=one_line(options.run_id), why=refusal), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("No longer watching; the run goes on.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the text has had enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def watch(client: Client, run_id: str) -> int:
    """Show a run to its end and return the exit status."""
    reader = Reader()
    view = _view(reader)
    try:
        for moment in follow(reader, lambda after: client.events(run_id, after)):
            view.show(moment)
            view.wait(moment.pause)
    finally:
        view.close()
    if reader.status == "completed":
        return 0
    print(one_line(_why(client, run_id, reader.status)), file=sys.stderr)
    return 1


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dev watch",
        description="Show the text of a run while it is written. Into a pipe it goes without change or addition.",
        epilog="The function key comes from BATON_KEY; without it the local host's is used. "
        "Exit status: 0 completed, 1 ended otherwise, 2 cannot be watched.",
    )
    parser.add_argument("run_id", metavar="RUN_ID")
    parser.add_argument(
        "--url",
        type=_url,
        default=os.environ.get("BATON_URL") or DEFAULT_URL,
        help=f"of the host; without it BATON_URL, or {DEFAULT_URL}",
    )
    return parser.parse_args(argv)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with http:// or https://")
    return text


def knows_cursor() -> bool:
    """Return whether what goes to stdout can be drawn anew in place."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _view(reader: Reader) -> View:
    if knows_cursor():
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Better a question mark than an end in a terminal without Unicode.
            sys.stdout.reconfigure(errors="replace")
        return TerminalView(reader, sys.stdout)
    return PipeView(sys.stdout.buffer, sys.stderr, harmless=sys.stdout.isatty())


def _width() -> int:
    # The last column stays free: what a terminal does after it is filled differs.
    return max(_NARROWEST, shutil.get_terminal_size().columns - 1)


def _why(client: Client, run_id: str, status: str) -> str:
    """Say why a run did not complete."""
    try:
        run = client.get(run_id)
    except (OSError, Refused):
        return f"The run is {status}."
    error, incomplete = run.get("error"), run.get("incomplete_details")
    if error:
        return f"The run is {status}: {error['code']}: {error['message']}"
    return f"The run is {status}: {incomplete['reason']}." if incomplete else f"The run is {status}."
