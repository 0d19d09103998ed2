"""The rows of a run's log: they are read as they were written, and new entries are found by their keys."""

import random
import string
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, get_args

import pytest

from shared.adapters.azure_tables.limits import MAX_VALUE_BYTES
from shared.core import log, transcript
from shared.core.calls import AnswerType, CallKind, CallStatus, ToolCall, Wait, WaitKind
from shared.core.ids import shard_of
from shared.core.life.calling import MAX_CALL_ID_BYTES, MAX_CALLS_PER_RUN, id_bytes
from shared.core.life.creating import MAX_ID_BYTES
from shared.core.life.items import MAX_ITEMS_PER_TURN, MAX_PARTS_PER_ITEM, ItemLog
from shared.core.limits import MAX_REASON_CHARACTERS
from shared.core.log import LogEntry, LogLine
from shared.core.response import (
    ItemCompleted,
    ItemStarted,
    NoStream,
    PartStarted,
    ResponseStatus,
    Snapshot,
    TextAdded,
)
from shared.core.run import OUTCOMES, Content, Run, RunStatus, Step
from shared.core.transcript import MAX_CALL_ID
from shared.ports.tables import Insert, Row
from shared.store import rows
from shared.store.log import log_writes, read_log
from shared.store.run_rows import read_run, run_row
from shared.usecases.cancel import cancel
from shared.usecases.feed import read_feed
from shared.web.callers.header import MAX_OWNER_CHARACTERS
from shared.web.callers.principal import MAX_SHOWN_NAME_CHARACTERS
from tests.support.fakes import answer, asks
from tests.support.memory_table import MemoryTable
from tests.support.runs import a_logged_run, a_run
from tests.support.world import CALLER, World, brings

NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
RUN_ID = a_run().id
SHARD = shard_of(RUN_ID)

ENTRIES: tuple[LogEntry, ...] = (
    log.RunQueued(),
    log.RunInProgress(),
    log.RunCancelling(),
    log.RunWaiting("rate_limited", "The provider answered HTTP 429."),
    log.RunWaiting("provider_unavailable", "é", "server_error"),
    *(log.RunEnded(status.value) for status in sorted(OUTCOMES)),
    log.TurnStarted(1, "resp_1"),
    log.TurnCreateRepeated(2),
    log.TurnReplayed(32),
    log.TurnJoined(32, 2**40, "best_effort"),
    log.TurnCompleted(1, 0),
    log.ToolStarted(1, "call é", "look_up"),
    *(log.ToolCompleted(1, "call_1", "pay", status.value) for status in CallStatus),
    log.RunRequiresAction(),
    *(log.CallWaiting(1, "call é", "pay", kind.value, NOW + timedelta(days=30)) for kind in WaitKind),
    *(log.CallAnswered(1, "call_1", "pay", answer.value) for answer in AnswerType),
    log.CallAnswered(
        32, "", "pay", "refused", by="key:anna", by_name="Ánna", reason="Paid before. \x00\U0001f680"
    ),
    log.ItemStarted(1, 0, "message"),
    log.ItemStarted(1, 1, "function_call", "pay"),
    # A provider may leave out the kind.
    log.ItemStarted(1, 2, ""),
    log.ItemStarted(1, 3, "message", commentary=True),
    log.ItemCompleted(1, 0),
    log.PartStarted(1, 0, 0, "output_text"),
    log.PartCompleted(1, 0, 0),
    log.TextDelta(1, 0, 0, 0, 10_000_000),
    log.TextDelta(1, 0, 0, 5, 9, Content(name="slice-00000004-ab", chunks=2)),
    log.Commentary(1, 0, 0, 5, 9, Content(name="slice-00000004-ab", chunks=2)),
    log.Commentary(1, 0, 0, 0, 4),
    log.Refusal(1, 0, 0, 0, 4),
    log.TextReplaced(0),
    log.TextReplaced(1),
    log.UnknownEntry("turn.paused"),
    log.UnknownEntry("turn.paused", {"turn": 1, "name": "", "chunks": None, "why": {"a": ["é", 1.5]}}),
)


