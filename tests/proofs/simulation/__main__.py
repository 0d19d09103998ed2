"""`python -m tests.proofs.simulation`: many seeds on all cores, or one seed with its trace."""

import argparse
import gc
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.proofs.simulation import report
from tests.proofs.simulation.coverage import Coverage
from tests.proofs.simulation.simulation import Outcome, simulate

ROOT = Path(__file__).parents[3]
_CHUNK, _SMALL_CHUNK = 250, 25
# This many seeds reach everything that can be reached.
_ENOUGH = 20_000
# New seeds begin between this number and twice as much.
_NEW = 1_000_000_000
# The simulation stops after this many failures: more of them show nothing new.
_FAILURES = 5


@dataclass
class Batch:
    """The results of a range of seeds."""

    runs: int = 0
    steps: int = 0
    coverage: Coverage = field(default_factory=Coverage)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.runs += outcome.runs
        self.steps += outcome.steps
        self.coverage.add(outcome.coverage)
        if outcome.breach:
            self.failures.append(outcome)


def carry_out(seeds: range) -> Batch:
    """Simulate a range of seeds in this process."""
    batch = Batch()
    for seed in seeds:
        batch.add(simulate(seed))
    return batch


def _quiet() -> None:
    # No reader needs the app's log here. The modules that are loaded now stay, so the collector can ignore them.
    logging.getLogger("baton").setLevel(logging.CRITICAL + 1)
    gc.freeze()


def _many(first: int, count: int, *, until_failure: bool, processes: int) -> int:
    began = time.monotonic()
    total, failures, done = Coverage(), list[Outcome](), 0
    runs = steps = 0
    for seeds, batch in _batches(first, count, _SMALL_CHUNK if until_failure else _CHUNK, processes):
        done += len(seeds)
        runs, steps = runs + batch.runs, steps + batch.steps
        total.add(batch.coverage)
        failures += batch.failures
        if failures and (until_failure or len(failures) >= _FAILURES):
            break
    for outcome in failures[:1]:
        print(*_trace_of(outcome), sep="\n")
    if until_failure:
        return 1 if failures else 0
    print(*report.coverage(total), sep="\n")
    print()
    print(report.summary(done, time.monotonic() - began, runs, steps, len(failures)))
    for outcome in failures[1:_FAILURES]:
        print(f"Seed {outcome.seed}: {outcome.breach}")
    missing = _print_missing(total)
    if missing and done < _ENOUGH:
        print(f"With {_ENOUGH:,} seeds or more, this is a failure.")
    return 1 if failures or (missing and done >= _ENOUGH) else 0


def _batches(first: int, count: int, size: int, processes: int) -> Iterator[tuple[range, Batch]]:
    ranges = [range(at, min(at + size, first + count)) for at in range(first, first + count, size)]
    with ProcessPoolExecutor(processes, initializer=_quiet) as pool:
        try:
            yield from zip(ranges, pool.map(carry_out, ranges), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def _print_missing(coverage: Coverage) -> bool:
    missing = coverage.missing()
    for kind, names in missing.items():
        print(f"Never reached, {kind}: {', '.join(names)}")
    return bool(missing)


def _trace_of(outcome: Outcome) -> list[str]:
    _quiet()
    trace: list[str] = []
    again = simulate(outcome.seed, trace)
    assert again.breach == outcome.breach, "a seed must give the same result again"
    return report.failure(again, trace)


def _one(seed: int) -> int:
    trace: list[str] = []
    _quiet()
    outcome = simulate(seed, trace)
    if outcome.breach:
        print(*report.failure(outcome, trace), sep="\n")
        return 1
    print(*trace, sep="\n")
    print(f"Seed {seed} keeps every promise: {outcome.runs} runs, {outcome.steps} steps.")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed, with its trace")
    parser.add_argument("--seeds", type=int, default=20_000, help="how many seeds (20,000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument(
        "--new",
        action="store_true",
        help="begin at a seed that follows from the commit, so that the seeds are new",
    )
    parser.add_argument("--until-failure", action="store_true", help="stop at the first broken promise")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many at once (all cores)")
    given = parser.parse_args()
    if given.seed is not None:
        return _one(given.seed)
    first = _first_of_commit() if given.new else given.first
    if first:
        print(f"Seeds {first:,} to {first + given.seeds - 1:,}", flush=True)
    return _many(first, given.seeds, until_failure=given.until_failure, processes=given.processes)


def _first_of_commit() -> int:
    """Return the first seed of this commit. It is beyond all seeds that are tried by number."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    if head.returncode:
        sys.exit("--new needs a git checkout, because the seeds follow from the commit. Use --first instead.")
    return _NEW + int(head.stdout.strip()[:12], 16) % _NEW


if __name__ == "__main__":
    sys.exit(main())
