"""What the stream of a chat completion brought, as the output of a turn."""

from collections.abc import Callable
from dataclasses import dataclass, field

from shared.core import transcript
from shared.core.chat.call_ids import made_id
from shared.core.chat.characters import WholeCharacters
from shared.core.chat.events import (
    ChatBroken,
    ChatCall,
    ChatEnd,
    ChatEvent,
    ChatReasoning,
    ChatRefusal,
    ChatText,
)
from shared.core.chat.messages import is_object
from shared.core.chat.pieces import Pieces
from shared.core.life.calling import MAX_CALLS_PER_RUN
from shared.core.limits import MAX_OUTPUT_BYTES
from shared.core.response import ResponseStatus, RunError, Snapshot
from shared.core.text import json_text, representable
from shared.core.transcript import MAX_CALL_ID, Item

_COMPLETED = frozenset(
    {"stop", "tool_calls", "function_call", "tool_use", "eos", "eos_token", "end_turn", "stop_sequence"}
)
# The reasons of the Responses API for the other ends of an answer, by those of providers.
_INCOMPLETE = {
    "length": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "model_length": "max_output_tokens",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "refusal": "content_filter",
}


class _Growing:
    """A text that comes in pieces, whole characters only."""

    def __init__(self, text: str) -> None:
        self.pieces = Pieces(representable(text))
        self._characters = WholeCharacters()

    def add(self, piece: str) -> None:
        self.pieces.add(self._characters.add(piece))

    def end(self) -> None:
        self.pieces.add(self._characters.rest())


@dataclass
class _Draft:
    """A call that is being written."""

    call_id: str
    name: str = ""
    pieces: Pieces = field(default_factory=Pieces)

    def add(self, piece: ChatCall) -> None:
        self.call_id = self.call_id or piece.call_id
        if piece.name != self.name:
            self.name += piece.name
        self.pieces.add(piece.arguments)

    @property
    def arguments(self) -> str:
        text = representable(str(self.pieces))
        # Some services send an empty object before the arguments, in the place of nothing.
        rest = text.removeprefix("{}")
        return rest if rest != text and is_object(rest) else text


