"""A run's log as rows, one for each transition.

The key holds the number of the last entry, so that a query finds new rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from shared.core import log
from shared.core.ids import shard_of
from shared.core.log import LogEntry, LogLine
from shared.core.run import OUTCOMES, Content, Run, RunStatus
from shared.ports.tables import Insert, Row, Table, Value, Write
from shared.store import rows

_TYPES: Mapping[str, type[LogEntry]] = {
    kind.type: kind
    for kind in (
        log.RunQueued,
        log.RunInProgress,
        log.RunCancelling,
        log.RunWaiting,
        log.TurnStarted,
        log.TurnCreateRepeated,
        log.TurnReplayed,
        log.TurnJoined,
        log.TurnCompleted,
        log.ToolStarted,
        log.ToolCompleted,
        log.RunRequiresAction,
        log.CallWaiting,
        log.CallAnswered,
        log.ItemStarted,
        log.ItemCompleted,
        log.PartStarted,
        log.PartCompleted,
        log.TextDelta,
        log.Commentary,
        log.Refusal,
        log.TextReplaced,
    )
}
# What a reader fills in by itself.
_DEFAULTS = {kind: {(each.name, each.default) for each in fields(kind)} for kind in _TYPES.values()}
# The fields of entries that are no texts.
_NUMBERS = frozenset({"turn", "item", "part", "start", "end", "tool_calls", "total_tokens", "characters"})
_FLAGS = frozenset({"commentary"})
_TIMES = frozenset({"expires_at"})
_ENDED = {f"run.{status}": status.value for status in OUTCOMES}


async def read_log(table: Table, run_id: str, after: int = 0, limit: int | None = None) -> list[LogLine]:
    """Return the lines of the run's log after the line `after`, at most `limit`."""
    first, end = rows.log_key(run_id, after + 1), rows.bounds(f"event|{run_id}")[1]
    found = await table.query(shard_of(run_id), first, end, limit=limit)
    return [line for row in found for line in _lines(row) if line.number > after][:limit]


def log_writes(run: Run, entries: Sequence[LogEntry]) -> list[Write]:
    """Return the row for the entries of the transition that led to `run`. A deleted run has no log."""
    if not entries or run.status is RunStatus.DELETED:
        return []
    values: dict[str, Value] = {
        "at": rows.time_text(run.updated_at),
        "first": run.entries - len(entries) + 1,
        "first_stream_event": run.stream_events - sum(entry.stream_events for entry in entries),
        "entries": rows.pack([_written(entry) for entry in entries]),
    }
    return [Insert(Row(rows.log_key(run.id, run.entries), values))]


def _written(entry: LogEntry) -> dict[str, Any]:
    match entry:
        case log.RunEnded():
            return {"type": entry.type}
        case log.UnknownEntry(kind, data):
            return {"type": kind, **data}
        case log.TextDelta(content=Content() as content) | log.Commentary(content=Content() as content):
            values = {name: getattr(entry, name) for name in entry.__slots__ if name != "content"}
            pointer = {"name": content.name, "chunks": content.chunks}
            return {"type": entry.type, **values, "content": pointer}
    defaults = _DEFAULTS[type(entry)]
    values = {name: getattr(entry, name) for name in entry.__slots__}
    written = {name: value for name, value in values.items() if (name, value) not in defaults}
    return rows.present({"type": entry.type, **written})


@rows.reader
def _lines(row: Row) -> list[LogLine]:
    at, first = rows.read_time(row.values, "at"), rows.count(row.values, "first")
    return [
        LogLine(number, at, _read(entry))
        for number, entry in enumerate(rows.unpack(row.values["entries"]), first)
    ]


def _read(stored: dict[str, Any]) -> LogEntry:
    """Return a stored entry, without fields that a later version has added."""
    kind = stored.pop("type")
    if status := _ENDED.get(kind):
        return log.RunEnded(status)
    if (known := _TYPES.get(kind)) is None:
        return log.UnknownEntry(kind, stored)
    return known(**{name: _field(stored, name) for name in known.__slots__ if name in stored})


def _field(stored: Mapping[str, Any], name: str) -> Any:
    if name in _NUMBERS:
        return rows.count(stored, name)
    if name in _FLAGS:
        return bool(stored[name])
    if name in _TIMES:
        return rows.read_time(stored, name)
    if name == "content":
        pointer = stored[name]
        return pointer and Content(name=rows.text(pointer, "name"), chunks=rows.count(pointer, "chunks"))
    return rows.text(stored, name)
