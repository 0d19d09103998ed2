"""What is said on a machine that lacks something, before anything is installed. Pythons and Nodes are scripts here."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.dev.local_host import LONG, ROOT

# Beside these, the PATH of a test has only what the test puts there.
TOOLS = ("sh", "make", "sed", "grep", "rm", "cp", "mkdir", "touch", "cat")
# Prints a version, makes a virtual environment with itself in it, and notes all other calls.
PYTHON = """\
#!/bin/sh
case "$*" in
*version_info*) echo {version} ;;
*ensurepip*) exit {venv} ;;
"-m venv "*)
    echo "{version} $*" >>{calls}
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/pip"
    echo "version = {version}.1" >"$3/pyvenv.cfg" ;;
*) echo "{version} $*" >>{calls} ;;
esac
"""
NODE = "#!/bin/sh\necho v{version}\n"
NPM = '#!/bin/sh\n[ "$1" = --version ] && exit\necho "npm $*" >>{calls}\nmkdir -p node_modules\n'


@dataclass(frozen=True)
class Machine:
    """A copy of what the Makefile needs, and a PATH of its own."""

    project: Path
    path: Path

    @property
    def calls(self) -> list[str]:
        return (self.project / "calls").read_text().splitlines()

    def python(self, name: str, version: str, *, venv: int = 0) -> None:
        text = PYTHON.format(version=version, venv=venv, calls=self.project / "calls")
        self.program(self.path / name, text)

    def node(self, version: str) -> None:
        self.program(self.path / "node", NODE.format(version=version))

    def npm(self) -> None:
        self.program(self.path / "npm", NPM.format(calls=self.project / "calls"))

    def program(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def make(self, *arguments: str) -> tuple[int, list[str]]:
        """Return the exit status and the lines that people see, without those of make itself."""
        environ = {"PATH": str(self.path)}
        done = subprocess.run(
            [self.path / "make", "--no-print-directory", *arguments],
            cwd=self.project,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONG.total_seconds(),
        )
        return done.returncode, [line for line in done.stderr.splitlines() if not line.startswith("make")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that has everything."""
    made = Machine(tmp_path / "project", tmp_path / "bin")
    (made.project / "dev").mkdir(parents=True)
    made.path.mkdir()
    for tool in TOOLS:
        (made.path / tool).symlink_to(shutil.which(tool) or "")
    shutil.copy(ROOT / "dev/machine.sh", made.project / "dev")
    for name in (
        "Makefile",
        "requirements-dev.txt",
        "requirements-worker.txt",
        "package.json",
        "package-lock.json",
    ):
        shutil.copy(ROOT / name, made.project)
    (made.project / "calls").touch()
    made.python("python3.11", "3.11")
    made.node("20.0.0")
    made.npm()
    return made


def refused(machine: Machine, *arguments: str) -> str:
    """Return the one sentence with which make ends, having installed nothing."""
    before = set(machine.project.rglob("*"))
    status, lines = machine.make(*(arguments or ["up"]))
    assert status == 2
    (sentence,) = lines
    assert sentence.endswith(".")
    assert machine.calls == []
    assert set(machine.project.rglob("*")) == before
    return sentence


def test_everything_is_set_up_and_the_command_runs(machine: Machine) -> None:
    assert machine.make("up", "ARGS=--log") == (0, [])
    assert machine.calls[0] == "3.11 -m venv .venv"
    assert machine.calls[-2].startswith("npm ci")
    assert machine.calls[-1] == "3.11 -m dev up --log"
    assert machine.make("watch", "RUN=run_1") == (0, [])
    assert machine.calls[-1] == "3.11 -m dev watch run_1"


@pytest.mark.parametrize("name", ["python3.12", "python3.13", "python3"])
def test_any_python_that_is_new_enough_is_used(machine: Machine, name: str) -> None:
    """A shim of a version that is not installed exists, and fails."""
    machine.program(machine.path / "python3.11", "#!/bin/sh\nexit 127\n")
    machine.python("python3", "3.10")
    machine.python(name, "3.12")
    assert machine.make("up") == (0, [])
    assert machine.calls[0] == "3.12 -m venv .venv"


