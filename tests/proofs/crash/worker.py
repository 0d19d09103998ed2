"""Tries one share of the points, and prints a JSON line for each: `python -m tests.proofs.crash.worker`.

It forks the processes of the app, so it is itself a process without threads.
"""

import argparse
import gc
import json
from collections.abc import Sequence
from typing import Any

from tests.proofs.crash.judge import extra_responses, faults_of, lost_responses, renewals
from tests.proofs.crash.points import Point
from tests.proofs.crash.scenarios import SCENARIOS
from tests.proofs.crash.trial import Bench, Trial

_TAIL = 12


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("connection", help="the connection string of the storage")
    parser.add_argument("provider", help="the address of this worker's emulator")
    parser.add_argument("number", type=int, help="the number of this worker, from 0")
    parser.add_argument("of", type=int, help="how many workers there are")
    parser.add_argument("--point", help="try only this point: SCENARIO/METHOD/ORDINAL/SIDE")
    options = parser.parse_args(argv)
    bench = Bench(options.connection, options.provider)
    bench.warm_up(SCENARIOS["conversation"])
    gc.freeze()
    if options.point:
        name, _, point = options.point.partition("/")
        _report(bench.carry_out(SCENARIOS[name], Point.parse(point)), verbose=True)
        return
    points = []
    for name, scenario in SCENARIOS.items():
        trial = bench.carry_out(scenario, None)
        _report(trial)
        points += [(name, Point.parse(passed["point"])) for passed in trial.journal]
    for name, point in points[options.number :: options.of]:
        _report(bench.carry_out(SCENARIOS[name], point))


def _report(trial: Trial, *, verbose: bool = False) -> None:
    faults = faults_of(trial)
    result: dict[str, Any] = {
        "scenario": trial.scenario.name,
        "point": trial.point and str(trial.point),
        "faults": faults,
        "restarts": len(trial.exits) - 1,
        "lost": lost_responses(trial),
        "extra": extra_responses(trial),
        "held": len(trial.revival.held),
        "taken_up": sum(held.taken_up for held in trial.revival.held),
        "repeated": len(trial.effects) - len({effect["mark"] for effect in trial.effects}),
    }
    if trial.point is None:
        result["points"] = [passed["point"] for passed in trial.journal]
        result["renewals"] = renewals(trial)
    if faults or verbose:
        first = [passed for passed in trial.journal if passed["life"] == 1]
        result["tail"] = [f"{passed['point']}  {passed['about']}" for passed in first[-_TAIL:]]
        result["log"] = trial.log.splitlines()[-_TAIL:]
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
