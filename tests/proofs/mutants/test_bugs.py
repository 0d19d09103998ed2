"""Each planted bug has its place in the source. Without this test, only `make mutants` would find a missing one."""

from pathlib import Path

import pytest

from tests.proofs.mutants.bugs import BUGS

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_has_one_place_in_the_source(bug) -> None:
    assert (ROOT / bug.file).read_text(encoding="utf-8").count(bug.good) == 1
    assert bug.good != bug.bad
