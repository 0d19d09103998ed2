"""The demo of an approval: it ends well, and shows each scene."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_demo_of_an_approval_shows_a_refund_that_is_made_once() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dev", "demo-approval"],
        cwd=ROOT,
        env={**os.environ, "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for shown in (
        "refund waits for an approval",
        "Refunds: none in the shop's books",
        "the only host is killed",
        "requires_action: the same call waits",
        "409 for another one: This call was answered before: approved by ",
        "\n120.00 euros of order A-1002 were refunded.\n",
        "1 in the shop's books: 120 euros of A-1002",
    ):
        assert shown in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
