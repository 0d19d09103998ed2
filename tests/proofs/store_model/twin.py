"""Compares two implementations of a table: one in memory (the model), one in Azurite (the system)."""

import asyncio
import copy
import json
import os
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import hypothesis
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from shared.adapters.azure_tables.account import TableAccount
from shared.adapters.azure_tables.table import AzureTable, TableStorage
from shared.errors import RowConflict, StorageUnavailable
from shared.ports.tables import Row, Table
from tests.support.memory_table import MemoryTable

# Sorts after every key of these tests. Beyond U+FFFF the model sorts by code point and the storage by UTF-16, so no
# key has such characters. Baton's own keys are ASCII.
LAST_KEY = "\uffff"
STEPS = 50
# The time limit of a test with very many examples.
LONGEST_SECONDS = 4 * 3600
# The environment variable with a number of examples, which are different each time. Without it, a few fixed examples run.
EXAMPLES = "STORE_MODEL_EXAMPLES"

_JSON = {"Accept": "application/json;odata=nometadata", "Content-Type": "application/json"}


@dataclass(frozen=True)
class Outcome:
    """The outcome of an operation: a value, or the error that it raised, as text."""

    value: object = None
    error: str = ""

    @property
    def kind(self) -> str:
        return self.error.partition(":")[0] or "done"


async def outcome_of(operation: Awaitable[object]) -> Outcome:
    try:
        return Outcome(await operation)
    except (RowConflict, StorageUnavailable, ValueError, LookupError) as error:
        return Outcome(error=f"{type(error).__name__}: {error}")


def plain(row: Row) -> object:
    """Return a row without its etag, and with the types of its values, so that True is not equal to 1."""
    return row.key, {name: (type(value).__name__, value) for name, value in row.values.items()}


@dataclass
class Twin:
    """A table and its model, and the pairs of their etags that belong to the same version of a row."""

    model: MemoryTable
    system: AzureTable
    # For each partition, its keys at the last comparison.
    present: dict[str, set[str]] = field(default_factory=dict)
    _versions: dict[tuple[str, str], dict[str, tuple[Row, Row]]] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[Table, Table]:
        return self.model, self.system

    def versions(self, partition: str, key: str) -> list[tuple[Row, Row]]:
        """Return every version of a row that was seen, as the model's row and the system's, oldest first."""
        return list(self._versions.get((partition, key), {}).values())

    def fork(self) -> "Twin":
        """Return a twin with a copy of the model, which can change without the original."""
        versions = {key: dict(known) for key, known in self._versions.items()}
        return Twin(copy.deepcopy(self.model), self.system, dict(self.present), versions)

    async def compare(self, partition: str) -> None:
        """Compare all rows of a partition."""
        model, system = [await table.query(partition, "", LAST_KEY) for table in self.tables]
        self.same_rows(partition, model, system)
        self.present[partition] = {row.key for row in model}

    def same_rows(self, partition: str, model: list[Row], system: list[Row]) -> None:
        ours, theirs = [[plain(row) for row in found] for found in (model, system)]
        assert ours == theirs, f"in {partition!r} the model has {ours}, the system {theirs}"
        for row, other in zip(model, system, strict=True):
            self._same_version(partition, row, other)

    def _same_version(self, partition: str, model: Row, system: Row) -> None:
        known = self._versions.setdefault((partition, model.key), {})
        if model.etag not in known:
            assert system.etag not in {theirs.etag for _, theirs in known.values()}, (
                "a new version has an old etag"
            )
            known[model.etag] = (model, system)
        assert known[model.etag][1].etag == system.etag, "a version has changed its etag"

    def same_etag(self, partition: str, key: str, model: str, system: str) -> None:
        """Compare the etags that an operation returned with those of the rows that were read after it."""
        assert bool(model) == bool(system), "only one of them returns an etag"
        known = {ours.etag: theirs.etag for ours, theirs in self.versions(partition, key)}
        assert (model in known) == (system in known.values()), (
            "only one of them returns the etag of a stored row"
        )
        assert known.get(model, system) == system, "they return etags of different versions"


def same_error(model: Outcome, system: Outcome) -> None:
    assert model.error == system.error, f"the outcome of the model is {model}, that of the system {system}"


def agreed_by(attempts: Sequence[Twin | AssertionError]) -> Twin:
    """Return the first attempt of the model that has the outcome of the system."""
    for attempt in attempts:
        if isinstance(attempt, Twin):
            return attempt
    raise AssertionError("in no order has the model this outcome:\n" + "\n".join(map(str, attempts)))


class Azurite:
    """Tables in Azurite, for code that is not asynchronous, because hypothesis calls its machines synchronously."""

    def __init__(self, connection_string: str) -> None:
        self._runner = asyncio.Runner()
        self._storage = TableStorage(TableAccount.from_connection_string(connection_string))
        self.run = self._runner.run

    def close(self) -> None:
        self.run(self._storage.close())
        self._runner.close()

    def new_twin(self) -> Twin:
        name = f"t{secrets.token_hex(8)}"
        body = json.dumps({"TableName": name})
        assert self.run(self._storage.send("POST", "/Tables", _JSON, body)).status_code == 201
        return Twin(MemoryTable(), self._storage.table(name))

    def drop(self, twin: Twin) -> None:
        reply = self.run(self._storage.send("DELETE", f"/Tables('{twin.system.name}')", _JSON))
        assert reply.status_code == 204


class Tally(Counter[str]):
    """How often each rule had each kind of outcome."""

    def show(self, wanted: set[str]) -> None:
        """Print all counts, and raise AssertionError when one of `wanted` was never reached."""
        print("\n".join(f"{count:8,}  {what}" for what, count in sorted(self.items())))
        assert self.keys() >= wanted, f"never reached: {sorted(wanted - self.keys())}"


def explore(machine: Callable[[], RuleBasedStateMachine], few: int) -> None:
    """Run a machine through examples of `STEPS` steps."""
    wanted = os.environ.get(EXAMPLES)
    run_state_machine_as_test(
        machine,
        settings=hypothesis.settings(
            max_examples=int(wanted or few),
            stateful_step_count=STEPS,
            derandomize=not wanted,
            database=None,
            deadline=None,
            print_blob=False,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
