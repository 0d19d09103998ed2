"""Runs, sessions and tool calls.

All of them are frozen; a run changes only through `shared.core.life.advance`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from shared.core.calls import CallerCalls, CallStatus, ToolCall, Wait, WaitKind
from shared.core.response import RunError, Usage


class RunStatus(StrEnum):
    """The status of a run. The names are those of OpenAI's run lifecycle."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    # Only people, or the caller, can move it: each of its open calls waits for an answer.
    REQUIRES_ACTION = "requires_action"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INCOMPLETE = "incomplete"
    EXPIRED = "expired"
    # The tombstone of a deleted run. No client sees it.
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

# The name of the provider that the app's settings choose.
DEFAULT_PROVIDER = "default"

# The reason of an incomplete run whose last response ends with a call that nobody here can answer.
UNANSWERED_CALL = "unanswered_call"


class Step(StrEnum):
    """What a run is owed next."""

    CREATE = "create"
    POLL = "poll"
    # A worker holds the stream of the turn, at a provider without background mode.
    GENERATE = "generate"
    TOOLS = "tools"
    # No poll and no worker: a person, or the caller, has to answer its calls.
    ANSWER = "answer"
    CANCEL = "cancel"
    # Only for a deleted run: its remaining data has to be removed, here and at the provider.
    PURGE = "purge"
    NOTHING = "nothing"

    @property
    def worked_on(self) -> bool:
        """Whether a worker takes this step, under a lease."""
        return self in {Step.CREATE, Step.GENERATE, Step.TOOLS, Step.CANCEL, Step.PURGE}


