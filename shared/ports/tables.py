"""The port to the storage: the part of Azure Table Storage that Baton uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Value = str | int | bool | bytes


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table. `etag` is empty for a row that was not read from the table."""

    key: str
    values: Mapping[str, Value]
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row that must not exist."""

    row: Row


@dataclass(frozen=True, slots=True)
class Put:
    """Write a complete row.

    With an `etag`, only if the stored row has this etag; without one, in any case.
    """

    row: Row
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Merge:
    """Change these values of a row that must exist, and keep its other values.

    With an `etag`, only if the stored row has this etag.
    """

    row: Row
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a row that must exist."""

    key: str


Write = Insert | Put | Merge | Delete


class Table(Protocol):
    """Rows in partitions, in key order.

    Every method raises StorageUnavailable when the storage does not answer. It is then unknown whether a
    write took effect. A table that does not exist is read as an empty one, and a write to it raises
    StorageUnavailable.
    """

    async def get(self, partition: str, key: str) -> Row | None:
        """Return one row, or None, with one point read."""
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
        """Return rows with `first` <= key < `end` that match `where`, in key order, at most `limit`."""
        ...

    async def query_each(
        self, bounds: Mapping[str, tuple[str, str]], *, where: Mapping[str, str], limit: int
    ) -> list[Row]:
        """Query several partitions concurrently, each with its own bounds and with `limit`."""
        ...

    async def write(self, partition: str, writes: Sequence[Write]) -> str:
        """Carry out all writes or none, and return the new etag of the first (empty after a delete).

        Raises RowConflict when a row does not meet the condition of its write.
        """
        ...
