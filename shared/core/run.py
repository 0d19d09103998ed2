"""Runs, sessions and tool calls. All of it is frozen: a run changes only through `shared.core.life.advance`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from shared.core.response import RunError, Usage


class RunStatus(StrEnum):
    """Where a run stands, in the words that users of OpenAI's run lifecycle know."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
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
    CANCEL = "cancel"
    # Of a deleted run only: what is left of it has to be removed, here and at the provider.
    PURGE = "purge"
    NOTHING = "nothing"

    @property
    def worked_on(self) -> bool:
        """Whether a worker takes it, under a lease."""
        return self in {Step.CREATE, Step.TOOLS, Step.CANCEL, Step.PURGE}


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
class Continuation:
    """What an unfinished response is resumed by at the provider.

    `sequence` is the last event of the response's stream that is stored; None when it is read as a whole.
    """

    response_id: str
    sequence: int | None = None


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
    """A function call of a run and what became of it.

    Its arguments are in the output of its turn; its result has a row of its own.
    """

    call_id: str
    name: str
    turn: int
    idempotent: bool
    status: CallStatus = CallStatus.QUEUED
    started_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenItem:
    """An output item of the current turn that has started in the log and not ended.

    `index` is the provider's number of it in the response, `ordinal` ours in the run. `parts` counts the content
    parts that have started; `part_open` says whether the last of them has not ended.
    """

    index: int
    ordinal: int
    parts: int = 0
    part_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One request to an agent, from start to outcome."""

    id: str
    session_id: str
    owner: str
    agent: str
    # The name of the provider that runs its responses.
    provider: str
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
    entries: int = 0
    # Counts the events that its log entries have in a stream of the Responses API.
    stream_events: int = 0

    turn: int = 1
    turn_started_at: datetime | None = None
    # Present means that the provider has not finished the response of the turn.
    continuation: Continuation | None = None
    # Characters of the turn's text that came by slices.
    written: int = 0
    # Output items that have started, in all turns and in the current one, and those of them that have not ended.
    items: int = 0
    turn_items: int = 0
    open_items: tuple[OpenItem, ...] = ()
    # What the model does, in a few words.
    activity: str = ""
    # Since when the provider has answered 404 for the response.
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

    def awaits(self, response_id: str) -> bool:
        """Say whether the run waits for this response to finish."""
        return self.continuation is not None and self.continuation.response_id == response_id

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
class Owed:
    """What the poll loop must know of a run that is owed a step, without reading the run."""

    run_id: str
    provider: str
    status: RunStatus
    step: Step
    due: datetime
    expires_at: datetime
    continuation: Continuation | None
    turn_started_at: datetime | None
    missing: bool

    @classmethod
    def of(cls, run: Run) -> "Owed | None":
        """Return what the poll loop must know of `run`, or None when it is owed nothing more."""
        if run.step is Step.NOTHING:
            return None
        return cls(
            run_id=run.id,
            provider=run.provider,
            status=run.status,
            step=run.step,
            due=run.due,
            expires_at=run.expires_at,
            continuation=run.continuation,
            turn_started_at=run.turn_started_at,
            missing=run.missing_since is not None,
        )

    def expired(self, now: datetime) -> bool:
        """Say whether its deadline has passed; a deleted run has none any more."""
        return self.status is not RunStatus.DELETED and now >= self.expires_at
