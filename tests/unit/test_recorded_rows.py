"""Rows that an earlier version has written are read for ever: clients still see what they saw then."""

import json
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.core.calls import CallerCalls, CallKind, CallStatus, ToolCall, Wait, WaitKind
from shared.core.quota import Limits
from shared.core.response import RunError, Usage
from shared.core.run import Content, Continuation, Lease, OpenItem, Run, RunStatus, Step, Waiting
from shared.ports.tables import Row
from shared.store.quotas import QuotaStore
from shared.store.run_rows import read_run, run_row, unknown_values
from shared.usecases.continued import Answers
from shared.usecases.delete import delete_session
from shared.web.callers.header import DEFAULT_OWNER
from tests.support.client import Client
from tests.support.fakes import Seeded, answer
from tests.support.feeds import follow
from tests.support.recorded_rows import FOLDER, answers, restored
from tests.support.runs import NOW, a_run, an_id
from tests.support.world import CALLER, World

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
    """Raise AssertionError unless the answer now has everything that it had then. It may have more."""
    match then:
        case dict():
            assert now.keys() >= then.keys()
            for name, value in then.items():
                # When to come again is an advice of the present version, not what is stored.
                if name != "retry_ms":
                    assert_covers(now[name], value)
        case list():
            assert len(now) == len(then)
            for one, other in zip(now, then, strict=True):
                assert_covers(one, other)
        case _:
            assert now == then


@every_recording
async def test_every_recorded_run_reaches_its_end(file):
    recorded = read(file)
    world = await restored(recorded)
    await carried_to_the_end(world)
    left = await world.table.query(run_shard(recorded), "", "~")
    assert not [
        row.key for row in left if row.key.startswith(("delivery|", "pending~", "pending|run", "paused|"))
    ]
    runs = [await world.run(row.key.partition("|")[2]) for row in left if row.key.startswith("run|")]
    assert runs
    assert all(run.terminal and run.step is Step.NOTHING for run in runs)


def is_tombstone(row: Row) -> bool:
    return row.values.get("status") == RunStatus.DELETED or bool(row.values.get("deleted"))


@pytest.mark.parametrize(
    ("scene", "text"),
    [
        ("generating", "Once upon The end."),
        ("generated", "Once upon a time."),
        ("generated_anew", "The end."),
    ],
)
async def test_a_recorded_text_of_a_worker_goes_on(scene, text):
    recorded = read(FOLDER / "4" / f"{scene}.json")
    world = await restored(recorded)
    await carried_to_the_end(world)
    [run_id] = [key[4:] for key in recorded["runs"][run_shard(recorded)] if key.startswith("run|")]
    shown = (await Client(world.context).get("/runs/{run_id}", run_id)).json
    assert (shown["status"], shown["output_text"]) == ("completed", text)
    reader = await follow(world, run_id)
    assert reader.text == text


async def carried_to_the_end(world: World) -> None:
    for number in range(1, 5):
        world.provider.state[f"resp_{number}"] = answer(f"resp_{number}", "Once upon a time.")
    await world.drive(200, 20)
    # Longer than any call waits, and then the turn after it.
    await world.drive(2, 8 * 86_400)
    await world.drive(5, 20)


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
        for row in recorded_rows:
            assert is_tombstone(row) or row.values["from_a_later_version"] == "kept"


async def goes_on(world: World, recorded: dict[str, Any]) -> None:
    """Start another run in each session, which writes the session again."""
    keys = [key for rows in recorded["runs"].values() for key in rows if key.startswith("session|")]
    for key in keys:
        session = (await world.context.sessions.read(key.partition("|")[2])).session
        last = await world.run(session.last_run_id)
        outputs = {call.call_id: "function_call_output" for call in last.handed_over}
        await world.start(session_id=session.id, answers=Answers(outputs))


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


def test_a_run_has_no_property_that_its_own_version_does_not_know():
    later = NOW + timedelta(minutes=1)
    run = a_run(
        metadata={"a": "b"},
        stream=True,
        generates=True,
        restarts=1,
        joins=2,
        loose_joins=3,
        joined=5,
        joined_loosely=True,
        unmetered=True,
        status=RunStatus.REQUIRES_ACTION,
        step=Step.ANSWER,
        lease=Lease("lease", later),
        rev=2,
        entries=3,
        stream_events=4,
        turn=2,
        turn_started_at=later,
        continuation=Continuation("resp_2", 5),
        written=6,
        items=2,
        turn_items=1,
        open_items=(OpenItem(0, 1, 2),),
        activity="writing",
        missing_since=later,
        responses=("resp_1", "resp_2"),
        abandoned=("resp_3",),
        previous_response_id="resp_1",
        previous_run_id=an_id("run", number=1),
        key="0f" * 32,
        excerpt="Write",
        retry_of=an_id("run", number=2),
        structured=True,
        tools=Content(inline=b"[]"),
        caller_calls=CallerCalls.END,
        answers_calls=True,
        unknown_creates=1,
        unusable_creates=1,
        timed_out_creates=1,
        kept=Content(inline=b"{}"),
        background_ignored=True,
        unread=True,
        repeats=1,
        keyless=True,
        waiting=Waiting(RunError("code", "message", "its_code"), later, 2),
        commented=3,
        started_at=later,
        completed_at=later,
        paused_at=later,
        paused=timedelta(days=2, microseconds=7),
        turns=(Content(inline=b"[]"),),
        answer=Content(inline=b"[[],[]]"),
        calls=(
            ToolCall("call_1", "pay"),
            ToolCall(
                "call_2",
                "pay",
                kind=CallKind.MCP_APPROVAL,
                status=CallStatus.WAITING,
                wait=Wait(WaitKind.APPROVAL, NOW, later),
            ),
            ToolCall("call_3", "ask", wait=Wait(WaitKind.OUTPUT, NOW, later, approved=True)),
        ),
        usage=Usage(1, 2, 3),
        error=RunError("code", "message"),
        incomplete_reason="content_filter",
    )
    assert not [each.name for each in fields(Run) if getattr(run, each.name) == each.default]
    row = run_row(run, "tx")
    assert unknown_values(row) == {}
    assert read_run(row) == run


async def test_a_tombstone_keeps_no_field_of_a_later_version():
    recorded = read(FOLDER / "1" / "completed.json")
    world = await restored(recorded, {"from_a_later_version": "kept"})
    shard = run_shard(recorded)
    [session] = await world.table.query(shard, "session|", "session}")
    await delete_session(world.context, CALLER, session.key.partition("|")[2])
    for kind in ("run|", "session|"):
        [tombstone] = await world.table.query(shard, kind, kind[:-1] + "}")
        assert is_tombstone(tombstone)
        assert "from_a_later_version" not in tombstone.values


async def test_the_starts_of_a_recorded_quota_still_count():
    recorded = read(FOLDER / "2" / "within_quotas.json")
    world = await restored(recorded)
    quotas = QuotaStore(world.table, Seeded(), Limits(pending_runs=5, starts_per_minute=2))
    owner = DEFAULT_OWNER
    found = await quotas.read(owner)
    runs = [values for values in recorded["runs"][run_shard(recorded)].values() if "created_at" in values]
    times = sorted({datetime.fromisoformat(values["created_at"]) for values in runs})
    assert (found.pending, list(found.starts)) == (2, times)
    assert len(times) == 2
