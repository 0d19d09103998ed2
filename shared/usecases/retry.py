"""Start a run again: the same agent, input and metadata, in a new run."""

import hashlib
import json

from shared.core import input_items, transcript
from shared.core.caller import Caller
from shared.core.run import Run
from shared.errors import Conflict
from shared.steps.context import Context
from shared.steps.transition import Applied
from shared.usecases.continued import Answers
from shared.usecases.read import owned_run, unless_deleted
from shared.usecases.repeated import earlier_run, repeated
from shared.usecases.start import CallerTools, StartRequest, start


async def retry(context: Context, caller: Caller, run_id: str, *, key: str | None) -> Applied:
    """Start what a run was asked once more.

    The first run of a session is repeated in a new session. A later one continues its session, because its input may
    make no sense without the conversation.
    Raises NotFound, Conflict while the run is pending, and what a start raises.
    """
    fingerprint = hashlib.sha256(f"retry {run_id}".encode()).hexdigest()
    if earlier := await earlier_run(context, caller, key, fingerprint):
        # The run that it repeats may have been deleted since.
        return repeated(earlier, caller)
    run = (await owned_run(context, caller, run_id)).run
    if not run.terminal:
        raise Conflict(
            f"Run {run_id} has not ended; wait for it or cancel it before it is repeated.", code="run_pending"
        )
    text = await unless_deleted(context, run, context.content.load(run.id, run.input))
    request = StartRequest(
        agent=run.agent,
        input=text,
        answers=Answers(input_items.answered(transcript.parse(text)) if run.previous_run_id else {}),
        tools=await _tools(context, run),
        caller_calls=run.caller_calls,
        session_id=run.session_id if run.previous_run_id else None,
        metadata=run.metadata,
        deadline=run.expires_at - run.created_at - run.paused,
        stream=run.stream,
        excerpt=run.excerpt,
        retry_of=run.id,
        idempotency_key=key,
        fingerprint=fingerprint,
    )
    return await start(context, caller, request)


async def _tools(context: Context, run: Run) -> CallerTools | None:
    """Return the tools that the start request of a run brought."""
    if run.tools is None:
        return None
    definitions = await unless_deleted(context, run, context.content.load(run.id, run.tools))
    return CallerTools(frozenset(each["name"] for each in json.loads(definitions)), definitions)
