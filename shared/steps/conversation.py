"""The request for a turn: its input is the new part of the conversation, or all of it."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from shared.core import tool_choice, transcript
from shared.core.calls import CallKind, CallStatus, ToolCall
from shared.core.limits import MAX_REPLAY_BYTES, MAX_REPLAY_MARKS, MAX_REPLAY_RUNS, MAX_RESULTS_BYTES
from shared.core.replay import Replay
from shared.core.run import Chaining, Run, RunStatus
from shared.core.structure import has_more_marks
from shared.core.times import spoken
from shared.log import log_event
from shared.ports.agents import AgentSpec
from shared.ports.providers import ResponseRequest
from shared.steps.chain import last_in_conversation, runs_back
from shared.steps.context import Context
from shared.store.runs import StoredResult

# How many runs of a session are read for a replay. Deleted and failed ones are not part of it.
_MAX_READ = 10 * MAX_REPLAY_RUNS
# How many kinds of items that were left out a log line names.
_SHOWN_KINDS = 10
_UNKNOWN = json.dumps(
    {
        "error": {
            "code": "outcome_unknown",
            "message": "This call was started. It is unknown whether it took effect. It was not repeated.",
        }
    }
)
_RESULTS_TOO_LARGE = json.dumps(
    {
        "result_not_shown": {
            "code": "results_too_large",
            "message": "The call was carried out. Its result is not shown, because the results of this turn have more "
            f"than {MAX_RESULTS_BYTES // 2**20} MiB together. Request less.",
        }
    }
)


class ConversationTooLong(Exception):
    """The conversation is too long to be sent without the previous responses."""

    def __init__(self) -> None:
        super().__init__(
            "The provider cannot continue the previous response, and the complete conversation is too long to be sent: "
            f"it has more than {MAX_REPLAY_BYTES // 2**20} MiB, {MAX_REPLAY_MARKS:,} brackets and commas, or "
            f"{MAX_REPLAY_RUNS:,} runs. Start a new session."
        )


async def request_for(
    context: Context, run: Run, spec: AgentSpec, input_text: str | None = None
) -> ResponseRequest:
    """Return the request for the turn that `run` is owed.

    `input_text` is the run's input, if it is already loaded.
    Raises LookupError when the content of the run was removed, and ConversationTooLong.
    """
    replayed = run.chaining is Chaining.REPLAY
    if replayed:
        input_items = json.dumps(await _complete_conversation(context, run, input_text), ensure_ascii=False)
    elif run.turn == 1:
        # The input was validated when the run was accepted.
        input_items = input_text if input_text is not None else await context.content.load(run.id, run.input)
        if run.answers_calls:
            items = [*await _outputs_before(context, run), *transcript.parse(input_items)]
            input_items = json.dumps(items, ensure_ascii=False)
    else:
        input_items = json.dumps(await _tool_outputs(context, run, run.turn - 1), ensure_ascii=False)
    return ResponseRequest(
        run_id=run.id,
        turn=run.turn,
        model=spec.model,
        instructions=spec.instructions,
        input=input_items,
        tools=await _tools(context, run, spec),
        previous_response_id=None if replayed else run.previous_response_id,
        idempotency_key=None if run.keyless else f"{run.id}-{run.turn}-{run.repeats}",
        options=_options(spec, input_items),
        stream=run.stream,
    )


async def _tools(context: Context, run: Run, spec: AgentSpec) -> str:
    """Return the definitions of the agent's tools, and of those that the caller runs."""
    if run.tools is None:
        return spec.tools
    further = json.loads(await context.content.load(run.id, run.tools))
    # The agent may have got a tool of the same name since the start. Two are refused, and the caller's was asked for.
    names = {each["name"] for each in further}
    own = [each for each in json.loads(spec.tools) if each.get("name") not in names]
    return json.dumps([*own, *further], ensure_ascii=False)


async def _outputs_before(context: Context, run: Run) -> list[transcript.Item]:
    """Return the outputs of the calls beside those that the run's input answers: the app has carried them out."""
    previous = await last_in_conversation(context, run.previous_run_id, run)
    return await _tool_outputs(context, previous, previous.turn) if previous else []


def _options(spec: AgentSpec, input_items: str) -> Mapping[str, object]:
    """Return the options of a request. A tool is not forced once the outputs of tools are handed in."""
    freed = spec.options if spec.tool_choice_every_turn else tool_choice.after_outputs(spec.options)
    # The items are read only when it matters.
    if freed == spec.options or not transcript.ends_with_output(transcript.parse(input_items)):
        return spec.options
    return freed


@dataclass
class _Texts:
    """The texts of a conversation, oldest first. They are parsed when all of them fit together."""

    _texts: list[tuple[str, bool, bool]] = field(default_factory=list)
    _left: int = MAX_REPLAY_BYTES

    def add(self, text: str, *, own: bool = False, foreign: bool = False) -> None:
        """Add the JSON text of items. Raises ConversationTooLong.

        `own`: the client sent it with this run. `foreign`: another provider had it.
        """
        self._left -= len(text.encode())
        if self._left < 0:
            raise ConversationTooLong
        self._texts.append((text, own, foreign))

    def replay(self) -> Replay:
        """Return the items. Raises ConversationTooLong."""
        if has_more_marks("".join(text for text, *_ in self._texts).encode(), MAX_REPLAY_MARKS):
            raise ConversationTooLong
        replay = Replay()
        for text, own, foreign in self._texts:
            if own:
                replay.add_own(transcript.parse(text))
            else:
                replay.add(transcript.parse(text), foreign=foreign)
        return replay


