"""Tool calls and their results."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class CallStatus(StrEnum):
    """The status of one tool call."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    # Started, and it is unknown whether it finished: its process died or lost its lease.
    UNKNOWN = "unknown"
    # Never started, because the run ended first.
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        return self in {CallStatus.QUEUED, CallStatus.IN_PROGRESS}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call that the model requested, with its status.

    A run keeps its calls without arguments: these are in the output of the turn.
    """

    call_id: str
    name: str
    # As the model wrote them: often JSON, never trusted.
    arguments: str = ""
    turn: int = field(default=0, kw_only=True)
    idempotent: bool = field(default=False, kw_only=True)
    status: CallStatus = field(default=CallStatus.QUEUED, kw_only=True)
    started_at: datetime | None = field(default=None, kw_only=True)
    completed_at: datetime | None = field(default=None, kw_only=True)
    # Set when the call is run. It is the same each time the same call is run, and no other call has it.
    idempotency_key: str = field(default="", kw_only=True)
    # Set when the call is run.
    run_id: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool call. `output` is the text for the model."""

    call_id: str
    status: CallStatus
    output: str
    # Whether `output` is the JSON text of content parts, which the model receives as such.
    parts: bool = field(default=False, kw_only=True)
