"""How runs, sessions and what is pending are written as rows, and read back.

Times are ISO 8601 text in UTC. What is None has no property. Anything nested is JSON text, or
compressed JSON where a provider decides how long it gets.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from shared.core.response import RunError, Usage
from shared.core.run import (
    CallStatus,
    Chaining,
    Content,
    Lease,
    Pending,
    Run,
    RunStatus,
    Session,
    Step,
    ToolCall,
)
from shared.ports.tables import Row, Value

TICK_KEY = "pending|"


def run_key(run_id: str) -> str:
    return f"run|{run_id}"


def pending_key(run_id: str) -> str:
    return f"pending|{run_id}"


# To compress less than this takes longer than to read and write all the rest of its row, and saves nothing.
_SHORT_BYTES = 512
_ZLIB = b"x"
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def session_key(session_id: str) -> str:
    return f"session|{session_id}"


def prefix(kind: str) -> tuple[str, str]:
    """Return the bounds of all keys that begin with `kind` and the separator, which "}" follows."""
    return f"{kind}|", f"{kind}}}"


def name_hash(name: str) -> str:
    """Return a row name for text that a model chose."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


# Each change of a run writes most of its times again.
@lru_cache(maxsize=1024)
def time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _time(values: Mapping[str, Value], name: str) -> datetime | None:
    text = values.get(name)
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def read_time(values: Mapping[str, Value], name: str) -> datetime:
    return datetime.fromisoformat(str(values[name]))


def _text(values: Mapping[str, Value], name: str) -> str | None:
    text = values.get(name)
    return text if isinstance(text, str) else None


def _number(values: Mapping[str, Value], name: str) -> int | None:
    number = values.get(name)
    return number if isinstance(number, int) else None


def content_value(content: Content) -> Value:
    """Return what stands in the row for `content`: its bytes, or a pointer to its chunk rows."""
    return content.inline if content.inline is not None else f"{content.chunks}|{content.name}"


def read_content(value: Value | None) -> Content:
    match value:
        case bytes():
            return Content(inline=value)
        case str() if value:
            chunks, name = value.split("|", 1)
            return Content(name=name, chunks=int(chunks))
    return Content()


def pack(value: Any) -> bytes:
    """Return JSON that callers, models or providers decide the length of, small enough for a property."""
    plain = _ENCODER.encode(value).encode()
    return zlib.compress(plain) if len(plain) > _SHORT_BYTES else plain


def unpack(value: Value | None) -> Any:
    if not isinstance(value, bytes):
        return None
    # No JSON begins with the byte that every zlib stream begins with.
    return json.loads(zlib.decompress(value) if value.startswith(_ZLIB) else value)


def _present(values: Mapping[str, Any]) -> dict[str, Value]:
    """Leave out what is None and write times as text."""
    return {
        name: time_text(value) if isinstance(value, datetime) else value
        for name, value in values.items()
        if value is not None
    }


def _fields(value: ToolCall | Session | Usage | RunError) -> dict[str, Any]:
    """Return the fields of a flat dataclass; `asdict` would copy each of them deeply, which takes ten times as long."""
    return {name: getattr(value, name) for name in value.__slots__}


def run_row(run: Run, tx: str) -> Row:
    values = _present(
        {
            "session_id": run.session_id,
            "owner": run.owner,
            "agent": run.agent,
            "metadata": pack(dict(run.metadata)) if run.metadata else None,
            "max_turns": run.max_turns,
            "stream": run.stream or None,
            "status": run.status.value,
            "step": run.step.value,
            "due": run.due,
            "lease_id": run.lease.id if run.lease else None,
            "lease_expires_at": run.lease.expires_at if run.lease else None,
            "rev": run.rev,
            "tx": tx,
            "events": run.events,
            "turn": run.turn,
            "turn_started_at": run.turn_started_at,
            "token": run.token,
            "sequence": run.sequence,
            "written": run.written or None,
            "items": run.items or None,
            "activity": run.activity or None,
            "missing_since": run.missing_since,
            "responses": " ".join(run.responses) or None,
            "abandoned": " ".join(run.abandoned) or None,
            "chaining": run.chaining.value,
            "previous_response_id": run.previous_response_id,
            "previous_run_id": run.previous_run_id,
            "unknown_creates": run.unknown_creates or None,
            "created_at": run.created_at,
            "updated_at": run.updated_at,
            "started_at": run.started_at,
            "completed_at": run.completed_at,
            "expires_at": run.expires_at,
            "input": content_value(run.input),
            "calls": _pack_calls(run.calls) if run.calls else None,
            "usage": json.dumps(_fields(run.usage)) if run.usage.total_tokens else None,
            "error": json.dumps(_fields(run.error)) if run.error else None,
            "incomplete_reason": run.incomplete_reason,
        }
    )
    for number, content in enumerate(run.turns, 1):
        values[_turn_name(number)] = content_value(content)
    return Row(run_key(run.id), values)


