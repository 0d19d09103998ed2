"""The limits that docs/security.md lists are those of the code."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = {"MiB": 2**20, "KiB": 2**10, "characters": 1, "": 1}
ROWS = [
    [cell.strip() for cell in line.strip("| ").split("|")]
    for line in (ROOT / "docs/security.md").read_text(encoding="utf-8").splitlines()
    if re.search(r"`[a-z_.]+\.MAX_[A-Z_]+` \|$", line)
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[3].strip("`"))
def test_a_limit_is_that_of_the_code(row):
    module, _, name = row[3].strip("`").rpartition(".")
    number, _, unit = row[1].partition(" ")
    assert (
        getattr(importlib.import_module(f"shared.{module}"), name)
        == int(number.replace(",", "")) * UNITS[unit]
    )


def test_each_budget_is_listed():
    listed = {row[3].strip("`") for row in ROWS}
    limits = importlib.import_module("shared.core.limits")
    assert {f"core.limits.{name}" for name in vars(limits) if name.startswith("MAX_")} <= listed
    assert len(ROWS) >= 25
