"""`Table`: for all reads and writes, of one writer or two at once, memory and Azurite have the same outcome."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis.stateful import RuleBasedStateMachine, rule

from shared.adapters.azure_tables import table
from shared.ports.tables import Delete, Insert, Merge, Put, Row, Table, Write
from tests.proofs.store_model import table_data as data
from tests.proofs.store_model.table_data import Planned
from tests.proofs.store_model.twin import (
    LONGEST_SECONDS,
    Azurite,
    Outcome,
    Tally,
    Twin,
    agreed_by,
    explore,
    outcome_of,
    plain,
    same_error,
)

EXAMPLES = 20
# Fewer than most queries find, so that they go over several pages.
ROWS_PER_PAGE = 2


class TableMachine(RuleBasedStateMachine):
    def __init__(self, azurite: Azurite, tally: Tally) -> None:
        super().__init__()
        self._azurite, self._tally = azurite, tally
        self._twin = azurite.new_twin()

    def teardown(self) -> None:
        self._azurite.drop(self._twin)

    # One rule for all: with several rules, hypothesis leaves out most of them in each example.
    @rule(step=data.any_step())
    def step(self, step: tuple[str, dict[str, Any]]) -> None:
        name, arguments = step
        getattr(self, f"_{name}")(**arguments)

    def _both(self, name: str, operation: Callable[[Table, int], Awaitable[Any]]) -> tuple[Outcome, Outcome]:
        """Carry out an operation on the model and on the system. It gets the table and the side (0 or 1)."""

        async def run() -> list[Outcome]:
            return [await outcome_of(operation(table, side)) for side, table in enumerate(self._twin.tables)]

        model, system = self._azurite.run(run())
        self._tally[f"{name}: {model.kind}"] += 1
        same_error(model, system)
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

    _transaction = _write

    def _two_at_once(self, partition: str, writers: tuple[Sequence[Planned], Sequence[Planned]]) -> None:
        """Let two writers that know the same versions write at once. The system may order them in either way."""
        one, other = writers
        writes = [
            [[plan.on(side, self._twin, partition) for plan in plans] for plans in (one, other)]
            for side in (0, 1)
        ]

        async def at_once() -> list[Outcome]:
            return await asyncio.gather(
                *(outcome_of(self._twin.system.write(partition, each)) for each in writes[1])
            )

        system = self._azurite.run(at_once())
        self._twin = agreed_by(
            [self._attempt(partition, writes[0], system, order) for order in ((0, 1), (1, 0))]
        )
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
        """Return the twin after the model's writes in this order, or the difference from the system."""
        twin = self._twin.fork()

        async def in_order() -> dict[int, Outcome]:
            model = {at: await outcome_of(twin.model.write(partition, writers[at])) for at in order}
            await twin.compare(partition)
            return model

        try:
            model = self._azurite.run(in_order())
            for at in order:
                same_error(model[at], system[at])
                first = writers[at][0]
                if not model[at].error:
                    key = first.key if isinstance(first, Delete) else first.row.key
                    twin.same_etag(partition, key, model[at].value, system[at].value)
        except AssertionError as difference:
            return difference
        return twin

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
        assert [plain(row) for row in model.value] == [plain(row) for row in system.value]

    def _any_key(self, key: str) -> None:
        """Write, change and delete a row whose key and partition have any characters."""
        self._both("any key", lambda table, _: table.write(key, [Put(Row(key, {"x": key}))]))
        self._compare(key)
        self._both("any key", lambda table, _: table.write(key, [Insert(Row(key, {}))]))
        self._both(
            "any key", lambda table, _: table.write(key, [Merge(Row(key, {})), Put(Row(f"{key}!", {}))])
        )
        self._both("any key", lambda table, _: table.write(key, [Delete(key)]))
        self._compare(key)

    def _limit(self, what: str) -> None:
        if what in data.BAD_KEYS:
            self._bad_key(what)
        elif what in data.TOO_MUCH:
            model, _ = self._both("too much", lambda table, _: table.write("00", data.TOO_MUCH[what]))
            assert model.kind == "ValueError"
            self._compare("00")
        else:
            # In a partition of its own, because the rows would slow down every later step.
            model, _ = self._both("full", lambda table, _: table.write("full", data.FULL[what]))
            assert not model.error
            self._compare("full")

    def _bad_key(self, key: str) -> None:
        for operation in (
            lambda table, _: table.get("00", key),
            lambda table, _: table.get(key, "a"),
            lambda table, _: table.write(key, [Delete("a")]),
            lambda table, _: table.write("00", [Put(Row("a", {})), Delete(key)]),
        ):
            model, _ = self._both("bad key", operation)
            assert model.kind == "ValueError"
        self._compare("00")


# Only outcomes that even a few examples have often.
REACHED = {
    *(f"write {kind}: done" for kind in ("Insert", "Put", "Merge", "Delete", "several")),
    *(f"write {kind}: RowConflict" for kind in ("Insert", "Put", "Merge", "Delete", "several")),
    "two writers of one row: RowConflict and done",
    "two writers of one row: done and done",
    "query: no rows",
    "query: all rows",
    "query: rows up to its limit",
    "query by values: all rows",
    "query each: done",
    "any key: done",
    "any key: RowConflict",
    "too much: ValueError",
    "bad key: ValueError",
    "full: done",
}


@pytest.mark.timeout(LONGEST_SECONDS)
def test_memory_and_azurite_are_the_same_table(azurite, monkeypatch):
    monkeypatch.setattr(table, "ROWS_PER_PAGE", ROWS_PER_PAGE)
    tally = Tally()
    explore(lambda: TableMachine(azurite, tally), few=EXAMPLES)
    tally.show(REACHED)
