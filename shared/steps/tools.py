"""The tools step: run the tool calls of a turn, and checkpoint each result as soon as it exists."""

import json
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from shared.core.calls import CallStatus, ToolResult
from shared.core.life import events
from shared.core.run import Run
from shared.errors import StorageUnavailable
from shared.log import log_event
from shared.steps.context import Context
from shared.steps.lease import Hold, leased, may_begin
from shared.steps.transition import Applied
from shared.steps.waits import LoadedCalls
from shared.store import rows
from shared.store.runs import StoredResult, StoredRun

# A longer call id is hashed in an idempotency key. OpenAI's are shorter.
_MAX_PLAIN_ID = 64
_ALTERED = json.dumps(
    {
        "error": {
            "code": "approval_void",
            "message": "The call was not run, because its arguments are not those that were approved.",
        }
    }
)


async def run_tools(context: Context, stored: StoredRun, hold: Hold, loaded: LoadedCalls) -> Applied:
    """Run the turn's started calls concurrently, and checkpoint each one when it ends.

    When the lease is lost, no further call begins, and those that can be stopped are stopped.
    """
    run = stored.run
    requested = {call.call_id: call for call in loaded.calls}
    calls = [
        replace(
            call,
            arguments=requested[call.call_id].arguments,
            cleared=requested[call.call_id].cleared,
            idempotency_key=_idempotency_key(run, call.call_id),
            run_id=run.id,
        )
        for call in run.calls_of_turn()
        if call.status is CallStatus.IN_PROGRESS and call.call_id in requested.keys() - loaded.altered
    ]
    applied = Applied(stored)
    if not may_begin(hold, run):
        return applied
    for call_id in sorted(loaded.altered):
        log_event("approval.void", level=logging.ERROR, run_id=run.id, call_id=call_id)
        void = ToolResult(call_id, CallStatus.FAILED, _ALTERED)
        applied = (await _checkpoint(context, applied.stored, hold, void)).after(applied)
    unsaved: list[ToolResult] = []
    async with aclosing(context.agents.run_tools(run.agent, calls, hold)) as results:
        async for result in results:
            try:
                applied = (await _checkpoint(context, applied.stored, hold, result)).after(applied)
            except StorageUnavailable as fault:
                reason = str(fault)
                log_event(
                    "checkpoint.failed",
                    level=logging.WARNING,
                    run_id=run.id,
                    call_id=result.call_id,
                    reason=reason,
                )
                unsaved.append(result)
            if not leased(applied.stored.run, hold.lease_id):
                # The run has ended, or another process has taken it.
                break
    return await _save_again(context, applied, hold, unsaved)


def _idempotency_key(run: Run, call_id: str) -> str:
    """Return the key of a call, which a tool may send in a header."""
    plain = call_id.isascii() and call_id.isprintable() and len(call_id) <= _MAX_PLAIN_ID
    return f"{run.id}-{run.turn}-{call_id if plain else rows.name_hash(call_id)}"


async def _save_again(
    context: Context, applied: Applied, hold: Hold, unsaved: Sequence[ToolResult]
) -> Applied:
    """Save the results that could not be saved before.

    Raises StorageUnavailable when one of them fails again, but only after all of them were tried: a result
    that is not saved is lost.
    """
    last_fault: StorageUnavailable | None = None
    for result in unsaved:
        try:
            applied = (await _checkpoint(context, applied.stored, hold, result)).after(applied)
        except StorageUnavailable as fault:
            last_fault = fault
    if last_fault:
        raise last_fault
    return applied


async def _checkpoint(context: Context, stored: StoredRun, hold: Hold, result: ToolResult) -> Applied:
    """Save a result: its text first, then the pointer to it."""
    run = stored.run
    name = f"tool-{run.turn:02d}-{rows.name_hash(result.call_id)}-{context.token()}"
    output = await context.content.save(run.id, name, result.output)
    done = events.ToolDone(hold.prolonged(), result.call_id, result.status)
    kept = StoredResult(run.turn, result.call_id, output, parts=result.parts)
    applied = await hold.apply(stored, done, [kept])
    if output.name and (await context.runs.results(run.id, run.turn)).get(result.call_id) != kept:
        await context.content.drop(run.id, output)
    return applied
