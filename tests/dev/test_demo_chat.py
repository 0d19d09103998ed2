"""The demo of Chat Completions: it compares texts truthfully, and it ends well where the small model is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dev.chat_demo.comparison import Comparison, Joined, joins_in
from dev.provider.model import ModelMissingError, model_file

ROOT = Path(__file__).parents[2]
EXACT, LOOSE = Joined(4, exact=True), Joined(8, exact=False)


def test_the_joins_are_those_of_the_feed() -> None:
    events = [
        {"type": "turn.started", "turn": 1},
        {"type": "turn.joined", "turn": 1, "characters": 4, "join": "exact"},
        {"type": "text.delta", "text": "a"},
        {"type": "turn.joined", "turn": 1, "characters": 8, "join": "best_effort"},
    ]
    assert joins_in(events) == [EXACT, LOOSE]


@pytest.mark.parametrize("joins", [[], [EXACT], [LOOSE], [EXACT, LOOSE]])
def test_the_same_text_is_always_right(joins: list[Joined]) -> None:
    compared = Comparison("a text of words", "a text of words", joins)
    assert compared.identical
    assert compared.as_declared
    assert compared.lines()[-1] == "compared   the same 15 characters as the undisturbed text"


@pytest.mark.parametrize(
    ("interrupted", "joins", "as_declared", "reason"),
    [
        ("a text anew", [EXACT, LOOSE], False, "after 7 characters: although the join after 4 is exact"),
        ("a text of yore", [EXACT, LOOSE], True, "after 10 characters: the join after 8 is best effort"),
        ("a text of yore", [EXACT], False, "after 10 characters: although the join after 4 is exact"),
        ("no text", [EXACT], False, "after 0 characters: before any join"),
        # One text is longer.
        ("a text of words.", [LOOSE], True, "after 15 characters: the join after 8 is best effort"),
        ("a text of", [EXACT], False, "after 9 characters: although the join after 4 is exact"),
    ],
)
def test_a_difference_is_shown_with_the_join_before_it(
    interrupted: str, joins: list[Joined], as_declared: bool, reason: str
) -> None:
    compared = Comparison(interrupted, "a text of words", joins)
    assert not compared.identical
    assert compared.as_declared is as_declared
    assert reason in "\n".join(compared.lines())


@pytest.mark.xdist_group("llamacpp")
@pytest.mark.timeout(900)
def test_the_demo_shows_a_text_that_is_the_same_after_two_kills() -> None:
    try:
        model_file()
    except ModelMissingError as missing:
        pytest.skip(f"not installed, so nothing was run at llama.cpp: {missing}")
    done = subprocess.run(
        [sys.executable, "-m", "dev", "demo-chat"],
        cwd=ROOT,
        env={**os.environ, "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("kill -9") == 2
    assert (
        done.stdout.count("characters: exact\njoin") + done.stdout.count("characters: exact\ncompared") == 2
    )
    assert "characters as the undisturbed text" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
