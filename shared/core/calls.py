"""Tool calls and their results."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

# How long a call waits for an answer, unless its tool says otherwise.
WAIT_FOR = timedelta(days=7)


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
    # A person has to approve it, or the caller carries it out.
    WAITING = "waiting"
    # A person refused it, so it did not start.
    REFUSED = "refused"
    # Nobody answered in time, so it did not start.
    TIMED_OUT = "timed_out"
    # The run has ended, and the caller carries it out.
    HANDED_OVER = "handed_over"

    @property
    def open(self) -> bool:
        return self in {CallStatus.QUEUED, CallStatus.IN_PROGRESS, CallStatus.WAITING}


class CallKind(StrEnum):
    """What a call is to the model."""

    FUNCTION = "function"
    # A hosted MCP server asks whether it may run one of its tools. The provider runs it.
    MCP_APPROVAL = "mcp_approval"


class WaitKind(StrEnum):
    """What a waiting call waits for."""

    # A person approves or refuses it.
    APPROVAL = "approval"
    # The caller runs it, and sends its output.
    OUTPUT = "output"


class AnswerType(StrEnum):
    """How a call that waited was answered."""

    APPROVED = "approved"
    REFUSED = "refused"
    # The caller ran it: its output, or why it failed.
    OUTPUT = "output"
    ERROR = "error"
    # Nobody answered in time.
    TIMED_OUT = "timed_out"


class CallerCalls(StrEnum):
    """What a run does with calls that its caller runs."""

    # It waits for their outputs.
    WAIT = "wait"
    # It ends, and the next run of the session brings their outputs.
    END = "end"


@dataclass(frozen=True, slots=True)
class Wait:
    """That a call waits for an answer, or has waited for it."""

    kind: WaitKind
    since: datetime
    # Without an answer until then, the model is told that nobody answered.
    expires_at: datetime
    # Whether a person has approved the call.
    approved: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call that the model requested, with its status.

    A run keeps its calls without arguments: these are in the output of the turn.
    """

    call_id: str
    name: str
    # As the model wrote them: often JSON, never trusted.
    arguments: str = ""
    # The hosted MCP server whose tool it calls, if any.
    server: str = field(default="", kw_only=True)
    kind: CallKind = field(default=CallKind.FUNCTION, kw_only=True)
    turn: int = field(default=0, kw_only=True)
    # Present from the moment when the call had to wait.
    wait: Wait | None = field(default=None, kw_only=True)
    # Whether it may run. False: nobody has decided whether it needs an approval, because its arguments did not fit its tool.
    cleared: bool = field(default=True, kw_only=True)
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