@pytest.mark.parametrize("version", ["3.10", "3.9", "3.6", "2.7"])
def test_a_python_that_is_too_old_is_named(machine: Machine, version: str) -> None:
    (machine.path / "python3.11").unlink()
    machine.python("python3", version)
    assert f"needs Python 3.11 or later, and python3 here is {version}: install" in refused(machine)
    assert f"needs Python 3.11 or later, and PYTHON=python3 is {version}: name" in refused(
        machine, "check", "PYTHON=python3"
    )


def test_a_missing_python_is_named(machine: Machine) -> None:
    (machine.path / "python3.11").unlink()
    assert "python3 here is missing: install a later one" in refused(machine)
    assert "PYTHON=python4 is missing" in refused(machine, "up", "PYTHON=python4")


def test_a_python_without_venv_is_named(machine: Machine) -> None:
    machine.python("python3.11", "3.11", venv=1)
    assert "python3.11 cannot make virtual environments: install its venv module" in refused(machine)


@pytest.mark.parametrize("version", ["18.20.4", "8.0.0"])
def test_a_node_that_is_too_old_is_named(machine: Machine, version: str) -> None:
    machine.node(version)
    assert f"needs Node 20 or later for its local storage, and node here is {version}: install" in refused(
        machine
    )


def test_a_missing_node_or_npm_is_named(machine: Machine) -> None:
    (machine.path / "npm").unlink()
    assert "npm is missing: it comes with Node" in refused(machine)
    (machine.path / "node").unlink()
    assert "node is missing: install" in refused(machine)


def test_node_is_needed_only_for_the_stack(machine: Machine) -> None:
    (machine.path / "node").unlink()
    assert machine.make("watch", "RUN=run_1") == (0, [])


@pytest.mark.parametrize(
    ("python", "config", "sentence"),
    [
        ("3.10", "3.10", ".venv was made by Python 3.10, and Baton needs 3.11 or later"),
        ("3.12", "3.11", ".venv was made by Python 3.11, and its python is now 3.12"),
        (None, "3.11", ".venv was made by a Python 3.11 that is no longer here"),
    ],
)
def test_an_environment_of_another_python_is_named(
    machine: Machine, python: str | None, config: str, sentence: str
) -> None:
    (machine.project / ".venv/bin").mkdir(parents=True)
    (machine.project / ".venv/pyvenv.cfg").write_text(f"home = /x\nversion = {config}.4\n")
    (machine.project / ".venv/ready").touch()
    if python:
        machine.python(str(machine.project / ".venv/bin/python"), python)
    assert f"{sentence}: run `rm -r .venv` and then make again" in refused(machine)
    assert sentence in refused(machine, "watch", "RUN=run_1")


def test_a_python_that_is_named_must_be_that_of_the_environment(machine: Machine) -> None:
    machine.make("up")
    (machine.project / "calls").write_text("")
    machine.python("python3.13", "3.13")
    said = refused(machine, "up", "PYTHON=python3.13")
    assert ".venv was made by Python 3.11, and PYTHON=python3.13 is 3.13" in said
    assert machine.make("up", "PYTHON=python3.13", "VENV=.venv-3.13") == (0, [])


def test_a_watch_without_a_run_says_how_to_name_one(machine: Machine) -> None:
    status, lines = machine.make("watch")
    assert status == 2
    assert "make watch RUN=run_..." in lines[0]


@pytest.fixture
def only_pytest(tmp_path: Path) -> Path:
    """A folder with pytest and what it needs itself."""
    installed = Path(pytest.__file__).parents[1]
    for name in ("pytest", "_pytest", "py.py", "pluggy", "iniconfig", "packaging", "pygments"):
        (tmp_path / name).symlink_to(installed / name)
    return tmp_path


@pytest.mark.parametrize("arguments", [[], ["tests/unit"], ["tests/dev/test_watch.py", "-x"]])
def test_pytest_outside_the_environment_says_what_to_do(only_pytest: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "pytest", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(only_pytest)},
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG.total_seconds(),
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert "run `make unit`, which sets it up, or .venv/bin/pytest." in sentence
