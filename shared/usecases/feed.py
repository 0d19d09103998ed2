"""The feed: a run's log with the texts that its entries point to.

All readers get the same lines, at any time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from shared.core import transcript
from shared.core.caller import Caller
from shared.core.calls import CallStatus, ToolCall
from shared.core.log import (
    Commentary,
    LogEntry,
    LogLine,
    Refusal,
    TextDelta,
    TextReplaced,
    ToolCompleted,
    ToolStarted,
)
from shared.core.run import Content, Run
from shared.steps.context import Context
from shared.store.runs import StoredResult
from shared.usecases.read import owned_run, unless_deleted

_TEXTS: Mapping[type[LogEntry], Callable[[Sequence[transcript.Item]], str]] = {
    TextDelta: transcript.text_of,
    Commentary: transcript.commentary_of,
    Refusal: transcript.refusal_of,
}


@dataclass(frozen=True, slots=True)
class Feed:
    """A part of a run's feed."""

    run: Run
    lines: list[LogLine]
    # The number of the last line that was read.
    last_number: int

    @property
    def more(self) -> bool:
        """Whether further lines are stored already."""
        return self.last_number < self.run.entries

    @property
    def done(self) -> bool:
        """Whether the run has ended and no line comes after `last_number`."""
        return self.run.terminal and not self.more


async def read_feed(context: Context, caller: Caller, run_id: str, *, after: int, limit: int) -> Feed:
    """Return up to `limit` lines after the line `after`.

    Costs one point read, one query for the log, and one query for the texts of all slices in it.
    Raises NotFound when there is no such run or it is another owner's.
    """
    run = (await owned_run(context, caller, run_id)).run
    if after >= run.entries:
        return Feed(run, [], run.entries)
    # The log may be newer than `run`. Entries that `run` does not count are left to the next read.
    logged = [line for line in await context.runs.log(run.id, after, limit) if line.number <= run.entries]
    lines = await unless_deleted(context, run, _Reader(context, run).read(logged))
    return Feed(run, lines, lines[-1].number if lines else after)


@dataclass
class _Reader:
    """Loads the texts that entries point to, each text once. The fields with `_` are its cache."""

    context: Context
    run: Run
    _slices: dict[Content, str] = field(default_factory=dict)
    _outputs: dict[int, str] = field(default_factory=dict)
    _calls: dict[int, Mapping[str, ToolCall]] = field(default_factory=dict)
    _texts: dict[tuple[type[LogEntry], int], str] = field(default_factory=dict)
    _results: dict[int, Mapping[str, StoredResult]] = field(default_factory=dict)

    async def read(self, logged: list[LogLine]) -> list[LogLine]:
        deltas = [line.entry for line in logged if isinstance(line.entry, TextDelta | Commentary)]
        contents = list(dict.fromkeys(delta.content for delta in deltas if delta.content))
        texts = await self.context.content.load_each(self.run.id, contents)
        self._slices = dict(zip(contents, texts, strict=True))
        return [replace(line, text=await self._text(line.entry)) for line in logged]

    async def _text(self, entry: LogEntry) -> str:
        match entry:
            case TextDelta() | Commentary() | Refusal():
                text = self._slices.get(entry.content) if entry.content else None
                if text is None:
                    text = await self._turn_text(entry.turn, type(entry))
                return text[entry.start : entry.end]
            case TextReplaced(turn):
                return await self._turn_text(turn) if turn else ""
            case ToolStarted():
                return await self._arguments(entry.turn, entry.call_id)
            case ToolCompleted() if entry.status != CallStatus.UNKNOWN:
                return await self._result(entry.turn, entry.call_id)
        return ""

    async def _turn_text(self, turn: int, kind: type[LogEntry] = TextDelta) -> str:
        """Return the text of a finished turn that entries of this kind point into."""
        if (kind, turn) not in self._texts:
            items = transcript.parse(await self._output(turn))
            self._texts[kind, turn] = _TEXTS[kind](items)
        return self._texts[kind, turn]

    async def _output(self, turn: int) -> str:
        """Return the output items of a finished turn."""
        if turn not in self._outputs:
            self._outputs[turn] = await self.context.content.load(self.run.id, self.run.turns[turn - 1])
        return self._outputs[turn]

    async def _arguments(self, turn: int, call_id: str) -> str:
        if turn not in self._calls:
            self._calls[turn] = {call.call_id: call for call in transcript.calls(await self._output(turn))}
        call = self._calls[turn].get(call_id)
        return call.arguments if call else ""

    async def _result(self, turn: int, call_id: str) -> str:
        """Return the output of a call. It was saved in the same transaction as its log entry."""
        if turn not in self._results:
            self._results[turn] = await self.context.runs.results(self.run.id, turn)
        result = self._results[turn].get(call_id)
        if result is None:
            raise LookupError(f"the result of a call of turn {turn} was removed")
        return await self.context.content.load(self.run.id, result.output)
