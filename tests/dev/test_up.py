"""`make up` over the real stack: files change, the app breaks and is mended, hosts and the stack itself are killed."""

import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from urllib.parse import urlsplit

import pytest

from dev import stack, up, up_address, watch
from dev.client import Client
from dev.host import program
from dev.processes import ChildFailed, ChildProcess
from tests.dev.local_host import LONG, ROOT, Host, Reply, children_of, gone

SECRET = "sk-do-not-show"
BROKEN = "\n\ndef broken(:\n"
AGENT = """\
from shared.agent import Agent

{name} = Agent(name="{name}", model="%NOVELIST_MODEL%", instructions="Write.")
"""
NAMES = re.compile(r"OPENAI|_MODEL$|^FUNCTIONS_|^PROVIDER_|^BATON_")


class Terminal:
    """What a person sees: lines, read one after another."""

    def __init__(self, app: Path, *options: str, **environ: str) -> None:
        self.app = app
        self.shown: list[str] = []
        self._lines: Queue[str] = Queue()
        kept = {name: value for name, value in os.environ.items() if not NAMES.search(name)}
        command = [sys.executable, "-m", "dev", "up", "--app", str(app), *options]
        self.child = ChildProcess("up", command, cwd=ROOT, env=kept | environ, echo=self._lines.put)

    def until(self, pattern: str) -> re.Match[str]:
        """Read on to a line that matches."""
        while True:
            line = self._lines.get(timeout=LONG.total_seconds())
            self.shown.append(line)
            if found := re.search(pattern, line):
                return found

    def link(self) -> tuple[str, str]:
        """Return the address of the host and the key, as the link to the page has them."""
        found = self.until(r"^  (http://\S+)/api/dashboard#key=(\S+)$")
        return found[1], found[2]

    def write(self, name: str, text: str) -> None:
        (self.app / name).write_text(text)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    app.mkdir()
    for name in ("function_app.py", "host.json", "local.settings.sample.json"):
        shutil.copy(ROOT / name, app)
    for name in ("agents", "shared"):
        shutil.copytree(ROOT / name, app / name, ignore=shutil.ignore_patterns("__pycache__"))
    return app


@contextmanager
def running(app: Path, *options: str, **environ: str) -> Iterator[Terminal]:
    terminal = Terminal(app, *options, **environ)
    with terminal.child:
        yield terminal


def get(base: str, path: str, key: str = "") -> Reply:
    host = Host(None, urlsplit(base).netloc)  # type: ignore[arg-type]
    return host.call("GET", path, headers={"x-functions-key": key} if key else {})


def agents(base: str, key: str) -> set[str]:
    return {agent["name"] for agent in get(base, "/api/agents", key).json["data"]}


def test_what_is_broken_is_explained_and_what_is_mended_is_served(app: Path) -> None:
    (app / "agents/faulty.py").write_text(BROKEN)
    with running(app, "--port", "0") as terminal:
        terminal.until("^The host cannot start:$")
        terminal.until(r"^    - agents/faulty\.py, line [0-9]+: SyntaxError: invalid syntax$")
        terminal.write("agents/faulty.py", AGENT.format(name="mended"))
        terminal.until(r"^changed +agents/faulty\.py$")
        base, key = terminal.link()
        assert get(base, "/api/dashboard").status == 200
        assert "mended" in agents(base, key)

        terminal.write("shared/extra.py", "import function_app\n" + BROKEN)
        with (app / "shared/app.py").open("a") as module:
            module.write("\nimport shared.extra\n")
        terminal.until(r"^changed +shared/app\.py, shared/extra\.py$")
        terminal.until("^The host cannot start:$")
        terminal.until(r"^  shared/extra\.py, line 4: SyntaxError: invalid syntax$")
        assert not any("Traceback" in line for line in terminal.shown)
        terminal.write("shared/extra.py", "")
        assert terminal.until(r"(http\S+)/api, ready again")[1] == base
        assert "mended" in agents(base, key)


def test_several_quick_saves_are_one_restart(app: Path) -> None:
    with running(app, "--port", "0") as terminal:
        base, key = terminal.link()
        for name in ("one", "three", "fifteen"):
            terminal.write("agents/quick.py", AGENT.format(name=name))
        terminal.until(r"^changed +agents/quick\.py$")
        terminal.until("ready again")
        assert agents(base, key) >= {"fifteen", "space_novelist"}
        terminal.write("agents/last.py", AGENT.format(name="last"))
        terminal.until(r"^changed +agents/last\.py$")
        assert sum(line.startswith("changed") for line in terminal.shown) == 2
        assert sum(line.startswith("models") for line in terminal.shown) == 1
        terminal.until("ready again")
        assert agents(base, key) >= {"fifteen", "last"}


