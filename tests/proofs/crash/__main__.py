"""Prove that the app may crash anywhere: `python -m tests.proofs.crash`, or `--point NAME` for one point."""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta

from dev.azurite import azurite
from dev.processes import ChildFailed, ChildProcess, interrupt_on_sigterm
from dev.provider.launch import provider
from tests.proofs.crash.report import Report

# Each worker waits for storage and provider half of its time.
_WORKERS = 4
_LONGEST = timedelta(minutes=30)
_SHOWN = 4_000


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.crash", description=__doc__)
    parser.add_argument("--point", metavar="NAME", help="such as conversation/runs.write/7/after")
    parser.add_argument("--workers", type=int, default=_WORKERS, help="how many trials run at the same time")
    options = parser.parse_args(argv)
    interrupt_on_sigterm()
    began, report = time.monotonic(), Report()
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(azurite())
            workers = 1 if options.point else options.workers
            chosen = ["--point", options.point] if options.point else []
            addresses = [stack.enter_context(provider()) for _ in range(workers)]
            children = [
                _start(stack, report, [connection, address, str(number), str(workers), *chosen])
                for number, address in enumerate(addresses)
            ]
            for child in children:
                _finish(child)
    except KeyboardInterrupt:
        return 130
    except ChildFailed as error:
        print(error, file=sys.stderr)
        return 1
    seconds = time.monotonic() - began
    print(report.of_one() if options.point else report.of_all(seconds))
    return 1 if report.failed(everything=not options.point) else 0


def _start(stack: contextlib.ExitStack, report: Report, arguments: Sequence[str]) -> ChildProcess:
    command = [sys.executable, "-m", "tests.proofs.crash.worker", *arguments]
    return stack.enter_context(ChildProcess("worker", command, echo=report.take))


def _finish(worker: ChildProcess) -> None:
    """Wait for a worker. Raises ChildFailed with its last output when it does not end, or fails."""
    try:
        status = worker.wait(timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"a worker was not done within {_LONGEST}:\n{worker.output[-_SHOWN:]}") from None
    if status:
        raise ChildFailed(f"a worker ended with status {status}:\n{worker.output[-_SHOWN:]}")


if __name__ == "__main__":
    sys.exit(main())
