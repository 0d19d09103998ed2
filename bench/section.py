"""A section of the table."""

from dataclasses import dataclass
from enum import Enum, auto

from bench.measure import Scenario


class Column(Enum):
    CPU = auto()
    RATE = auto()
    WALL = auto()
    MEMORY = auto()
    NOTES = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Scenarios in one table. Each is compared with the scenario of least CPU in every group in `references`."""

    key: str
    title: str
    unit: str
    scenarios: tuple[Scenario, ...]
    references: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (Column.CPU, Column.RATE, Column.WALL, Column.MEMORY)
    counts_only: bool = False
    """Operations are counted once; times are measured several times."""
