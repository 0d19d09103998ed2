"""Everything that is installed is pinned with its hash, and compiled from the lists in pyproject.toml."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from dev import requirements

ROOT = requirements.ROOT
PIN = re.compile(
    r"([a-z0-9-]+)==([\w.]+)(?: ; [^\\\n]+)?"  # a package, its version and its marker
    r"(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    r"    # via .+\n"
)
COMMANDS = ((ROOT / "Makefile").read_text() + (ROOT / ".ci/run").read_text()).replace("\\\n", "").splitlines()
PACKAGES = json.loads((ROOT / "package-lock.json").read_text())["packages"]
# LiteLLM has an environment of its own.
SHARED = [path for path in requirements.compiled() if path.name != "requirements-litellm.txt"]
each_file = pytest.mark.parametrize("path", requirements.compiled(), ids=lambda path: path.name)


def versions(path: Path) -> dict[str, set[str]]:
    """Return the versions of each package: more than one if they have different markers."""
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall(path.read_text()):
        found.setdefault(name, set()).add(version)
    return found


def test_the_compiled_files_are_those_of_the_lists_and_unchanged():
    assert requirements.CHECKSUMS.read_text() == requirements.checksums(), "run `make lock`"


def test_each_list_has_a_compiled_file():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    names = {"requirements.txt"} | {f"requirements-{group}.txt" for group in groups}
    assert {path.name for path in requirements.compiled()} == names


@each_file
def test_a_compiled_file_holds_pins_with_hashes_and_nothing_else(path: Path):
    assert versions(path)
    assert re.sub(r"\A(#.*\n)+", "", PIN.sub("", path.read_text())) == ""


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.name)
def test_what_is_added_to_the_environment_of_a_contributor_changes_no_version_in_it(path: Path):
    contributors = versions(ROOT / "requirements-dev.txt")
    for name, added in versions(path).items():
        assert added <= contributors.get(name, added), name


def test_pip_installs_only_what_has_a_known_hash_and_builds_nothing():
    commands = [line for line in COMMANDS if re.search(r"\bpip3? (install|download|wheel|sync)\b", line)]
    assert commands
    for command in commands:
        assert "--require-hashes --only-binary :all:" in command, command


def test_npm_runs_no_scripts_of_packages():
    commands = [line for line in COMMANDS if re.search(r"\b(npm|npx)\b", line) and not line.startswith("#")]
    assert commands
    for command in commands:
        assert "--ignore-scripts" in command, command


def test_the_lock_file_of_npm_has_hashes_and_names_no_host():
    for name, package in PACKAGES.items():
        assert "resolved" not in package, name
        assert name == "" or package["integrity"].startswith("sha512-"), name
