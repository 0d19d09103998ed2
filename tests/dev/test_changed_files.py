"""When changes of an app's files count. Each poll is a look at the files; nothing waits."""

import os
from pathlib import Path

import pytest

from dev.changed_files import ChangedFiles


@pytest.fixture
def app(tmp_path: Path) -> Path:
    for name in ("agents/data", "shared/web", "other"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("agents/one.py", "agents/data/facts.json", "shared/web/page.html", "function_app.py"):
        (tmp_path / name).touch()
    return tmp_path


def settled(changes: ChangedFiles) -> list[str]:
    """Return what two polls report. The first one only sees that something changes."""
    assert changes.poll() == []
    return changes.poll()


@pytest.mark.parametrize(
    "name",
    [
        "agents/one.py",
        "agents/new.py",
        "agents/data/facts.json",
        "agents/new/new.md",
        "shared/web/page.html",
        "function_app.py",
        "host.json",
        "local.settings.json",
    ],
)
def test_a_change_is_reported_once(app: Path, name: str) -> None:
    changes = ChangedFiles(app)
    (app / name).parent.mkdir(exist_ok=True)
    (app / name).write_text("new")
    assert settled(changes) == [name]
    assert [*changes.poll(), *changes.poll()] == []


def test_a_removal_is_a_change(app: Path) -> None:
    changes = ChangedFiles(app)
    (app / "agents/one.py").unlink()
    assert settled(changes) == ["agents/one.py"]


def test_a_file_that_another_takes_the_place_of_is_a_change(app: Path) -> None:
    """As editors save: the size and the time may be the same."""
    changes = ChangedFiles(app)
    new = app / "agents/.new"
    new.touch()
    before = (app / "agents/one.py").stat()
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(app / "agents/one.py")
    assert settled(changes) == ["agents/one.py"]


def test_quick_saves_are_one_change(app: Path) -> None:
    changes = ChangedFiles(app)
    for length in range(1, 6):
        (app / "agents/one.py").write_text("x" * length)
        assert changes.poll() == []
    (app / "shared/web/page.html").write_text("x")
    assert settled(changes) == ["agents/one.py", "shared/web/page.html"]


def test_what_is_undone_at_once_is_no_change(app: Path) -> None:
    changes = ChangedFiles(app)
    (app / "agents/4913").touch()
    assert changes.poll() == []
    (app / "agents/4913").unlink()
    assert [*changes.poll(), *changes.poll(), *changes.poll()] == []


@pytest.mark.parametrize(
    "name",
    [
        "agents/__pycache__/one.cpython-311.pyc",
        "agents/.one.py.swp",
        "agents/one.py~",
        "agents/.git/x.py",
        "other/x.py",
        "README.md",
    ],
)
def test_what_editors_and_python_write_beside_the_files_does_not_count(app: Path, name: str) -> None:
    changes = ChangedFiles(app)
    (app / name).parent.mkdir(exist_ok=True)
    (app / name).write_text("new")
    assert [*changes.poll(), *changes.poll(), *changes.poll()] == []


def test_folders_behind_links_count(tmp_path: Path, app: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "shared").symlink_to(app / "shared")
    changes = ChangedFiles(linked)
    (app / "shared/web/page.html").write_text("new")
    assert settled(changes) == ["shared/web/page.html"]
