"""Accept a run: store it with its session, then take its first step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.core import ids
from shared.core.caller import Caller
from shared.core.life.birth import Accepted, accept
from shared.core.run import Content, Session
from shared.errors import Conflict, InvalidInput, NotFound, RowConflict, TooMany
from shared.log import log_event
from shared.ports.agents import AgentSpec
from shared.steps.context import Context
from shared.steps.transition import Applied
from shared.steps.work import perform_now
from shared.store.keys import StoredKey
from shared.store.runs import StoredRun
from shared.store.sessions import StoredSession
from shared.usecases.continued import busy, continued_session
from shared.usecases.quota import ATTEMPTS_WITH_QUOTAS, Admission, admit, book, kept_changing
from shared.usecases.repeated import claim_key, earlier_run, repeated

# How many times a start is tried when the session changes meanwhile.
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """A client's request for a run."""

    agent: str
    # The JSON text of input items of the Responses API.
    input: str
    # The calls that the input answers: their ids, and the types of the answers.
    answers: Mapping[str, str] = field(default_factory=dict)
    session_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    deadline: timedelta | None = None
    # None: the agent decides.
    stream: bool | None = None
    # The beginning of the input, for lists.
    excerpt: str = ""
    # The run that is repeated.
    retry_of: str | None = None
    idempotency_key: str | None = None
    # Two requests with the same `idempotency_key` are the same request when their fingerprints are equal.
    fingerprint: str = ""


async def start(context: Context, caller: Caller, request: StartRequest) -> Applied:
    """Store a run and create its first response. A repeated request returns the run of the first request.

    Raises InvalidInput, NotFound, Conflict or TooMany when nothing was accepted.
    """
    spec = context.agents.spec(request.agent)
    if spec is None:
        if earlier := await _earlier(context, caller, request):
            return repeated(earlier, caller)
        known = ", ".join(context.agents.names())
        raise InvalidInput(
            f"There is no agent {request.agent!r}; there are: {known}.", code="unknown_agent", field="agent"
        )
    if reason := spec.not_ready:
        raise Conflict(reason, code="agent_not_ready", field="agent")
    now = context.clock.now()
    fresh = _new_ids(context, caller, request, now)
    key: StoredKey | None = None
    for attempt in range(ATTEMPTS_WITH_QUOTAS if context.quotas else _ATTEMPTS):
        ready = await _ready(context, caller, request, again=attempt > 0)
        if isinstance(ready, Applied):
            return ready
        continued, admission = ready
        if key is None:
            key = await claim_key(context, caller, request.idempotency_key, fresh, now)
            if key is not fresh and (earlier := await context.runs.read(key.run_id)):
                return repeated(earlier, caller)
        session = continued or StoredSession(
            Session(
                id=key.session_id, owner=caller.owner, agent=request.agent, created_at=now, updated_at=now
            )
        )
        content = await context.content.save(key.run_id, f"input-{context.token()}", request.input)
        event = _accepted(context, request, spec, key.run_id, session.session, content)
        accepted = await _store(context, session, event, admission)
        if accepted is None:
            # The session or the quota has changed. The session may still be free: a deletion of a run changes it too.
            continue
        if accepted.changed:
            return await perform_now(context, accepted, event.lease, input_text=request.input)
        return accepted
    raise kept_changing() if admission else busy((key or fresh).session_id)


async def _ready(
    context: Context, caller: Caller, request: StartRequest, *, again: bool
) -> tuple[StoredSession | None, Admission | None] | Applied:
    """Return the session that the request continues, and that it is within the quotas, if there are any.

    Returns the run of an earlier request with the same key when one of them stands in the way.
    """
    try:
        continued = await _continued(context, caller, request)
        return continued, await admit(context, caller.owner, again=again)
    except (NotFound, Conflict, InvalidInput, TooMany):
        # This request may have been sent before, and its own run may hold the session now, or fill the quota.
        if earlier := await _earlier(context, caller, request):
            return repeated(earlier, caller)
        raise


async def _earlier(context: Context, caller: Caller, request: StartRequest) -> StoredRun | None:
    return await earlier_run(context, caller, request.idempotency_key, request.fingerprint)


async def _continued(context: Context, caller: Caller, request: StartRequest) -> StoredSession | None:
    return await continued_session(
        context, caller, request.session_id, agent=request.agent, answers=request.answers
    )


async def _store(
    context: Context, session: StoredSession, event: Accepted, admission: Admission | None
) -> Applied | None:
    """Store the run and the session that it now holds.

    Returns the stored run if another request with the same key has stored it first, and None if the session
    or the owner's quota has changed.
    """
    run, held, entries = accept(event, admission.at if admission else context.clock.now())
    try:
        quota = await book(context, admission, run.id)
        stored = await context.runs.insert(run, replace(session, session=held), entries, quota)
    except RowConflict:
        first = await context.runs.read(run.id)
        if first is None or first.run.input != event.input:
            await context.content.drop(run.id, event.input)
        if first:
            return repeated(first, Caller(run.owner))
        return None
    context.observer.stored(None, event, run, entries)
    log_event("run.accepted", run_id=run.id, session_id=run.session_id, agent=run.agent)
    return Applied(stored, changed=True)


def _new_ids(context: Context, caller: Caller, request: StartRequest, now: datetime) -> StoredKey:
    if request.session_id:
        shard = int(ids.shard_of(request.session_id), 16)
    elif context.quotas:
        # One transaction holds the run and its owner's quota, which are in one shard.
        shard = int(ids.home_shard(caller.owner), 16)
    else:
        shard = context.randomness.bytes(1)[0] % ids.SHARDS
    session_id = request.session_id or ids.new_id(
        "ses", shard, now, context.randomness.bytes(ids.RANDOM_BYTES)
    )
    run_id = ids.new_id("run", shard, now, context.randomness.bytes(ids.RANDOM_BYTES))
    return StoredKey(run_id, session_id, request.fingerprint)


def _accepted(
    context: Context, request: StartRequest, spec: AgentSpec, run_id: str, session: Session, content: Content
) -> Accepted:
    """Return the event that makes the run. Its lease begins when its input, which may be long, is stored."""
    return Accepted(
        run_id=run_id,
        session=session,
        provider=spec.provider,
        input=content,
        lease=context.lease(),
        max_turns=spec.max_turns,
        deadline=request.deadline or spec.deadline,
        chaining=context.chaining,
        stream=spec.stream if request.stream is None else request.stream,
        metadata=request.metadata,
        excerpt=request.excerpt,
        retry_of=request.retry_of,
        structured=spec.structured,
        key=ids.key_hash(session.owner, request.idempotency_key) if request.idempotency_key else None,
    )
