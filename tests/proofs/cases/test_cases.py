"""Runs inputs from bug reports through the complete app, and compares what comes of each with its file.

All of the app is real except for its tables, its clock and the network below the adapter of the provider.
"""

import pytest

from tests.proofs.cases.case import cases
from tests.proofs.cases.checks import faults
from tests.proofs.cases.play import Outcome, play

ALL = cases()


@pytest.mark.parametrize("name", ALL)
async def test_a_case_ends_as_its_file_says(name):
    case = ALL[name]
    outcome = await play(case)
    found = faults(case, outcome)
    assert not found, "\n".join([case.about, *found])
    assert not outcome.client.undocumented()
    _the_feed_has_the_text(outcome)


def _the_feed_has_the_text(outcome: Outcome) -> None:
    """A reader of the feed of a run has the text of its answer in the end."""
    for run, reader in zip(outcome.runs, outcome.feeds, strict=True):
        assert reader.done is (run["completed_at"] is not None)
        if run["status"] in {"completed", "incomplete"}:
            assert reader.text == run["output_text"]


def test_every_case_has_a_sentence_of_its_own():
    assert len({case.about for case in ALL.values()}) == len(ALL)
    assert all(case.about.endswith(".") and case.expect for case in ALL.values())
