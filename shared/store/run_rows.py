"""Runs, and what is owed for them, as rows."""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from shared.core.calls import CallerCalls
from shared.core.limits import MAX_EXCERPT_CHARACTERS
from shared.core.response import RunError, Usage
from shared.core.run import (
    Chaining,
    Content,
    Continuation,
    Lease,
    OpenItem,
    Owed,
    Run,
    RunStatus,
    Step,
    Waiting,
)
from shared.ports.tables import Row, Value
from shared.store import rows
from shared.store.call_rows import pack_calls, unpack_calls

_MICROSECOND = timedelta(microseconds=1)
_HASH = re.compile(r"[0-9a-f]{64}")


def run_row(run: Run, tx: str, unknown: Mapping[str, Value] | None = None) -> Row:
    """Return the row of a run. `unknown` holds properties that a later version of this app has written."""
    values = rows.present(
        {
            "session_id": run.session_id,
            "owner": run.owner,
            "agent": run.agent,
            "provider": run.provider,
            "metadata": rows.pack(dict(run.metadata)) if run.metadata else None,
            "key": run.key,
            "excerpt": run.excerpt or None,
            "retry_of": run.retry_of,
            "structured": run.structured or None,
            "tools": rows.content_value(run.tools) if run.tools else None,
            "caller_calls": run.caller_calls.value if run.caller_calls is not CallerCalls.WAIT else None,
            "answers_calls": run.answers_calls or None,
            "max_turns": run.max_turns,
            "stream": run.stream or None,
            "generates": run.generates or None,
            "status": run.status.value,
            "step": run.step.value,
            "due": run.due,
            "lease_id": run.lease.id if run.lease else None,
            "lease_expires_at": run.lease.expires_at if run.lease else None,
            "rev": run.rev,
            "tx": tx,
            "entries": run.entries,
            "stream_events": run.stream_events,
            "turn": run.turn,
            "turn_started_at": run.turn_started_at,
            **_continuation_values(run.continuation),
            "written": run.written or None,
            "commented": run.commented or None,
            "items": run.items or None,
            "turn_items": run.turn_items or None,
            "open_items": rows.pack([fields_of(item) for item in run.open_items]) if run.open_items else None,
            "activity": run.activity or None,
            "missing_since": run.missing_since,
            "responses": rows.pack(run.responses) if run.responses else None,
            "abandoned": rows.pack(run.abandoned) if run.abandoned else None,
            "chaining": run.chaining.value,
            "previous_response_id": run.previous_response_id,
            "previous_run_id": run.previous_run_id,
            "unknown_creates": run.unknown_creates or None,
            "unusable_creates": run.unusable_creates or None,
            "timed_out_creates": run.timed_out_creates or None,
            "repeats": run.repeats or None,
            "keyless": run.keyless or None,
            "restarts": run.restarts or None,
            "joins": run.joins or None,
            "loose_joins": run.loose_joins or None,
            "joined": run.joined or None,
            "joined_loosely": run.joined_loosely or None,
            "kept": rows.content_value(run.kept) if run.kept else None,
            "background_ignored": run.background_ignored or None,
            "unread": run.unread or None,
            "waiting": _pack_waiting(run.waiting) if run.waiting else None,
            "created_at": run.created_at,
            "updated_at": run.updated_at,
            "started_at": run.started_at,
            "completed_at": run.completed_at,
            "expires_at": run.expires_at,
            "paused_at": run.paused_at,
            "paused_microseconds": run.paused // _MICROSECOND or None,
            "input": rows.content_value(run.input),
            "answer": rows.content_value(run.answer) if run.answer else None,
            "calls": pack_calls(run.calls) if run.calls else None,
            "usage": json.dumps(fields_of(run.usage)) if run.usage.total_tokens else None,
            "unmetered": run.unmetered or None,
            "error": json.dumps(fields_of(run.error)) if run.error else None,
            "incomplete_reason": run.incomplete_reason,
        }
    )
    for number, content in enumerate(run.turns, 1):
        values[_turn_name(number)] = rows.content_value(content)
    return Row(rows.run_key(run.id), {**unknown, **values} if unknown else values)