async def _complete_conversation(context: Context, run: Run, input_text: str | None) -> list[transcript.Item]:
    texts = _Texts()
    for previous in await _history(context, run):
        for text in await _remaining(context, previous):
            texts.add(text, foreign=previous.provider != run.provider)
    own = texts_of(context, run, input_text)
    texts.add(await anext(own), own=True)
    async for text in own:
        texts.add(text)
    replay = texts.replay()
    if left_out := replay.left_out:
        log_event(
            "replay.left_out",
            run_id=run.id,
            turn=run.turn,
            items=left_out.total(),
            kinds=dict(left_out.most_common(_SHOWN_KINDS)),
        )
    return replay.items


async def texts_of(context: Context, run: Run, input_text: str | None = None) -> AsyncIterator[str]:
    """Yield the JSON texts of all items of a run in order: its input, then for each turn its output and tool outputs.

    Raises LookupError when the content of the run was removed.
    """
    yield await context.content.load(run.id, run.input) if input_text is None else input_text
    for turn, output in enumerate(run.turns, 1):
        yield await context.content.load(run.id, output)
        if outputs := await _tool_outputs(context, run, turn):
            yield json.dumps(outputs, ensure_ascii=False)


async def _remaining(context: Context, run: Run) -> list[str]:
    """Return the texts of an earlier run; none when it was deleted meanwhile."""
    try:
        return [text async for text in texts_of(context, run)]
    except LookupError:
        fresh = await context.runs.read(run.id)
        if fresh is None or fresh.run.status is RunStatus.DELETED:
            return []
        raise


async def _history(context: Context, run: Run) -> list[Run]:
    """Return the earlier runs of the session that belong to its conversation, oldest first.

    Raises ConversationTooLong.
    """
    earlier: list[Run] = []
    read = 0
    async for stored in runs_back(context, run.previous_run_id, run):
        read += 1
        if stored.run.in_conversation:
            earlier.append(stored.run)
        if len(earlier) > MAX_REPLAY_RUNS or read > _MAX_READ:
            raise ConversationTooLong
    return earlier[::-1]


async def _tool_outputs(context: Context, run: Run, turn: int) -> list[transcript.Item]:
    """Return the outputs of a turn's calls, and the answers to its requests for approval. The caller sends further outputs."""
    calls = [
        call
        for call in run.calls
        if call.turn == turn and not call.status.open and call.status is not CallStatus.HANDED_OVER
    ]
    if not calls:
        return []
    saved = await context.runs.results(run.id, turn)
    results = _Results(context, run)
    outputs: list[transcript.Item] = []
    for call in calls:
        result = saved.get(call.call_id)
        output = await results.output(result) if result else None
        if call.kind is CallKind.MCP_APPROVAL:
            outputs.append(_decision(call, output))
        else:
            given = _without_result(call) if output is None else output
            outputs.append(transcript.tool_output(call.call_id, given))
    return outputs


def _decision(call: ToolCall, output: str | list[transcript.Item] | None) -> transcript.Item:
    """Return the answer to a hosted MCP server's request for approval."""
    reason = (
        output if isinstance(output, str) else unanswered(call) if call.status is CallStatus.TIMED_OUT else ""
    )
    approve = call.status is CallStatus.COMPLETED
    return transcript.approval_response(call.call_id, approve=approve, reason=reason)


@dataclass
class _Results:
    """Loads the results of a turn, as many as fit together. Each time, the same results fit."""

    context: Context
    run: Run
    _left: int = MAX_RESULTS_BYTES
    # Whether a result did not fit. Then only short ones are loaded, because others would be loaded in vain.
    _full: bool = False

    async def output(self, result: StoredResult) -> str | list[transcript.Item]:
        if self._full and result.output.inline is None:
            return _RESULTS_TOO_LARGE
        text = await self.context.content.load(self.run.id, result.output)
        size = len(text.encode())
        if size > self._left:
            self._full = True
            return _RESULTS_TOO_LARGE
        self._left -= size
        return transcript.parse(text) if result.parts else text


def _without_result(call: ToolCall) -> str:
    if call.status is CallStatus.UNKNOWN:
        return _UNKNOWN
    error = {"code": call.status.value}
    if call.status is CallStatus.TIMED_OUT:
        error["message"] = f"The call did not run. {unanswered(call)}"
    return json.dumps({"error": error})


def unanswered(call: ToolCall) -> str:
    """Return what the model is told of a call whose wait has ended."""
    span = f" within {spoken(call.wait.expires_at - call.wait.since)}" if call.wait else ""
    return f"Nobody answered{span}."
