"""The contract of a `Table`, for every implementation."""

import asyncio

import pytest

from shared.adapters.azure_tables import limits
from shared.errors import RowConflict
from shared.ports.tables import Delete, Insert, Merge, Put, Row

ALL = ("", "~")
VALUES = {
    "text": "Zwei Türme, 宇宙, \U0001f469\U0001f3fd‍\U0001f680, NUL \x00, line \u2028 and 'quotes' \" \\ --batch_baton\r\nHTTP/1.1 500 no",
    "empty": "",
    "small": -7,
    "int32": 2**31 - 1,
    "int64": 2**31,
    "least": -(2**63),
    "yes": True,
    "no": False,
    "data": bytes(range(256)),
    "nothing": b"",
}


@pytest.fixture
async def table(new_table):
    return await new_table()


async def keys(table, *bounds, **options):
    return [row.key for row in await table.query("p", *(bounds or ALL), **options)]


async def test_a_missing_row_is_none(table):
    assert await table.get("p", "run|1") is None
    assert await keys(table) == []


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "in a transaction"])
async def test_values_are_read_as_they_were_written(table, others):
    etag = await table.write(
        "p", [Insert(Row("a", VALUES)), *(Insert(Row(f"b{n}", {})) for n in range(others))]
    )
    (listed, *_) = await table.query("p", *ALL)
    for row in (await table.get("p", "a"), listed):
        assert row == Row("a", VALUES, etag)
        assert {name: type(value) for name, value in row.values.items()} == {
            name: type(value) for name, value in VALUES.items()
        }


@pytest.mark.parametrize(
    "key", ["run|1", "it's", "50% + a&b=c; $x", "a b", "{[(|)]}", "ü宇\U0001f469", "%7C", "x" * 512]
)
async def test_any_allowed_key_can_be_written(table, key):
    etag = await table.write(key, [Insert(Row(key, {"n": 1}))])
    assert await table.get(key, key) == Row(key, {"n": 1}, etag)
    assert await table.query(key, key, f"{key}!") == [Row(key, {"n": 1}, etag)]
    again = await table.write(key, [Put(Row(key, {"n": 2}), etag), Insert(Row("other", {}))])
    assert await table.get(key, key) == Row(key, {"n": 2}, again)
    await table.write(key, [Merge(Row(key, {"m": 3})), Delete("other")])
    assert (await table.get(key, key)).values == {"n": 2, "m": 3}
    assert await table.write(key, [Delete(key)]) == ""
    assert await table.get(key, key) is None


async def test_partitions_do_not_share_rows(table):
    await table.write("p", [Insert(Row("a", {"in": "p"}))])
    await table.write("q", [Insert(Row("a", {"in": "q"}))])
    assert (await table.get("p", "a")).values == {"in": "p"}
    assert await keys(table) == ["a"]


async def test_put_replaces_and_merge_adds(table):
    await table.write("p", [Insert(Row("a", {"x": 1, "y": 1}))])
    await table.write("p", [Merge(Row("a", {"y": 2, "z": 2}))])
    assert (await table.get("p", "a")).values == {"x": 1, "y": 2, "z": 2}
    await table.write("p", [Put(Row("a", {"z": 3}))])
    assert (await table.get("p", "a")).values == {"z": 3}
    known = (await table.get("p", "a")).etag
    assert await table.write("p", [Merge(Row("a", {"x": 4}), known)]) != known
    assert (await table.get("p", "a")).values == {"x": 4, "z": 3}
    await table.write("p", [Put(Row("new", {"z": 4}))])
    assert (await table.get("p", "new")).values == {"z": 4}


async def test_every_write_gives_another_etag(table):
    etags = [await table.write("p", [Put(Row("a", {}))]) for _ in range(3)]
    etags.append(await table.write("p", [Put(Row("a", {})), Put(Row("b", {}))]))
    etags.append(await table.write("p", [Merge(Row("a", {})), Delete("b")]))
    assert len(set(etags)) == 5
    assert (await table.get("p", "a")).etag == etags[-1]
    assert await table.write("p", [Delete("a"), Put(Row("b", {}))]) == ""


REFUSED = {
    "insert over a row": Insert(Row("there", {})),
    "put over another version": Put(Row("there", {}), "W/\"datetime'2020-01-01T00%3A00%3A00Z'\""),
    "put over a row that is gone": Put(Row("gone", {}), "W/\"datetime'2020-01-01T00%3A00%3A00Z'\""),
    "merge into nothing": Merge(Row("gone", {"x": 2})),
    "merge into another version": Merge(Row("there", {}), "W/\"datetime'2020-01-01T00%3A00%3A00Z'\""),
    "merge into a row that is gone": Merge(Row("gone", {}), "W/\"datetime'2020-01-01T00%3A00%3A00Z'\""),
    "delete of nothing": Delete("gone"),
}


@pytest.mark.parametrize("place", ["alone", "first", "last"])
@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_a_conflict_names_its_row_and_nothing_is_written(table, refused, place):
    await table.write("p", [Insert(Row("there", {"x": 1})), Insert(Row("other", {"x": 1}))])
    around = [Put(Row("new", {})), Merge(Row("other", {"x": 2}))]
    writes = {"alone": [refused], "first": [refused, *around], "last": [*around, refused]}[place]
    with pytest.raises(RowConflict) as raised:
        await table.write("p", writes)
    assert str(raised.value) in ("there", "gone")
    assert [(row.key, row.values) for row in await table.query("p", *ALL)] == [
        ("other", {"x": 1}),
        ("there", {"x": 1}),
    ]