@rows.reader
def read_run(row: Row) -> Run:
    """Return the run of a row. Raises UnreadableRow."""
    values = row.values
    lease_id = rows.optional_text(values, "lease_id")
    usage, error = rows.optional_text(values, "usage"), rows.optional_text(values, "error")
    run = Run(
        id=rows.identifier("run", row.key.partition("|")[2]),
        session_id=rows.identifier("ses", values["session_id"]),
        owner=rows.text(values, "owner"),
        agent=rows.agent(values),
        provider=rows.text(values, "provider"),
        metadata=_read_metadata(values.get("metadata")),
        key=_read_key(values),
        excerpt=(rows.optional_text(values, "excerpt") or "")[:MAX_EXCERPT_CHARACTERS],
        retry_of=rows.optional_text(values, "retry_of"),
        structured=bool(values.get("structured")),
        tools=rows.read_content(values["tools"]) if "tools" in values else None,
        caller_calls=CallerCalls(str(values.get("caller_calls", CallerCalls.WAIT))),
        answers_calls=bool(values.get("answers_calls")),
        max_turns=rows.count(values, "max_turns"),
        stream=bool(values.get("stream")),
        generates=bool(values.get("generates")),
        status=RunStatus(str(values["status"])),
        step=Step(str(values["step"])),
        due=rows.read_time(values, "due"),
        lease=Lease(lease_id, rows.read_time(values, "lease_expires_at")) if lease_id else None,
        rev=rows.count(values, "rev"),
        entries=rows.count(values, "entries"),
        stream_events=rows.count(values, "stream_events"),
        turn=rows.count(values, "turn"),
        turn_started_at=rows.optional_time(values, "turn_started_at"),
        continuation=_read_continuation(values),
        written=rows.count(values, "written", 0),
        commented=rows.count(values, "commented", 0),
        items=rows.count(values, "items", 0),
        turn_items=rows.count(values, "turn_items", 0),
        open_items=tuple(_read_open_item(item) for item in rows.unpack(values.get("open_items")) or ()),
        activity=rows.optional_text(values, "activity") or "",
        missing_since=rows.optional_time(values, "missing_since"),
        responses=_read_ids(values.get("responses")),
        abandoned=_read_ids(values.get("abandoned")),
        chaining=Chaining(str(values["chaining"])),
        previous_response_id=rows.optional_text(values, "previous_response_id"),
        previous_run_id=rows.optional_text(values, "previous_run_id"),
        unknown_creates=rows.count(values, "unknown_creates", 0),
        unusable_creates=rows.count(values, "unusable_creates", 0),
        timed_out_creates=rows.count(values, "timed_out_creates", 0),
        repeats=rows.count(values, "repeats", 0),
        keyless=bool(values.get("keyless")),
        restarts=rows.count(values, "restarts", 0),
        joins=rows.count(values, "joins", 0),
        loose_joins=rows.count(values, "loose_joins", 0),
        joined=rows.count(values, "joined", 0),
        joined_loosely=bool(values.get("joined_loosely")),
        kept=rows.read_content(values["kept"]) if "kept" in values else None,
        background_ignored=bool(values.get("background_ignored")),
        unread=bool(values.get("unread")),
        waiting=_unpack_waiting(values.get("waiting")),
        created_at=rows.read_time(values, "created_at"),
        updated_at=rows.read_time(values, "updated_at"),
        started_at=rows.optional_time(values, "started_at"),
        completed_at=rows.optional_time(values, "completed_at"),
        expires_at=rows.read_time(values, "expires_at"),
        paused_at=rows.optional_time(values, "paused_at"),
        paused=rows.count(values, "paused_microseconds", 0) * _MICROSECOND,
        input=rows.read_content(values.get("input")),
        turns=_read_turns(values),
        answer=rows.read_content(values["answer"]) if "answer" in values else None,
        calls=unpack_calls(values.get("calls")),
        usage=_read_usage(json.loads(usage)) if usage else Usage(),
        unmetered=bool(values.get("unmetered")),
        error=_read_error(json.loads(error)) if error else None,
        incomplete_reason=rows.optional_text(values, "incomplete_reason"),
    )
    _check_pause(run)
    return run


def _check_pause(run: Run) -> None:
    """Raise ValueError for a run that nobody could move: one that waits for people, but for no call of theirs."""
    waits = run.status is RunStatus.REQUIRES_ACTION
    agrees = waits == (run.step is Step.ANSWER) == (run.paused_at is not None)
    if not agrees or (waits and not run.waits):
        raise ValueError("status, step, clock and calls disagree about whether the run waits")


# The fields of a run that have properties of other names, and these names.
_FIELDS_ELSEWHERE = {"id", "lease", "continuation", "turns", "paused"}
_FURTHER_PROPERTIES = {
    "paused_microseconds",
    "tx",
    "renewal",
    "lease_id",
    "lease_expires_at",
    "response_id",
    "sequence",
}
_PROPERTIES = {each.name for each in fields(Run)} - _FIELDS_ELSEWHERE | _FURTHER_PROPERTIES


