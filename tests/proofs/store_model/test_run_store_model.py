"""All stores: every operation returns and stores the same over memory and over Azurite."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from shared.core import ids
from shared.core.run import Content
from shared.ports.tables import Row, Table
from shared.store import rows
from shared.store.outbox import StoredDelivery, read_delivery
from shared.store.run_rows import read_run
from shared.store.runs import StoredRun
from shared.store.sessions import StoredSession, read_session
from shared.store.shards import ShardView
from tests.proofs.store_model import store_data as data
from tests.proofs.store_model.store_operations import Act, Operations, Stores, Torn
from tests.proofs.store_model.twin import (
    LONGEST_SECONDS,
    Azurite,
    Outcome,
    Tally,
    Twin,
    agreed_by,
    explore,
    outcome_of,
    same_error,
)

EXAMPLES = 45


def split(value: object) -> tuple[object, dict[tuple[str, str], str]]:
    """Return an operation's result without its etags, and the etags by partition and key."""
    match value:
        case StoredRun(run, etag):
            return run, {(ids.shard_of(run.id), rows.run_key(run.id)): etag}
        case StoredSession(session, etag):
            return session, {(ids.shard_of(session.id), rows.session_key(session.id)): etag}
        case StoredDelivery(delivery, etag):
            key = rows.delivery_key(delivery.run_id, delivery.name)
            return delivery, {(ids.shard_of(delivery.run_id), key): etag}
        case ShardView(tick, runs, clocks):
            return (tick.at, bool(tick.etag), runs, clocks), {}
    return value, {}


_READ: Mapping[type, Callable[[Row], object]] = {
    StoredRun: read_run,
    StoredSession: read_session,
    StoredDelivery: read_delivery,
}


def same(twin: Twin, model: Outcome, system: Outcome) -> None:
    """Compare two outcomes, and a returned run, session or delivery with its row."""
    same_error(model, system)
    (ours, etags), (theirs, others) = split(model.value), split(system.value)
    assert ours == theirs, f"the model returns {ours}, the system {theirs}"
    for (partition, key), etag in etags.items():
        twin.same_etag(partition, key, etag, others[partition, key])
        row = next((row for row, _ in twin.versions(partition, key) if row.etag == etag), None)
        assert row is None or _READ[type(model.value)](row) == ours, f"{ours} is stored as {row}"


