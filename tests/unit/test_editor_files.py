"""The files for VS Code and for dev containers can be read, and name commands that exist."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dev.__main__ import COMMANDS
from dev.host.program import DEFAULT_PORT
from shared.settings import load

ROOT = Path(__file__).parents[2]
# Of the agents that ship.
MODELS = ("NOVELIST_MODEL", "ANALYST_MODEL", "CLERK_MODEL")
FILES = [ROOT / ".devcontainer/devcontainer.json", *sorted((ROOT / ".vscode").glob("*.json"))]


def read(path: Path) -> Any:
    """Return the JSON of a file in which VS Code allows lines of comments."""
    return json.loads(re.sub(r"^\s*//.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


def targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([\w./-]+):(?!=)", makefile(), re.MULTILINE))


def makefile() -> str:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return text.replace("$(BIN)", "$(VENV)/bin").replace("$(VENV)", ".venv")


def check_command(command: str) -> None:
    """Check that a command runs targets of the Makefile, or a command of dev."""
    match shlex.split(command):
        case ["make", *names]:
            assert names
            assert set(names) <= targets()
        case [".venv/bin/python", "-m", "dev", name, *_]:
            assert name in COMMANDS
        case _:
            pytest.fail(command)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_json(path: Path):
    assert read(path)


def test_all_four_files_of_vs_code_are_there():
    assert {path.name for path in FILES[1:]} == {
        "extensions.json",
        "launch.json",
        "settings.json",
        "tasks.json",
    }


def test_the_commands_of_tasks_exist():
    tasks = {task["label"]: task for task in read(ROOT / ".vscode/tasks.json")["tasks"]}
    for task in tasks.values():
        assert set(task.get("dependsOn", ())) <= tasks.keys()
        if "command" in task:
            check_command(task["command"])
    launched = read(ROOT / ".vscode/launch.json")["configurations"]
    assert {each["preLaunchTask"] for each in launched} <= tasks.keys()


def test_f5_starts_what_make_up_starts():
    up, _ = read(ROOT / ".vscode/launch.json")["configurations"]
    assert f".venv/bin/python -m {up['module']} {' '.join(up['args'])}" in makefile()


def test_the_host_that_is_debugged_has_its_settings():
    _, debugged = read(ROOT / ".vscode/launch.json")["configurations"]
    check_command(f".venv/bin/python -m {debugged['module']} {' '.join(debugged['args'])}")
    assert debugged["args"][-1] == str(DEFAULT_PORT)
    settings = load(debugged["env"], MODELS)
    assert settings.models.keys() == set(MODELS)
    [provider] = [task for task in read(ROOT / ".vscode/tasks.json")["tasks"] if task["label"] == "provider"]
    port = provider["command"].rpartition(" ")[2]
    assert settings.provider.openai_base_url == f"http://127.0.0.1:{port}/v1"


def test_the_container_sets_up_what_the_makefile_needs():
    container = read(ROOT / ".devcontainer/devcontainer.json")
    check_command(container["postCreateCommand"])
    dockerfile = (ROOT / ".devcontainer" / container["build"]["dockerfile"]).read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\w+):([\d.]+)", dockerfile, re.MULTILINE) == [
        ("node", "20"),
        ("python", "3.11"),
    ]
    assert f"useradd --create-home --shell /bin/bash {container['remoteUser']}" in dockerfile


def test_the_container_has_the_extensions_that_are_recommended():
    inside = read(ROOT / ".devcontainer/devcontainer.json")["customizations"]["vscode"]["extensions"]
    recommended = set(read(ROOT / ".vscode/extensions.json")["recommendations"])
    assert set(inside) == recommended - {"ms-vscode-remote.remote-containers"}


def test_deployments_leave_them_out():
    left_out = (ROOT / ".funcignore").read_text(encoding="utf-8").split()
    assert {".devcontainer", ".vscode"} <= set(left_out)
