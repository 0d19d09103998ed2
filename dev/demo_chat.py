"""`python -m dev demo-chat`: a provider without background mode writes a novel, and its host is killed twice."""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dev import stack
from dev.chat_demo.comparison import Comparison, joins_in
from dev.demo import REFRESH_SECONDS, WINDOW, Lines, show_text
from dev.demo_stack import DemoStack, Unfinished, play
from dev.feed import Reader, follow
from dev.watch import TerminalView, moves_cursor

# A fast machine may write the first one before its host could be killed twice. The second one is as long as the context.
REQUESTS = (
    "Write a novel about astronauts exploring an unknown galaxy, in three chapters.",
    "Write a novel about astronauts exploring an unknown galaxy, in ten chapters.",
)
KILLS = 2
TIMEOUT_SECONDS = 600
# A model that does not find an end writes until its context is full.
_ENDS = {"completed", "incomplete"}


class _TooFast(Unfinished):
    """The model had finished before its host was killed as often as planned."""


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="python -m dev demo-chat", description=__doc__).parse_args(argv)
    return play(lambda running: _Demo(running).run())


def _app(folder: Path) -> Path:
    """Lay out an app whose only agent is that of this demo."""
    for part in ("function_app.py", "host.json", "shared"):
        (folder / part).symlink_to(stack.ROOT / part)
    (folder / "agents").symlink_to(stack.ROOT / "dev" / "chat_demo" / "agents")
    return folder


class _Demo:
    """The stack of one demo, and the two runs that it shows."""

    def __init__(self, running: ExitStack) -> None:
        model, address = stack.start_model()
        running.enter_context(model)
        print(f"model      SmolLM2 135M in llama.cpp's server (xllamacpp {version('xllamacpp')})")
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="chat-demo-"))
        self._stack = DemoStack(running, provider=address, app=_app(Path(folder)), LLAMACPP_URL=address)

    def run(self) -> None:
        print("\nllama.cpp has Chat Completions only, and no background mode: a worker holds the stream.")
        request, killed, events = self._write_and_kill()
        print("\nThe same once more, undisturbed.")
        undisturbed, _ = self._write(request, kills=0)
        print()
        show_text(killed["output_text"])
        compared = Comparison(killed["output_text"], undisturbed["output_text"], joins_in(events))
        for line in compared.lines():
            print(line)
        if not compared.as_declared:
            raise Unfinished("the text is not what its joins promise")

    def _write_and_kill(self) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
        for request in REQUESTS:
            try:
                return request, *self._write(request, kills=KILLS)
            except _TooFast as fast:
                print(f"\n{fast}")
        raise Unfinished("no text was long enough")

    def _write(self, request: str, *, kills: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Let a run write the novel to its end, and return it with its events."""
        client = self._stack.client
        print(f"\nPOST /api/runs\n  {request}")
        run_id = client.start("novelist", request)["id"]
        print(f"  202 {run_id}\n\nGET /api/runs/{run_id[:10]}.../events", flush=True)
        reader = self._follow(run_id, kills)
        run = client.get(run_id)
        if run["status"] not in _ENDS:
            raise Unfinished(f"the run is {run['status']}: {run['error']}")
        if reader.text != run["output_text"]:
            raise Unfinished("the text of the event feed is not the text of the run")
        return run, self._events(run_id)

    def _follow(self, run_id: str, kills: int) -> Reader:
        """Show the run while it works. Kill the host each time that more of its text is stored."""
        client, reader = self._stack.client, Reader()
        view = TerminalView(reader, sys.stdout, window=WINDOW) if moves_cursor() else Lines(reader)
        began, seen = time.monotonic(), 0
        try:
            for refresh in follow(reader, lambda after: client.events(run_id, after)):
                view.show(refresh)
                view.wait(min(refresh.pause, REFRESH_SECONDS))
                if kills and not reader.ended and len(reader.text) > seen:
                    kills, seen = kills - 1, len(reader.text)
                    self._kill_and_restart(view, seen)
                if time.monotonic() - began > TIMEOUT_SECONDS:
                    raise Unfinished(f"it is still {reader.status} after {TIMEOUT_SECONDS} seconds")
        finally:
            view.close()
        if kills:
            raise Unfinished("the model was faster than the demo: it had finished before the host was killed")
        return reader

    def _kill_and_restart(self, view: TerminalView | Lines, characters: int) -> None:
        view.note("")
        pid = self._stack.kill_host()
        view.note(f"  kill -9 {pid}   the host dies with its stream; {characters:,} characters are stored")
        host = self._stack.restart_host()
        view.note(
            f"  host is back after {host.seconds:.1f} s, as pid {host.pid}; the turn is taken up within 15 s"
        )
        view.note("")

    def _events(self, run_id: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        while True:
            page = self._stack.client.events(run_id, events[-1]["id"] if events else 0)
            events += page["data"]
            if page["done"]:
                return events