class Collected:
    """Joins the events of a turn, in their order, to its output.

    A turn that is taken up again begins with the text and the reasoning that were saved of it. `turn` names
    the turn of a run: the ids of calls that the provider gave no id are made of it.
    """

    def __init__(self, turn: str, *, text: str = "", reasoning: str = "") -> None:
        self._turn = turn
        self._text = _Growing(text)
        self._reasoning = _Growing(reasoning)
        self._refusal = _Growing("")
        self._drafts: list[_Draft] = []
        # The draft that the next piece with an index belongs to.
        self._current: dict[int, _Draft] = {}
        self._end: ChatEnd | ChatBroken | None = None
        self._size = len(self.text.encode()) + len(self.reasoning.encode())

    @property
    def text(self) -> str:
        """The text so far. It only grows."""
        return str(self._text.pieces)

    def text_between(self, start: int, end: int) -> str:
        """Return a part of the text. It costs as much as what comes after `start` is long."""
        return self._text.pieces.since(start)[: end - start]

    @property
    def reasoning(self) -> str:
        return str(self._reasoning.pieces)

    @property
    def calls_or_refuses(self) -> bool:
        """Whether a call has begun, or a refusal."""
        return bool(self._drafts) or self._refusal.pieces.length > 0

    @property
    def characters(self) -> int:
        """How long the text is. Unlike the text itself, this costs nothing after each event."""
        return self._text.pieces.length

    @property
    def reasons(self) -> bool:
        """Whether there is any reasoning."""
        return self._reasoning.pieces.length > 0

    @property
    def too_large(self) -> bool:
        """Whether more came than may be kept. What comes then is dropped."""
        return self._size > MAX_OUTPUT_BYTES

    def add(self, event: ChatEvent) -> None:
        """Add the next event. Nothing counts after the end of the stream."""
        if self._end is not None:
            return
        match event:
            case ChatText(text) if self._fits(text):
                self._text.add(text)
            case ChatReasoning(text) if self._fits(text):
                self._reasoning.add(text)
            case ChatRefusal(text) if self._fits(text):
                self._refusal.add(text)
            case ChatCall() if self._fits(event.call_id + event.name + event.arguments):
                self._add_call(event)
            case ChatEnd() | ChatBroken():
                self._end = event
                self._text.end()
                self._reasoning.end()
                self._refusal.end()

    def _fits(self, text: str) -> bool:
        self._size += len(text.encode("utf-8", "surrogatepass"))
        return not self.too_large

    def _add_call(self, piece: ChatCall) -> None:
        draft = self._current.get(piece.index)
        if draft is None:
            # One more than a run may have is enough for the rule that refuses them.
            if len(self._drafts) > MAX_CALLS_PER_RUN:
                return
            draft = self._current[piece.index] = _Draft(piece.call_id)
            self._drafts.append(draft)
        draft.add(piece)

    def snapshot(self, response_id: str) -> Snapshot:
        """Return the turn as it is now: finished once its stream has ended as it should.

        The calls of a stream that was cut, or has not ended, are left out.
        """
        status, reason = self._status()
        if self.too_large:
            return self._refused(response_id)
        output = self._output(status, reason)
        text = json_text(output)
        if len(text.encode()) > MAX_OUTPUT_BYTES:
            return self._refused(response_id)
        return Snapshot(
            response_id=response_id,
            status=status,
            output=text,
            calls=transcript.calls_among(output),
            usage=self._end.usage if isinstance(self._end, ChatEnd) else None,
            incomplete_reason=reason,
        )

    def _refused(self, response_id: str) -> Snapshot:
        size = MAX_OUTPUT_BYTES // 2**20
        return Snapshot(
            response_id=response_id,
            status=ResponseStatus.FAILED,
            usage=self._end.usage if isinstance(self._end, ChatEnd) else None,
            error=RunError(
                "output_too_large", f"The response cannot be kept: its output is larger than {size} MiB."
            ),
        )

    def _status(self) -> tuple[ResponseStatus, str | None]:
        if not isinstance(self._end, ChatEnd):
            return ResponseStatus.IN_PROGRESS, None
        given = (self._end.finish_reason or "stop").lower()
        if given in _COMPLETED:
            return ResponseStatus.COMPLETED, None
        return ResponseStatus.INCOMPLETE, _INCOMPLETE.get(given, transcript.name_of(given))

    def _output(self, status: ResponseStatus, reason: str | None) -> list[Item]:
        output: list[Item] = []
        if reasoning := self.reasoning:
            part = {"type": "reasoning_text", "text": reasoning}
            output.append({"type": "reasoning", "summary": [], "content": [part]})
        content = transcript.message_of(text)["content"] if (text := self.text) else []
        if refusal := str(self._refusal.pieces):
            content.append({"type": "refusal", "refusal": refusal})
        if content:
            output.append(transcript.message_of("") | {"status": status.value, "content": content})
        if status is ResponseStatus.COMPLETED:
            return output + self._calls(lambda draft: bool(draft.name or draft.arguments))
        if reason in _INCOMPLETE.values():
            # The last one may be half-written.
            return output + self._calls(lambda draft: is_object(draft.arguments))
        return output

    def _calls(self, counts: Callable[[_Draft], bool]) -> list[Item]:
        given = {draft.call_id for draft in self._drafts}
        taken: set[str] = set()
        calls: list[Item] = []
        for number, draft in enumerate(self._drafts):
            call_id = draft.call_id
            if not _is_usable(call_id) or call_id in taken:
                call_id = made_id(f"{self._turn} {number}", given | taken)
            taken.add(call_id)
            if counts(draft):
                calls.append(_call(call_id, draft))
        return calls


def _is_usable(call_id: str) -> bool:
    return 0 < len(call_id) <= MAX_CALL_ID and call_id == representable(call_id)


def _call(call_id: str, draft: _Draft) -> Item:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": representable(draft.name),
        # Some models write nothing for a function without parameters.
        "arguments": draft.arguments if draft.arguments.strip() else "{}",
        "status": "completed",
    }