class StoreMachine(RuleBasedStateMachine):
    def __init__(self, azurite: Azurite, tally: Tally) -> None:
        super().__init__()
        self._azurite, self._tally = azurite, tally
        self._twins = {name: azurite.new_twin() for name in ("runs", "content")}
        self._operations = Operations(self._twins)
        self._steps = 0
        self._saved: list[tuple[int, Content, str]] = []

    def teardown(self) -> None:
        for twin in self._twins.values():
            self._azurite.drop(twin)

    def _act(self, name: str, arguments: Mapping[str, object]) -> Act | None:
        return getattr(self._operations, name)(**arguments)

    def _both(self, name: str, arguments: Mapping[str, object], lost: str = "") -> Outcome | None:
        """Carry out an operation on the model and on the system; None if there is no row for it."""
        act = self._act(name, arguments)
        if act is None:
            return None
        self._steps += 1

        async def run() -> list[Outcome]:
            found = []
            for side in (0, 1):
                tables = {kind: Torn(twin.tables[side], lost) for kind, twin in self._twins.items()}
                found.append(await outcome_of(act.call(side, Stores(tables, self._steps))))
            for partition in act.partitions:
                await self._twins[act.table].compare(partition)
            return found

        model, system = self._azurite.run(run())
        same(self._twins["runs"], model, system)
        torn = f", the {lost} is lost" if lost and act.partitions else ""
        self._tally[f"{name}: {model.kind}{torn}"] += 1
        return model

    @initialize()
    def one_run_in_each_session(self) -> None:
        for run in (0, 2, 4):
            self._both("insert", {"run": run, "version": None, "changes": {}, "session": {}})

    # One rule for all: with several rules, hypothesis leaves out most of them in each example.
    @rule(operations=data.one_or_two(data.OTHERS), lost=data.losses)
    def step(self, operations: Sequence[data.Operation], lost: str) -> None:
        if len(operations) == 1:
            self._one(*operations[0], lost)
        else:
            self._two_at_once(operations)

    def _one(self, name: str, arguments: dict[str, Any], lost: str) -> None:
        match name:
            case "save":
                self._save(arguments, lost)
            case "load" | "drop" | "purge_content":
                self._saved_text(name, arguments["which"])
            case _:
                outcome = self._both(name, arguments, lost)
                if outcome and name in {"claim_tick", "listing"}:
                    count = len(outcome.value) if isinstance(outcome.value, list) else outcome.value
                    self._tally[f"{name}: {count}"] += 1

    def _save(self, arguments: dict[str, Any], lost: str) -> None:
        outcome = self._both("save", arguments | {"name": f"text-{self._steps}"}, lost)
        if outcome and isinstance(outcome.value, Content):
            self._tally[f"save: {outcome.value.chunks} rows"] += 1
            self._saved.append((arguments["run"], outcome.value, arguments["text"]))

    def _saved_text(self, name: str, which: int) -> None:
        if not self._saved:
            return
        run, content, text = self._saved[-1 - which % len(self._saved)]
        outcome = self._both(
            name, {"run": run} if name == "purge_content" else {"run": run, "content": content}
        )
        assert outcome
        assert name != "load" or outcome.error or outcome.value == text

    def _two_at_once(self, operations: Sequence[data.Operation]) -> None:
        """Carry out two operations at once that know the same versions. The system may order them in either way."""
        acts = [act for name, arguments in operations if (act := self._act(name, arguments))]
        if len(acts) < len(operations):
            return
        self._steps += 1

        def attempt(side: int, writer: int, table: Table) -> Awaitable[Outcome]:
            stores = Stores({"runs": table, "content": table}, self._steps, writer)
            return outcome_of(acts[writer].call(side, stores))

        async def race() -> list[Outcome]:
            system = self._twins["runs"].system
            return await asyncio.gather(*(attempt(1, writer, system) for writer in (0, 1)))

        async def in_order(order: Sequence[int]) -> Twin | AssertionError:
            fork = self._twins["runs"].fork()
            model = {writer: await attempt(0, writer, fork.model) for writer in order}
            try:
                for partition in {partition for act in acts for partition in act.partitions}:
                    await fork.compare(partition)
                for writer in order:
                    same(fork, model[writer], system[writer])
            except AssertionError as difference:
                return difference
            return fork

        system = self._azurite.run(race())
        self._twins["runs"] = agreed_by([self._azurite.run(in_order(order)) for order in ((0, 1), (1, 0))])
        kinds = " and ".join(sorted(outcome.kind for outcome in system))
        names = {name for name, _ in operations}
        self._tally[f"two at once, {names.pop() if len(names) == 1 else 'different'}: {kinds}"] += 1


class OutboxMachine(StoreMachine):
    @rule(operations=data.one_or_two(data.OUTBOX), lost=data.losses)
    def step(self, operations: Sequence[data.Operation], lost: str) -> None:
        super().step(operations, lost)


# Only outcomes that even a few examples have often.
REACHED = {
    *(f"{name}: done" for name in data.OTHERS),
    *(f"{name}: RowConflict" for name in ("insert", "commit", "write_session")),
    "commit: done, the reply is lost",
    "commit: StorageUnavailable, the request is lost",
    *(f"two at once, {name}: done and done" for name in ("claim_tick", "claim_key", "purge", "different")),
    *(f"two at once, {name}: RowConflict and done" for name in ("commit", "insert", "write_session")),
    "claim_tick: True",
    "claim_tick: False",
    "load: LookupError",
    "save: 2 rows",
    "listing: 2",
}


REACHED_BY_OUTBOX = {
    *(f"{name}: done" for name in data.OUTBOX),
    "move: RowConflict",
    *(f"{name}: done, the reply is lost" for name in ("commit", "move")),
    *(f"{name}: StorageUnavailable, the request is lost" for name in ("commit", "move")),
    *(f"two at once, move: RowConflict and {other}" for other in ("done", "RowConflict")),
    *(f"two at once, {name}: done and done" for name in ("remove", "purge", "different")),
}
MACHINES = {StoreMachine: REACHED, OutboxMachine: REACHED_BY_OUTBOX}


@pytest.mark.timeout(LONGEST_SECONDS)
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_the_stores_are_the_same_over_memory_and_azurite(azurite, machine):
    tally = Tally()
    explore(lambda: machine(azurite, tally), few=EXAMPLES)
    tally.show(MACHINES[machine])