def logged(entries: Sequence[LogEntry], **changes: Any) -> Run:
    """Return a run whose log is these entries, the last of them added now."""
    return a_logged_run(entries, created_at=NOW, **changes)


async def written(*transitions: Sequence[LogEntry]) -> MemoryTable:
    """Return a table with the log of a run, which these transitions wrote."""
    table, so_far = MemoryTable(), []
    for entries in transitions:
        so_far += entries
        await table.write(SHARD, log_writes(logged(so_far), entries))
    return table


async def stored(*entries: dict[str, Any]) -> MemoryTable:
    """Return a table with a row of some version of this app."""
    values = {
        "at": rows.time_text(NOW),
        "first": 1,
        "first_stream_event": 0,
        "entries": rows.pack(entries),
        "more": "of a later version",
    }
    table = MemoryTable()
    await table.write(SHARD, [Insert(Row(rows.log_key(RUN_ID, len(entries)), values))])
    return table


def fields_of(entry: LogEntry) -> dict[str, Any]:
    """Return an entry as it is stored."""
    [write] = log_writes(logged([entry]), [entry])
    [fields] = rows.unpack(write.row.values["entries"])
    return fields


# What is written is read.


def test_there_is_an_entry_of_each_type():
    assert {type(entry) for entry in ENTRIES} == set(get_args(LogEntry))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.type)
async def test_an_entry_is_read_back_as_it_was_written(entry):
    table = await written([log.RunQueued()], [entry])
    assert (await read_log(table, RUN_ID))[1:] == [LogLine(2, NOW, entry)]


async def test_a_transition_of_all_entries_is_one_row():
    table = await written(ENTRIES)
    assert await read_log(table, RUN_ID) == [LogLine(n, NOW, entry) for n, entry in enumerate(ENTRIES, 1)]
    [row] = await table.query(SHARD, *rows.bounds(f"event|{RUN_ID}"))
    assert (row.key, row.values["first"]) == (f"event|{RUN_ID}|{len(ENTRIES):08d}", 1)


def random_name(length: int = 64) -> str:
    return "".join(random.choices(string.ascii_letters + string.digits, k=length))


def random_id() -> str:
    """Return a call id, as long as the ids of the most calls of a run can be, of characters that hardly compress.

    A provider may use control characters, which take the most space in JSON, and still few bits each.
    """
    found = ""
    while id_bytes(found + "\0") <= MAX_CALL_ID_BYTES // MAX_CALLS_PER_RUN:
        found += chr(random.randrange(0x80))
    return found


_TWO_BYTES = [chr(code) for code in range(0x80, 0x800) if chr(code).isprintable()]


def longest_name() -> str:
    """Return the name of a call that takes the most space, made of characters that hardly compress."""
    return transcript.shown_name("".join(random.choices(_TWO_BYTES, k=100)))


def test_calls_that_all_wait_fit_into_a_property():
    """Each since another moment, as those of an agent with many turns."""
    calls = tuple(
        ToolCall(
            random_id(),
            longest_name(),
            kind=CallKind.MCP_APPROVAL,
            turn=32,
            status=CallStatus.WAITING,
            wait=Wait(WaitKind.APPROVAL, at, at + timedelta(days=30), approved=True),
            started_at=at,
            completed_at=at + timedelta(seconds=1),
        )
        for at in (NOW + timedelta(microseconds=n * 7919) for n in range(MAX_CALLS_PER_RUN))
    )
    waits = {"status": RunStatus.REQUIRES_ACTION, "step": Step.ANSWER, "paused_at": NOW}
    row = run_row(a_run(calls=calls, **waits), "tx")
    assert len(row.values["calls"]) <= MAX_VALUE_BYTES
    assert read_run(row).calls == calls


