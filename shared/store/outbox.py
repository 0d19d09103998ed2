"""The outbox: deliveries in the `runs` table, each written by the transition that caused it.

The contents of a delivery and its clock row are written and removed together. The key of the clock row holds
the time when it is due. The poll loop reads clock rows only, never the contents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shared.core.delivery import CancelResponse, ClockRow, Deliverable, Delivery
from shared.core.ids import shard_of
from shared.errors import RowConflict
from shared.ports.system import Randomness
from shared.ports.tables import Delete, Insert, Put, Row, Table, Value, Write
from shared.store import rows
from shared.store.transaction import new_tx, transact


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """A delivery as it was read, with the etag for a conditional write."""

    delivery: Delivery
    etag: str
    # All properties of its row, also those that a later version of this app has written.
    values: Mapping[str, Value]


class Outbox:
    """Reads deliveries, moves them to a later time and removes them."""

    def __init__(self, table: Table, randomness: Randomness) -> None:
        self._table = table
        self._randomness = randomness

    async def read(self, clock: ClockRow) -> StoredDelivery | None:
        """Return the delivery of a clock row, or None.

        The clock row is removed when its delivery does not exist or is due at another time.
        """
        row = await self._table.get(shard_of(clock.run_id), rows.delivery_key(clock.run_id, clock.name))
        delivery = read_delivery(row) if row else None
        if row and delivery and delivery.due == clock.due:
            return StoredDelivery(delivery, row.etag, row.values)
        # The clock row of an unreadable delivery is kept: a later version can still make the delivery.
        if row is None or delivery:
            await self._remove_clock(clock)
        return None

    async def move(self, stored: StoredDelivery, due: datetime) -> StoredDelivery:
        """Change when a delivery is due. Raises RowConflict when another process has moved or removed it."""
        delivery, moved = stored.delivery, replace(stored.delivery, due=due)
        tx = new_tx(self._randomness)
        values = {**stored.values, "due": rows.time_text(due), "tx": tx}
        row = Row(rows.delivery_key(delivery.run_id, delivery.name), values)
        writes: list[Write] = [
            Put(row, stored.etag),
            Delete(rows.clock_key(delivery.clock)),
            Insert(_clock(moved)),
        ]
        written = await transact(self._table, shard_of(delivery.run_id), row.key, tx, writes)
        return StoredDelivery(moved, written.etag, values)

    async def remove(self, stored: StoredDelivery) -> None:
        """Remove a delivery that was made or given up.

        If another process has moved it meanwhile, it stays.
        """
        try:
            await self._table.write(shard_of(stored.delivery.run_id), removal(stored.delivery))
        except RowConflict:
            return

    async def _remove_clock(self, clock: ClockRow) -> None:
        try:
            await self._table.write(shard_of(clock.run_id), [Delete(rows.clock_key(clock))])
        except RowConflict:
            return


def delivery_writes(deliveries: Sequence[Delivery], tx: str) -> list[Write]:
    """Return the writes that put new deliveries into the outbox."""
    return [Insert(row) for each in deliveries for row in (_contents(each, tx), _clock(each))]


def removal(delivery: Delivery) -> list[Write]:
    """Return the writes that remove a delivery with its clock row."""
    return [
        Delete(rows.delivery_key(delivery.run_id, delivery.name)),
        Delete(rows.clock_key(delivery.clock)),
    ]


def removal_of_row(row: Row) -> list[Write]:
    """Return the writes that remove a row of contents.

    When the row is unreadable, its clock row is not known. That one is removed when it is due.
    """
    delivery = read_delivery(row)
    return removal(delivery) if delivery else [Delete(row.key)]


def read_delivery(row: Row) -> Delivery | None:
    """Return the delivery of a row of contents.

    None when the row is broken or was written by a later version.
    """
    return rows.readable(_read, row)


@rows.reader
def read_clock(row: Row) -> ClockRow:
    """Return what the key of a clock row says. Raises UnreadableRow."""
    return ClockRow.parse(*row.key.partition("~")[2].split("|"))


def _contents(delivery: Delivery, tx: str) -> Row:
    values = rows.present(
        {
            **_content_values(delivery.content),
            "created_at": delivery.created_at,
            "due": delivery.due,
            "tx": tx,
        }
    )
    return Row(rows.delivery_key(delivery.run_id, delivery.name), values)


def _content_values(content: Deliverable) -> dict[str, Value]:
    match content:
        case CancelResponse(provider, response_id):
            return {"type": "cancel_response", "provider": provider, "response_id": response_id}


def _clock(delivery: Delivery) -> Row:
    return Row(rows.clock_key(delivery.clock), {})


@rows.reader
def _read(row: Row) -> Delivery:
    values = row.values
    _, run_id, name = row.key.split("|")
    if values["type"] != "cancel_response":
        raise ValueError(f"this version knows no delivery of type {values['type']!r}")
    return Delivery(
        run_id=run_id,
        name=name,
        content=CancelResponse(str(values["provider"]), str(values["response_id"])),
        created_at=rows.read_time(values, "created_at"),
        due=rows.read_time(values, "due"),
    )
