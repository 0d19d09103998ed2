"""Accept a run: store it with its session, then take its first step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.core import ids
from shared.core.caller import Caller
from shared.core.calls import CallerCalls
from shared.core.life.birth import Accepted, accept
from shared.core.life.events import Wake
from shared.core.run import Chaining, Content, Run, Session
from shared.errors import Conflict, InvalidInput, NotFound, RowConflict, TooMany
from shared.log import log_event
from shared.ports.agents import AgentSpec
from shared.steps.context import Context
from shared.steps.transition import Applied
from shared.steps.work import perform_now
from shared.store.keys import StoredKey
from shared.store.runs import StoredRun
from shared.store.sessions import StoredSession
from shared.usecases.continued import Answers, busy, continued_session
from shared.usecases.quota import ATTEMPTS_WITH_QUOTAS, Admission, admit, book, kept_changing
from shared.usecases.repeated import claim_key, earlier_run, repeated

# How many times a start is tried when the session changes meanwhile.
_ATTEMPTS = 4
_NOTHING_ACCEPTED = (NotFound, Conflict, InvalidInput, TooMany)


@dataclass(frozen=True, slots=True)
class CallerTools:
    """Function tools that the caller of a run carries out."""

    names: frozenset[str]
    # The JSON text of their definitions.
    definitions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """A client's request for a run."""

    agent: str
    # The JSON text of input items of the Responses API.
    input: str
    # The calls that the input answers.
    answers: Answers = field(default_factory=Answers)
    # Further tools, which the caller runs.
    tools: CallerTools | None = None
    caller_calls: CallerCalls = CallerCalls.WAIT
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
    try:
        spec = _spec(context, request)
    except (Conflict, InvalidInput):
        # The agent may have changed since the first request.
        if earlier := await _earlier(context, caller, request):
            return repeated(earlier, caller)
        raise
    text = _Texts(context, request)
    try:
        accepted = await _accept_once(context, caller, request, spec, text)
    except _NOTHING_ACCEPTED:
        await text.drop()
        raise
    lease = accepted.stored.run.lease
    if not accepted.changed or lease is None:
        return accepted
    return await perform_now(context, accepted, lease, input_text=request.input)


def _spec(context: Context, request: StartRequest) -> AgentSpec:
    """Return the agent that a request names. Raises InvalidInput or Conflict when it cannot carry the request out."""
    spec = context.agents.spec(request.agent)
    if spec is None:
        known = ", ".join(context.agents.names())
        raise InvalidInput(
            f"There is no agent {request.agent!r}; there are: {known}.", code="unknown_agent", field="agent"
        )
    if reason := spec.not_ready:
        raise Conflict(reason, code="agent_not_ready", field="agent")
    if request.tools and (taken := sorted(request.tools.names & set(spec.tool_names))):
        raise InvalidInput(
            f"The agent {spec.name} has a tool {taken[0]!r} already; give yours another name.",
            code="tool_name_taken",
            field="tools",
        )
    return spec


class _Texts:
    """The input of a run that is not stored yet, and its tools. They are saved once, however often its start is decided.

    Otherwise short starts of the same owner would overtake a long one again and again.
    """

    def __init__(self, context: Context, request: StartRequest) -> None:
        self._context = context
        self._input, self._tools = request.input, request.tools
        self._run_id = ""
        self.input: Content | None = None
        self.tools: Content | None = None

    async def save(self, run_id: str) -> None:
        self._run_id = run_id
        if self.input is None:
            name = f"input-{self._context.token()}"
            self.input = await self._context.content.save(run_id, name, self._input)
        if self.tools is None and self._tools:
            name = f"tools-{self._context.token()}"
            self.tools = await self._context.content.save(run_id, name, self._tools.definitions)

    async def drop(self, first: Run | None = None) -> None:
        """Remove what was saved, unless `first`, the run that was stored, points to it."""
        kept = {first.input, first.tools} if first else set()
        for content in (self.input, self.tools):
            if content and content not in kept:
                await self._context.content.drop(self._run_id, content)
        self.input = self.tools = None


async def _accept_once(
    context: Context, caller: Caller, request: StartRequest, spec: AgentSpec, text: _Texts
) -> Applied:
    """Store a run, or return the run that an earlier request with the same key has stored."""
    now = context.clock.now()
    fresh = _new_ids(context, caller, request, now)
    key: StoredKey | None = None
    for attempt in range(ATTEMPTS_WITH_QUOTAS if context.quotas else _ATTEMPTS):
        ready = await _ready(context, caller, request, again=attempt > 0)
        if isinstance(ready, Applied):
            await text.drop(ready.stored.run)
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
        await text.save(key.run_id)
        event = _accepted(context, request, spec, key.run_id, session.session, text)
        # The session or the quota may have changed. The session may still be free: a deletion of a run changes it too.
        if accepted := await _store(context, session, event, text, admission):
            return accepted
    await text.drop()
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
    context: Context, session: StoredSession, event: Accepted, text: _Texts, admission: Admission | None
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
        if first is None:
            return None
        await text.drop(first.run)
        return repeated(first, Caller(run.owner))
    context.observer.stored(None, event, run, entries)
    log_event("run.accepted", run_id=run.id, session_id=run.session_id, agent=run.agent)
    return Applied(stored, changed=True, effects=() if run.lease else (Wake(),))


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
    context: Context, request: StartRequest, spec: AgentSpec, run_id: str, session: Session, text: _Texts
) -> Accepted:
    """Return the event that makes the run. Its lease begins when its input, which may be long, is stored."""
    assert text.input is not None
    return Accepted(
        run_id=run_id,
        session=session,
        provider=spec.provider,
        input=text.input,
        lease=None if spec.provider in context.chats else context.lease(),
        max_turns=spec.max_turns,
        deadline=request.deadline or spec.deadline,
        chaining=Chaining.REPLAY if spec.provider in context.chats else context.chaining,
        stream=spec.stream if request.stream is None else request.stream,
        metadata=request.metadata,
        excerpt=request.excerpt,
        retry_of=request.retry_of,
        structured=spec.structured,
        tools=text.tools,
        caller_calls=request.caller_calls,
        key=ids.key_hash(session.owner, request.idempotency_key) if request.idempotency_key else None,
    )
