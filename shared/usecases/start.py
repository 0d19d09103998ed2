"""Accept a run: store it with its session, then take its first step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.core import ids, transcript
from shared.core.caller import Caller
from shared.core.life.birth import Accepted, accept
from shared.core.replay import open_ids
from shared.core.run import Content, Lease, Run, RunStatus, Session
from shared.errors import Conflict, InvalidInput, NotFound, RowConflict, UnreadableRow
from shared.log import log_event
from shared.ports.agents import AgentSpec
from shared.steps.context import Context
from shared.steps.transition import Applied
from shared.steps.work import perform_now
from shared.store.keys import StoredKey
from shared.store.runs import StoredRun
from shared.store.sessions import StoredSession
from shared.usecases.read import output_of

# How many runs without an outcome may come after the run whose call is answered.
_LOOK_BACK = 20
# How many times a start is tried when the session changes meanwhile.
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """A client's request for a run."""

    agent: str
    # The JSON text of input items of the Responses API.
    input: str
    # The ids of the calls that the input answers.
    answers: frozenset[str] = frozenset()
    session_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    deadline: timedelta | None = None
    # None: the agent decides.
    stream: bool | None = None
    idempotency_key: str | None = None
    # Two requests with the same `idempotency_key` are the same request when their fingerprints are equal.
    fingerprint: str = ""


async def start(context: Context, caller: Caller, request: StartRequest) -> Applied:
    """Store a run and create its first response. A repeated request returns the run of the first request.

    Raises InvalidInput, NotFound or Conflict when nothing was accepted.
    """
    spec = context.agents.spec(request.agent)
    if spec is None:
        if earlier := await _earlier(context, caller, request):
            return _repeated(earlier, caller)
        known = ", ".join(context.agents.names())
        raise InvalidInput(
            f"There is no agent {request.agent!r}; there are: {known}.", code="unknown_agent", field="agent"
        )
    now = context.clock.now()
    try:
        continued = await _continued(context, caller, request)
        if request.answers:
            await _check_answers(context, continued, request.answers)
    except (NotFound, Conflict, InvalidInput):
        # This request may have been sent before, and its own run may hold the session now.
        if earlier := await _earlier(context, caller, request):
            return _repeated(earlier, caller)
        raise
    fresh = _new_ids(context, request, now)
    key = await _claim_key(context, caller, request, fresh, now)
    if key is not fresh and (earlier := await context.runs.read(key.run_id)):
        return _repeated(earlier, caller)
    for _ in range(_ATTEMPTS):
        session = continued or StoredSession(
            Session(
                id=key.session_id, owner=caller.owner, agent=request.agent, created_at=now, updated_at=now
            )
        )
        lease = context.lease()
        accepted = await _store(
            context,
            session,
            _accepted(context, request, spec, key.run_id, session.session, lease),
            request.input,
        )
        if accepted is None:
            # The session has changed. It may still be free: a deletion of a run changes it too.
            continued = await _continued(context, caller, request)
        elif accepted.changed:
            return await perform_now(context, accepted, lease, input_text=request.input)
        else:
            return accepted
    raise _busy(key.session_id)


async def _store(context: Context, session: StoredSession, event: Accepted, text: str) -> Applied | None:
    """Store the run, its input and the session that it now holds.

    Returns the stored run if another request with the same key has stored it first, and None if the session
    has changed.
    """
    content = await context.content.save(event.run_id, f"input-{context.token()}", text)
    event = replace(event, input=content)
    run, held, entries = accept(event, context.clock.now())
    try:
        stored = await context.runs.insert(run, replace(session, session=held), entries)
    except RowConflict:
        first = await context.runs.read(run.id)
        if first is None or first.run.input != content:
            await context.content.drop(run.id, content)
        if first:
            return _repeated(first, Caller(run.owner))
        return None
    context.observer.stored(None, event, run, entries)
    log_event("run.accepted", run_id=run.id, session_id=run.session_id, agent=run.agent)
    return Applied(stored, changed=True)


def _new_ids(context: Context, request: StartRequest, now: datetime) -> StoredKey:
    if request.session_id:
        shard = int(ids.shard_of(request.session_id), 16)
    else:
        shard = context.randomness.bytes(1)[0] % ids.SHARDS
    session_id = request.session_id or ids.new_id(
        "ses", shard, now, context.randomness.bytes(ids.RANDOM_BYTES)
    )
    run_id = ids.new_id("run", shard, now, context.randomness.bytes(ids.RANDOM_BYTES))
    return StoredKey(run_id, session_id, request.fingerprint)