class Chaining(StrEnum):
    """How the conversation so far is sent to the provider with a turn."""

    PREVIOUS_RESPONSE_ID = "previous_response_id"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class Lease:
    """An exclusive, expiring claim on a step with side effects."""

    id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Continuation:
    """What is needed to resume an unfinished response at the provider."""

    response_id: str
    # The last event of the response's stream that is stored. None when the complete response is read instead.
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a run waits for its provider. It ends with the first request that succeeds."""

    # The last error.
    error: RunError
    # The time of the first error in a row.
    since: datetime
    # How many requests failed in a row, as far as they are counted: polls are not counted.
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Content:
    """A pointer to a stored text, or the text itself when it is small."""

    # The text as zlib-compressed UTF-8. None when the text is in chunk rows.
    inline: bytes | None = None
    # The keys of the chunk rows begin with it.
    name: str = ""
    # The number of chunk rows.
    chunks: int = 0


@dataclass(frozen=True, slots=True)
class OpenItem:
    """An output item of the current turn that has started in the log and not ended."""

    # Its position in the provider's response.
    index: int
    # Its position among all output items of the run.
    ordinal: int
    # How many of its content parts have started.
    parts: int = 0
    # Whether the last of these parts has not ended.
    part_open: bool = False
    # Whether it is a message that is not the answer.
    commentary: bool = False


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
    # The beginning of what was asked, for lists.
    excerpt: str = ""
    # The run that this one repeats.
    retry_of: str | None = None
    # Whether its answer is JSON of the agent's output type.
    structured: bool = False
    # The definitions of the tools that the start request brought, and that the caller runs.
    tools: Content | None = None
    caller_calls: CallerCalls = CallerCalls.WAIT
    # Whether its input has the outputs of calls that an earlier run has handed over.
    answers_calls: bool = False
    # The hash of the Idempotency-Key with which it was started, if any. See `ids.key_hash`.
    key: str | None = None
    max_turns: int
    # Whether its responses are read in slices of their streams.
    stream: bool = False
    # Whether its provider has no background mode, so that a worker holds the stream of each turn.
    generates: bool = False

    status: RunStatus = RunStatus.QUEUED
    step: Step
    # The earliest time of the step. A leased step is due again when its lease expires.
    due: datetime
    lease: Lease | None = None
    # Counts transitions. Clients see it as the ETag.
    rev: int = 1
    # Counts log entries.
    entries: int = 0
    # Counts the events that its log entries have in a stream of the Responses API.
    stream_events: int = 0

    turn: int = 1
    turn_started_at: datetime | None = None
    # Present while the provider has not finished the response of the turn.
    continuation: Continuation | None = None
    # Characters of the turn's text that came in slices, and of its commentary.
    written: int = 0
    commented: int = 0
    # Output items that have started, in all turns.
    items: int = 0
    # Output items of the current turn: how many have started, and those that have not ended.
    turn_items: int = 0
    open_items: tuple[OpenItem, ...] = ()
    # What the model does, in a few words.
    activity: str = ""
    # The time of the first 404 for the response; None when the last read found it.
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
    # Creates whose outcome is unknown. Each may have left a response that no run adopted.
    unknown_creates: int = 0
    # Creates of the current turn that the provider answered with a success that cannot be used.
    unusable_creates: int = 0
    # Creates of the current turn to which there was no reply in time, from a provider of which no background mode is known.
    timed_out_creates: int = 0
    # How many times the create of the current turn was repeated on purpose, with another request.
    repeats: int = 0
    # Whether creates have no Idempotency-Key, because the provider refused it.
    keyless: bool = False
    # How many times the text of the current turn, or a call of it that was cut, was taken back and written anew.
    restarts: int = 0
    # How many times the text of a turn was continued: exactly, and as well as its provider can.
    joins: int = 0
    loose_joins: int = 0
    # After how many characters the text of the current turn was continued the last time, and whether by best effort.
    joined: int = 0
    joined_loosely: bool = False
    # The reply to the create of the current turn, if it was finished, until the response was read.
    kept: Content | None = None
    # Whether a create of it was answered with a finished response.
    background_ignored: bool = False
    # Whether such a response could not be read. Then the provider cannot continue it either.
    unread: bool = False
    # Present while the owed step fails and is tried again.
    waiting: Waiting | None = None

    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime
    # Since when its clock stands still, and how long it has stood still before.
    paused_at: datetime | None = None
    paused: timedelta = timedelta()

    input: Content
    # The output items of each finished turn, oldest first. Those of the last turn are the run's output.
    turns: tuple[Content, ...] = ()
    # Where the answer stands in the last of them. None when it is not known.
    answer: Content | None = None
    calls: tuple[ToolCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    # Whether the usage of a finished turn is not known, because its provider did not send it for all of its requests.
    unmetered: bool = False
    error: RunError | None = None
    incomplete_reason: str | None = None

    @property
    def terminal(self) -> bool:
        return self.status.terminal

    @property
    def metered(self) -> bool:
        """Whether its usage is known. A turn that is generated has one when its stream has ended as it should."""
        return not (self.unmetered or (self.generates and self.turn_started_at))

    @property
    def in_conversation(self) -> bool:
        """Whether later runs continue this one."""
        if self.generates:
            return self.status in {RunStatus.COMPLETED, RunStatus.INCOMPLETE} and bool(self.turns)
        return self.chainable or (
            self.status is RunStatus.INCOMPLETE and self.incomplete_reason == UNANSWERED_CALL
        )

    @property
    def chainable(self) -> bool:
        """Whether the provider can continue its last response: each of its tool calls has an output, or gets one."""
        return (
            self.status in {RunStatus.COMPLETED, RunStatus.INCOMPLETE}
            and bool(self.responses)
            and self.previous_response_id == self.responses[-1]
        )

    def awaits(self, response_id: str) -> bool:
        """Return whether the run waits for this response to finish."""
        return self.continuation is not None and self.continuation.response_id == response_id

    def calls_of_turn(self) -> tuple[ToolCall, ...]:
        return tuple(call for call in self.calls if call.turn == self.turn)

    @property
    def waits(self) -> tuple[tuple[ToolCall, Wait], ...]:
        """The calls that wait for an answer, each with its wait. None while the run is being cancelled."""
        if self.status is RunStatus.CANCELLING:
            return ()
        return tuple(
            (call, call.wait) for call in self.calls if call.status is CallStatus.WAITING and call.wait
        )

    @property
    def wait_ends_at(self) -> datetime | None:
        """When the first of its waits ends. None when no call waits."""
        return min((wait.expires_at for _, wait in self.waits), default=None)

    @property
    def waits_for(self) -> tuple[WaitKind, datetime] | None:
        """What the run's calls wait for, and since when: for an approval if one of them does. None when no call waits."""
        since: dict[WaitKind, datetime] = {}
        for _, wait in self.waits:
            since[wait.kind] = min(wait.since, since.get(wait.kind, wait.since))
        kind = WaitKind.APPROVAL if WaitKind.APPROVAL in since else WaitKind.OUTPUT
        return (kind, since[kind]) if since else None

    @property
    def handed_over(self) -> tuple[ToolCall, ...]:
        """The calls that its caller carries out after its end."""
        return tuple(call for call in self.calls if call.status is CallStatus.HANDED_OVER)


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
    # The provider of its last run, which is that of `last_response_id`.
    provider: str = DEFAULT_PROVIDER
    # Whether calls were handed over to the caller. The next run has to bring their outputs.
    awaits_outputs: bool = False
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """What is owed for a run, and when: enough for the poll loop, which does not read the run."""

    run_id: str
    provider: str
    # These two are empty in rows of an earlier version.
    agent: str = ""
    owner: str = ""
    status: RunStatus
    step: Step
    due: datetime
    expires_at: datetime
    continuation: Continuation | None
    turn_started_at: datetime | None
    missing: bool
    # The code of the error for which the step is tried again, if any.
    waiting: str | None = None

    @classmethod
    def of(cls, run: Run) -> "Owed | None":
        """Return what is owed for `run`, or None when nothing is owed any more."""
        if run.step in {Step.NOTHING, Step.ANSWER}:
            return None
        return cls(
            run_id=run.id,
            provider=run.provider,
            agent=run.agent,
            owner=run.owner,
            status=run.status,
            step=run.step,
            due=run.due,
            expires_at=run.expires_at,
            continuation=run.continuation,
            turn_started_at=run.turn_started_at,
            missing=run.missing_since is not None,
            waiting=run.waiting.error.code if run.waiting else None,
        )

    def expired(self, now: datetime) -> bool:
        """Return whether the deadline has passed. A deleted run has no deadline."""
        return self.status is not RunStatus.DELETED and now >= self.expires_at
