"""The nouns of Baton: runs, sessions, tool calls, and what the provider says.

Everything here is frozen. A run changes only through `shared.core.life.advance`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from shared.core.response import RunError, Usage


class RunStatus(StrEnum):
    """Where a run stands, in the words that users of OpenAI's run lifecycle know."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    REQUIRES_ACTION = "requires_action"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INCOMPLETE = "incomplete"
    EXPIRED = "expired"
    # The tombstone of a deleted run; no client ever sees it.
    DELETED = "deleted"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


OUTCOMES = frozenset(
    {
        RunStatus.COMPLETED,
        RunStatus.FAILED,
        RunStatus.CANCELLED,
        RunStatus.INCOMPLETE,
        RunStatus.EXPIRED,
    }
)
TERMINAL = OUTCOMES | {RunStatus.DELETED}


class Step(StrEnum):
    """What a run is owed next."""

    CREATE = "create"
    POLL = "poll"
    TOOLS = "tools"
    INPUT = "input"
    CANCEL = "cancel"
    NOTHING = "nothing"


class CallStatus(StrEnum):
    """Where one tool call stands."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    # Started, and nobody knows whether it finished: its process died or lost its lease.
    UNKNOWN = "unknown"
    # Never started, because the run ended first.
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        return self in {CallStatus.QUEUED, CallStatus.IN_PROGRESS}


class Chaining(StrEnum):
    """How a turn hands the conversation so far to the provider."""

    PREVIOUS_RESPONSE_ID = "previous_response_id"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class Lease:
    """An exclusive, expiring claim on a step with side effects."""

    id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Content:
    """A text kept with the run while it is small, and in chunk rows of its own when it is not.

    `inline` is zlib-compressed UTF-8. Otherwise `name` finds the chunk rows and `chunks` counts them.
    """

    inline: bytes | None = None
    name: str = ""
    chunks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function call of a run and what became of it. Its arguments and result lie in a row of its own."""

    call_id: str
    name: str
    turn: int
    idempotent: bool
    status: CallStatus = CallStatus.QUEUED
    started_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One request to an agent, from start to outcome."""

    id: str
    session_id: str
    owner: str
    agent: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    max_turns: int
    # Whether its responses are read by slices of their streams.
    stream: bool = False

    status: RunStatus = RunStatus.QUEUED
    step: Step
    # Earliest time of the step. A leased step falls due again when its lease runs out.
    due: datetime
    lease: Lease | None = None
    # Counts transitions; the client's ETag.
    rev: int = 1
    # Counts log entries.
    events: int = 0

    turn: int = 1
    turn_started_at: datetime | None = None
    # The continuation token: the response to poll. Present means unfinished.
    token: str | None = None
    # The other half of it: the last event of the response's stream that is stored. None: it is read as a whole.
    sequence: int | None = None
    # Characters of the turn's text that came by slices, and output items that were begun in all turns.
    written: int = 0
    items: int = 0
    # What the model is at, in a few words.
    activity: str = ""
    # Since when the provider has answered 404 for the token.
    missing_since: datetime | None = None
    # Every response adopted, oldest first.
    responses: tuple[str, ...] = ()
    # Responses that came too late to be adopted.
    abandoned: tuple[str, ...] = ()
    chaining: Chaining
    # The response that the next one continues, with `Chaining.PREVIOUS_RESPONSE_ID`.
    previous_response_id: str | None = None
    # The run before this one in the session.
    previous_run_id: str | None = None
    # Creates of which nobody knows whether they happened: each may have left an unadopted response.
    unknown_creates: int = 0

    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime

    input: Content
    # The output items of each finished turn, oldest first; the last one is the outcome's.
    turns: tuple[Content, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    error: RunError | None = None
    incomplete_reason: str | None = None

    @property
    def terminal(self) -> bool:
        return self.status.terminal

    @property
    def in_conversation(self) -> bool:
        """Whether later runs of the session see this one: it ended, and left no tool call unanswered."""
        return (
            self.status in {RunStatus.COMPLETED, RunStatus.INCOMPLETE}
            and bool(self.responses)
            and self.previous_response_id == self.responses[-1]
        )

    def calls_of_turn(self) -> tuple[ToolCall, ...]:
        return tuple(call for call in self.calls if call.turn == self.turn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A conversation that owns runs, one after another."""

    id: str
    owner: str
    agent: str
    created_at: datetime
    updated_at: datetime
    # The run that holds the session now, if any.
    held_by: str | None = None
    last_run_id: str | None = None
    last_response_id: str | None = None
    runs: int = 0
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What the poll loop needs to know of a run that is not terminal, without reading the run."""

    run_id: str
    status: RunStatus
    step: Step
    due: datetime
    expires_at: datetime
    token: str | None
    turn_started_at: datetime | None
    missing: bool
    sequence: int | None = None

    @classmethod
    def of(cls, run: Run) -> "Pending | None":
        """Return what the poll loop must know of `run`, or None when it is owed nothing more."""
        if run.step is Step.NOTHING:
            return None
        return cls(
            run_id=run.id,
            status=run.status,
            step=run.step,
            due=run.due,
            expires_at=run.expires_at,
            token=run.token,
            turn_started_at=run.turn_started_at,
            missing=run.missing_since is not None,
            sequence=run.sequence,
        )
