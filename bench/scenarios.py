"""What is measured and what it is compared with."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

from bench.measure import Scenario

UNCHANGED_POLLS = 6
"""Reads of a whole run that find nothing new; the one after them finds it completed."""


class Column(Enum):
    CPU = auto()
    RATE = auto()
    WALL = auto()
    MEMORY = auto()
    NOTES = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Scenarios that are shown together, each of them beside the cheapest of every group in `references`."""

    key: str
    title: str
    unit: str
    scenarios: tuple[Scenario, ...]
    references: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (Column.CPU, Column.RATE, Column.WALL, Column.MEMORY)


def _floor(in_flight: int) -> Scenario:
    return Scenario(
        name=f"floor: bare aiohttp GET, {in_flight} in flight",
        group="floor",
        target="bench.floor:unchanged_polls",
        options={"polls": 10_000, "in_flight": in_flight},
        provider=True,
    )


def _naive(in_flight: int) -> Scenario:
    return Scenario(
        name=f"naive loop, {in_flight} in flight",
        group="naive",
        target="bench.naive:unchanged_polls",
        options={"runs": 100, "polls": 1_000, "in_flight": in_flight},
        provider=True,
        storage=True,
    )


def _agent_framework(*, runs: int, in_flight: int) -> Scenario:
    return Scenario(
        name=f"agent-framework in memory, {in_flight:,} in flight",
        group="agent-framework",
        target="bench.agent_framework:whole_runs",
        options={"runs": runs, "in_flight": in_flight},
        provider=True,
        unchanged_polls=UNCHANGED_POLLS,
    )


SECTIONS = (
    Section(
        key="poll",
        title="An unchanged poll",
        unit="poll",
        references=("naive", "floor"),
        scenarios=(_floor(16), _floor(64), _naive(1), _naive(16), _naive(64)),
    ),
    Section(
        key="run",
        title=f"A whole run: start, {UNCHANGED_POLLS} unchanged polls, finish with 2 KB",
        unit="run",
        references=("agent-framework",),
        scenarios=(
            _agent_framework(runs=300, in_flight=1),
            _agent_framework(runs=500, in_flight=64),
            _agent_framework(runs=1_000, in_flight=1_000),
        ),
    ),
    Section(
        key="slow",
        title="A provider that answers after 500 ms",
        unit="poll",
        scenarios=(
            Scenario(
                name="naive loop, serial",
                group="naive",
                target="bench.naive:unchanged_polls",
                options={"runs": 20, "polls": 20, "in_flight": 1},
                provider=True,
                storage=True,
                delay=timedelta(milliseconds=500),
            ),
        ),
    ),
    Section(
        key="operations",
        title="Storage operations",
        unit="action",
        columns=(Column.NOTES,),
        scenarios=(
            Scenario(
                name="naive loop: a poll, changed or not",
                group="naive",
                target="bench.naive:poll_operations",
                provider=True,
                storage=True,
            ),
        ),
    ),
    Section(
        key="imports",
        title="Importing in a fresh process",
        unit="cold start",
        columns=(Column.CPU, Column.MEMORY),
        scenarios=(
            Scenario(
                name="the SDKs: functions, tables, identity, openai",
                group="sdks",
                target="bench.imports:first_import",
                options={
                    "modules": [
                        "azure.functions",
                        "azure.data.tables.aio",
                        "azure.identity.aio",
                        "openai",
                    ]
                },
            ),
        ),
    ),
)
