"""`python -m dev demo`: carry one run from start to outcome, through a host that is killed on the way."""

import argparse
import sys
import textwrap
import time
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from dev import azurite, stack
from dev.client import Client, Refused
from dev.processes import ChildFailed, ChildProcess, interrupt_on_sigterm

REQUEST = "Write a very long novel about astronauts exploring an unknown galaxy."
PATIENCE_SECONDS = 300
# How long the model has been writing when the host is killed.
WRITING_SECONDS = 3.0
REFRESH_SECONDS = 0.25
WIDTH = 78
OPENING = 900
BAR = 24

_TERMINAL = {"completed", "failed", "cancelled", "incomplete", "expired"}


class _Unfinished(Exception):
    """The run did not come to its end; the text says why."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m dev demo", description=__doc__)
    parser.add_argument("--model", action="store_true", help="let a small language model write the prose")
    options = parser.parse_args(argv)
    interrupt_on_sigterm()
    try:
        with ExitStack() as running:
            _Demo(running, with_model=options.model).run()
    except (ChildFailed, Refused, _Unfinished, OSError) as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


class _Demo:
    """The stack of one demonstration, and the run that it shows."""

    def __init__(self, running: ExitStack, *, with_model: bool) -> None:
        self._running = running
        storage, connection = azurite.start()
        running.enter_context(storage)
        options = ("--model-server", "auto") if with_model else ("--pace", "25")
        provider, emulator = stack.start_provider(*options)
        running.enter_context(provider)
        print(f"storage    Azurite, in memory\nprovider   {emulator}")
        self._settings = stack.environment(connection, emulator)
        self._host, self._base = self._start_host(0)
        print(f"functions  {self._base}/api\n")

    def _start_host(self, port: int) -> tuple[ChildProcess, str]:
        host, base = stack.start_host(self._settings, port=port)
        self._running.enter_context(host)
        return host, base

    def run(self) -> None:
        client = Client(self._base, stack.KEY)
        print(f"POST /api/runs\n  {REQUEST}")
        run = client.start("space_novelist", REQUEST)
        print(f"  202 {run['id']}\n")
        began = time.monotonic()
        run = self._follow(client, run, began)
        if run["status"] != "completed":
            raise _Unfinished(f"the run is {run['status']}: {run['error'] or run['incomplete_details']}")
        _show_outcome(run)

    def _follow(self, client: Client, run: dict[str, Any], began: float) -> dict[str, Any]:
        """Show how the run gets on, and kill the host once while the model writes."""
        line, writing_since, killed = _Line(), None, False
        while run["status"] not in _TERMINAL:
            elapsed = time.monotonic() - began
            if elapsed > PATIENCE_SECONDS:
                raise _Unfinished(f"it is still {run['status']} after {PATIENCE_SECONDS} seconds")
            line.show(run, elapsed)
            time.sleep(REFRESH_SECONDS)
            run = client.get(run["id"])
            if run["turn"] > 1 and writing_since is None:
                writing_since = time.monotonic()
            if writing_since and not killed and time.monotonic() - writing_since > WRITING_SECONDS:
                killed = True
                self._kill_and_restart(line, run)
        line.show(run, time.monotonic() - began)
        line.end()
        return run

    def _kill_and_restart(self, line: "_Line", run: dict[str, Any]) -> None:
        line.end()
        print(f"\n  kill -9 {self._host.pid}   the only host is gone; the run stood at turn {run['turn']}")
        self._host.kill()
        port = int(self._base.rpartition(":")[2])
        began = time.monotonic()
        self._host, _ = self._start_host(port)
        print(
            f"  host is back after {time.monotonic() - began:.1f} s, as pid {self._host.pid}, and knows nothing"
        )
        found = Client(self._base, stack.KEY).get(run["id"])
        print(
            f"  GET /api/runs/{run['id'][:10]}...   {found['status']}, turn {found['turn']}: it goes on where it stood\n"
        )


class _Line:
    """The progress of a run: redrawn in place on a terminal, else a line for each change."""

    def __init__(self) -> None:
        self._redraw = sys.stdout.isatty()
        self._last = ""

    def show(self, run: dict[str, Any], elapsed: float) -> None:
        now = f"{run['status']:<12} turn {run['turn']}  {_bar(run)}  {_activity(run)}"
        if self._redraw:
            print(f"\r\x1b[2K  {elapsed:5.1f} s  {now}", end="", flush=True)
        elif now != self._last:
            print(f"  {elapsed:5.1f} s  {now}", flush=True)
        self._last = now

    def end(self) -> None:
        if self._redraw:
            print()


def _bar(run: dict[str, Any]) -> str:
    """Draw the way: accepted, calls asked for, calls done, the last turn begun, done."""
    calls = run["tool_calls"]
    done = sum(call["status"] not in {"queued", "in_progress"} for call in calls)
    way = (
        0.1
        + (0.1 if calls else 0)
        + (0.3 * done / len(calls) if calls else 0)
        + (0.2 if run["turn"] > 1 else 0)
    )
    filled = BAR if run["status"] in _TERMINAL else round(BAR * way)
    return "[" + "#" * filled + "." * (BAR - filled) + "]"


def _activity(run: dict[str, Any]) -> str:
    if run["status"] in _TERMINAL:
        return "finished"
    at_work = [call["name"] for call in run["tool_calls"] if call["status"] == "in_progress"]
    if at_work:
        return "calling " + ", ".join(at_work)
    return "writing" if run["turn"] > 1 else "thinking"


def _show_outcome(run: dict[str, Any]) -> None:
    text = run["output_text"]
    print("\n" + "-" * WIDTH)
    for paragraph in text[:OPENING].rpartition(" ")[0].split("\n"):
        print(textwrap.fill(paragraph, WIDTH))
    print("[...]\n" + "-" * WIDTH)
    usage = run["usage"]
    print(f"length     {len(text):,} characters, {len(text.split()):,} words")
    print(f"usage      {usage['input_tokens']:,} tokens in, {usage['output_tokens']:,} out")
    print(f"time       {_seconds(run['created_at'], run['completed_at']):.1f} s from start to outcome")
    for call in run["tool_calls"]:
        took = _seconds(call["started_at"], call["completed_at"])
        print(f"tool call  {call['name']:<30} {call['status']} in {took:.1f} s, turn {call['turn']}")


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