def test_a_killed_host_is_reported_and_nothing_outlives_the_stack(app: Path) -> None:
    with running(app, "--port", "0") as terminal:
        base, key = terminal.link()
        (host,) = (pid for pid in children_of(terminal.child.pid) if b"host" in command_of(pid))
        os.kill(host, signal.SIGKILL)
        terminal.until(r"^ended +the host ended by itself: Signal 9 ended it\.$")
        terminal.write("agents/more.py", AGENT.format(name="more"))
        terminal.until(r"^changed +agents/more\.py$")
        terminal.until("ready again")
        assert "more" in agents(base, key)
        assert up_address.remembered(app) == base
        children = children_of(terminal.child.pid)
        assert len(children) == 3  # storage, emulator, host
        terminal.child.kill()
        assert all(map(gone, children))
    assert up_address.remembered(app) is None


def command_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def test_warnings_of_the_app_are_shown(app: Path) -> None:
    hosted = AGENT.replace("instructions", 'tools=[{{"type": "local_shell"}}], instructions')
    (app / "agents/hosted.py").write_text(hosted.format(name="hosted"))
    with running(app, "--port", "0") as terminal:
        terminal.until(r"WARNING baton: agent\.tool_unanswered .*local_shell")
        terminal.link()
        assert not any(" INFO " in line for line in terminal.shown)


def test_a_run_that_fails_is_one_line(app: Path) -> None:
    typed = AGENT.replace("instructions", "output_type=Answer, instructions").format(name="typed")
    (app / "agents/typed.py").write_text(
        f"from pydantic import BaseModel\n\n\nclass Answer(BaseModel):\n    line: int\n\n\n{typed}"
    )
    with running(app, "--port", "0") as terminal:
        base, key = terminal.link()
        host = Host(None, urlsplit(base).netloc)  # type: ignore[arg-type]
        asked = json.dumps({"agent": "typed", "input": "do not show"})
        run = host.call("POST", "/api/runs", asked, {"x-functions-key": key}).json
        line = terminal.until(r"WARNING baton: run\.failed (.*)")
        assert json.loads(line[1]) == {"run_id": run["id"], "code": "output_invalid"}
        assert not any("do not show" in line for line in terminal.shown)


def test_a_provider_of_ones_own_gets_the_models_of_the_settings(app: Path) -> None:
    """An emulator that the stack did not start stands for the provider."""
    provider, address = stack.start_provider("--pace", "0")
    values = {
        "WORK_QUEUE": "work",
        "POLL_SCHEDULE": "* * * * * *",
        "OPENAI_API_KEY": SECRET,
        "OPENAI_BASE_URL": address,
    }
    values |= {"NOVELIST_MODEL": "my-model", "ANALYST_MODEL": "theirs"}
    (app / "local.settings.json").write_text(json.dumps({"Values": values}))
    with provider, running(app, "--port", "0", ANALYST_MODEL="other-model") as terminal:
        base, key = terminal.link()
        assert len(children_of(terminal.child.pid)) == 2  # storage, host
        client = Client(base, key)
        for agent, model in (("space_novelist", "my-model"), ("market_analyst", "other-model")):
            client.start(agent, "Go.")
            requests = get(address, "/_emulator/log").json["requests"]
            *_, made = (each["response_id"] for each in requests if each["operation"] == "create")
            assert get(address, f"/_emulator/responses/{made}").json["request"]["model"] == model
        os.kill(terminal.child.pid, signal.SIGINT)
        assert terminal.child.wait(timeout=LONG) == 0
        assert SECRET not in terminal.child.output
        assert address in terminal.child.output
        assert not (app / ".dev/up").exists()


def test_settings_that_cannot_be_read_are_explained_until_they_can(app: Path) -> None:
    (app / "local.settings.json").write_text("{")
    with running(app, "--port", "0") as terminal:
        terminal.until(r"local\.settings\.json is not JSON")
        shutil.copy(app / "local.settings.sample.json", app / "local.settings.json")
        terminal.until(r"an emulator: OPENAI_API_KEY in local\.settings\.json is still that of")
        terminal.link()


def test_the_usual_port_is_used_if_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert up.DEFAULT_PORT == program.DEFAULT_PORT == urlsplit(watch.DEFAULT_URL).port == 7071
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(up, "DEFAULT_PORT", port)
        assert up._port(None) == 0
        with pytest.raises(ChildFailed, match=f"Port {port} cannot be used: Address already in use"):
            up._port(port)
    assert up._port(None) == up._port(port) == port
    assert up._port(0) == 0
    with pytest.raises(SystemExit):
        up.main(["--port", "70000"])


def test_a_watch_finds_the_stack_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "ROOT", tmp_path)
    monkeypatch.delenv("BATON_URL", raising=False)
    assert watch._parse(["run_1"]).url == watch.DEFAULT_URL
    up_address.remember(tmp_path, "http://127.0.0.1:9")
    assert watch._parse(["run_1"]).url == "http://127.0.0.1:9"
    monkeypatch.setenv("BATON_URL", "http://given")
    assert watch._parse(["run_1"]).url == "http://given"
    monkeypatch.delenv("BATON_URL")
    (tmp_path / ".dev/up").write_text(f"{os.getppid()} http://another")
    up_address.forget(tmp_path)
    assert watch._parse(["run_1"]).url == "http://another"
    (tmp_path / ".dev/up").write_text(f"{2**22 + 1} http://killed")  # more than Linux gives to a process
    assert watch._parse(["run_1"]).url == watch.DEFAULT_URL