async def test_of_many_writers_one_wins(table):
    etag = await table.write("p", [Insert(Row("a", {"by": -1}))])

    async def attempt(number):
        row = Row("a", {"by": number})
        writes = [Put(row, etag), *([Put(Row("b", {}))] if number % 2 else [])]
        try:
            return number if await table.write("p", writes) else None
        except RowConflict:
            return None

    winners = [number for number in await asyncio.gather(*map(attempt, range(20))) if number is not None]
    assert len(winners) == 1
    assert (await table.get("p", "a")).values == {"by": winners[0]}


async def test_a_query_keeps_to_its_bounds_and_order(table):
    names = ["run|", "run|b", "run|a", "run|a0", "run}", "runs", "pending|z", "ses|a"]
    await table.write("p", [Insert(Row(name, {})) for name in names])
    assert await keys(table, "run|", "run}") == ["run|", "run|a", "run|a0", "run|b"]
    assert await keys(table, "run|a0", "run}") == ["run|a0", "run|b"]
    assert await keys(table, "run|a", "run|a") == []
    assert await keys(table) == sorted(names)


async def test_a_query_filters_and_stops_at_its_limit(table):
    owners = ["ann", "o'hara' or 'a' eq 'a", "ann", "ann"]
    await table.write(
        "p", [Insert(Row(f"{n}", {"owner": owner, "n": "x"})) for n, owner in enumerate(owners)]
    )
    await table.write("p", [Insert(Row("4", {"n": "x"}))])
    assert await keys(table, where={"owner": "ann"}) == ["0", "2", "3"]
    assert await keys(table, where={"owner": "o'hara' or 'a' eq 'a"}) == ["1"]
    assert await keys(table, where={"owner": "ann", "n": "y"}) == []
    assert await keys(table, limit=2) == ["0", "1"]
    assert await keys(table, limit=0) == []
    assert await keys(table, where={"owner": "ann", "n": "x"}, limit=2) == ["0", "2"]


async def test_a_query_reads_all_pages(table):
    every = [f"{number:04d}" for number in range(1005)]
    for start in range(0, len(every), limits.MAX_WRITES):
        chunk = every[start : start + limits.MAX_WRITES]
        await table.write("p", [Insert(Row(key, {})) for key in chunk])
    assert await keys(table) == every
    assert await keys(table, limit=1003) == every[:1003]


async def test_partitions_are_queried_concurrently(table):
    for shard in ("00", "01", "02"):
        await table.write(shard, [Insert(Row(f"{shard}{n}", {"owner": "ann"})) for n in range(4)])
    bounds = {"00": ("", "~"), "01": ("012", "~"), "02": ("", "~"), "03": ("", "~")}
    found = await table.query_each(bounds, where={"owner": "ann"}, limit=3)
    assert [row.key for row in found] == ["000", "001", "002", "012", "013", "020", "021", "022"]


LARGEST = limits.MAX_VALUE_BYTES
TOO_MUCH = {
    "nothing": [],
    "101 writes": [Delete(f"{n}") for n in range(101)],
    "one row twice": [Put(Row("a", {})), Delete("a")],
    "long text": [Put(Row("a", {"x": "x" * (LARGEST // 2 + 1)}))],
    "long text beyond the BMP": [Put(Row("a", {"x": "\U0001f469" * (LARGEST // 4 + 1)}))],
    "long data": [Put(Row("a", {"x": b"x" * (LARGEST + 1)}))],
    "253 properties": [Put(Row("a", {f"x{n}": n for n in range(253)}))],
    "a row over 1 MiB": [Put(Row("a", {f"x{n}": b"x" * LARGEST for n in range(16)}))],
    "a transaction over 4 MiB": [
        Put(Row(f"{n}", {f"x{m}": b"x" * LARGEST for m in range(15)})) for n in range(4)
    ],
    "int beyond 64 bits": [Put(Row("a", {"x": 2**63}))],
    "no value": [Put(Row("a", {"x": None}))],
    "fraction": [Put(Row("a", {"x": 0.5}))],
    "lone surrogate": [Put(Row("a", {"x": "\ud800"}))],
    "reserved name": [Put(Row("a", {"Timestamp": "now"}))],
    "name that is none": [Put(Row("a", {"a-b": 1}))],
    **{
        f"key {key[:3]!r}": [Delete(key)]
        for key in ("a/b", "a\\b", "a#", "a?", "\t", "\x7f", "\ud800", "x" * 513)
    },
}


@pytest.mark.parametrize("writes", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_a_write_that_the_storage_would_refuse_is_never_sent(table, writes):
    with pytest.raises(ValueError):
        await table.write("p", writes)
    assert await keys(table) == []


async def test_a_bad_key_is_refused_when_read(table):
    with pytest.raises(ValueError, match="forbids"):
        await table.get("p", "a/b")


# aiohttp warns that one write of over 1 MiB takes a while; Baton's own rows stay below that.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_the_largest_allowed_write_succeeds(table):
    # Azurite counts the base64 of a row's data, so 11 values and not 15 are the most that fit in there.
    full = {f"x{n}": bytes([n]) * LARGEST for n in range(11)}
    await table.write("p", [Put(Row("data", full)), Put(Row("more", full)), Put(Row("third", full))])
    await table.write("p", [Put(Row("text", {"x": "宇" * (LARGEST // 2)}))])
    await table.write("p", [Put(Row("wide", {f"x{n}": n for n in range(252)}))])
    await table.write("q", [Put(Row(f"{n}", {"n": n})) for n in range(100)])
    assert (await table.get("p", "third")).values == full
    assert (await table.get("p", "text")).values == {"x": "宇" * (LARGEST // 2)}
    assert len(await table.query("q", *ALL)) == 100
