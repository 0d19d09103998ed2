"""The results of the workers, as a table and a list of faults."""

import json
import threading
from collections import Counter
from typing import Any

from tests.proofs.crash.points import Point, required_methods
from tests.proofs.crash.revival import PROMISED

_COLUMNS = ("method", "calls", "points", "restarts", "extra responses", "effects repeated")


class Report:
    """Collects the results of all workers. Each worker's lines arrive in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._baselines: dict[str, list[str]] = {}
        self._trials: list[Any] = []
        self._renewals: dict[str, int] = {}
        self._faults: list[str] = []

    def take(self, line: str) -> None:
        if not line.startswith("{"):
            return
        trial = json.loads(line)
        with self._lock:
            if trial["point"] is None:
                self._take_baseline(trial)
            else:
                self._trials.append(trial)
                if trial["faults"]:
                    self._faults.append(_described(trial))

    def _take_baseline(self, trial: Any) -> None:
        name = trial["scenario"]
        first = self._baselines.setdefault(name, trial["points"])
        self._renewals[name] = trial["renewals"]
        if first != trial["points"]:
            self._faults.append(f"{name}: without a crash, it does not reach the same points each time")
        self._faults += [f"{name}, without a crash: {fault}" for fault in trial["faults"]]

    def failed(self, *, everything: bool) -> bool:
        return bool(self._faults or not self._trials or (everything and self._gaps()))

    def _gaps(self) -> list[str]:
        """Return a line for each point that was not tried, and for each method without a point."""
        points = {f"{name}/{point}" for name, listed in self._baselines.items() for point in listed}
        tried = {f"{trial['scenario']}/{trial['point']}" for trial in self._trials}
        methods = {Point.parse(trial["point"]).method for trial in self._trials}
        required = required_methods()
        return [
            *(f"{point} was not tried" for point in sorted(points - tried)),
            *(() if any(self._renewals.values()) else ("no lease was renewed",)),
            *(() if any(trial["held"] for trial in self._trials) else ("no crash left a run under a lease",)),
            *(f"{method} has no point" for method in required if method not in methods),
            *(
                f"{method} has a point, but is not in the list of methods"
                for method in sorted(methods - {*required})
            ),
        ]

    def of_one(self) -> str:
        [trial] = self._trials
        return _described(trial)

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
        return "\n".join([_table(rows), *wrong, self._of_leases(), end])

    def _of_leases(self) -> str:
        held = sum(trial["held"] for trial in self._trials)
        crashes = sum(trial["held"] > 0 for trial in self._trials)
        taken_up = sum(trial["taken_up"] for trial in self._trials)
        renewals = sum(self._renewals.values())
        return (
            f"{renewals} renewals without a crash; {crashes} crashes left a run under a lease, {taken_up} of "
            f"{held} such runs were taken up by one tick {PROMISED.seconds} seconds later"
        )

    def _counted(self, method: str) -> Counter[str]:
        trials = [one for one in self._trials if Point.parse(one["point"]).method == method]
        return Counter(
            {
                "calls": len({(one["scenario"], Point.parse(one["point"]).ordinal) for one in trials}),
                "points": len(trials),
                "restarts": sum(one["restarts"] for one in trials),
                "extra responses": sum(one["extra"] for one in trials),
                "effects repeated": sum(one["repeated"] for one in trials),
            }
        )


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    return "\n".join("  ".join(_aligned(row, widths)) for row in rows)


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return [row[0].ljust(len(first)), *others]


def _described(trial: Any) -> str:
    name = f"{trial['scenario']}/{trial['point']}"
    return "\n".join(
        [
            f"{name}: {'; '.join(trial['faults']) or 'no fault'}",
            *(f"    {line}" for line in trial["tail"]),
            *(f"    log: {line}" for line in trial["log"]),
            f"    python -m tests.proofs.crash --point {name}",
        ]
    )
