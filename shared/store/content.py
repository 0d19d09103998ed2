"""Texts of any length, kept inline while they are small and in chunk rows when they are not."""

import zlib
from collections.abc import Iterator, Sequence

from shared.core.run import Content
from shared.ports.tables import Put, Row, Table
from shared.store.sweep import sweep

# Compressed size up to which a text stays in the run's own row: a run of 32 turns then fits in the
# 1 MiB that Azure Table Storage allows for a row.
INLINE_BYTES = 16 * 1024
# Azure Table Storage: a binary property holds 64 KiB, a row 1 MiB.
CHUNK_BYTES = 64 * 1024
CHUNKS_PER_ROW = 11
# Fast, and still a third of the size for prose.
_LEVEL = 3


class ContentStore:
    """Saves texts under a run's partition of the content table.

    A name is used once, so a reader who follows a stored pointer never meets chunks of two writers.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    async def save(self, run_id: str, name: str, text: str, *, apart: bool = False) -> Content:
        """Store `text`, in rows if it is long or to be kept `apart`, and return how to find it again."""
        packed = zlib.compress(text.encode(), _LEVEL)
        if len(packed) <= INLINE_BYTES and not apart:
            return Content(inline=packed)
        rows = 0
        for rows, row in enumerate(_rows(name, packed), 1):  # noqa: B007  (counts what was written)
            await self._table.write(run_id, [Put(row)])
        return Content(name=name, chunks=rows)

    async def load_each(self, run_id: str, contents: Sequence[Content]) -> list[str]:
        """Return the texts of contents that were saved apart and whose names stand in order: in one query.

        Raises LookupError when any of their rows has been removed.
        """
        if not contents:
            return []
        rows = await self._table.query(run_id, f"{contents[0].name}|", f"{contents[-1].name}}}")
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(row.key.partition("|")[0], []).append(row)
        return [_unpacked(content, found.get(content.name, [])) for content in contents]

    async def load(self, run_id: str, content: Content) -> str:
        """Return the text that `save` was given. Raises LookupError when its rows have been removed."""
        if content.inline is not None:
            return zlib.decompress(content.inline).decode()
        if not content.name:
            return ""
        return _unpacked(content, await self._table.query(run_id, f"{content.name}|", f"{content.name}}}"))

    async def drop(self, run_id: str, content: Content) -> None:
        """Remove chunk rows that nothing will point to."""
        if content.name:
            await sweep(self._table, run_id, f"{content.name}|", f"{content.name}}}")

    async def purge(self, run_id: str) -> None:
        """Remove everything stored for a run."""
        await sweep(self._table, run_id, "", "~")


def _unpacked(content: Content, rows: Sequence[Row]) -> str:
    if len(rows) != content.chunks:
        raise LookupError(f"{len(rows)} of {content.chunks} content rows of {content.name} are there")
    packed = b"".join(bytes(row.values[f"c{n:02d}"]) for row in rows for n in range(len(row.values)))  # type: ignore[arg-type]
    return zlib.decompress(packed).decode()


def _rows(name: str, packed: bytes) -> Iterator[Row]:
    per_row = CHUNK_BYTES * CHUNKS_PER_ROW
    for number, start in enumerate(range(0, len(packed), per_row)):
        part = packed[start : start + per_row]
        pieces = range(0, len(part), CHUNK_BYTES)
        values = {f"c{n:02d}": part[at : at + CHUNK_BYTES] for n, at in enumerate(pieces)}
        yield Row(f"{name}|{number:04d}", dict(values))
