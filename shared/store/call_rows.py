"""A run's calls, as its row keeps them."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.core.calls import CallKind, CallStatus, ToolCall, Wait, WaitKind
from shared.core.life.calling import MAX_CALLS_PER_RUN
from shared.ports.tables import Value
from shared.store import rows

# What a run keeps of its calls; their arguments are in the output of the turn.
_CALL_FIELDS = ("call_id", "name", "turn", "idempotent", "status", "started_at", "completed_at")


def pack_calls(calls: Iterable[ToolCall]) -> bytes:
    return rows.pack([_call_values(call) for call in calls])


def _call_values(call: ToolCall) -> dict[str, Value]:
    values: dict[str, Any] = {name: getattr(call, name) for name in _CALL_FIELDS}
    if call.kind is not CallKind.FUNCTION:
        values["kind"] = call.kind.value
    if not call.cleared:
        values["cleared"] = False
    if wait := call.wait:
        values |= {
            "wait": wait.kind.value,
            "wait_since": wait.since,
            "wait_expires_at": wait.expires_at,
            "approved": wait.approved or None,
        }
    return rows.present(values)


def unpack_calls(value: Value | None) -> tuple[ToolCall, ...]:
    stored = rows.unpack(value) or ()
    if len(stored) > MAX_CALLS_PER_RUN:
        raise ValueError("there are more calls than a run has")
    return tuple(_read_call(call) for call in stored)


def _read_call(stored: Mapping[str, Any]) -> ToolCall:
    status, wait = CallStatus(stored["status"]), _read_wait(stored)
    if status is CallStatus.WAITING and wait is None:
        raise ValueError("a call waits without an end")
    return ToolCall(
        call_id=rows.text(stored, "call_id"),
        name=rows.text(stored, "name"),
        kind=CallKind(stored.get("kind", CallKind.FUNCTION)),
        turn=rows.count(stored, "turn"),
        wait=wait,
        cleared=bool(stored.get("cleared", True)),
        idempotent=bool(stored["idempotent"]),
        status=status,
        started_at=rows.optional_time(stored, "started_at"),
        completed_at=rows.optional_time(stored, "completed_at"),
    )


def _read_wait(stored: Mapping[str, Any]) -> Wait | None:
    if "wait" not in stored:
        return None
    return Wait(
        WaitKind(stored["wait"]),
        rows.read_time(stored, "wait_since"),
        rows.read_time(stored, "wait_expires_at"),
        approved=bool(stored.get("approved")),
    )
