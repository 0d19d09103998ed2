"""What the provider is sent for a turn: the part it has not seen, or all of it."""

import json

from shared.core import transcript
from shared.core.run import CallStatus, Chaining, Run, RunStatus, ToolCall
from shared.ports.agents import AgentSpec
from shared.ports.providers import ResponseRequest
from shared.steps.context import Context

_UNKNOWN = json.dumps(
    {
        "error": {
            "code": "outcome_unknown",
            "message": "This call was started, and it is not known whether it took effect. It was not repeated.",
        }
    }
)


async def request_for(
    context: Context, run: Run, spec: AgentSpec, input_text: str | None = None
) -> ResponseRequest:
    """Return the request for the turn that `run` is owed; `input_text` is its input, if the caller has it already.

    Raises LookupError when its content is gone.
    """
    replayed = run.chaining is Chaining.REPLAY
    if replayed:
        sent = json.dumps(await _whole_conversation(context, run), ensure_ascii=False)
    elif run.turn == 1:
        # It was checked when it was accepted.
        sent = input_text if input_text is not None else await context.content.load(run.id, run.input)
    else:
        sent = json.dumps(await _tool_outputs(context, run, run.turn - 1), ensure_ascii=False)
    return ResponseRequest(
        run_id=run.id,
        turn=run.turn,
        model=spec.model,
        instructions=spec.instructions,
        input=sent,
        tools=spec.tools,
        previous_response_id=None if replayed else run.previous_response_id,
        options=spec.options,
        stream=run.stream,
    )


async def _whole_conversation(context: Context, run: Run) -> list[transcript.Item]:
    earlier = [item for one in await _history(context, run) for item in await _remaining(context, one)]
    return transcript.replayable([*earlier, *await items_of(context, run)])


async def items_of(context: Context, run: Run) -> list[transcript.Item]:
    """Return all items of a run in order: its input, each turn's output, and the tool outputs between."""
    found = transcript.parse(await context.content.load(run.id, run.input))
    for turn, output in enumerate(run.turns, 1):
        found += transcript.parse(await context.content.load(run.id, output))
        found += await _tool_outputs(context, run, turn)
    return found


async def _remaining(context: Context, run: Run) -> list[transcript.Item]:
    """Return the items of an earlier run, and none when it is deleted meanwhile."""
    try:
        return await items_of(context, run)
    except LookupError:
        fresh = await context.runs.read(run.id)
        if fresh is None or fresh.run.status is RunStatus.DELETED:
            return []
        raise


async def _history(context: Context, run: Run) -> list[Run]:
    """Return the earlier runs of the session that belong to its conversation, oldest first."""
    earlier, at = [], run.previous_run_id
    while at and (stored := await context.runs.read(at)):
        if stored.run.in_conversation:
            earlier.append(stored.run)
        at = stored.run.previous_run_id
    return earlier[::-1]


async def _tool_outputs(context: Context, run: Run, turn: int) -> list[transcript.Item]:
    calls = [call for call in run.calls if call.turn == turn and not call.status.open]
    if not calls:
        return []
    results = await context.runs.outputs(run.id, turn)
    texts = [
        (call, await context.content.load(run.id, results[call.call_id]))
        for call in calls
        if call.call_id in results
    ]
    saved = {call.call_id: text for call, text in texts}
    return [
        transcript.tool_output(call.call_id, saved.get(call.call_id, _without_result(call))) for call in calls
    ]


def _without_result(call: ToolCall) -> str:
    return (
        _UNKNOWN if call.status is CallStatus.UNKNOWN else json.dumps({"error": {"code": call.status.value}})
    )
