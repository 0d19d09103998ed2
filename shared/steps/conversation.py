"""The request for a turn: its input is the new part of the conversation, or all of it."""

import json
from collections.abc import Mapping

from shared.core import tool_choice, transcript
from shared.core.calls import CallStatus, ToolCall
from shared.core.replay import Replay
from shared.core.run import Chaining, Run, RunStatus
from shared.log import log_event
from shared.ports.agents import AgentSpec
from shared.ports.providers import ResponseRequest
from shared.steps.context import Context
from shared.store.runs import StoredResult

_UNKNOWN = json.dumps(
    {
        "error": {
            "code": "outcome_unknown",
            "message": "This call was started. It is unknown whether it took effect. It was not repeated.",
        }
    }
)


async def request_for(
    context: Context, run: Run, spec: AgentSpec, input_text: str | None = None
) -> ResponseRequest:
    """Return the request for the turn that `run` is owed.

    `input_text` is the run's input, if it is already loaded.
    Raises LookupError when the content of the run was removed.
    """
    replayed = run.chaining is Chaining.REPLAY
    if replayed:
        input_items = json.dumps(await _complete_conversation(context, run, input_text), ensure_ascii=False)
    elif run.turn == 1:
        # The input was validated when the run was accepted.
        input_items = input_text if input_text is not None else await context.content.load(run.id, run.input)
    else:
        input_items = json.dumps(await _tool_outputs(context, run, run.turn - 1), ensure_ascii=False)
    return ResponseRequest(
        run_id=run.id,
        turn=run.turn,
        model=spec.model,
        instructions=spec.instructions,
        input=input_items,
        tools=spec.tools,
        previous_response_id=None if replayed else run.previous_response_id,
        idempotency_key=None if run.keyless else f"{run.id}-{run.turn}-{run.repeats}",
        options=_options(spec, input_items),
        stream=run.stream,
    )


def _options(spec: AgentSpec, input_items: str) -> Mapping[str, object]:
    """Return the options of a request. A tool is not forced once the outputs of tools are handed in."""
    freed = spec.options if spec.tool_choice_every_turn else tool_choice.after_outputs(spec.options)
    # The items are read only when it matters.
    if freed == spec.options or not transcript.ends_with_output(transcript.parse(input_items)):
        return spec.options
    return freed


async def _complete_conversation(context: Context, run: Run, input_text: str | None) -> list[transcript.Item]:
    replay = Replay()
    for previous in await _history(context, run):
        replay.add(await _remaining(context, previous))
    replay.add_own(await _input_items(context, run, input_text))
    replay.add(await _turn_items(context, run))
    if left_out := replay.left_out:
        log_event("replay.left_out", run_id=run.id, turn=run.turn, items=dict(left_out))
    return replay.items


async def items_of(context: Context, run: Run) -> list[transcript.Item]:
    """Return all items of a run in order: its input, then for each turn its output and its tool outputs."""
    return [*await _input_items(context, run), *await _turn_items(context, run)]


async def _input_items(context: Context, run: Run, input_text: str | None = None) -> list[transcript.Item]:
    if input_text is None:
        input_text = await context.content.load(run.id, run.input)
    return transcript.parse(input_text)


async def _turn_items(context: Context, run: Run) -> list[transcript.Item]:
    items: list[transcript.Item] = []
    for turn, output in enumerate(run.turns, 1):
        items += transcript.parse(await context.content.load(run.id, output))
        items += await _tool_outputs(context, run, turn)
    return items


async def _remaining(context: Context, run: Run) -> list[transcript.Item]:
    """Return the items of an earlier run; an empty list when it was deleted meanwhile."""
    try:
        return await items_of(context, run)
    except LookupError:
        fresh = await context.runs.read(run.id)
        if fresh is None or fresh.run.status is RunStatus.DELETED:
            return []
        raise


async def _history(context: Context, run: Run) -> list[Run]:
    """Return the earlier runs of the session that belong to its conversation, oldest first."""
    earlier, run_id = [], run.previous_run_id
    while run_id and (stored := await context.runs.read(run_id)):
        if stored.run.in_conversation:
            earlier.append(stored.run)
        run_id = stored.run.previous_run_id
    return earlier[::-1]


async def _tool_outputs(context: Context, run: Run, turn: int) -> list[transcript.Item]:
    calls = [call for call in run.calls if call.turn == turn and not call.status.open]
    if not calls:
        return []
    saved = await context.runs.results(run.id, turn)
    outputs = {
        call.call_id: await _output(context, run, saved[call.call_id])
        for call in calls
        if call.call_id in saved
    }
    return [
        transcript.tool_output(call.call_id, outputs.get(call.call_id, _without_result(call)))
        for call in calls
    ]


async def _output(context: Context, run: Run, result: StoredResult) -> str | list[transcript.Item]:
    text = await context.content.load(run.id, result.output)
    return transcript.parse(text) if result.parts else text


def _without_result(call: ToolCall) -> str:
    return (
        _UNKNOWN if call.status is CallStatus.UNKNOWN else json.dumps({"error": {"code": call.status.value}})
    )
