"""`python -m dev demo-approval`: a refund waits for a person, its host is killed meanwhile, and it is made once."""

import argparse
import json
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dev.client import Refused
from dev.demo_stack import DemoStack, Unfinished, play
from dev.screen import one_line
from dev.watch import moves_cursor

REQUEST = "Refund 120 euros of order A-1002, please: the chair came with a broken leg."
TIMEOUT_SECONDS = 120
# How long the demo lets each scene stand.
SCENE_SECONDS = 2.0
WIDTH = 78

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_CLEAR = "\r\x1b[K"


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="python -m dev demo-approval", description=__doc__).parse_args(argv)
    return play(lambda running: _Demo(running).run())


class _Demo:
    """The stack of one demo, and the run that it shows."""

    def __init__(self, running: ExitStack) -> None:
        self._refunds = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="refunds-")))
        self._stack = DemoStack(running, "--pace", "6", REFUNDS_FOLDER=str(self._refunds))
        self._styled = moves_cursor()
        self._last_event = 0
        self._began: datetime | None = None
        self._waiting_since: datetime | None = None
        self._waited = timedelta()

    def run(self) -> None:
        client = self._stack.client
        self._scene("A customer asks", f"POST /api/runs   refund_clerk\n{REQUEST}")
        run_id = client.start("refund_clerk", REQUEST)["id"]
        self._say(f"202 {run_id}")
        self._scene("The clerk works", f"GET /api/runs/{run_id[:10]}.../events")
        self._follow(run_id, until="run.requires_action")
        action = self._show_wait(run_id)
        time.sleep(SCENE_SECONDS)
        self._kill_and_restart(run_id, action)
        time.sleep(SCENE_SECONDS)
        self._answer(run_id, action)
        self._scene("The clerk goes on", f"GET /api/runs/{run_id[:10]}.../events?after={self._last_event}")
        self._follow(run_id, until="")
        self._show_outcome(client.get(run_id))

    def _show_wait(self, run_id: str) -> dict[str, Any]:
        run = self._stack.client.get(run_id)
        [action] = run["required_action"]
        self._scene("A person has to decide", f"GET /api/runs/{run_id[:10]}...   {run['status']}")
        self._say(f"{self._bold(action['name'])}   {one_line(action['arguments'])}")
        self._say('Its author wrote: approval=lambda call: call["euros"] > 50')
        self._say(
            f"It waits until {action['expires_at'][:16].replace('T', ' ')} UTC. The clock of the run stands still."
        )
        self._say(f"Refunds: {self._refunds_made()}")
        return dict(action)

    def _kill_and_restart(self, run_id: str, action: dict[str, Any]) -> None:
        self._scene("The host dies while nobody has decided yet", "")
        self._say(f"kill -9 {self._stack.kill_host()}   the only host is killed")
        host = self._stack.restart_host()
        self._say(f"It is back after {host.seconds:.1f} s, as pid {host.pid}, with empty memory.")
        run = self._stack.client.get(run_id)
        if run["required_action"] != [action]:
            raise Unfinished("the run no longer waits for the same call")
        self._say(f"GET /api/runs/{run_id[:10]}...   {run['status']}: the same call waits")

    def _answer(self, run_id: str, action: dict[str, Any]) -> None:
        path = f"/api/runs/{run_id[:10]}.../calls/{action['id'][:12]}..."
        self._scene("Somebody approves it", f'POST {path}   {{"approve": true}}')
        client = self._stack.client
        call = client.answer(run_id, action["id"], {"approve": True})
        self._say(f"200 {call['answer']['type']}")
        client.answer(run_id, action["id"], {"approve": True})
        self._say("200 again for the same answer, which counts once")
        try:
            client.answer(run_id, action["id"], {"approve": False})
        except Refused as refusal:
            self._say(f"{refusal.status} for another one: {str(refusal).partition(': ')[2]}")
        else:
            raise Unfinished("a second answer was taken")

    def _show_outcome(self, run: dict[str, Any]) -> None:
        made = [json.loads(file.read_text()) for file in self._refunds.rglob("*.json")]
        if run["status"] != "completed":
            raise Unfinished(f"the run is {run['status']}: {run['error'] or run['incomplete_details']}")
        if [each["euros"] for each in made] != [120]:
            raise Unfinished(f"the refunds are {made}")
        print("\n" + "-" * WIDTH)
        print(textwrap.fill(one_line(run["output_text"]), WIDTH))
        print("-" * WIDTH)
        print(f"refunds    {self._refunds_made()}")
        waited = self._waited.total_seconds()
        print(f"waited     {waited:.1f} s for a person, and could have waited for three days")
        print(f"time       {_seconds(run['created_at'], run['completed_at']):.1f} s from start to outcome")
        for call in run["tool_calls"]:
            took = _seconds(call["started_at"], call["completed_at"])
            print(f"tool call  {call['name']:<14} {call['status']} in {took:.1f} s, turn {call['turn']}")

    def _refunds_made(self) -> str:
        made = [json.loads(file.read_text()) for file in self._refunds.rglob("*.json")]
        listed = ", ".join(f"{each['euros']:g} euros of {each['order']}" for each in made)
        return f"{len(made)} in the shop's books: {listed}" if made else "none in the shop's books"

    def _follow(self, run_id: str, *, until: str) -> None:
        """Show what happens until an event of this type, or to the end."""
        for event in self._events(run_id):
            at = datetime.fromisoformat(event["at"])
            self._began = self._began or at
            if event["type"] == "call.waiting":
                self._waiting_since = at
            elif event["type"] == "call.answered" and self._waiting_since:
                self._waited = at - self._waiting_since
            if line := _line(event):
                self._say(f"{self._dim(f'{(at - self._began).total_seconds():5.1f} s')}  {line}")
            if event["type"] == until:
                return

    def _events(self, run_id: str) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < end:
            page = self._stack.client.events(run_id, self._last_event)
            for event in page["data"]:
                self._last_event = event["id"]
                yield event
            if page["done"]:
                return
            self._wait(min(page["retry_ms"] / 1000, 0.5))
        raise Unfinished(f"it has not gone on for {TIMEOUT_SECONDS} seconds")

    def _wait(self, seconds: float) -> None:
        """Wait for the next events; on a terminal the time runs meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._styled and self._began:
                passed = (datetime.now(UTC) - self._began).total_seconds()
                print(f"\r  {self._dim(f'{passed:5.1f} s  ...')}", end="", flush=True)
            time.sleep(min(left, 0.1))

    def _scene(self, title: str, text: str) -> None:
        print(f"\n{self._bold(title)}")
        for line in text.splitlines():
            self._say(line)

    def _say(self, line: str) -> None:
        print(f"{_CLEAR * self._styled}  {line}", flush=True)

    def _bold(self, text: str) -> str:
        return f"{_BOLD}{text}{_PLAIN}" if self._styled else text

    def _dim(self, text: str) -> str:
        return f"{_DIM}{text}{_PLAIN}" if self._styled else text


def _line(event: dict[str, Any]) -> str | None:
    """Return what an event says to somebody who watches. None for one that says nothing new."""
    name = one_line(event.get("name", ""))
    match event["type"]:
        case "turn.started":
            return f"turn {event['turn']}: the model thinks"
        case "tool.started":
            return f"{name} runs   {one_line(event.get('arguments', ''))}"
        case "tool.completed":
            return f"{name}: {event['status']}"
        case "call.waiting":
            return f"{name} waits for an {event['wait']}"
        case "call.answered":
            return f"{name}: {event['answer']}"
        case "run.requires_action" | "run.completed" | "run.failed" | "run.expired" | "run.incomplete":
            return str(event["type"]).removeprefix("run.")
    return None


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
