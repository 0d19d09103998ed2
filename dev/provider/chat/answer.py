"""What the model writes in one chat completion, from the plan of its turn."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from dev.provider.chat.request import ChatTurn
from dev.provider.handler import Model, Pace, timed_deltas
from dev.provider.script import Turn
from dev.provider.wire import ApiError, Json

# Characters of an echoed text, of thoughts and of arguments in a delta.
_DELTA = 16
_FINISH = {"max_output_tokens": "length"}


@dataclass
class Writing:
    """One answer. Its text is always the same, so the rest of it is what follows the begin that was given."""

    turn: ChatTurn
    model: Model
    # Whether the text to continue is repeated.
    echoes: bool
    written: int = 0

    def check(self) -> None:
        """Raise ApiError where the answer does not begin with the text that is to be continued."""
        prefix = self.turn.prefix
        if not prefix:
            return
        if self.model.writer is not None:
            raise ApiError(400, "A model server cannot continue a text here.", "messages")
        text = ""
        for _, delta in self._deltas():
            text += delta
            if len(text) >= len(prefix):
                break
        if not text.startswith(prefix):
            message = "The last message is not the begin of the answer that is written here."
            raise ApiError(400, message, "messages", "invalid_prefix")

    async def deltas(self, gone: asyncio.Event) -> AsyncIterator[Json]:
        """Yield the deltas of the answer, each at its time, until the client has `gone`."""
        turn = self.turn.plan.turn
        pace = Pace(self.model.seconds_of(self.turn.plan), gone)
        # Whoever continues a text has thought already.
        for thought in () if self.turn.prefix else _thoughts(turn):
            for piece in _pieces(thought):
                yield {"reasoning_content": piece}
        if turn.text is not None or turn.writes_prose:
            async for delta in self._text(pace):
                self.written += len(delta)
                yield {"content": delta}
        if await pace.wait(1):
            for closing in _closing(turn, self.turn.plan.seed):
                self.written += len(str(closing))
                yield closing

    async def _text(self, pace: Pace) -> AsyncIterator[str]:
        prefix = self.turn.prefix or ""
        if self.model.writer is not None:
            async for delta in self.model.writer.deltas(self.turn.plan):
                yield delta
            return
        if self.echoes:
            for piece in _pieces(prefix):
                yield piece
        skipped, begun = len(prefix), 0.0
        for share, delta in self._deltas():
            if skipped >= len(delta):
                skipped, begun = skipped - len(delta), share
                continue
            if not await pace.wait(share - begun):
                return
            yield delta[skipped:]
            skipped = 0

    def _deltas(self) -> Iterator[tuple[float, str]]:
        return timed_deltas(self.turn.plan)

    @property
    def finish_reason(self) -> str:
        turn = self.turn.plan.turn
        if turn.status == "incomplete":
            return _FINISH.get(turn.reason, turn.reason)
        return "tool_calls" if turn.calls else "stop"

    @property
    def usage(self) -> Json:
        read, written = self.turn.plan.input_tokens, max(1, self.written // 4)
        return self.turn.plan.turn.usage or {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }

    @property
    def error(self) -> Json | None:
        """The error with which the answer ends, if its turn fails."""
        turn = self.turn.plan.turn
        if turn.status != "failed":
            return None
        given = turn.error or {}
        message = given.get("message", "The model failed to generate a response.")
        return {
            "message": message,
            "type": "server_error",
            "param": None,
            "code": given.get("code", "server_error"),
        }


def joined(deltas: list[Json]) -> Json:
    """Return the message that deltas make up."""
    calls: list[Json] = []
    for delta in deltas:
        for piece in delta.get("tool_calls", ()):
            if piece["index"] == len(calls):
                calls.append({**piece, "function": dict(piece["function"])})
            else:
                calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    message: Json = {"role": "assistant", "content": _text_of(deltas, "content"), "refusal": None}
    for name in ("reasoning_content", "refusal"):
        if text := _text_of(deltas, name):
            message[name] = text
    if calls:
        message["tool_calls"] = [
            {name: value for name, value in call.items() if name != "index"} for call in calls
        ]
    return message


def _text_of(deltas: list[Json], name: str) -> str | None:
    return "".join(delta[name] for delta in deltas if name in delta) or None


def _thoughts(turn: Turn) -> Iterator[str]:
    """Yield the texts of the reasoning items that a script has."""
    for item in turn.items:
        if item.get("type") == "reasoning":
            yield "".join(_part_text(part) for part in item.get("summary") or item.get("content") or ())


def _part_text(part: Any) -> str:
    return str(part.get("text", "")) if isinstance(part, dict) else str(part)


def _closing(turn: Turn, seed: int) -> Iterator[Json]:
    if turn.refusal is not None:
        yield {"refusal": turn.refusal}
    for index, call in enumerate(turn.calls):
        call_id = call.call_id or f"call_{seed:08x}{index:02d}"
        function = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}
        for piece in _pieces(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + _DELTA] for at in range(0, len(text), _DELTA))
