"""The feed: a run's log with the texts that its entries point to, the same for whoever reads it, and whenever."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.core import transcript
from shared.core.run import CallStatus, Content, Run
from shared.steps.context import Context
from shared.store.runs import Logged
from shared.usecases.read import owned_run, unless_deleted


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """One event of a run, as clients are told of it. `id` counts from 1 without a gap."""

    id: int
    type: str
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Feed:
    """A part of a run's feed. `more` says that further events are there already."""

    run: Run
    events: list[FeedEvent]
    last_id: int

    @property
    def more(self) -> bool:
        return self.last_id < self.run.events

    @property
    def done(self) -> bool:
        """Whether the run has ended, and nothing comes after `last_id`."""
        return self.run.terminal and not self.more


async def read_feed(context: Context, owner: str, run_id: str, *, after: int, limit: int) -> Feed:
    """Return up to `limit` events after the event `after`.

    A point read, a query for the log, and one more for all texts of slices among it.
    Raises NotFound when there is no such run or it is another owner's.
    """
    run = (await owned_run(context, owner, run_id)).run
    if after >= run.events:
        return Feed(run, [], run.events)
    logged = [entry for entry in await context.runs.log(run.id, after, limit) if entry.seq <= run.events]
    events = await unless_deleted(context, run, _Reader(context, run).read(logged))
    return Feed(run, events, events[-1].id if events else after)


@dataclass
class _Reader:
    """Puts texts in the place of pointers, each loaded once."""

    context: Context
    run: Run
    _outputs: dict[int, str] = field(default_factory=dict)
    _results: dict[int, Mapping[str, Content]] = field(default_factory=dict)

    async def read(self, logged: list[Logged]) -> list[FeedEvent]:
        pieces = [entry.piece for entry in logged if entry.piece]
        texts = iter(await self.context.content.load_each(self.run.id, pieces))
        return [
            FeedEvent(entry.seq, entry.type, entry.at, await self._data(entry, texts)) for entry in logged
        ]

    async def _data(self, entry: Logged, texts: Iterator[str]) -> Mapping[str, Any]:
        data = dict(entry.data)
        match entry.type:
            case "text.delta" if entry.piece:
                return {"turn": data["turn"], "text": next(texts)}
            case "text.delta":
                text = transcript.output_text(await self._output(data["turn"]))
                return {"turn": data["turn"], "text": text[data["start"] :]}
            case "text.replaced":
                turn = data["turn"]
                return {
                    "turn": turn,
                    "text": transcript.output_text(await self._output(turn)) if turn else "",
                }
            case "tool.started":
                return data | {"arguments": await self._arguments(data["turn"], data["call_id"])}
            case "tool.completed" if data["status"] == CallStatus.UNKNOWN:
                return data | {"output": ""}
            case "tool.completed":
                return data | {"output": await self._result(data["turn"], data["call_id"])}
        return data

    async def _output(self, turn: int) -> str:
        """Return the output items of a finished turn."""
        if turn not in self._outputs:
            self._outputs[turn] = await self.context.content.load(self.run.id, self.run.turns[turn - 1])
        return self._outputs[turn]

    async def _arguments(self, turn: int, call_id: str) -> str:
        asked = transcript.calls(await self._output(turn))
        return next((call.arguments for call in asked if call.call_id == call_id), "")

    async def _result(self, turn: int, call_id: str) -> str:
        """Return what the model was told of a call, which is saved by what logs its end."""
        if turn not in self._results:
            self._results[turn] = await self.context.runs.results(self.run.id, turn)
        result = self._results[turn].get(call_id)
        if result is None:
            raise LookupError(f"the result of a call of turn {turn} is gone")
        return await self.context.content.load(self.run.id, result)
