"""Each operation of a table under each fault: what the adapter returns, and what the table has then."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from shared.adapters.azure_tables import table
from shared.adapters.azure_tables.account import TableAccount, create_missing_tables
from shared.adapters.azure_tables.table import AzureTable, TableStorage
from shared.errors import RowConflict, StorageUnavailable
from shared.ports.tables import Delete, Insert, Merge, Put, Row, Value, Write
from tests.proofs.faults.network import Fault, FaultRule, Network

TIMES = pytest.mark.parametrize("times", [1, None], ids=["once", "lasting"])
PAGE = 2
OLD: Mapping[str, Value] = {"kept": "old", "n": 1}
NEW: Mapping[str, Value] = {"kept": "new", "n": 2, "bytes": b"\x00\xff"}
# The rows that exist before each operation.
KEYS = ("a", "b", "c", "d", "e")

Rows = dict[str, Row]


@dataclass
class Lane:
    """One partition, reached over a network with faults (`faulty`) and without one (`plain`)."""

    network: Network
    faulty: AzureTable
    plain: AzureTable
    partition: str

    async def rows(self) -> Rows:
        return {row.key: row for row in await self.plain.query(self.partition, "", "~")}


READS: Mapping[str, Callable[[AzureTable, str], Awaitable[Any]]] = {
    "get of a row": lambda table, partition: table.get(partition, "b"),
    "get of none": lambda table, partition: table.get(partition, "none"),
    "query": lambda table, partition: table.query(partition, "a", "d"),
    "query of one page": lambda table, partition: table.query(partition, "a", "z", limit=PAGE),
    "query without an answer": lambda table, partition: table.query(partition, "x", "z"),
    "query_each": lambda table, partition: table.query_each(
        {partition: ("a", "c"), f"{partition}x": ("a", "z")}, where={"kept": "old"}, limit=PAGE
    ),
}

# Each takes the rows as they were read, with their etags.
WRITES: Mapping[str, Callable[[Rows], Sequence[Write]]] = {
    "insert": lambda _: [Insert(Row("new", NEW))],
    "put of a new row": lambda _: [Put(Row("new", NEW))],
    "put over a row": lambda _: [Put(Row("a", NEW))],
    "put on a condition": lambda rows: [Put(Row("a", NEW), rows["a"].etag)],
    "merge": lambda _: [Merge(Row("a", {"n": 2}))],
    "merge on a condition": lambda rows: [Merge(Row("a", {"n": 2}), rows["a"].etag)],
    "delete": lambda _: [Delete("a")],
    "transaction": lambda rows: [
        Put(Row("a", NEW), rows["a"].etag),
        Insert(Row("new", NEW)),
        Merge(Row("b", {"n": 2})),
        Put(Row("c", NEW)),
        Delete("d"),
    ],
    "transaction of deletes": lambda _: [Delete("a"), Delete("b")],
}
STALE = "W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\""
# Writes that a table has to refuse.
REFUSED: Mapping[str, Callable[[Rows], Sequence[Write]]] = {
    "insert of a row that is there": lambda _: [Insert(Row("a", NEW))],
    "put on a condition that does not hold": lambda _: [Put(Row("a", NEW), STALE)],
    "merge into none": lambda _: [Merge(Row("none", NEW))],
    "merge on a condition that does not hold": lambda _: [Merge(Row("a", NEW), STALE)],
    "delete of none": lambda _: [Delete("none")],
    "transaction on a condition that does not hold": lambda _: [
        Put(Row("a", NEW), STALE),
        Insert(Row("new", NEW)),
    ],
    "transaction whose last write is refused": lambda _: [Put(Row("b", NEW)), Insert(Row("a", NEW))],
}


def after(rows: Rows, writes: Sequence[Write]) -> dict[str, dict[str, Value]]:
    """Return the values of the rows after all the writes."""
    values = {key: dict(row.values) for key, row in rows.items()}
    for write in writes:
        match write:
            case Delete(key):
                del values[key]
            case Merge(row):
                values[row.key] |= row.values
            case Insert(row) | Put(row):
                values[row.key] = dict(row.values)
    return values


def values_of(rows: Rows) -> dict[str, dict[str, Value]]:
    return {key: dict(row.values) for key, row in rows.items()}


@dataclass
class Lab:
    """Runs checks on lanes. When replies stall, each check has a lane of its own, and all wait at the same time."""

    account: TableAccount
    table: str

    async def each(
        self, fault: Fault, names: Sequence[str], check: Callable[[Lane, str], Awaitable[None]]
    ) -> None:
        lanes = [[name] for name in names] if fault.stalls else [names]
        await asyncio.gather(*(self._lane(names, check) for names in lanes))

    async def _lane(self, names: Sequence[str], check: Callable[[Lane, str], Awaitable[None]]) -> None:
        async with Network() as network:
            direct = TableStorage(self.account)
            faulty = TableStorage(
                replace(self.account, endpoint=await network.link("table", self.account.endpoint))
            )
            try:
                for name in names:
                    partition = secrets.token_hex(8)
                    lane = Lane(network, faulty.table(self.table), direct.table(self.table), partition)
                    await lane.plain.write(partition, [Insert(Row(key, OLD)) for key in KEYS])
                    try:
                        await check(lane, name)
                    except AssertionError as failure:
                        failure.add_note(name)
                        raise
            finally:
                await faulty.close()
                await direct.close()


@pytest.fixture
async def lab(account: TableAccount) -> Lab:
    table = f"faults{secrets.token_hex(8)}"
    await create_missing_tables(account, [table])
    return Lab(account, table)


@TIMES
@pytest.mark.parametrize("fault", Fault)
async def test_a_read_is_right_or_fails(fault, times, lab, hasten, counted):
    hasten(fault)

    async def check(lane: Lane, name: str) -> None:
        expected = await READS[name](lane.plain, lane.partition)
        lane.network.inject(rule := FaultRule(fault, times=times))
        try:
            found = await READS[name](lane.faulty, lane.partition)
        except StorageUnavailable:
            assert times is None or fault is Fault.CUT_UNSEEN, "the adapter repeats after one failure"
        else:
            assert found == expected
            assert times, "no request can have arrived"
        assert rule.applied, "the fault was not applied"
        lane.network.rule = None
        assert await READS[name](lane.faulty, lane.partition) == expected

    await lab.each(fault, list(READS), check)
    counted("reads of a table x faults", len(READS))


@pytest.mark.parametrize("fault", Fault)
async def test_no_page_is_lost_or_read_twice(fault, lab, hasten, counted, monkeypatch):
    hasten(fault)
    monkeypatch.setattr(table, "ROWS_PER_PAGE", PAGE)
    pages = ["1", "2", "3"]

    async def check(lane: Lane, page: str) -> None:
        lane.network.inject(rule := FaultRule(fault, nth=int(page)))
        try:
            found = await lane.faulty.query(lane.partition, "a", "z", limit=len(KEYS))
        except StorageUnavailable:
            assert fault is Fault.CUT_UNSEEN
        else:
            assert [row.key for row in found] == list(KEYS)
        assert rule.applied, "the fault was not applied"

    await lab.each(fault, pages, check)
    counted("pages of a query x faults", len(pages))


@TIMES
@pytest.mark.parametrize("fault", Fault)
async def test_a_write_is_carried_out_or_fails(fault, times, lab, hasten, counted):
    """A write may meet a conflict with itself if it arrived twice. The store finds this out, not the table."""
    hasten(fault)

    async def check(lane: Lane, name: str) -> None:
        before = await lane.rows()
        writes = WRITES[name](before)
        lane.network.inject(rule := FaultRule(fault, times=times))
        came = fault.arrives
        try:
            etag = await lane.faulty.write(lane.partition, writes)
        except StorageUnavailable:
            assert times is None or fault is Fault.CUT_UNSEEN, "the adapter repeats after one failure"
        except RowConflict:
            assert times, "the table reported no conflict"
            assert fault.arrives, "no other client wrote"
        else:
            came = True
            check_etag(etag, await lane.rows(), writes, fault)
        assert rule.applied, "the fault was not applied"
        lane.network.rule = None
        assert values_of(await lane.rows()) == (after(before, writes) if came else values_of(before))
        await lane.network.settle()
        late = fault is Fault.LATE
        assert values_of(await lane.rows()) == (after(before, writes) if came or late else values_of(before))

    await lab.each(fault, list(WRITES), check)
    counted("writes to a table x faults", len(WRITES))


def check_etag(etag: str, rows: Rows, writes: Sequence[Write], fault: Fault) -> None:
    first = writes[0]
    if isinstance(first, Delete):
        assert etag == ""
    elif fault is Fault.LATE and (isinstance(first, Merge | Put) and not first.etag):
        # A write without a condition is made again by the late request: the values are the same, the etag is new.
        assert etag
    else:
        assert etag == rows[first.row.key].etag


@TIMES
@pytest.mark.parametrize("fault", Fault)
async def test_a_write_that_the_table_refuses_never_succeeds(fault, times, lab, hasten, counted):
    hasten(fault)

    async def check(lane: Lane, name: str) -> None:
        before = await lane.rows()
        lane.network.inject(rule := FaultRule(fault, times=times))
        with pytest.raises((RowConflict, StorageUnavailable)) as refusal:
            await lane.faulty.write(lane.partition, REFUSED[name](before))
        assert rule.applied, "the fault was not applied"
        if times and fault is not Fault.CUT_UNSEEN:
            assert refusal.type is RowConflict
        if times is None:
            assert refusal.type is StorageUnavailable
        await lane.network.settle()
        assert await lane.rows() == before

    await lab.each(fault, list(REFUSED), check)
    counted("writes that are refused x faults", len(REFUSED))
