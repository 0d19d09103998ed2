"""The model of the emulator: turns a plan into the engine's stream of events."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from azure.ai.agentserver.responses import ResponseEventStream
from azure.ai.agentserver.responses._id_generator import IdGenerator

from dev.provider.novelist import Sections, prose
from dev.provider.plan import Plan
from dev.provider.script import Turn
from dev.provider.wire import Json, escape

Event = Any
DELTAS = 48
"""The number of deltas of a scripted text, unless the script sets it."""
PROSE_DELTA = 120
"""Characters of prose in a delta."""


class Writer(Protocol):
    """Writes prose for a plan, one delta after another."""

    def deltas(self, plan: Plan) -> AsyncIterator[str]: ...


@dataclass
class Pace:
    """Spreads the output of a turn over its seconds; ends early when the response is cancelled."""

    seconds: float
    cancelled: asyncio.Event

    async def wait(self, share: float) -> bool:
        """Wait until this share of the turn has passed; False if it was cancelled meanwhile."""
        remaining = self._start + self.seconds * share - time.monotonic()
        if remaining > 0:
            try:
                await asyncio.wait_for(self.cancelled.wait(), remaining)
            except TimeoutError:
                return True
        return not self.cancelled.is_set()

    def __post_init__(self) -> None:
        self._start = time.monotonic()


@dataclass
class Model:
    """`plan_of` returns the plan of a response by its engine id; `writer` replaces the prose grammar."""

    plan_of: Callable[[str], Plan]
    seconds: float
    writer: Writer | None = None

    async def respond(self, request: Json, context: Any, cancelled: asyncio.Event) -> AsyncIterator[Event]:
        plan = self.plan_of(context.response_id)
        stream = ResponseEventStream(response_id=context.response_id, request=request)
        background = request.get("background") is True
        yield stream.emit_created(status="in_progress")
        if background and not await Pace(plan.in_progress_at - time.time(), cancelled).wait(1):
            return
        yield stream.emit_in_progress()
        written = 0
        async for event, characters in self._output(plan, stream, cancelled):
            written += characters
            yield event
        if not cancelled.is_set():
            yield _ending(plan, stream, written)

    async def _output(
        self, plan: Plan, stream: ResponseEventStream, cancelled: asyncio.Event
    ) -> AsyncIterator[tuple[Event, int]]:
        turn = plan.turn
        pace = Pace(self.seconds_of(plan), cancelled)
        if turn.text is not None or turn.writes_prose:
            async for pair in _message(stream, self._written(plan, pace)):
                yield pair
        if await pace.wait(1):
            for pair in _closing_items(stream, turn):
                yield pair

    def seconds_of(self, plan: Plan) -> float:
        turn = plan.turn
        if turn.seconds is not None:
            return turn.seconds
        if not turn.writes_prose:
            return self.seconds / 10
        return self.seconds if plan.is_novel else self.seconds / 5

    async def _written(self, plan: Plan, pace: Pace) -> AsyncIterator[str]:
        """Write the text of a turn in deltas, each at its time."""
        if plan.turn.text is None and self.writer is not None:
            async for delta in self.writer.deltas(plan):
                if pace.cancelled.is_set():
                    return
                yield delta
            return
        for share, delta in timed_deltas(plan):
            if not await pace.wait(share):
                return
            yield delta


def timed_deltas(plan: Plan) -> Iterator[tuple[float, str]]:
    """Yield every delta of a text, with the share of the turn's time that has passed when it is written."""
    text = plan.turn.text
    sections = prose(plan) if text is None else Sections(1, iter([text]))
    for number, section in enumerate(sections.texts):
        wanted = _deltas_in_section(plan, sections.count, len(section))
        size = max(1, -(-len(section) // wanted))
        deltas = [section[start : start + size] for start in range(0, len(section), size)] or [""]
        for index, delta in enumerate(deltas, start=1):
            yield (number + index / len(deltas)) / sections.count, delta


def _deltas_in_section(plan: Plan, sections: int, length: int) -> int:
    turn = plan.turn
    if not plan.streamed:
        # Without a stream the number of deltas makes no difference, and one costs least.
        return 1
    if turn.deltas is not None:
        return -(-turn.deltas // sections)
    return DELTAS if turn.text is not None else -(-length // PROSE_DELTA)


async def _message(
    stream: ResponseEventStream, deltas: AsyncIterator[str]
) -> AsyncIterator[tuple[Event, int]]:
    message = stream.add_output_item_message()
    yield message.emit_added(), 0
    content = message.add_text_content()
    yield content.emit_added(), 0
    async for delta in deltas:
        yield content.emit_delta(escape(delta)), len(delta)
    yield content.emit_text_done(), 0
    yield content.emit_done(), 0
    yield message.emit_done(), 0


def _closing_items(stream: ResponseEventStream, turn: Turn) -> Iterator[tuple[Event, int]]:
    """Emit refusal, calls and raw items, with the characters that each adds to the usage."""
    if turn.refusal is not None:
        message = stream.add_output_item_message()
        yield message.emit_added(), 0
        for event in message.refusal_content(escape(turn.refusal)):
            yield event, 0
        yield message.emit_done(), len(turn.refusal)
    for call in turn.calls:
        item = stream.add_output_item_function_call(call.name, call.call_id or _new_call_id())
        yield item.emit_added(), 0
        for event in item.arguments(escape(call.arguments)):
            yield event, 0
        yield item.emit_done(), len(call.arguments) + 40
    for raw in turn.items:
        builder = stream.add_output_item(IdGenerator.new_message_item_id(stream.response["id"]))
        complete = _complete(builder.item_id, escape(raw))
        yield builder.emit_added(complete), 0
        yield builder.emit_done(complete), 20


def _complete(item_id: str, raw: Json) -> Json:
    """Return a raw item with an id. Whoever answers a request for approval names that id."""
    if raw.get("type") == "mcp_approval_request":
        return {"id": "mcpr_" + item_id.partition("_")[2], **raw}
    return {"id": item_id, "status": "completed", **raw}


def _new_call_id() -> str:
    return "call_" + secrets.token_hex(12)


def _ending(plan: Plan, stream: ResponseEventStream, written: int) -> Event:
    turn = plan.turn
    output_tokens = max(1, written // 4)
    usage = turn.usage or {
        "input_tokens": plan.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": plan.input_tokens + output_tokens,
    }
    match turn.status:
        case "failed":
            error = turn.error or {}
            return stream.emit_failed(
                code=escape(error.get("code", "server_error")),
                message=escape(error.get("message", "The model failed to generate a response.")),
            )
        case "incomplete":
            return stream.emit_incomplete(reason=turn.reason, usage=usage)
        case _:
            return stream.emit_completed(usage=usage)
