"""Rows in partitions: the little of Azure Table Storage that Baton stands on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Value = str | int | bool | bytes


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table. `etag` is empty until it has been read."""

    key: str
    values: Mapping[str, Value]
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row that must not exist."""

    row: Row


@dataclass(frozen=True, slots=True)
class Put:
    """Write a whole row: over any other when `etag` is empty, else only over the one read."""

    row: Row
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Merge:
    """Change the given values of a row that must exist, and leave its others."""

    row: Row


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a row that must exist."""

    key: str


Write = Insert | Put | Merge | Delete


class Table(Protocol):
    """Rows in partitions, in key order: the little of Azure Table Storage that Baton stands on.

    Every method raises StorageUnavailable when the storage does not answer; whether a write took
    effect is then unknown.
    """

    async def get(self, partition: str, key: str) -> Row | None:
        """Return one row, or None: a point read."""
        ...

    async def query(
        self,
        partition: str,
        first: str,
        end: str,
        *,
        where: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        """Return rows with `first` <= key < `end` in key order, those that equal `where`, at most `limit`."""
        ...

    async def query_each(
        self, bounds: Mapping[str, tuple[str, str]], *, where: Mapping[str, str], limit: int
    ) -> list[Row]:
        """Query several partitions side by side, each within its own bounds and limit."""
        ...

    async def write(self, partition: str, writes: Sequence[Write]) -> str:
        """Carry out all writes or none, and return the new etag of the first (empty after a delete).

        Raises RowConflict when a row was not as a write demands.
        """
        ...
