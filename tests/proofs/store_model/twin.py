"""The same table twice, held against itself: in memory as the model, in Azurite as the system."""

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

# After every key that these tests use. Beyond U+FFFF the model orders by code point and the storage by
# UTF-16, so keys end before it; Baton's own keys are ASCII.
LAST_KEY = "\uffff"
STEPS = 50
# What a run of very many examples may take before it counts as stuck.
PATIENCE_SECONDS = 4 * 3600
# A number of examples, each of other random steps every time; without it a few, always the same.
EXAMPLES = "STORE_MODEL_EXAMPLES"

_JSON = {"Accept": "application/json;odata=nometadata", "Content-Type": "application/json"}


@dataclass(frozen=True)
class Outcome:
    """What an operation came to: a value, or the error that it raised, as text."""

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
    """Return a row without its etag, and with types that compare: True is not 1 here."""
    return row.key, {name: (type(value).__name__, value) for name, value in row.values.items()}


@dataclass
class Twin:
    """A table and its model, and which of their etags stand for the same version of a row."""

    model: MemoryTable
    system: AzureTable
    # Of each partition that was compared, the keys that it held then.
    present: dict[str, set[str]] = field(default_factory=dict)
    _versions: dict[tuple[str, str], dict[str, tuple[Row, Row]]] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[Table, Table]:
        return self.model, self.system

    def versions(self, partition: str, key: str) -> list[tuple[Row, Row]]:
        """Return every version of a row that was seen, oldest first, of the model and of the system."""
        return list(self._versions.get((partition, key), {}).values())

    def fork(self) -> "Twin":
        """Return a twin whose model can go its own way."""
        versions = {key: dict(known) for key, known in self._versions.items()}
        return Twin(copy.deepcopy(self.model), self.system, dict(self.present), versions)

    async def compare(self, partition: str) -> None:
        """Hold all rows of a partition against each other."""
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
            assert system.etag not in {theirs.etag for _, theirs in known.values()}, "an old etag came back"
            known[model.etag] = (model, system)
        assert known[model.etag][1].etag == system.etag, "a version has changed its etag"

    def same_etag(self, partition: str, key: str, model: str, system: str) -> None:
        """Hold an etag that an operation returned against what the partition was seen to hold after it."""
        assert bool(model) == bool(system), "only one of them gives an etag"
        known = {ours.etag: theirs.etag for ours, theirs in self.versions(partition, key)}
        assert (model in known) == (system in known.values()), (
            "only one of them gives the etag of a stored row"
        )
        assert known.get(model, system) == system, "they give etags of different versions"


def same_error(model: Outcome, system: Outcome) -> None:
    assert model.error == system.error, f"the model comes to {model}, the system to {system}"


def agreed_by(attempts: Sequence[Twin | AssertionError]) -> Twin:
    """Return the first attempt of the model that is what the system did."""
    for attempt in attempts:
        if isinstance(attempt, Twin):
            return attempt
    raise AssertionError("in no order is it what the model does:\n" + "\n".join(map(str, attempts)))


class Azurite:
    """Tables in Azurite, used from code that is not asynchronous: hypothesis drives its machines that way."""

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
    """How often each rule came to each kind of outcome."""

    def show(self, wanted: set[str]) -> None:
        """Print all counts, and raise AssertionError when anything wanted was never reached."""
        print("\n".join(f"{count:8,}  {what}" for what, count in sorted(self.items())))
        assert self.keys() >= wanted, f"never reached: {sorted(wanted - self.keys())}"


def explore(machine: Callable[[], RuleBasedStateMachine], few: int) -> None:
    """Drive a machine through examples of `STEPS` steps."""
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