async def _claim_key(
    context: Context, caller: Caller, request: StartRequest, fresh: StoredKey, now: datetime
) -> StoredKey:
    """Store the key before the run, so that a repeated request after a crash uses the same ids.

    Returns the ids that are stored for the key: `fresh`, or those of an earlier request.
    """
    if not request.idempotency_key:
        return fresh
    hashed = ids.key_hash(caller.owner, request.idempotency_key)
    stored = await context.keys.claim(ids.key_shard(hashed), hashed, fresh, now)
    _check_ids(stored)
    if not stored.is_of(fresh.fingerprint):
        raise _reused()
    return stored


def _check_ids(stored: StoredKey) -> None:
    """Raise UnreadableRow when the row of a key names no run or no session."""
    if not ids.is_id("run", stored.run_id) or not ids.is_id("ses", stored.session_id):
        raise UnreadableRow(f"key of {stored.run_id[:64]}")


def _reused() -> InvalidInput:
    return InvalidInput(
        "This Idempotency-Key was used with another request; use a new key for a new request.",
        code="idempotency_key_reused",
        field="Idempotency-Key",
    )


def _repeated(stored: StoredRun, caller: Caller) -> Applied:
    """Return the run of an earlier request with the same key. What the key's row says is not trusted."""
    if stored.run.status is RunStatus.DELETED:
        raise Conflict(
            "The run of this Idempotency-Key was deleted; use a new key for a new run.",
            code="run_deleted",
            field="Idempotency-Key",
        )
    if stored.run.owner != caller.owner:
        raise _reused()
    return Applied(stored)


async def _earlier(context: Context, caller: Caller, request: StartRequest) -> StoredRun | None:
    """Return the run that an earlier request with the same key and body has started, if there is one."""
    if not request.idempotency_key:
        return None
    hashed = ids.key_hash(caller.owner, request.idempotency_key)
    stored = await context.keys.read(ids.key_shard(hashed), hashed)
    if stored is None or not stored.is_of(request.fingerprint):
        return None
    _check_ids(stored)
    return await context.runs.read(stored.run_id)


async def _continued(context: Context, caller: Caller, request: StartRequest) -> StoredSession | None:
    """Return the session that the request names.

    Raises NotFound, or Conflict when it cannot hold a run now.
    """
    if request.session_id is None:
        return None
    stored = await context.sessions.read(request.session_id)
    if stored is None or stored.session.deleted or stored.session.owner != caller.owner:
        raise NotFound(
            f"There is no session {request.session_id}.", code="session_not_found", field="session_id"
        )
    if stored.session.agent != request.agent:
        raise Conflict(
            f"Session {request.session_id} belongs to agent {stored.session.agent}.",
            code="session_of_another_agent",
            field="agent",
        )
    if stored.session.held_by:
        raise _busy(request.session_id)
    return stored


async def _check_answers(context: Context, continued: StoredSession | None, answers: frozenset[str]) -> None:
    """Raise InvalidInput unless each answer is for a call that the conversation of the session has left open."""
    run_id = continued.session.last_run_id if continued else None
    last: Run | None = None
    for _ in range(_LOOK_BACK):
        if last or not run_id or not (stored := await context.runs.read(run_id)):
            break
        last, run_id = stored.run if stored.run.in_conversation else None, stored.run.previous_run_id
    output = await output_of(context, last) if last else None
    if not answers <= open_ids(transcript.parse(output or "[]")):
        raise InvalidInput(
            "input answers a call that this session has not left open.",
            code="input_not_allowed",
            field="input",
        )


def _busy(session_id: str) -> Conflict:
    return Conflict(
        f"Session {session_id} has a run that has not ended; wait for it or cancel it.",
        code="session_busy",
        field="session_id",
    )


def _accepted(
    context: Context, request: StartRequest, spec: AgentSpec, run_id: str, session: Session, lease: Lease
) -> Accepted:
    """Return the event that makes the run. Its input is not stored yet."""
    return Accepted(
        run_id=run_id,
        session=session,
        provider=spec.provider,
        input=Content(),
        lease=lease,
        max_turns=spec.max_turns,
        deadline=request.deadline or spec.deadline,
        chaining=context.chaining,
        stream=spec.stream if request.stream is None else request.stream,
        metadata=request.metadata,
        key=ids.key_hash(session.owner, request.idempotency_key) if request.idempotency_key else None,
    )
