"""`Table`: whatever is read and written, by one writer or two at once, memory and Azurite say the same."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from shared.adapters import table_limits as limits
from shared.adapters import tables
from shared.ports import Delete, Insert, Merge, Put, Row, Value, Write
from tests.store_model.twin import LAST_KEY, Azurite, Outcome, Tally, Twin, explore, outcome_of

EXAMPLES = 30
# Fewer than most queries find, so that they go over several pages.
ROWS_PER_PAGE = 2

PARTITIONS = ("00", "it's 50%")
KEYS = ("", "a", "A", "a|", "a|b", "it's 50% + a&b=c; $x", "{[(|)]}", "%7C", "..", "ü宇\ufb01")
BOUNDS = (*KEYS, "a}", "b", "~", LAST_KEY)
FRAME = "--batch_baton\r\nHTTP/1.1 500 no\r\n\r\n"
# For a version of a row that never was, in memory and in the storage.
NEVER = ("never", "W/\"datetime'2020-01-01T00%3A00%3A00Z'\"")
LARGEST = limits.MAX_VALUE_BYTES

texts = st.sampled_from(["", "x", "\x00", "'", FRAME, "宇\U0001f469\U0001f3fd\u200d\U0001f680"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=9
)
edges = st.sampled_from([0, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63)])
any_value: st.SearchStrategy[Value] = texts | edges | st.booleans() | st.binary(max_size=9)
# What queries select by is always text, as in Baton. Azurite finds whole numbers beyond 32 bits and bytes
# by the text that it keeps for them; the storage itself does not.
owners = st.sampled_from(["ann", "ann", "o'hara", ""])
others = st.tuples(st.sampled_from(["x", "ETag", "宇"]), any_value)
values = st.builds(
    lambda owner, status, some: dict(some) | {"owner": owner} | status,
    owners,
    st.sampled_from([{}, {"status": ""}, {"status": "done"}]),
    st.lists(others, max_size=3),
)
where = st.sampled_from(
    [
        *(
            {"owner": "ann"},
            {"owner": "ann"},
            {"owner": "o'hara"},
            {"owner": ""},
            {"owner": "' or '1' eq '1"},
        ),
        *({"status": "done"}, {"status": ""}, {"owner": "ann", "status": "done"}),
    ]
)
limit = st.none() | st.integers(0, 5)
partitions = st.sampled_from(PARTITIONS)
bounds = st.one_of(
    st.just(("", LAST_KEY)),
    st.tuples(st.sampled_from(["", "A", "a"]), st.sampled_from(BOUNDS)),
    st.tuples(st.sampled_from(BOUNDS), st.sampled_from(BOUNDS)),
)
odd_keys = st.text(
    st.characters(max_codepoint=0xFFFE, exclude_categories=["Cs", "Cc"], exclude_characters="/\\#?\ufeff"),
    max_size=40,
)


@dataclass(frozen=True)
class Planned:
    """A write that is still to be fitted to what a row is now, and to the etags of its side.

    `version` 0 is the newest that was seen, 1 the one before and so on; None demands nothing. With `fits`
    the write becomes one that succeeds unless somebody else is faster.
    """

    kind: type[Write]
    key: str
    values: Mapping[str, Value]
    version: int | None
    fits: bool

    def on(self, side: int, twin: Twin, partition: str) -> Write:
        kind, version = self.kind, self.version
        if self.fits:
            there = self.key in twin.present.get(partition, ())
            version = None if version is None else 0
            if there and kind is Insert:
                kind, version = Put, 0
            elif not there and (kind in (Merge, Delete) or version is not None):
                kind = Insert
        row = Row(self.key, self.values)
        if kind is Put and version is not None:
            seen = twin.versions(partition, self.key)
            return Put(row, seen[-1 - version][side].etag if version < len(seen) else NEVER[side])
        return Delete(self.key) if kind is Delete else kind(row)


def planned(most: int, keys: Sequence[str] = KEYS) -> st.SearchStrategy[list[Planned]]:
    """Draw the writes of one transaction, at most so many."""
    plan = st.builds(
        Planned,
        st.sampled_from([Insert, Put, Put, Merge, Delete]),
        st.sampled_from(keys),
        values,
        st.sampled_from([None, 0, 0, 1, 2, 9]),
        st.sampled_from([True, True, True, True, False]),
    )
    return st.lists(plan, min_size=1, max_size=most, unique_by=lambda each: each.key)


def crowded(most: int) -> st.SearchStrategy[list[Planned]]:
    """Draw writes among few rows, so that two writers meet."""
    return planned(most, KEYS[:4])


def _row(key: str = "k", **values: object) -> Put:
    return Put(Row(key, values))  # type: ignore[arg-type]


TOO_MUCH: dict[str, Sequence[Write]] = {
    "nothing": [],
    "101 writes": [Delete(f"{n}") for n in range(101)],
    "one row twice": [_row("a"), Delete("a")],
    "long text": [_row(x="x" * (LARGEST // 2 + 1))],
    "long text beyond the BMP": [_row(x="\U0001f469" * (LARGEST // 4 + 1))],
    "long data": [_row(x=b"x" * (LARGEST + 1))],
    "long data among others": [_row("a"), Delete("b"), _row(x=b"x" * (LARGEST + 1))],
    "253 properties": [_row(**{f"x{n}": n for n in range(253)})],
    "a row over 1 MiB": [_row(**{f"x{n}": b"x" * LARGEST for n in range(16)})],
    "a transaction over 4 MiB": [
        _row(f"{n}", **{f"x{m}": b"x" * LARGEST for m in range(15)}) for n in range(4)
    ],
    "an int beyond 64 bits": [_row(x=2**63)],
    "no value": [_row(x=None)],
    "a fraction": [_row(x=0.5)],
    "a lone surrogate": [_row(x="\ud800")],
    "a reserved name": [_row(RowKey="k")],
    "a name that is none": [_row(**{"a-b": 1})],
    "a long name": [_row(**{"x" * 256: 1})],
}
BAD_KEYS = ("a/b", "a\\b", "a#", "a?", "\t", "\x00", "\x7f", "\x9f", "\ud800", "x" * 513, "\U0001f469" * 257)
FULL: dict[str, Sequence[Write]] = {
    "100 writes": [_row(f"n{n:02d}", n=n) for n in range(100)],
    "252 properties": [_row("wide", **{f"x{n}": n for n in range(252)})],
    "a name of 255": [_row("named", **{"x" * 255: 1})],
    "a key of 512": [_row("k" * 512)],
    "64 KiB of data": [_row("data", x=b"\xff" * LARGEST), _row("more", x=b"\x00" * LARGEST, y=b"")],
    "64 KiB of text": [_row("text", x="x" * (LARGEST // 2), y="宇" * (LARGEST // 2))],
}


# The arguments of each kind of step.
STEPS: Mapping[str, Mapping[str, st.SearchStrategy]] = {
    "write": {"partition": partitions, "plans": planned(1)},
    "transaction": {"partition": partitions, "plans": planned(6)},
    "get": {"partition": partitions, "key": st.sampled_from(KEYS)},
    "query": {"partition": partitions, "ends": bounds, "where": st.none() | where, "limit": limit},
    "query_each": {
        "ends": st.dictionaries(partitions, bounds, min_size=1),
        "where": where,
        "limit": st.integers(0, 5),
    },
    "any_key": {"key": odd_keys},
    "limit": {"what": st.sampled_from([*BAD_KEYS, *TOO_MUCH, *FULL])},
}


@st.composite
def any_step(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    name = draw(
        st.sampled_from([*STEPS, "write", "write", "write", "transaction", "query", "query", "query"])
    )
    return name, {argument: draw(values) for argument, values in STEPS[name].items()}


class TableMachine(RuleBasedStateMachine):
    def __init__(self, azurite: Azurite, tally: Tally) -> None:
        super().__init__()
        self._azurite, self._tally = azurite, tally
        self._twin = azurite.new_twin()

    def teardown(self) -> None:
        self._azurite.drop(self._twin)

    @rule(step=any_step())
    def one_by_one(self, step: tuple[str, dict[str, Any]]) -> None:
        name, arguments = step
        getattr(self, f"_{name}")(**arguments)

    @rule(partition=partitions, writers=st.tuples(crowded(1), crowded(1)) | st.tuples(crowded(4), crowded(4)))
    def at_once(self, partition: str, writers: tuple[Sequence[Planned], Sequence[Planned]]) -> None:
        self._at_once(partition, *writers)

    def _both(self, name: str, operation) -> tuple[Outcome, Outcome]:
        """Carry out an operation on the model and on the system; it is given the table and the side."""

        async def run() -> list[Outcome]:
            return [await outcome_of(operation(table, side)) for side, table in enumerate(self._twin.tables)]

        model, system = self._azurite.run(run())
        self._tally[f"{name}: {model.kind}"] += 1
        assert model.error == system.error
        return model, system

    def _compare(self, partition: str) -> None:
        self._azurite.run(self._twin.compare(partition))

    def _write(self, partition: str, plans: Sequence[Planned]) -> None:
        writes = [[plan.on(side, self._twin, partition) for plan in plans] for side in (0, 1)]
        kind = type(writes[0][0]).__name__ if len(plans) == 1 else "several"
        model, system = self._both(f"write {kind}", lambda table, side: table.write(partition, writes[side]))
        self._compare(partition)
        if not model.error:
            self._twin.same_etag(partition, plans[0].key, model.value, system.value)

    def _at_once(self, partition: str, one: Sequence[Planned], other: Sequence[Planned]) -> None:
        """Both know the same versions; the system may take them in either order, but one after the other."""
        writers = [
            [[plan.on(side, self._twin, partition) for plan in plans] for plans in (one, other)]
            for side in (0, 1)
        ]

        async def at_once() -> list[Outcome]:
            return await asyncio.gather(
                *(outcome_of(self._twin.system.write(partition, writes)) for writes in writers[1])
            )

        system = self._azurite.run(at_once())
        attempts = [self._attempt(partition, writers[0], system, order) for order in ((0, 1), (1, 0))]
        agreed = next((each for each in attempts if isinstance(each, Twin)), None)
        assert agreed, f"in no order is it what the model does: {attempts}"
        self._twin = agreed
        kinds = sorted(each.kind for each in system)
        same_row = {plan.key for plan in one} & {plan.key for plan in other}
        self._tally[f"two writers{' of one row' if same_row else ''}: {' and '.join(kinds)}"] += 1

    def _attempt(
        self,
        partition: str,
        writers: Sequence[Sequence[Write]],
        system: Sequence[Outcome],
        order: Sequence[int],
    ) -> Twin | AssertionError:
        """Return the twin with what the model does in this order, or how that differs from the system."""
        twin = self._twin.fork()

        async def in_order() -> dict[int, Outcome]:
            model = {at: await outcome_of(twin.model.write(partition, writers[at])) for at in order}
            await twin.compare(partition)
            return model

        try:
            model = self._azurite.run(in_order())
            for at in order:
                assert model[at].error == system[at].error
                first = writers[at][0]
                if not model[at].error:
                    key = first.key if isinstance(first, Delete) else first.row.key
                    twin.same_etag(partition, key, model[at].value, system[at].value)
        except AssertionError as difference:
            return difference
        return twin

    _transaction = _write

    def _get(self, partition: str, key: str) -> None:
        model, system = self._both("get", lambda table, _: table.get(partition, key))
        found = [[each.value] if each.value else [] for each in (model, system)]
        self._twin.same_rows(partition, *found)

    def _query(self, partition: str, ends: tuple[str, str], where, limit: int | None) -> None:
        model, system = self._both(
            "query", lambda table, _: table.query(partition, *ends, where=where, limit=limit)
        )
        self._twin.same_rows(partition, model.value, system.value)
        found = len(model.value)
        count = "no rows" if not found else "rows up to its limit" if found == limit else "all rows"
        self._tally[f"query{' by values' if where else ''}: {count}"] += 1

    def _query_each(self, ends: Mapping[str, tuple[str, str]], where, limit: int) -> None:
        model, system = self._both(
            "query each", lambda table, _: table.query_each(ends, where=where, limit=limit)
        )
        assert [row.key for row in model.value] == [row.key for row in system.value]

    def _any_key(self, key: str) -> None:
        """A row comes, changes and goes under a key of any characters, which name its partition too."""
        self._both("any key", lambda table, _: table.write(key, [Put(Row(key, {"x": key}))]))
        self._compare(key)
        self._both("any key", lambda table, _: table.write(key, [Insert(Row(key, {}))]))
        self._both(
            "any key", lambda table, _: table.write(key, [Merge(Row(key, {})), Put(Row(f"{key}!", {}))])
        )
        self._both("any key", lambda table, _: table.write(key, [Delete(key)]))
        self._compare(key)

    def _limit(self, what: str) -> None:
        if what in BAD_KEYS:
            self._bad_key(what)
        elif what in TOO_MUCH:
            model, _ = self._both("too much", lambda table, _: table.write("00", TOO_MUCH[what]))
            assert model.kind == "ValueError"
            self._compare("00")
        else:
            # In a partition of its own: the rows would slow down every later step.
            model, _ = self._both("full", lambda table, _: table.write("full", FULL[what]))
            assert not model.error
            self._compare("full")

    def _bad_key(self, key: str) -> None:
        for operation in (
            lambda table, _: table.get("00", key),
            lambda table, _: table.get(key, "a"),
            lambda table, _: table.write(key, [Delete("a")]),
            lambda table, _: table.write("00", [_row("a"), Delete(key)]),
        ):
            model, _ = self._both("bad key", operation)
            assert model.kind == "ValueError"
        self._compare("00")


REACHED = {
    *(f"write {kind}: done" for kind in ("Insert", "Put", "Merge", "Delete", "several")),
    *(f"write {kind}: RowConflict" for kind in ("Insert", "Put", "Merge", "Delete", "several")),
    "two writers of one row: RowConflict and done",
    "two writers of one row: done and done",
    "two writers of one row: RowConflict and RowConflict",
    "query: no rows",
    "query: all rows",
    "query: rows up to its limit",
    "query by values: all rows",
    "query by values: rows up to its limit",
    "query each: done",
    "any key: done",
    "any key: RowConflict",
    "too much: ValueError",
    "bad key: ValueError",
    "full: done",
}


@pytest.fixture
def azurite(connection_string: str, monkeypatch) -> Iterator[Azurite]:
    monkeypatch.setattr(tables, "ROWS_PER_PAGE", ROWS_PER_PAGE)
    opened = Azurite(connection_string)
    yield opened
    opened.close()


@pytest.mark.timeout(0)
def test_memory_and_azurite_are_the_same_table(azurite):
    tally = Tally()
    explore(lambda: TableMachine(azurite, tally), few=EXAMPLES)
    print(tally.report())
    assert tally.keys() >= REACHED, f"never reached: {sorted(REACHED - tally.keys())}"