def unknown_values(row: Row) -> dict[str, Value]:
    """Return the properties of a run's row that this version does not know.

    They are kept for the later version.
    """
    return {
        name: value for name, value in row.values.items() if name not in _PROPERTIES and not _is_turn(name)
    }


def owed_row(owed: Owed) -> Row:
    values = rows.present(
        {
            "provider": owed.provider,
            "agent": owed.agent or None,
            "owner": owed.owner or None,
            "status": owed.status.value,
            "step": owed.step.value,
            "due": owed.due,
            "expires_at": owed.expires_at,
            **_continuation_values(owed.continuation),
            "turn_started_at": owed.turn_started_at,
            "missing": owed.missing or None,
            "waiting": owed.waiting,
        }
    )
    return Row(rows.owed_key(owed.run_id), values)


@rows.reader
def read_owed(row: Row) -> Owed:
    """Return what is owed by a row. Raises UnreadableRow."""
    values = row.values
    return Owed(
        run_id=rows.identifier("run", row.key.partition("|")[2]),
        provider=rows.text(values, "provider"),
        agent=rows.optional_text(values, "agent") or "",
        owner=rows.optional_text(values, "owner") or "",
        status=RunStatus(str(values["status"])),
        step=Step(str(values["step"])),
        due=rows.read_time(values, "due"),
        expires_at=rows.read_time(values, "expires_at"),
        continuation=_read_continuation(values),
        turn_started_at=rows.optional_time(values, "turn_started_at"),
        missing=bool(values.get("missing")),
        waiting=rows.optional_text(values, "waiting"),
    )


def fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a flat dataclass.

    `asdict` copies each value deeply, which takes ten times as long.
    """
    return {name: getattr(value, name) for name in value.__slots__}


def _read_key(values: Mapping[str, Value]) -> str | None:
    key = rows.optional_text(values, "key")
    return key if key and _HASH.fullmatch(key) else None


def _read_metadata(value: Value | None) -> Mapping[str, str]:
    found = rows.unpack(value) or {}
    return {name: rows.text(found, name) for name in found}


def _read_ids(value: Value | None) -> tuple[str, ...]:
    found = rows.unpack(value) or ()
    if not all(isinstance(each, str) for each in found):
        raise TypeError("an id is no text")
    return tuple(found)


def _read_usage(stored: Mapping[str, Any]) -> Usage:
    return Usage(**{name: rows.count(stored, name, 0) for name in Usage.__slots__})


def _read_error(stored: Mapping[str, Any]) -> RunError:
    return RunError(
        rows.text(stored, "code"), rows.text(stored, "message"), rows.optional_text(stored, "provider_code")
    )


def _read_open_item(stored: Mapping[str, Any]) -> OpenItem:
    return OpenItem(
        index=rows.count(stored, "index"),
        ordinal=rows.count(stored, "ordinal"),
        parts=rows.count(stored, "parts", 0),
        part_open=bool(stored.get("part_open")),
        commentary=bool(stored.get("commentary")),
    )


def _turn_name(number: int) -> str:
    return f"turn_{number:02d}"


def _read_turns(values: Mapping[str, Value]) -> tuple[Content, ...]:
    turns: list[Content] = []
    while (value := values.get(_turn_name(len(turns) + 1))) is not None:
        turns.append(rows.read_content(value))
    return tuple(turns)


def _is_turn(name: str) -> bool:
    return name.startswith("turn_") and name[5:].isdigit()


def _continuation_values(continuation: Continuation | None) -> dict[str, Any]:
    if continuation is None:
        return {}
    return {"response_id": continuation.response_id, "sequence": continuation.sequence}


def _read_continuation(values: Mapping[str, Value]) -> Continuation | None:
    response_id = rows.optional_text(values, "response_id")
    return Continuation(response_id, rows.optional_number(values, "sequence")) if response_id else None


def _pack_waiting(waiting: Waiting) -> bytes:
    times = rows.present({"since": waiting.since, "attempts": waiting.attempts})
    return rows.pack(fields_of(waiting.error) | times)


def _unpack_waiting(value: Value | None) -> Waiting | None:
    if not (stored := rows.unpack(value)):
        return None
    return Waiting(_read_error(stored), rows.read_time(stored, "since"), rows.count(stored, "attempts"))