def test_the_calls_of_a_run_fit_into_a_property():
    later = NOW + timedelta(seconds=1)
    calls = [
        ToolCall(
            random_name(),
            longest_name(),
            turn=32,
            status=CallStatus.COMPLETED,
            started_at=at,
            completed_at=later,
        )
        for at in (NOW + timedelta(microseconds=n) for n in range(MAX_CALLS_PER_RUN))
    ]
    row = run_row(a_run(calls=tuple(calls)), "tx")
    assert len(row.values["calls"]) <= MAX_VALUE_BYTES


def the_longest_answer() -> Sequence[LogEntry]:
    """Return the entries of the largest possible answer."""
    items = [
        {
            "type": "message",
            "name": random_name(),
            "content": [{"type": random_name()} for _ in range(MAX_PARTS_PER_ITEM + 1)],
        }
        for _ in range(MAX_ITEMS_PER_TURN + 1)
    ]
    found = ItemLog.of(a_run(step=Step.POLL))
    found.finish(transcript.outline(items), written=0, commented=0, with_text=True)
    return found.entries


def odd_text(characters: int) -> str:
    return "".join(chr(random.randrange(0x20000, 0x2A6DF)) for _ in range(characters))


def all_timed_out() -> Sequence[LogEntry]:
    """Return the entries of the transition in which as many waits end as a run has calls."""
    calls = [(random_id(), longest_name()) for _ in range(MAX_CALLS_PER_RUN)]
    return [
        entry
        for call_id, name in calls
        for entry in (
            log.CallAnswered(32, call_id, name, "timed_out"),
            log.ToolCompleted(32, call_id, name, "timed_out"),
        )
    ]


@pytest.mark.parametrize(
    "make",
    [
        the_longest_answer,
        lambda: [log.ToolStarted(32, random_id(), random_name()) for _ in range(MAX_CALLS_PER_RUN)],
        lambda: [log.ToolStarted(32, random_id(), longest_name()) for _ in range(MAX_CALLS_PER_RUN)],
        lambda: [
            log.ToolCompleted(32, random_id(), longest_name(), "completed") for _ in range(MAX_CALLS_PER_RUN)
        ],
        lambda: [
            log.CallWaiting(32, random_id(), longest_name(), "approval", NOW + timedelta(microseconds=n))
            for n in range(MAX_CALLS_PER_RUN)
        ],
        all_timed_out,
        lambda: [
            log.CallAnswered(
                32,
                random_name(MAX_CALL_ID),
                longest_name(),
                "refused",
                by=odd_text(MAX_OWNER_CHARACTERS),
                by_name=odd_text(MAX_SHOWN_NAME_CHARACTERS),
                reason=odd_text(MAX_REASON_CHARACTERS),
            )
        ],
    ],
    ids=["answer", "calls", "odd calls", "results", "waits", "ends of waits", "a refusal"],
)
def test_the_entries_of_the_largest_transition_fit_into_a_property(make):
    entries = make()
    [write] = log_writes(logged(entries), entries)
    assert len(write.row.values["entries"]) <= MAX_VALUE_BYTES


def test_empty_fields_are_not_stored():
    assert fields_of(log.ItemStarted(1, 0, "message")) == {
        "type": "item.started",
        "turn": 1,
        "item": 0,
        "kind": "message",
    }
    assert fields_of(log.RunEnded("failed")) == {"type": "run.failed"}
    assert fields_of(log.TextReplaced(0)) == {"type": "text.replaced", "turn": 0}


def test_nothing_is_written_for_no_entries_and_for_a_deleted_run():
    assert log_writes(logged(ENTRIES), []) == []
    deleted = logged(ENTRIES, status=RunStatus.DELETED, step=Step.PURGE)
    assert log_writes(deleted, [log.RunQueued()]) == []


# Other versions of this app.


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.type)
async def test_fields_of_a_later_version_are_left_out(entry):
    later = fields_of(entry) | {"tone": "friendly", "stream_events": 7, "text": ["x"]}
    [line] = await read_log(await stored(later), RUN_ID)
    if isinstance(entry, log.UnknownEntry):
        entry = log.UnknownEntry(
            entry.type, {**entry.data, "tone": "friendly", "stream_events": 7, "text": ["x"]}
        )
    assert line == LogLine(1, NOW, entry)


