"""Rows that an earlier version has written are read for ever: what clients saw of them then, they see now."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.core.run import RunStatus, Step
from tests.support.client import Client
from tests.support.fakes import answer
from tests.support.recorded_rows import FOLDER, answers, restored
from tests.support.world import World

RECORDED = sorted(FOLDER.glob("*/*.json"))
every_recording = pytest.mark.parametrize(
    "file", RECORDED, ids=lambda file: f"{file.parent.name}/{file.stem}"
)


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def test_there_are_recordings():
    assert len(RECORDED) >= 15


@every_recording
async def test_clients_read_what_they_read_then(file):
    recorded = read(file)
    world = await restored(recorded)
    assert_covers(await answers(Client(world.context)), recorded["answers"])


def assert_covers(now: Any, then: Any) -> None:
    """Raise AssertionError unless everything that was answered then is answered now; more may be."""
    match then:
        case dict():
            assert now.keys() >= then.keys()
            for name, value in then.items():
                assert_covers(now[name], value)
        case list():
            assert len(now) == len(then)
            for one, other in zip(now, then, strict=True):
                assert_covers(one, other)
        case _:
            assert now == then


@every_recording
async def test_every_run_is_carried_to_its_end(file):
    recorded = read(file)
    world = await restored(recorded)
    await carried_to_the_end(world)
    left = await world.table.query(run_shard(recorded), "", "~")
    assert not [row.key for row in left if row.key.startswith(("delivery|", "pending~", "pending|run"))]
    runs = [await world.run(row.key.partition("|")[2]) for row in left if row.key.startswith("run|")]
    assert runs
    assert all(run.terminal and run.step is Step.NOTHING for run in runs)


async def carried_to_the_end(world: World) -> None:
    for number in range(1, 5):
        world.provider.state[f"resp_{number}"] = answer(f"resp_{number}", "Once upon a time.")
    await world.drive(200, 20)


@every_recording
async def test_fields_of_a_later_version_are_ignored_and_kept(file):
    recorded = read(file)
    world = await restored(recorded, {"from_a_later_version": "kept"})
    assert_covers(await answers(Client(world.context)), recorded["answers"])
    await carried_to_the_end(world)
    await goes_on(world, recorded)
    for kind in ("run|", "session|"):
        rows = await world.table.query(run_shard(recorded), kind, kind[:-1] + "}")
        recorded_rows = [row for row in rows if row.key in recorded["runs"][run_shard(recorded)]]
        assert recorded_rows
        assert {row.values.get("from_a_later_version") for row in recorded_rows} == {"kept"}


async def goes_on(world: World, recorded: dict[str, Any]) -> None:
    """Start another run in each session, which writes the session anew."""
    keys = [key for rows in recorded["runs"].values() for key in rows if key.startswith("session|")]
    for key in keys:
        await world.start(session_id=key.partition("|")[2])


def run_shard(recorded: dict[str, Any]) -> str:
    [shard] = [
        shard for shard, rows in recorded["runs"].items() if any(key.startswith("run|") for key in rows)
    ]
    return shard


def test_every_status_is_among_the_recordings():
    statuses = {
        values["status"]
        for file in RECORDED
        for rows in read(file)["runs"].values()
        for key, values in rows.items()
        if key.startswith("run|")
    }
    assert statuses >= {status.value for status in RunStatus} - {RunStatus.INCOMPLETE}
