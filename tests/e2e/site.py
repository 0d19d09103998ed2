"""A deployed app for tests: it has hosts, tables and queues of its own, and shares the storage and the provider."""

import json
import os
import secrets
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev import stack
from dev.processes import ChildProcess
from tests.support.feeds import Reader
from tests.support.oracle import TERMINAL, Effects, Expected, Finding, Seen, judge_effects, judge_run

ROOT = Path(__file__).parents[2]
SCRIPTED = Path(__file__).parent / "agents"
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


def call(method: str, url: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return _answer(reply.status, reply)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error.code, error)


def _answer(status: int, reply: Any) -> Answer:
    content = reply.read()
    return Answer(
        status,
        {name.lower(): value for name, value in reply.headers.items()},
        json.loads(content) if content else None,
    )


def script(**settings: Any) -> str:
    """Return an input with a script for the emulated model."""
    return f"Do it. [[script {json.dumps(settings)}]]"


def tool_call(name: str, mark: str, seconds: float = 0) -> dict[str, Any]:
    return {"name": name, "arguments": {"mark": mark, "seconds": seconds}}


def both_tools(mark: str, seconds: float = 0) -> str:
    """Return the input of a run that calls both tools and then writes its mark."""
    calls = [tool_call("pay", mark, seconds), tool_call("look_up", mark, seconds)]
    return script(turns=[{"calls": calls}, {"text": mark}])


def wait_until(true: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} seconds: {what}"
        time.sleep(0.05)


