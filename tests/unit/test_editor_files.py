"""The files for VS Code and for dev containers can be read, and name commands that exist."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dev.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
FILES = [ROOT / ".devcontainer/devcontainer.json", *sorted((ROOT / ".vscode").glob("*.json"))]


def read(path: Path) -> Any:
    """Return the JSON of a file in which VS Code allows lines of comments."""
    return json.loads(re.sub(r"^\s*//.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


def targets() -> set[str]:
    """Return the targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(VENV)", ".venv")
    return set(re.findall(r"^([\w./-]+):(?!=)", makefile, re.MULTILINE))


def check_make(command: str) -> None:
    program, *names = shlex.split(command)
    assert program == "make"
    assert names
    assert set(names) <= targets()


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


def test_tasks_are_targets_of_the_makefile():
    for task in read(ROOT / ".vscode/tasks.json")["tasks"]:
        check_make(task["command"])


def test_f5_starts_what_make_up_starts():
    [up] = read(ROOT / ".vscode/launch.json")["configurations"]
    assert (up["module"], up["args"]) == ("dev", ["up"])
    assert up["args"][0] in COMMANDS
    assert "$(BIN)/python -m dev up" in (ROOT / "Makefile").read_text(encoding="utf-8")
    tasks = [task["label"] for task in read(ROOT / ".vscode/tasks.json")["tasks"]]
    assert up["preLaunchTask"] in tasks


def test_the_container_sets_up_what_the_makefile_needs():
    container = read(ROOT / ".devcontainer/devcontainer.json")
    check_make(container["postCreateCommand"])
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
