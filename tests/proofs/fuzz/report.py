"""The results of a campaign, as text."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.proofs.fuzz.campaign import Campaign


def tried(found: Campaign) -> str:
    """Return the cases by operation and class of status, and counts of statuses, phases and checks."""
    classes = sorted({status // 100 for _, status in found.cases})
    lines = [_row("cases", [*(f"{one}xx" for one in classes), "all"])]
    for operation in sorted({operation for operation, _ in found.cases}):
        counts: Counter[int] = Counter()
        for (name, status), count in found.cases.items():
            if name == operation:
                counts[status // 100] += count
        lines.append(_row(operation, [*(counts[one] for one in classes), counts.total()]))
    statuses: Counter[int] = Counter()
    for (_, status), count in found.cases.items():
        statuses[status] += count
    parts: dict[str, Mapping[Any, int]] = {
        "statuses": statuses,
        "phases": found.phases,
        "checks": found.checks,
    }
    return "\n".join([*lines, *(f"{name}: {_listed(counts)}" for name, counts in parts.items())])


def failed(found: Campaign) -> str:
    return "\n\n".join(f"FAILED {name}\n{failure}" for name, failure in found.failures.items())


def _row(name: str, cells: list[object]) -> str:
    return f"{name:32}" + "".join(f"{cell!s:>7}" for cell in cells)


def _listed(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=str))
