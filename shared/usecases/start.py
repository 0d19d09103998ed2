"""Accept a run: store it with its session, then take its first step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.core import ids
from shared.core.life.events import Record
from shared.core.pace import MAX_DEADLINE
from shared.core.run import Chaining, Content, Lease, Run, RunStatus, Session, Step
from shared.errors import Conflict, InvalidInput, NotFound, RowConflict
from shared.log import say
from shared.ports.agents import AgentSpec
from shared.steps.context import Context
from shared.steps.transition import Applied
from shared.steps.work import perform_now
from shared.store.runs import StoredKey, StoredRun, StoredSession

# Nobody changes a session this often while a run is started in it.
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """What a client asks for. `input` is the JSON text of Responses input items.

    `fingerprint` tells whether two requests with the same `idempotency_key` are the same request.
    """

    owner: str
    agent: str
    input: str
    session_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    deadline: timedelta | None = None
    # None leaves it to the agent.
    stream: bool | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""


async def start(context: Context, request: StartRequest) -> Applied:
    """Store a run and create its first response; a repeated request gives the run that it gave before.

    Raises InvalidInput, NotFound or Conflict when nothing was accepted.
    """
    spec = context.agents.spec(request.agent)
    if spec is None:
        if earlier := await _earlier(context, request):
            return _repeated(earlier)
        known = ", ".join(context.agents.names())
        raise InvalidInput(
            f"There is no agent {request.agent!r}; there are: {known}.", code="unknown_agent", field="agent"
        )
    now = context.clock.now()
    try:
        continued = await _continued(context, request)
    except (NotFound, Conflict):
        # Perhaps because of the very run that this request has started before.
        if earlier := await _earlier(context, request):
            return _repeated(earlier)
        raise
    fresh = _new_ids(context, request, now)
    meant = await _claim_key(context, request, fresh, now)
    if meant is not fresh and (earlier := await context.runs.read(meant.run_id)):
        return _repeated(earlier)
    for _ in range(_ATTEMPTS):
        session = continued or StoredSession(_new_session(request, meant.session_id, now))
        lease = context.lease()
        run = _new_run(context, request, spec, meant.run_id, session.session, lease)
        accepted = await _store(context, run, request.input, session)
        if accepted is None:
            # Whoever changed the session may have left it free: a deletion does.
            continued = await _continued(context, request)
        elif accepted.changed:
            return await perform_now(context, accepted, lease)
        else:
            return accepted
    raise _busy(meant.session_id)


async def _store(context: Context, run: Run, text: str, session: StoredSession) -> Applied | None:
    """Store the run, its input and the session that it now holds; or return the run that was faster.

    Returns None when the session has changed.
    """
    content = await context.content.save(run.id, f"input-{context.token()}", text)
    held = replace(
        session.session,
        held_by=run.id,
        last_run_id=run.id,
        runs=session.session.runs + 1,
        updated_at=run.created_at,
    )
    try:
        stored = await context.runs.insert(
            replace(run, input=content), StoredSession(held, session.etag), [Record("run.queued")]
        )
    except RowConflict:
        winner = await context.runs.read(run.id)
        if winner is None or winner.run.input != content:
            await context.content.drop(run.id, content)
        if winner:
            return _repeated(winner)
        return None
    say("run.accepted", run_id=run.id, session_id=run.session_id, agent=run.agent)
    return Applied(stored, changed=True, wake=False)


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


async def _claim_key(context: Context, request: StartRequest, meant: StoredKey, now: datetime) -> StoredKey:
    """Store the key before the run, so that a repeated request finishes what a crash left undone."""
    if not request.idempotency_key:
        return meant
    hashed = ids.key_hash(request.owner, request.idempotency_key)
    stored = await context.runs.claim_key(ids.key_shard(hashed), hashed, meant, now)
    if stored.fingerprint != meant.fingerprint:
        raise InvalidInput(
            "This Idempotency-Key was used with another request; use a new key for a new request.",
            code="idempotency_key_reused",
            field="Idempotency-Key",
        )
    return stored


def _repeated(stored: StoredRun) -> Applied:
    if stored.run.status is RunStatus.DELETED:
        raise Conflict(
            "The run of this Idempotency-Key was deleted; use a new key for a new run.",
            code="run_deleted",
            field="Idempotency-Key",
        )
    return Applied(stored, changed=False, wake=False)


async def _earlier(context: Context, request: StartRequest) -> StoredRun | None:
    """Return the run that the same request with the same key has started, if there is one."""
    if not request.idempotency_key:
        return None
    hashed = ids.key_hash(request.owner, request.idempotency_key)
    stored = await context.runs.read_key(ids.key_shard(hashed), hashed)
    if stored is None or stored.fingerprint != request.fingerprint:
        return None
    return await context.runs.read(stored.run_id)


def _new_session(request: StartRequest, session_id: str, now: datetime) -> Session:
    return Session(id=session_id, owner=request.owner, agent=request.agent, created_at=now, updated_at=now)


async def _continued(context: Context, request: StartRequest) -> StoredSession | None:
    """Return the session that the request names. Raises NotFound, or Conflict when it cannot take a run now."""
    if request.session_id is None:
        return None
    stored = await context.runs.read_session(request.session_id)
    if stored is None or stored.session.deleted or stored.session.owner != request.owner:
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


def _busy(session_id: str) -> Conflict:
    return Conflict(
        f"Session {session_id} has a run that has not ended; wait for it or cancel it.",
        code="session_busy",
        field="session_id",
    )


def _new_run(
    context: Context, request: StartRequest, spec: AgentSpec, run_id: str, session: Session, lease: Lease
) -> Run:
    """Return the run without its input: queued, and leased to whoever accepts it."""
    now = context.clock.now()
    return Run(
        id=run_id,
        session_id=session.id,
        owner=request.owner,
        agent=spec.name,
        metadata=request.metadata,
        max_turns=spec.max_turns,
        stream=spec.stream if request.stream is None else request.stream,
        step=Step.CREATE,
        due=lease.expires_at,
        lease=lease,
        events=1,
        # Without a response to continue, what there is of the conversation is replayed.
        chaining=context.chaining if session.last_response_id or not session.last_run_id else Chaining.REPLAY,
        previous_response_id=session.last_response_id,
        previous_run_id=session.last_run_id,
        created_at=now,
        updated_at=now,
        expires_at=now + min(request.deadline or spec.deadline, MAX_DEADLINE),
        input=Content(),
    )
