"""Calls that wait for a person, or for the caller: which calls do, with which arguments they run, and when their waits end."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from shared.core import transcript
from shared.core.calls import WAIT_FOR, CallKind, CallStatus, ToolCall, Wait, WaitKind
from shared.core.delivery import ClockRow
from shared.core.life.events import WaitEnded
from shared.core.run import Run
from shared.ports.agents import WaitNeeded
from shared.steps.context import Context
from shared.steps.transition import apply

_STARTABLE = {CallStatus.QUEUED, CallStatus.IN_PROGRESS}


@dataclass(frozen=True, slots=True)
class LoadedCalls:
    """The calls of a turn as they run, loaded before they are marked as started: a call that cannot be loaded cannot run."""

    calls: tuple[ToolCall, ...] = ()
    # The queued calls, each with the wait that it needs, if any.
    queued: Mapping[str, Wait | None] = field(default_factory=dict)
    # Those of them of which nobody has decided whether they need an approval. They must not run.
    unclear: frozenset[str] = frozenset()
    # Approved calls whose arguments are not those that were approved. They must not run.
    altered: frozenset[str] = frozenset()


async def load_calls(context: Context, run: Run) -> LoadedCalls:
    """Return the calls of the run's turn. Raises LookupError when the content of the run was removed."""
    requested = transcript.calls(await context.content.load(run.id, run.turns[-1]))
    calls, altered = await _as_approved(context, run, requested)
    queued = {call.call_id: call for call in run.calls_of_turn() if call.status is CallStatus.QUEUED}
    undecided = [
        replace(call, run_id=run.id)
        for call in calls
        if call.call_id in queued and queued[call.call_id].wait is None
    ]
    # This is decided once, before anything runs.
    needed, now = await _needed(context, run, undecided), context.clock.now()
    waits = {call_id: call.wait or _wait(needed.get(call_id), now) for call_id, call in queued.items()}
    unclear = frozenset(call.call_id for call in undecided) - needed.keys()
    # When one of them is taken up again, its arguments may fit its tool, and still nobody has decided about it.
    barred = unclear | {call.call_id for call in run.calls_of_turn() if not call.cleared}
    cleared = tuple(replace(call, cleared=call.call_id not in barred) for call in calls)
    return LoadedCalls(cleared, waits, unclear, altered)


def _wait(needed: WaitNeeded | None, now: datetime) -> Wait | None:
    return Wait(needed.kind, now, now + needed.wait_for) if needed else None


async def _as_approved(
    context: Context, run: Run, requested: Sequence[ToolCall]
) -> tuple[tuple[ToolCall, ...], frozenset[str]]:
    """Return the calls with the arguments that were approved, and the approved ones whose arguments have changed since."""
    approved = {
        call.call_id
        for call in run.calls_of_turn()
        if call.wait and call.wait.approved and call.status in _STARTABLE
    }
    if not approved:
        return tuple(requested), frozenset()
    answers, calls, altered = await context.runs.answers(run.id), list[ToolCall](), set[str]()
    for call in requested:
        if call.call_id not in approved:
            calls.append(call)
            continue
        answer = answers.get((run.turn, call.call_id))
        arguments = call.arguments
        if answer and answer.changed:
            arguments = await context.content.load(run.id, answer.changed)
        if answer is None or answer.approved != arguments_hash(arguments):
            altered.add(call.call_id)
        calls.append(replace(call, arguments=arguments))
    return tuple(calls), frozenset(altered)


def arguments_hash(arguments: str) -> str:
    """Return what an approval is bound to."""
    return hashlib.sha256(arguments.encode()).hexdigest()


async def _needed(context: Context, run: Run, calls: Sequence[ToolCall]) -> Mapping[str, WaitNeeded | None]:
    """Return which of the calls have to wait. None: the call may run. One that must not run is left out."""
    spec = context.agents.spec(run.agent)
    of_caller = await _tools_of_caller(context, run) if calls else frozenset()
    needed, asked = dict[str, WaitNeeded | None](), list[ToolCall]()
    for call in calls:
        if call.kind is CallKind.MCP_APPROVAL:
            needed[call.call_id] = WaitNeeded(WaitKind.APPROVAL, WAIT_FOR)
        elif call.name in of_caller:
            needed[call.call_id] = WaitNeeded(WaitKind.OUTPUT, WAIT_FOR)
        elif spec and call.name in spec.may_wait:
            asked.append(call)
        else:
            needed[call.call_id] = None
    return needed | dict(await context.agents.waits(run.agent, asked)) if asked else needed


async def _tools_of_caller(context: Context, run: Run) -> frozenset[str]:
    """Return the names of the tools that the start request brought."""
    if run.tools is None:
        return frozenset()
    definitions = json.loads(await context.content.load(run.id, run.tools))
    return frozenset(each["name"] for each in definitions)


async def end_waits(context: Context, clock: ClockRow) -> tuple[str, ...]:
    """End the waits of a run that nobody has answered in time, and return messages for workers.

    `clock` may come from a message, which is only a hint.
    """
    now = context.clock.now()
    if now < clock.due:
        return ()
    stored = await context.runs.read(clock.run_id)
    ends_at = stored.run.wait_ends_at if stored else None
    if ends_at != clock.due:
        await context.waits.drop_clock(clock)
    if stored is None or ends_at is None or now < ends_at:
        return ()
    return (await apply(context, stored, WaitEnded())).messages