def read_run(row: Row) -> Run:
    values = row.values
    lease_id = _text(values, "lease_id")
    usage, error = _text(values, "usage"), _text(values, "error")
    return Run(
        id=row.key.partition("|")[2],
        session_id=str(values["session_id"]),
        owner=str(values["owner"]),
        agent=str(values["agent"]),
        metadata=unpack(values.get("metadata")) or {},
        max_turns=int(values["max_turns"]),
        stream=bool(values.get("stream")),
        status=RunStatus(str(values["status"])),
        step=Step(str(values["step"])),
        due=read_time(values, "due"),
        lease=Lease(lease_id, read_time(values, "lease_expires_at")) if lease_id else None,
        rev=int(values["rev"]),
        events=int(values["events"]),
        turn=int(values["turn"]),
        turn_started_at=_time(values, "turn_started_at"),
        token=_text(values, "token"),
        sequence=_number(values, "sequence"),
        written=int(values.get("written", 0)),
        items=int(values.get("items", 0)),
        activity=_text(values, "activity") or "",
        missing_since=_time(values, "missing_since"),
        responses=tuple((_text(values, "responses") or "").split()),
        abandoned=tuple((_text(values, "abandoned") or "").split()),
        chaining=Chaining(str(values["chaining"])),
        previous_response_id=_text(values, "previous_response_id"),
        previous_run_id=_text(values, "previous_run_id"),
        unknown_creates=int(values.get("unknown_creates", 0)),
        created_at=read_time(values, "created_at"),
        updated_at=read_time(values, "updated_at"),
        started_at=_time(values, "started_at"),
        completed_at=_time(values, "completed_at"),
        expires_at=read_time(values, "expires_at"),
        input=read_content(values.get("input")),
        turns=_read_turns(values),
        calls=_unpack_calls(values.get("calls")),
        usage=Usage(**json.loads(usage)) if usage else Usage(),
        error=RunError(**json.loads(error)) if error else None,
        incomplete_reason=_text(values, "incomplete_reason"),
    )


def _turn_name(number: int) -> str:
    return f"turn_{number:02d}"


def _read_turns(values: Mapping[str, Value]) -> tuple[Content, ...]:
    turns: list[Content] = []
    while (value := values.get(_turn_name(len(turns) + 1))) is not None:
        turns.append(read_content(value))
    return tuple(turns)


def _pack_calls(calls: Iterable[ToolCall]) -> bytes:
    return pack([_present(_fields(call) | {"status": call.status.value}) for call in calls])


def _unpack_calls(value: Value | None) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(
            call_id=call["call_id"],
            name=call["name"],
            turn=call["turn"],
            idempotent=call["idempotent"],
            status=CallStatus(call["status"]),
            started_at=_time(call, "started_at"),
            completed_at=_time(call, "completed_at"),
        )
        for call in unpack(value) or ()
    )


def pending_row(pending: Pending) -> Row:
    values = _present(
        {
            "status": pending.status.value,
            "step": pending.step.value,
            "due": pending.due,
            "expires_at": pending.expires_at,
            "token": pending.token,
            "turn_started_at": pending.turn_started_at,
            "missing": pending.missing or None,
            "sequence": pending.sequence,
        }
    )
    return Row(pending_key(pending.run_id), values)


def read_pending(row: Row) -> Pending:
    values = row.values
    return Pending(
        run_id=row.key.partition("|")[2],
        status=RunStatus(str(values["status"])),
        step=Step(str(values["step"])),
        due=read_time(values, "due"),
        expires_at=read_time(values, "expires_at"),
        token=_text(values, "token"),
        turn_started_at=_time(values, "turn_started_at"),
        missing=bool(values.get("missing")),
        sequence=_number(values, "sequence"),
    )


def session_row(session: Session, tx: str) -> Row:
    values = _present(_fields(session) | {"tx": tx, "deleted": session.deleted or None})
    del values["id"]
    return Row(session_key(session.id), values)


def read_session(row: Row) -> Session:
    values = row.values
    return Session(
        id=row.key.partition("|")[2],
        owner=str(values["owner"]),
        agent=str(values["agent"]),
        created_at=read_time(values, "created_at"),
        updated_at=read_time(values, "updated_at"),
        # A merge cannot remove a property, only empty it.
        held_by=_text(values, "held_by") or None,
        last_run_id=_text(values, "last_run_id"),
        last_response_id=_text(values, "last_response_id") or None,
        runs=int(values["runs"]),
        deleted=bool(values.get("deleted")),
    )
