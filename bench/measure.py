"""Measures one scenario in a process of its own, so that scenarios share neither imports nor memory.

A target is an async function, named `module:function`. It sets up and warms up what it needs, and runs the
code to measure inside `with meter.measuring(count=...)`. It gets its options by keyword and, if its scenario
needs them, the base URL of a `provider` stub and the connection string of empty `storage`.

`python -m bench.measure TARGET ARGUMENTS` is the child; it prints one line of JSON.
"""

import argparse
import asyncio
import gc
import importlib
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.stub import NEVER, provider
from dev.azurite import azurite
from dev.processes import ChildProcess

SCENARIO_TIMEOUT = timedelta(minutes=3)
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """The figures of one measured block. CPU is user and system time of one process alone, never of its servers."""

    count: int
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    """The most memory the process held at any time, its imports included."""
    peak_growth_bytes: int
    """By how much the measured block raised that peak."""
    notes: Mapping[str, float] = field(default_factory=dict)
    """Further counts of the target, by their names in the table."""

    @property
    def cpu_seconds_each(self) -> float:
        return self.cpu_seconds / self.count


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used since it began."""

    cpu_seconds: float
    peak_bytes: int


def own_usage() -> Usage:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(used.ru_utime + used.ru_stime, used.ru_maxrss * _MAXRSS_UNIT)


class Meter:
    """Measures one block of a target; a target uses it exactly once."""

    def __init__(self) -> None:
        self.measurement: Measurement | None = None
        self.notes: dict[str, float] = {}

    @contextmanager
    def measuring(
        self, *, count: int, events: int = 0, usage: Callable[[], Usage] = own_usage
    ) -> Iterator[None]:
        """Measure the block, which does its work `count` times, with so many `events` of a stream each time.

        `usage` is that of the process that does the work.
        """
        assert self.measurement is None, "one measurement a process"
        gc.collect()
        before, started = usage(), time.perf_counter()
        yield
        wall, after = time.perf_counter() - started, usage()
        cpu = after.cpu_seconds - before.cpu_seconds
        if events:
            self.notes["us an event"] = round(1e6 * cpu / (count * events), 1)
        self.measurement = Measurement(
            count=count,
            cpu_seconds=cpu,
            wall_seconds=wall,
            peak_bytes=after.peak_bytes,
            peak_growth_bytes=after.peak_bytes - before.peak_bytes,
            notes=self.notes,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    name: str
    group: str
    """Scenarios of one group do the same work under different load; ratios use the one with the least CPU."""
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    provider: bool = False
    storage: bool = False
    unchanged_polls: int = NEVER
    delay: timedelta = timedelta()
    events: int = 0
    """Events in each slice of a stream."""
    event_gap: timedelta = timedelta()


def measure(scenario: Scenario) -> Measurement:
    """Run the scenario once, with servers and a process of its own; raises ChildFailed if it fails."""
    with ExitStack() as servers:
        arguments = dict(scenario.options)
        if scenario.provider:
            stub = provider(
                unchanged_polls=scenario.unchanged_polls,
                delay=scenario.delay,
                events=scenario.events,
                event_gap=scenario.event_gap,
            )
            arguments["provider"] = servers.enter_context(stub)
        if scenario.storage:
            arguments["storage"] = servers.enter_context(azurite())
        command = [sys.executable, "-m", "bench.measure", scenario.target, json.dumps(arguments)]
        child = servers.enter_context(ChildProcess(scenario.name, command, cwd=Path(__file__).parents[1]))
        measured = child.wait_for(r"^measured (\{.*\})$", timeout=SCENARIO_TIMEOUT)
        return Measurement(**json.loads(measured.group(1)))


def median(measurements: list[Measurement]) -> Measurement:
    """Return the measurement whose CPU is the median one (the lower of two)."""
    middle = statistics.median_low(each.cpu_seconds for each in measurements)
    return next(each for each in measurements if each.cpu_seconds == middle)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.measure", description=__doc__)
    parser.add_argument("target", help="module:function")
    parser.add_argument("arguments", type=json.loads, help="JSON object, passed by keyword")
    options = parser.parse_args()
    module, function = options.target.split(":")
    meter = Meter()
    asyncio.run(getattr(importlib.import_module(module), function)(meter, **options.arguments))
    assert meter.measurement is not None, f"{options.target} measured nothing"
    print("measured", json.dumps(asdict(meter.measurement)), flush=True)


if __name__ == "__main__":
    main()