@dataclass
class Site:
    """A deployed app: hosts that share tables and queues."""

    folder: Path
    connection: str
    provider: str
    changes: Mapping[str, str] = field(default_factory=dict)
    # A folder that is called `agents`.
    agents: Path = SCRIPTED
    hosts: list[ChildProcess] = field(default_factory=list)
    bases: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        name = secrets.token_hex(6)
        self._own = {
            "RUNS_TABLE": f"runs{name}",
            "CONTENT_TABLE": f"content{name}",
            "WORK_QUEUE": f"work-{name}",
            "GENERATE_QUEUE": f"generate-{name}",
            "DELIVER_QUEUE": f"deliver-{name}",
            "POLL_SCHEDULE": "* * * * * *",
            "POLL_MIN_SECONDS": "0.5",
            "POLL_MAX_SECONDS": "1",
            "PROVIDER_CREATE_TIMEOUT_SECONDS": "5",
            "PROVIDER_POLL_TIMEOUT_SECONDS": "2",
            "WRITER_MODEL": "writer",
            "TRACES": str(self.folder / "traces"),
        }
        (self.folder / "traces").touch()
        self.app = self.folder / "app"
        self.app.mkdir()
        for part in ("function_app.py", "host.json", "shared"):
            (self.app / part).symlink_to(ROOT / part)
        (self.app / "agents").symlink_to(self.agents)
        self.keys = stack.keys(self.app)

    @property
    def settings(self) -> dict[str, str]:
        return stack.environment(self.connection, self.provider, **(self._own | dict(self.changes)))

    def add_host(self, port: int = 0) -> int:
        child, base = stack.start_host(self.settings, port=port, app=self.app)
        self.hosts.append(child)
        self.bases.append(base)
        return len(self.hosts) - 1

    def crash(self, host: int) -> None:
        """Kill a host and start another in its place."""
        self.hosts[host].kill()
        child, self.bases[host] = stack.start_host(self.settings, app=self.app)
        self.hosts[host] = child

    @contextmanager
    def standing_still(self, host: int) -> Iterator[None]:
        """Let a host stand still, as a machine does that is paused. It goes on where it was."""
        group = self.hosts[host].pid
        os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(group, signal.SIGCONT)

    def close(self) -> None:
        for child in self.hosts:
            child.stop()

    def api(self, method: str, path: str, body: object = None, *, host: int = 0, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        url = path if path.startswith("http") else f"{self.bases[host]}/api/{path}"
        return call(method, url, body, {"x-functions-key": self.keys.host, **given})

    def start(self, text: Any, *, host: int = 0, **fields: Any) -> str:
        reply = self.api("POST", "runs", {"agent": "scripted", "input": text, **fields}, host=host)
        assert reply.status in {200, 202}, reply
        return str(reply.body["id"])

    def get(self, run_id: str) -> Any:
        reply = self.api("GET", f"runs/{run_id}")
        assert reply.status == 200, reply
        return reply.body

    def outcome(self, run_id: str) -> Any:
        """Return the run once it is terminal."""
        wait_until(lambda: self.get(run_id)["status"] in TERMINAL, f"{run_id} is terminal")
        return self.get(run_id)

    def traces(self) -> Counter[str]:
        """Return how often each tool call was carried out, by its mark."""
        return Counter(line.split()[1] for line in (self.folder / "traces").read_text().splitlines())

    def judge(
        self, runs: Mapping[str, str], text: str = "{mark}", *, interrupted: tuple[()] | None = ()
    ) -> list[Finding]:
        """Return what is wrong with runs that have ended, by mark.

        Each run calls both tools with its mark, and then writes the text. `interrupted` is None if a host was killed.
        """
        effects = Effects.parse((self.folder / "traces").read_text().splitlines())
        expected = {
            mark: Expected(text=text.format(mark=mark), calls={f"pay {mark}", f"look_up {mark}"})
            for mark in runs
        }
        findings = [*judge_effects(effects, expected.values(), interrupted)]
        for mark, run_id in runs.items():
            seen = self._seen(mark, run_id, interrupted)
            findings += judge_run(expected[mark], seen, effects)
        return findings

    def _seen(self, mark: str, run_id: str, interrupted: tuple[()] | None) -> Seen:
        run, events = self.get(run_id), self.events(run_id)
        created = [event["response_id"] for event in events if event["type"] == "turn.started"]
        return Seen(
            name=mark,
            run=run,
            calls=[(f"{call['name']} {mark}", call["status"]) for call in run["tool_calls"]],
            events=events,
            interrupted=interrupted,
            responses=[self._status_at_provider(response_id) for response_id in created],
        )

    def events(self, run_id: str) -> list[Any]:
        """Return the complete feed of a run that has ended."""
        found: list[Any] = []
        reader = Reader()
        while not reader.done:
            page = self.api("GET", f"runs/{run_id}/events?after={reader.last_id}").body
            reader.read_page(page)
            found += page["data"]
        return found

    def events_so_far(self, run_id: str) -> list[Any]:
        """Return what the feed of a run has now."""
        found: list[Any] = self.api("GET", f"runs/{run_id}/events?limit=1000").body["data"]
        return found

    def fault(self, **fault: Any) -> None:
        """Inject a fault into the provider. `contains` selects the runs by their input."""
        assert self._control("POST", "faults", fault).status == 200

    @contextmanager
    def honouring_keys(self) -> Iterator[None]:
        """Let the provider honour the Idempotency-Key of creates, as some compatible services do."""
        assert self._control("POST", "idempotency/on").status == 200
        try:
            yield
        finally:
            assert self._control("POST", "idempotency/off").status == 200

    def provider_log(self) -> Any:
        return self._control("GET", "log").body

    def provider_sees(self, response_id: str) -> Any:
        """Return a response as the provider stores it: its request and its conversation."""
        return self._control("GET", f"responses/{response_id}").body

    def chats(self, mark: str) -> list[Any]:
        """Return the requests for chat completions that contain a text, as the provider got them."""
        found = self._control("GET", "chats").body["chats"]
        return [request for request in found if mark in json.dumps(request, ensure_ascii=False)]

    def _status_at_provider(self, response_id: str) -> str:
        reply = call(
            "GET", f"{self.provider}/responses/{response_id}", headers={"authorization": "Bearer local"}
        )
        return str(reply.body["status"])

    def _control(self, method: str, path: str, body: object = None) -> Answer:
        return call(method, f"{self.provider.removesuffix('/v1')}/_emulator/{path}", body)
