"""`python -m dev demo`: carry one run from start to outcome, through a host that is killed on the way."""

import argparse
import sys
import textwrap
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from dev.client import Client
from dev.demo_stack import DemoStack, Unfinished, play
from dev.feed import Reader, Refresh, follow
from dev.screen import visible
from dev.watch import TerminalView, moves_cursor

REQUEST = "Write a very long novel about astronauts exploring an unknown galaxy."
TIMEOUT_SECONDS = 300
# The host is killed when the novel has been written for so long.
WRITING_SECONDS = 3.0
REFRESH_SECONDS = 0.5
# Lines of the novel that are shown while it is written.
WINDOW = 8
WIDTH = 78
OPENING = 900


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m dev demo", description=__doc__)
    parser.add_argument("--model", action="store_true", help="let a small language model write the prose")
    options = parser.parse_args(argv)
    return play(lambda running: _Demo(running, with_model=options.model).run())


class _Demo:
    """The stack of one demo, and the run that it shows."""

    def __init__(self, running: ExitStack, *, with_model: bool) -> None:
        options = ("--model-server", "auto") if with_model else ("--pace", "25")
        self._stack = DemoStack(running, *options)

    def run(self) -> None:
        client = self._stack.client
        print(f"\nPOST /api/runs\n  {REQUEST}")
        run_id = client.start("space_novelist", REQUEST)["id"]
        print(f"  202 {run_id}\n\nGET /api/runs/{run_id[:10]}.../events", flush=True)
        reader = self._follow(client, run_id)
        run = client.get(run_id)
        if run["status"] != "completed":
            raise Unfinished(f"the run is {run['status']}: {run['error'] or run['incomplete_details']}")
        if reader.text != run["output_text"]:
            raise Unfinished("the text of the event feed is not the text of the run")
        _show_outcome(run)
        print(f"feed       {reader.last_id:,} events, read during the crash: the same text, to the character")

    def _follow(self, client: Client, run_id: str) -> Reader:
        """Show the run while it works. Kill the host once, while the model writes."""
        reader = Reader()
        view = TerminalView(reader, sys.stdout, window=WINDOW) if moves_cursor() else Lines(reader)
        began, writing_since, killed = time.monotonic(), None, False
        try:
            for refresh in follow(reader, lambda after: client.events(run_id, after)):
                view.show(refresh)
                view.wait(min(refresh.pause, REFRESH_SECONDS))
                if reader.turn > 1 and reader.text and writing_since is None:
                    writing_since = time.monotonic()
                if writing_since and not killed and time.monotonic() - writing_since > WRITING_SECONDS:
                    killed = True
                    self._kill_and_restart(view, run_id, reader)
                if time.monotonic() - began > TIMEOUT_SECONDS:
                    raise Unfinished(f"it is still {reader.status} after {TIMEOUT_SECONDS} seconds")
        finally:
            view.close()
        return reader

    def _kill_and_restart(self, view: "TerminalView | Lines", run_id: str, reader: Reader) -> None:
        view.note("")
        pid = self._stack.kill_host()
        view.note(f"  kill -9 {pid}   the only host is killed, in the middle of turn {reader.turn}")
        host = self._stack.restart_host()
        view.note(f"  host is back after {host.seconds:.1f} s, as pid {host.pid}, with empty memory")
        found = self._stack.client.get(run_id)
        view.note(f"  GET /api/runs/{run_id[:10]}...   {found['status']}, turn {found['turn']}")
        view.note(f"  GET .../events?after={reader.last_id}   the feed continues after the last event")
        view.note("")


class Lines:
    """The progress of a run where the cursor cannot move: one line for each change."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._last = ""

    def show(self, refresh: Refresh) -> None:
        for note in refresh.changes.notes:
            self.note(f"  {note}")
        reader = self._reader
        line = "  ".join(
            (reader.status, f"turn {reader.turn}", reader.activity, f"{len(reader.text):,} characters")
        )
        if line != self._last:
            print(f"  {reader.elapsed(datetime.now(UTC)):5.1f} s  {line}", flush=True)
        self._last = line

    def note(self, line: str) -> None:
        print(line, flush=True)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        pass


def show_text(text: str) -> None:
    """Show how a text begins."""
    print("-" * WIDTH)
    for paragraph in text[:OPENING].rpartition(" ")[0].split("\n"):
        print(textwrap.fill(visible(paragraph), WIDTH))
    print("[...]\n" + "-" * WIDTH)


def _show_outcome(run: dict[str, Any]) -> None:
    text = run["output_text"]
    print()
    show_text(text)
    usage = run["usage"]
    print(f"length     {len(text):,} characters, {len(text.split()):,} words")
    print(f"usage      {usage['input_tokens']:,} tokens in, {usage['output_tokens']:,} out")
    print(f"time       {_seconds(run['created_at'], run['completed_at']):.1f} s from start to outcome")
    for call in run["tool_calls"]:
        took = _seconds(call["started_at"], call["completed_at"])
        print(f"tool call  {call['name']:<30} {call['status']} in {took:.1f} s, turn {call['turn']}")


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
