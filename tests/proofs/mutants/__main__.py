"""`python -m tests.proofs.mutants`: plant each bug in a copy of the source, and check that the simulation finds it."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.proofs.mutants.bug import Bug
from tests.proofs.mutants.bugs import BUGS

ROOT = Path(__file__).parents[3]
# Every bug must be found within as many seeds as `make simulate` runs.
SEEDS = 20_000


def plant(bug: Bug, tree: Path) -> None:
    """Plant a bug in a tree. Raises ValueError when the source is not as the bug expects."""
    file = tree / bug.file
    source = file.read_text()
    if source.count(bug.good) != 1:
        raise ValueError(f"{bug.name}: its text is {source.count(bug.good)} times in {bug.file}")
    file.write_text(source.replace(bug.good, bug.bad))


def find(bug: Bug) -> tuple[bool, str, float]:
    """Simulate with the bug; return whether it was found, the first lines of the report, and the seconds it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("shared", "tests"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        plant(bug, tree)
        # One process for each bug, and one bug on each core.
        seeds = ["--first", str(bug.first), "--seeds", str(SEEDS), "--until-failure", "--processes", "1"]
        command = [sys.executable, "-m", "tests.proofs.simulation", *seeds]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode not in {0, 1} or "Traceback" in done.stderr:
        raise RuntimeError(f"{bug.name}: the simulation itself failed\n{done.stderr[-2000:]}")
    lines = done.stdout.splitlines()
    if "NameError" in done.stdout:
        raise RuntimeError(
            f"{bug.name}: the bug uses a name that its file does not import\n{done.stdout[:500]}"
        )
    report = " ".join(line.strip() for line in lines[:2])
    return done.returncode == 1, report, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    wanted = [bug for bug in BUGS if parser.parse_args().only in bug.name]
    survivors = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for bug, (found, how, seconds) in zip(wanted, pool.map(find, wanted), strict=True):
            print(f"{'found' if found else 'SURVIVED':<9}{seconds:5.1f} s  {bug.name}", flush=True)
            print(f"{'':<16}  {how[:140]}", flush=True)
            if not found:
                survivors.append(bug)
    print(f"{len(wanted) - len(survivors)} of {len(wanted)} planted bugs found within {SEEDS:,} seeds each")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
