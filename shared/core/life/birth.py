"""How a run begins. The run holds its session from then on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.core.calls import CallerCalls
from shared.core.log import LogEntry, RunQueued
from shared.core.pace import MAX_DEADLINE
from shared.core.run import Chaining, Content, Lease, Run, Session, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A client's request for a run was accepted."""

    run_id: str
    # The session as it is before the run.
    session: Session
    provider: str
    input: Content
    # For creating the first response at once. None: a worker generates the first turn.
    lease: Lease | None
    max_turns: int
    deadline: timedelta
    chaining: Chaining
    stream: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    # The hash of its Idempotency-Key.
    key: str | None = None
    excerpt: str = ""
    retry_of: str | None = None
    structured: bool = False
    tools: Content | None = None
    caller_calls: CallerCalls = CallerCalls.WAIT


def accept(event: Accepted, now: datetime) -> tuple[Run, Session, tuple[LogEntry, ...]]:
    """Return the run, queued and leased; the session that it now holds; and its first log entries."""
    session = event.session
    # No provider can continue a response of another one.
    last_response_id = session.last_response_id if session.provider == event.provider else None
    entry = RunQueued()
    run = Run(
        id=event.run_id,
        session_id=session.id,
        owner=session.owner,
        agent=session.agent,
        provider=event.provider,
        metadata=event.metadata,
        key=event.key,
        excerpt=event.excerpt,
        retry_of=event.retry_of,
        structured=event.structured,
        tools=event.tools,
        caller_calls=event.caller_calls,
        answers_calls=session.awaits_outputs,
        max_turns=event.max_turns,
        stream=event.stream,
        generates=event.lease is None,
        step=Step.CREATE if event.lease else Step.GENERATE,
        due=event.lease.expires_at if event.lease else now,
        lease=event.lease,
        entries=1,
        stream_events=entry.stream_events,
        # Without a response to continue, the conversation so far is replayed.
        chaining=event.chaining if last_response_id or not session.last_run_id else Chaining.REPLAY,
        previous_response_id=last_response_id,
        previous_run_id=session.last_run_id,
        created_at=now,
        updated_at=now,
        expires_at=now + min(event.deadline, MAX_DEADLINE),
        input=event.input,
    )
    held = replace(
        session,
        held_by=run.id,
        last_run_id=run.id,
        last_response_id=last_response_id,
        provider=event.provider,
        runs=session.runs + 1,
        updated_at=now,
    )
    return run, held, (entry,)