@pytest.mark.parametrize(
    "kind", ["text.undone", "run.paused", "run.deleted", "run.", "item", "", "log.TextDelta", "漢"]
)
async def test_entries_of_a_later_version_come_as_they_are(kind):
    data = {"turn": 1, "name": "x", "chunks": 3, "note": None, "more": [{"type": "text.delta"}]}
    table = await stored({"type": "run.queued"}, {"type": kind, **data}, {"type": "run.in_progress"})
    unknown = log.UnknownEntry(kind, data)
    assert [line.entry for line in await read_log(table, RUN_ID)] == [
        log.RunQueued(),
        unknown,
        log.RunInProgress(),
    ]
    assert fields_of(unknown) == {"type": kind, **data}


# Which rows are read.


async def some_log() -> tuple[MemoryTable, list[LogLine]]:
    """Return a log of transitions with one entry, with several, and with many."""
    sizes = [2, 1, 1, 30, 1, 2, 7, 1]
    transitions = [[log.TurnCreateRepeated(n * 100 + m) for m in range(size)] for n, size in enumerate(sizes)]
    told = [entry for entries in transitions for entry in entries]
    return await written(*transitions), [LogLine(n, NOW, entry) for n, entry in enumerate(told, 1)]


async def test_a_log_is_read_from_any_entry_up_to_any_limit():
    table, complete = await some_log()
    for after in range(len(complete) + 2):
        assert await read_log(table, RUN_ID, after) == complete[after:]
        for limit in (1, 2, 3, 8, 45, 100):
            assert await read_log(table, RUN_ID, after, limit) == complete[after : after + limit]


async def test_a_log_has_only_the_entries_of_its_run():
    table, complete = await some_log()
    for other in (f"{RUN_ID[:-1]}1", RUN_ID[:-1]):
        run = logged([log.RunQueued()], id=other)
        await table.write(SHARD, log_writes(run, [log.RunQueued()]))
    assert await read_log(table, RUN_ID) == complete


async def long_run(world: World) -> str:
    """Return a run with a log of more than 300 entries in as many rows, almost."""
    run = await world.start(stream=True)
    for n in range(320):
        await brings(world, TextAdded(0, f"{n} "))
    return run.id


async def test_a_new_entry_of_a_long_log_is_found_in_one_row(world):
    run_id = await long_run(world)
    last = (await world.run(run_id)).entries
    assert last > 320
    world.table.taken()
    world.table.rows_read = 0
    [line] = await world.context.runs.log(run_id, last - 1)
    assert (line.number, world.table.taken(), world.table.rows_read) == (last, {"query": 1}, 1)
    feed = await read_feed(world.context, CALLER, run_id, after=last - 1, limit=1000)
    assert ([line.text for line in feed.lines], feed.more) == (["319 "], False)
    assert (world.table.taken(), world.table.rows_read) == ({"get": 1, "query": 1}, 2)
    # Without new entries no row is read.
    await read_feed(world.context, CALLER, run_id, after=last, limit=1000)
    assert (world.table.taken(), world.table.rows_read) == ({"get": 1}, 2)


@pytest.mark.parametrize("after", [0, 1, 4, 5, 100, 200, 319, 322])
@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_a_page_reads_no_more_rows_than_it_has_lines(world, after, limit):
    run_id = await long_run(world)
    world.table.rows_read = 0
    feed = await read_feed(world.context, CALLER, run_id, after=after, limit=limit)
    last = (await world.run(run_id)).entries
    assert [line.number for line in feed.lines] == list(range(after + 1, min(after + limit, last) + 1))
    assert 0 < world.table.rows_read <= limit


# Each row counts the rows before it.


async def plain(world: World) -> None:
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "pay", "look_up"), "resp_2": answer("resp_2")}
    await world.until_terminal(run.id)


