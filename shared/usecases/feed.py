"""The feed: a run's log with the texts that its entries point to.

All readers get the same lines, at any time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, takewhile

from shared.core import transcript
from shared.core.caller import Caller
from shared.core.calls import CallStatus, ToolCall
from shared.core.limits import MAX_FEED_BYTES
from shared.core.log import (
    CallWaiting,
    Commentary,
    Delta,
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


_WITHOUT_RESULT = frozenset({CallStatus.UNKNOWN.value, CallStatus.TIMED_OUT.value})


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
    """Return up to `limit` lines after the line `after`, fewer when their texts are long.

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
class _Turn:
    """What is loaded of a finished turn, once it is needed."""

    number: int
    output: str | None = None
    calls: Mapping[str, ToolCall] | None = None
    results: Mapping[str, StoredResult] | None = None
    texts: dict[type[LogEntry], str] = field(default_factory=dict)


@dataclass
class _Reader:
    """Loads the texts that entries point to, each text once.

    The fields with `_` are its cache. Entries come turn by turn, so it keeps one turn.
    """

    context: Context
    run: Run
    # How many bytes were loaded, besides those of slices, and how many are shown.
    _loaded: int = 0
    _shown: int = 0
    _slices: dict[Content, str] = field(default_factory=dict)
    _turn: _Turn = field(default_factory=lambda: _Turn(0))

    async def read(self, logged: list[LogLine]) -> list[LogLine]:
        """Return the lines with their texts, at least one line, and no more once the limit is reached."""
        lines: list[LogLine] = []
        logged = _limited(logged)
        await self._load_slices(logged)
        for line in logged:
            text = await self._text(line.entry)
            self._shown += len(text.encode())
            if lines and max(self._loaded, self._shown) > MAX_FEED_BYTES:
                break
            lines.append(replace(line, text=text))
        return lines

    async def _load_slices(self, logged: list[LogLine]) -> None:
        deltas = [line.entry for line in logged if isinstance(line.entry, TextDelta | Commentary)]
        contents = list(dict.fromkeys(delta.content for delta in deltas if delta.content))
        texts = await self.context.content.load_each(self.run.id, contents)
        self._slices = dict(zip(contents, texts, strict=True))

    async def _load(self, content: Content) -> str:
        text = await self.context.content.load(self.run.id, content)
        self._loaded += len(text.encode())
        return text

    def _of(self, turn: int) -> _Turn:
        if self._turn.number != turn:
            self._turn = _Turn(turn)
        return self._turn

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
            case CallWaiting():
                return await self._arguments(entry.turn, entry.call_id)
            case ToolCompleted() if entry.status not in _WITHOUT_RESULT:
                return await self._result(entry.turn, entry.call_id)
        return ""

    async def _turn_text(self, number: int, kind: type[LogEntry] = TextDelta) -> str:
        """Return the text of a finished turn that entries of this kind point into."""
        turn = self._of(number)
        if kind not in turn.texts:
            turn.texts[kind] = _TEXTS[kind](transcript.parse(await self._output(turn)))
        return turn.texts[kind]

    async def _output(self, turn: _Turn) -> str:
        """Return the output items of a finished turn."""
        if turn.output is None:
            turn.output = await self._load(self.run.turns[turn.number - 1])
        return turn.output

    async def _arguments(self, number: int, call_id: str) -> str:
        turn = self._of(number)
        if turn.calls is None:
            turn.calls = {call.call_id: call for call in transcript.calls(await self._output(turn))}
        call = turn.calls.get(call_id)
        return call.arguments if call else ""

    async def _result(self, number: int, call_id: str) -> str:
        """Return the output of a call. It was saved in the same transaction as its log entry."""
        turn = self._of(number)
        if turn.results is None:
            turn.results = await self.context.runs.results(self.run.id, number)
        result = turn.results.get(call_id)
        if result is None:
            raise LookupError(f"the result of a call of turn {number} was removed")
        return await self._load(result.output)


def _limited(logged: list[LogLine]) -> list[LogLine]:
    """Return the first lines, whose deltas have no more characters together than a page may have bytes."""
    lengths = (line.entry.end - line.entry.start if isinstance(line.entry, Delta) else 0 for line in logged)
    totals = accumulate(lengths)
    fitting = sum(1 for _ in takewhile(lambda total: total <= MAX_FEED_BYTES, totals))
    return logged[: max(fitting, 1)]
