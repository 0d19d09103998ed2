"""The shape of the tree, and the agreement of docs and code."""

import ast
import json
import re
from pathlib import Path

import pytest

from dev import run_states
from shared.adapters.agents.discover import discover, placeholders

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# Of the agents that ship.
MODELS = {"NOVELIST_MODEL", "ANALYST_MODEL", "CLERK_MODEL"}
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
DOCS += [*(ROOT / "docs").rglob("*.md"), ROOT / "tests/README.md"]
TESTS = ROOT / "tests"
# Folders of tests/ that hold no tests of their own.
WITHOUT_TESTS = {"data", "proofs", "support"}


def settings_read() -> set[str]:
    """Return the name of every setting that the modules of settings look at."""
    found = set()
    sources = [(ROOT / "shared" / name).read_text() for name in ("settings.py", "access_settings.py")]
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="text" | "number" | "whole" | "choice" | "get"),
                args=[ast.Constant(str() as name), *_],
            ):
                found.add(name)
    return found


def models_named() -> set[str]:
    """Return the settings that the agents name, with those of agents that were added to the ones that ship."""
    return set(placeholders(discover()))


def test_the_readme_has_every_setting_and_no_other():
    rows = re.findall(
        r"^\| (`[A-Za-z_`, .]+) \|", README.split("## Settings")[1].split("## ")[0], re.MULTILINE
    )
    listed = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert listed >= MODELS
    assert listed - models_named() == settings_read()


def test_the_sample_settings_are_settings_and_enough():
    sample = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]
    assert set(sample) - settings_read() - models_named() == {"FUNCTIONS_WORKER_RUNTIME"}
    from shared.settings import load  # noqa: PLC0415  (what is tested)

    load(sample, sorted(MODELS))


def test_only_settings_and_the_composition_root_know_the_environment():
    users = [path for path in (ROOT / "shared").rglob("*.py") if "os.environ" in path.read_text()]
    assert [path.name for path in users] == ["app.py"]


def test_triggers_are_a_few_lines_each():
    for node in ast.parse((ROOT / "function_app.py").read_text()).body:
        if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_"):
            assert len(node.body) <= 3, node.name


def test_the_run_states_are_drawn_from_the_rules():
    assert run_states.PAGE.read_text() == run_states.page(), "run `make docs`"


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_guarantees_name_tests_that_exist():
    for name in re.findall(r"`([\w/]+\.py)(?:::[\w*]+)?`", (ROOT / "docs/guarantees.md").read_text()):
        assert list(TESTS.glob(f"**/{name}")), name
    tests = (TESTS / "unit/test_promises.py").read_text()
    assert all(f"test_{number}_" in tests for number in range(1, 11))


def test_every_folder_of_tests_is_in_the_table_of_their_readme():
    rows = re.findall(
        r"^\| `([\w/]+)/` \| .+\? .*\| `make (\w+)(?: TESTS=(\S+))?` \| [\d.]+ \|$",
        table_of_tests(),
        re.MULTILINE,
    )
    folders = {path.name for path in TESTS.iterdir() if path.is_dir()} - WITHOUT_TESTS - {"__pycache__"}
    proofs = {f"proofs/{path.name}" for path in (TESTS / "proofs").iterdir() if path.is_dir()}
    assert {folder for folder, _, _ in rows} == folders | (proofs - {"proofs/__pycache__"})
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for folder, target, path in rows:
        assert target in targets, target
        assert (target == "unit") is bool(path)
        assert path in {"", f"tests/{folder}"}
    assert len(rows) == table_of_tests().count("\n") - 2


def table_of_tests() -> str:
    return re.search(r"(?:^\|.*\n)+", (TESTS / "README.md").read_text(), re.MULTILINE)[0]


def test_the_readme_of_the_tests_names_files_that_exist():
    for name in re.findall(r"`([\w/]+\.(?:py|json|md))`", (TESTS / "README.md").read_text()):
        assert (ROOT / name).exists() or [*TESTS.glob(f"**/{name}"), *(ROOT / "shared").glob(f"**/{name}")], (
            name
        )


def test_readme_is_short():
    assert README.count("\n") < 200


def test_sources_cited_in_the_code_exist():
    for path in (ROOT / "shared").rglob("*.py"):
        for cited in re.findall(r"docs/[\w/-]+\.md", path.read_text()):
            assert (ROOT / cited).exists(), f"{path.name}: {cited}"
