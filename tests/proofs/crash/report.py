"""What the workers found, as a table and a list of faults."""

import json
import threading
from collections import Counter
from typing import Any

from tests.proofs.crash.points import Point, required_methods

_COLUMNS = ("method", "calls", "points", "restarts", "extra responses", "effects repeated")


class Report:
    """Collects the lines of all workers, which arrive from a thread of each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._baselines: dict[str, list[str]] = {}
        self._trials: list[Any] = []
        self._faults: list[str] = []

    def take(self, line: str) -> None:
        if not line.startswith("{"):
            return
        told = json.loads(line)
        with self._lock:
            if told["point"] is None:
                self._take_baseline(told)
            else:
                self._trials.append(told)
                if told["faults"]:
                    self._faults.append(_told(told))

    def _take_baseline(self, told: Any) -> None:
        name = told["scenario"]
        first = self._baselines.setdefault(name, told["points"])
        if first != told["points"]:
            self._faults.append(f"{name}: undisturbed, it does not pass the same points each time")
        self._faults += [f"{name}, undisturbed: {fault}" for fault in told["faults"]]

    def failed(self, *, everything: bool) -> bool:
        return bool(self._faults or not self._trials or (everything and self._gaps()))

    def _gaps(self) -> list[str]:
        """Return what was not tried: points, and methods without a point."""
        points = {f"{name}/{point}" for name, listed in self._baselines.items() for point in listed}
        tried = {f"{told['scenario']}/{told['point']}" for told in self._trials}
        methods = {Point.parse(told["point"]).method for told in self._trials}
        required = required_methods()
        return [
            *(f"{point} was not tried" for point in sorted(points - tried)),
            *(f"{method} was never a point" for method in required if method not in methods),
            *(
                f"{method} is a point, and not in the list of methods"
                for method in sorted(methods - {*required})
            ),
        ]

    def of_one(self) -> str:
        [told] = self._trials
        return _told(told)

    def of_all(self, seconds: float) -> str:
        rows: list[tuple[str, ...]] = [_COLUMNS]
        total: Counter[str] = Counter()
        for method in required_methods():
            counted = self._counted(method)
            total.update(counted)
            rows.append((method, *(str(counted[column]) for column in _COLUMNS[1:])))
        rows.append(("in all", *(str(total[column]) for column in _COLUMNS[1:])))
        wrong = self._faults + self._gaps()
        end = f"{len(self._trials)} points in {len(self._baselines)} scenarios, {seconds:.0f} s, {len(wrong)} faults"
        return "\n".join([_table(rows), *wrong, end])

    def _counted(self, method: str) -> Counter[str]:
        told = [one for one in self._trials if Point.parse(one["point"]).method == method]
        return Counter(
            {
                "calls": len({(one["scenario"], Point.parse(one["point"]).ordinal) for one in told}),
                "points": len(told),
                "restarts": sum(one["restarts"] for one in told),
                "extra responses": sum(one["extra"] for one in told),
                "effects repeated": sum(one["repeated"] for one in told),
            }
        )


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    return "\n".join("  ".join(_aligned(row, widths)) for row in rows)


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return [row[0].ljust(len(first)), *others]


def _told(told: Any) -> str:
    name = f"{told['scenario']}/{told['point']}"
    return "\n".join(
        [
            f"{name}: {'; '.join(told['faults']) or 'nothing is wrong'}",
            *(f"    {line}" for line in told["tail"]),
            *(f"    log: {line}" for line in told["log"]),
            f"    python -m tests.proofs.crash --point {name}",
        ]
    )
