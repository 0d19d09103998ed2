import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from dev.processes import ChildFailed, ChildProcess
from tests.dev.local_host import LONG, ROOT, children_of, gone


def python(source: str) -> list[str]:
    return [sys.executable, "-u", "-c", source]


def test_output_is_waited_for_and_echoed() -> None:
    echoed: list[str] = []
    with ChildProcess("child", python("print('one'); print('two 2')"), echo=echoed.append) as child:
        assert child.wait_for(r"two (\d)", timeout=LONG)[1] == "2"
        assert child.wait(timeout=LONG) == 0
    assert echoed == ["one", "two 2"]


def test_a_child_that_ends_too_early_is_reported_with_its_output() -> None:
    with (
        ChildProcess("child", python("import sys; sys.exit('the reason')")) as child,
        pytest.raises(ChildFailed, match=r"child ended with status 1\n  the reason"),
    ):
        child.wait_for("ready", timeout=LONG)


def test_a_child_that_stays_silent_is_reported() -> None:
    with (
        ChildProcess("child", python("import time; time.sleep(60)")) as child,
        pytest.raises(ChildFailed, match="child did not write 'ready'"),
    ):
        child.wait_for("ready", timeout=timedelta(milliseconds=50))


def test_a_command_that_does_not_exist_is_reported() -> None:
    with (
        ChildProcess("child", ["/no/such/command"]) as child,
        pytest.raises(ChildFailed, match="No such file"),
    ):
        child.wait_for("ready", timeout=LONG)


def test_stop_sends_sigterm_first() -> None:
    source = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print('up'); time.sleep(60)"
    with ChildProcess("child", python(source)) as child:
        child.wait_for("up", timeout=LONG)
        assert child.stop() == 7
        assert not child.running


def test_stop_kills_a_child_that_ignores_sigterm() -> None:
    source = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"
    with ChildProcess("child", python(source)) as child:
        child.wait_for("up", timeout=LONG)
        assert child.stop(grace=timedelta(milliseconds=50)) == -signal.SIGKILL


def test_a_child_dies_with_its_parent() -> None:
    parent = """
import sys, time
from dev.processes import ChildProcess
print(ChildProcess("child", [sys.executable, "-c", "import time; time.sleep(60)"]).pid)
time.sleep(60)
"""
    with ChildProcess("parent", python(parent), cwd=ROOT) as child:
        grandchild = int(child.wait_for(r"^(\d+)$", timeout=LONG)[1])
        child.kill()
        assert gone(grandchild)


def test_a_child_can_be_interrupted_although_its_parent_ignores_interrupts() -> None:
    parent = """
import os, signal, sys, time
from dev.processes import ChildProcess
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = ChildProcess("child", [sys.executable, "-u", "-c", "import time; print('up'); time.sleep(60)"])
child.wait_for("up")
os.kill(child.pid, signal.SIGINT)
print("the child ended with", child.wait())
"""
    with ChildProcess("parent", python(parent), cwd=ROOT) as child:
        assert child.wait_for(r"^the child ended with (\S+)$")[1] == str(-signal.SIGINT)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_azurite_runs_as_a_command_and_leaves_nothing_behind(ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "dev", "azurite", "--port", "0"]
    with ChildProcess("azurite", command, cwd=ROOT) as child:
        connection_string = child.wait_for("^ready (.*)$", timeout=LONG)[1]
        parts = dict(part.split("=", 1) for part in connection_string.strip(";").split(";"))
        ports = [urlsplit(parts[f"{service}Endpoint"]).port for service in ("Blob", "Queue", "Table")]
        for port in ports:
            socket.create_connection(("127.0.0.1", port or 0), timeout=LONG.total_seconds()).close()
        (node,) = children_of(child.pid)
        os.kill(child.pid, ending)
        assert child.wait(timeout=LONG) == (-ending if ending is signal.SIGKILL else 0)
        assert gone(node)


def test_azurite_reports_that_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "dev", "azurite", "--port", str(taken.getsockname()[1])]
        with ChildProcess("azurite", command, cwd=ROOT) as child:
            child.wait_for("EADDRINUSE", timeout=LONG)
            assert child.wait(timeout=LONG) == 1


def test_an_unknown_command_lists_the_known_ones() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "dev", "x"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    assert ended.returncode == 2
    assert "azurite" in ended.stderr
