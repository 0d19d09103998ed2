"""Texts of any length: small ones are stored inline in the run's row, longer ones in chunk rows."""

import re
import zlib
from collections.abc import Iterator, Sequence

from shared.core.run import Content
from shared.errors import UnreadableRow
from shared.ports.tables import Put, Row, Table
from shared.store.rows import unzipped
from shared.store.sweep import sweep

# The compressed size up to which a text is stored in the run's own row. A run of 32 turns then fits in the
# 1 MiB that Azure Table Storage allows for a row.
INLINE_BYTES = 16 * 1024
# Longer than any text that is saved. What a row holds is not trusted.
MAX_TEXT_BYTES = 64 * 1024 * 1024
# Azure Table Storage: a binary property holds 64 KiB, a row 1 MiB.
CHUNK_BYTES = 64 * 1024
CHUNKS_PER_ROW = 11
_CHUNK = re.compile(r"c\d\d", re.ASCII)
# A fast level. It still reduces prose to a third of its size.
_LEVEL = 3


class ContentStore:
    """Saves texts in a partition of the content table for each run.

    Each name is used once, so that the chunks which a pointer leads to are always those of one writer.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    async def save(self, run_id: str, name: str, text: str, *, apart: bool = False) -> Content:
        """Store `text` and return the pointer to it.

        It is stored in rows if it is long or if `apart` is set.
        """
        packed = zlib.compress(text.encode(), _LEVEL)
        if len(packed) <= INLINE_BYTES and not apart:
            return Content(inline=packed)
        rows = 0
        for rows, row in enumerate(_rows(name, packed), 1):  # noqa: B007  (counts what was written)
            await self._table.write(run_id, [Put(row)])
        return Content(name=name, chunks=rows)

    async def load_each(self, run_id: str, contents: Sequence[Content]) -> list[str]:
        """Return the texts of contents that were saved `apart`, with one query.

        The contents have to be sorted by name.
        Raises LookupError when any of their rows was removed.
        """
        if not contents:
            return []
        rows = await self._table.query(run_id, f"{contents[0].name}|", f"{contents[-1].name}}}")
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(row.key.partition("|")[0], []).append(row)
        return [_unpacked(content, found.get(content.name, [])) for content in contents]

    async def load(self, run_id: str, content: Content) -> str:
        """Return the text that was saved. Raises LookupError when its rows were removed."""
        if content.inline is not None:
            return _text(content.inline)
        if not content.name:
            return ""
        return _unpacked(content, await self._table.query(run_id, f"{content.name}|", f"{content.name}}}"))

    async def drop(self, run_id: str, content: Content) -> None:
        """Remove the chunk rows of a content to which no row points."""
        if content.name:
            await sweep(self._table, run_id, f"{content.name}|", f"{content.name}}}")

    async def purge(self, run_id: str) -> None:
        """Remove everything stored for a run."""
        await sweep(self._table, run_id, "", "~")


def _unpacked(content: Content, rows: Sequence[Row]) -> str:
    if len(rows) != content.chunks:
        raise LookupError(f"{len(rows)} of {content.chunks} content rows of {content.name} exist")
    chunks = [row.values.get(f"c{n:02d}") for row in rows for n in range(_chunks_of(row))]
    return _text(b"".join(chunk for chunk in chunks if isinstance(chunk, bytes)))


def _chunks_of(row: Row) -> int:
    """Return how many chunks a row has. Raises UnreadableRow when there is anything else in their place."""
    names = [name for name in row.values if _CHUNK.fullmatch(name)]
    if not all(isinstance(row.values.get(f"c{n:02d}"), bytes) for n in range(len(names))):
        raise UnreadableRow(row.key)
    return len(names)


def _text(packed: bytes) -> str:
    """Return a compressed text. Raises UnreadableRow when the bytes are no such text, or one that is too long."""
    try:
        return unzipped(packed, MAX_TEXT_BYTES).decode()
    except ValueError as fault:
        raise UnreadableRow("a text") from fault


def _rows(name: str, packed: bytes) -> Iterator[Row]:
    per_row = CHUNK_BYTES * CHUNKS_PER_ROW
    for number, start in enumerate(range(0, len(packed), per_row)):
        row_bytes = packed[start : start + per_row]
        chunks = range(0, len(row_bytes), CHUNK_BYTES)
        values = {f"c{n:02d}": row_bytes[at : at + CHUNK_BYTES] for n, at in enumerate(chunks)}
        yield Row(f"{name}|{number:04d}", dict(values))
