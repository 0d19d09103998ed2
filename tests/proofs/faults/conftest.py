"""The fixtures of these tests, and the number of cases that they print at the end."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from dev.provider import launch
from shared.adapters.azure_tables import table
from tests.proofs.faults.network import Fault

FIGURES = "faults"
# Longer than a request takes on a busy machine, and short enough for a test.
STALL_SECONDS = 1.0

Hasten = Callable[[Fault], None]


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """The address of a provider emulator that writes as fast as it can."""
    with launch.provider(pace=0) as url:
        yield url


@pytest.fixture
def hasten(monkeypatch: pytest.MonkeyPatch) -> Hasten:
    """Makes the pauses between attempts of the storage adapter shorter, and its wait for a reply that never comes."""

    def hasten(fault: Fault) -> None:
        monkeypatch.setattr(table, "BACKOFF_SECONDS", 0.01)
        if fault.stalls:
            monkeypatch.setattr(table, "READ_SECONDS", STALL_SECONDS)

    return hasten


@pytest.fixture
def counted(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Counts the cases of a kind that ended in the right state."""
    return lambda kind, cases: record_property(FIGURES, f"{kind}: {cases}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == FIGURES:
                kind, _, cases = str(value).rpartition(": ")
                counts[kind] += int(cases)
    for kind, cases in sorted(counts.items()):
        terminalreporter.write_line(f"network faults, {kind}: {cases} cases, all in the right state")
