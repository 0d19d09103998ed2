"""Where all that tests need is installed, a test that is skipped fails."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPPED = {
    "by itself": "def test(): pytest.skip('not installed')",
    "by a fixture": "@pytest.fixture\ndef f(): pytest.skip('not installed')\ndef test(f): pass",
    "by a mark": "@pytest.mark.skip(reason='not installed')\ndef test(): pass",
    "as a module": "pytest.skip('not installed', allow_module_level=True)",
}


def run(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    file = folder / "test_it.py"
    file.write_text(f"import pytest\n{source}\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(folder / "none.ini")]
    (folder / "none.ini").write_text("[pytest]\n")
    return subprocess.run(
        [*command, *options, str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("source", SKIPPED.values(), ids=SKIPPED)
def test_a_skip_is_a_failure_that_says_why(tmp_path, source):
    assert run(tmp_path, source).returncode in {0, pytest.ExitCode.NO_TESTS_COLLECTED}
    done = run(tmp_path, source, "-p", "tests.support.no_skips")
    assert done.returncode not in {0, pytest.ExitCode.NO_TESTS_COLLECTED}
    assert "not installed" in done.stdout


def test_what_is_not_skipped_is_as_ever(tmp_path):
    source = "def test(): pass\n@pytest.mark.xfail\ndef test_x(): assert False"
    assert run(tmp_path, source, "-p", "tests.support.no_skips").returncode == 0