async def streamed(world: World) -> None:
    await world.start(stream=True)
    await brings(world, ItemStarted(0, "message"), PartStarted(0, "output_text"), TextAdded(0, "Let me "))
    await brings(world, TextAdded(0, "pay."), ItemCompleted(0), ItemStarted(1, "function_call", "pay"))
    final = world.provider.state["resp_1"] = asks("resp_1", "pay")
    await brings(world, final=final)
    await brings(world, TextAdded(0, "Pa"))
    await brings(world, TextAdded(0, "id."), ItemStarted(1, "message"), TextAdded(1, "!"))
    await brings(world, final=answer("resp_2", "Paid.! Bye."))


async def disagreeing(world: World) -> None:
    await world.start(stream=True)
    await brings(world, TextAdded(0, "Once "), ItemStarted(1, "message"))
    final = world.provider.state["resp_1"] = answer("resp_1", "Twice")
    await brings(world, final=final)


async def cancelled(world: World) -> None:
    run = await world.start(stream=True)
    await brings(world, TextAdded(0, "Once "))
    world.provider.cancel_replies["resp_1"] = Snapshot(
        response_id="resp_1", status=ResponseStatus.IN_PROGRESS
    )
    await cancel(world.context, CALLER, run.id)
    world.provider.state["resp_1"] = replace(answer("resp_1", "Once upon"), status=ResponseStatus.CANCELLED)
    await world.until_terminal(run.id)


async def expired(world: World) -> None:
    run = await world.start(stream=True)
    await brings(world, TextAdded(0, "Once "), ItemStarted(1, "message"))
    world.provider.slice_replies = [NoStream()]
    await world.drive()
    await world.until_terminal(run.id, seconds=60)


async def out_of_turns(world: World) -> None:
    run = await world.start()
    world.provider.state = {name: asks(name, "pay") for name in ("resp_1", "resp_2", "resp_3")}
    await world.until_terminal(run.id)


LIVES = {
    "plain": (plain, RunStatus.COMPLETED),
    "streamed": (streamed, RunStatus.COMPLETED),
    "disagreeing": (disagreeing, RunStatus.COMPLETED),
    "cancelled": (cancelled, RunStatus.CANCELLED),
    "expired": (expired, RunStatus.EXPIRED),
    "out of turns": (out_of_turns, RunStatus.INCOMPLETE),
}


@pytest.mark.parametrize(("live", "outcome"), LIVES.values(), ids=LIVES)
async def test_each_row_counts_the_entries_and_events_before_it(world, live, outcome):
    await live(world)
    [run] = await world.context.runs.listing("default", status=None, agent=None, after="", limit=10)
    assert run.status is outcome
    found = await world.table.query(shard_of(run.id), *rows.bounds(f"event|{run.id}"))
    lines = await world.context.runs.log(run.id)
    assert [line.number for line in lines] == list(range(1, run.entries + 1))
    for row in found:
        number = int(row.key.rpartition("|")[2])
        count = len(rows.unpack(row.values["entries"]))
        assert row.values["first"] == number - count + 1
        before = [line.entry for line in lines if line.number < row.values["first"]]
        assert row.values["first_stream_event"] == sum(entry.stream_events for entry in before)
    numbers = [0, *(int(row.key.rpartition("|")[2]) for row in found)]
    assert all(row.values["first"] == last + 1 for row, last in zip(found, numbers, strict=False))
    assert numbers[-1] == run.entries
    assert run.stream_events == sum(line.entry.stream_events for line in lines)
    assert all(earlier.at <= later.at for earlier, later in pairwise(lines))


def test_the_calls_and_ids_of_the_largest_run_fit_into_properties():
    calls = tuple(
        ToolCall(random_id(), longest_name(), turn=32, started_at=NOW, completed_at=NOW)
        for _ in range(MAX_CALLS_PER_RUN)
    )
    ids = tuple(random_name(1024) for _ in range(MAX_ID_BYTES // 1024))
    row = run_row(a_run(calls=calls, responses=ids, abandoned=ids), "tx")
    sizes = [len(row.values[name]) for name in ("calls", "responses", "abandoned")]
    assert max(sizes) <= MAX_VALUE_BYTES
