"""Turns the bytes of an answer into events, whether it is a stream or one JSON object. Pure."""

import codecs
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shared.adapters.chat_api.broken import cut, junk, too_large
from shared.adapters.chat_api.calls import MAX_CALLS, Calls
from shared.adapters.chat_api.decode import Piece, read_piece
from shared.adapters.chat_api.lines import DONE, MAX_EVENT_BYTES, LineReader
from shared.adapters.http.answer import MAX_REPLY_BYTES
from shared.adapters.http.json_body import TooManyMarks, read_json
from shared.core.chat.echo import EchoFilter
from shared.core.text import clipped, representable
from shared.ports.chat import (
    ChatBroken,
    ChatCall,
    ChatEnd,
    ChatEvent,
    ChatNotRepeated,
    ChatReasoning,
    ChatRefusal,
    ChatText,
)

if TYPE_CHECKING:
    from shared.core.response import Usage

# Much of a stream is not text: each word of it comes in an object of some hundred bytes.
MAX_STREAM_BYTES = 256 * 1024 * 1024
# Its texts, thoughts and arguments together, in UTF-8.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
MAX_FINISH_CHARACTERS = 64

_HIGH_SURROGATES = ("\ud800", "\udbff")
_BLANKS = b" \t\r\n"
_MIB = 2**20

# Returns what was received, without the secrets that it repeats.
Struck = Callable[[bytes], bytes]
# Returns what an error that the provider reports means.
Explain = Callable[[Mapping[str, Any]], ChatBroken]


class AnswerReader:
    """Reads one answer. Each byte is fed once, in chunks that may end anywhere."""

    def __init__(self, struck: Struck, explain: Explain, echo: str = "") -> None:
        """`echo`: the text that the provider may repeat before it goes on."""
        # How the answer ended. None as long as it goes on.
        self.outcome: ChatEnd | ChatBroken | None = None
        # Why the provider ended the answer. Only the usage may follow.
        self.finish_reason: str | None = None
        # How much of a complete answer is kept in memory.
        self.kept = 0
        self._struck = struck
        self._explain = explain
        self._lines = LineReader()
        # A complete answer as far as it came. None as long as it is not known to be one.
        self._whole: bytearray | None = None
        self._head: bytearray | None = bytearray()
        self._received = self._written = self._events = 0
        self._choice: object = None
        # Whether a part of the answer came that was not all of it.
        self._parted = False
        self._halves: dict[object, str] = {}
        self._echo = EchoFilter(echo)
        # Whether it was told that the text so far was not repeated.
        self._missed = False
        self._calls = Calls()
        self._usage: Usage | None = None

    def feed(self, chunk: bytes) -> list[ChatEvent]:
        """Return the events that a chunk completes, without the outcome."""
        if self.outcome or not (chunk := self._without_head(chunk)):
            return []
        self._received += len(chunk)
        if self._whole is not None:
            self._whole += chunk
            self.kept = len(self._whole)
            if self.kept > MAX_REPLY_BYTES:
                self.outcome = too_large(f"it is larger than {MAX_REPLY_BYTES // _MIB} MiB")
            return []
        events = [event for data in self._lines.feed(chunk) for event in self._read(data)]
        if self._lines.too_long:
            self.outcome = too_large(f"one event is larger than {MAX_EVENT_BYTES // _MIB} MiB")
        elif self._received > MAX_STREAM_BYTES:
            self.outcome = too_large(f"its stream is larger than {MAX_STREAM_BYTES // _MIB} MiB")
        return events

    def end(self, broken: ChatBroken | None = None) -> list[ChatEvent]:
        """Return the events at the end of the bytes. `broken`: why they end, if it was not the server that ended them."""
        if self.outcome:
            return []
        if self._whole is not None:
            return [] if self._broke(broken) else self._read_whole(bytes(self._whole))
        events = [event for data in self._lines.end() for event in self._read(data, last=True)]
        if self.outcome is None and self.finish_reason is None:
            reason = "its stream has no end" if self._events else "the reply has neither events nor JSON"
            self._close(broken or (cut(reason) if self._events else junk(reason)))
        return [*events, *self._finish()]

    def _broke(self, broken: ChatBroken | None) -> bool:
        self.outcome = broken
        return broken is not None

    def _without_head(self, chunk: bytes) -> bytes:
        """Return a chunk without blanks before the answer. The first byte of the answer says what it is."""
        if self._head is None:
            return chunk
        self._head += chunk
        text = bytes(self._head).removeprefix(codecs.BOM_UTF8).lstrip(_BLANKS)
        if not text or codecs.BOM_UTF8.startswith(text):
            self._received += len(chunk)
            # Blanks mean nothing, however many they are.
            del self._head[: -len(codecs.BOM_UTF8)]
            return b""
        self._head = None
        if text[:1] in (b"{", b"["):
            self._whole = bytearray()
        return text

    def _read_whole(self, body: bytes) -> list[ChatEvent]:
        value = self._parse(body)
        if self.outcome:
            return []
        piece = read_piece(value)
        events = list(self._take(piece))
        if self.outcome is None and not piece.chosen:
            self.outcome = junk("it has no answer")
        self.finish_reason = self.finish_reason or ""
        return [*events, *self._finish()]

    def _read(self, data: bytes, *, last: bool = False) -> list[ChatEvent]:
        """Return what one event brings. `last`: it may be incomplete."""
        text = data.strip()
        if self.outcome:
            return []
        self._events += 1
        if text == DONE:
            if self._calls.unwritten:
                self._close(cut("a call has no arguments, and the answer no reason for its end"))
            self.finish_reason = self.finish_reason or ""
            return self._finish()
        if not text.startswith((b"{", b"[")):
            # A sign of life.
            return []
        value = self._parse(data, last=last)
        return [] if self.outcome else list(self._take(read_piece(value, self._choice)))

    def _parse(self, data: bytes, *, last: bool = False) -> object:
        try:
            return read_json(self._struck(data))
        except TooManyMarks as fault:
            self.outcome = too_large(str(fault))
        except (ValueError, RecursionError):
            # A part of the answer may be lost with it.
            if data.strip().startswith(b"{") and not last:
                self._close(junk("it is not JSON"))
        return None

    def _take(self, piece: Piece) -> Iterator[ChatEvent]:
        if piece.chosen and self._choice is None:
            self._choice = piece.choice
        self._usage = piece.usage or self._usage
        piece = self._unrepeated(piece)
        yield from self._texts(piece)
        for call in piece.calls:
            placed = self._calls.place(call)
            arguments = self._joined(placed.index, placed.arguments)
            if placed.call_id or placed.name or arguments:
                names = representable(placed.call_id), representable(placed.name)
                yield ChatCall(placed.index, *names, arguments)
        if piece.error is not None:
            self._close(self._explain(piece.error))
        elif piece.finish_reason:
            self.finish_reason = clipped(representable(piece.finish_reason), MAX_FINISH_CHARACTERS)
        if self._written > MAX_ANSWER_BYTES:
            self.outcome = too_large(f"it is larger than {MAX_ANSWER_BYTES // _MIB} MiB")
        elif self._calls.count > MAX_CALLS:
            self.outcome = too_large(f"it has more than {MAX_CALLS:,} calls")

    def _texts(self, piece: Piece) -> Iterator[ChatEvent]:
        for kind, given in ((ChatReasoning, piece.reasoning), (ChatRefusal, piece.refusal)):
            if joined := self._joined(kind, given):
                yield kind(joined)
        yield from self._passed(self._echo.passed(self._joined(ChatText, piece.text)))

    def _passed(self, text: str) -> Iterator[ChatEvent]:
        if self._echo.missed and not self._missed:
            self._missed = True
            yield ChatNotRepeated()
        if text:
            yield ChatText(text)

    def _unrepeated(self, piece: Piece) -> Piece:
        """Return a piece without what came before: some services repeat the complete answer in the last event."""
        if piece.whole:
            return replace(piece, reasoning="", refusal="", text="", calls=()) if self._parted else piece
        self._parted = self._parted or bool(piece.text or piece.reasoning or piece.refusal or piece.calls)
        return piece

    def _close(self, broken: ChatBroken) -> None:
        """End the answer, unless the provider had ended it: then what is wrong after it does not matter."""
        if self.finish_reason is None:
            self.outcome = self.outcome or broken

    def _finish(self) -> list[ChatEvent]:
        """End the answer as the provider ended it, and return what was held back."""
        if self.outcome or self.finish_reason is None:
            return []
        halves, self._halves = self._halves, {}
        events: list[ChatEvent] = []
        text = self._echo.passed(representable(halves.pop(ChatText, "")))
        events += self._passed(text + self._echo.rest())
        for key, half in halves.items():
            if half:
                text = representable(half)
                if isinstance(key, int):
                    events.append(ChatCall(key, "", "", text))
                else:
                    events.append(ChatRefusal(text) if key is ChatRefusal else ChatReasoning(text))
        self.outcome = ChatEnd(self.finish_reason or None, self._usage)
        return events

    def _joined(self, key: object, text: str) -> str:
        """Return valid Unicode: JSON can split a character between two deltas, so half of one waits for the next."""
        if not text:
            return ""
        self._written += len(text.encode("utf-8", "surrogatepass"))
        text = self._halves.pop(key, "") + text
        if _HIGH_SURROGATES[0] <= text[-1] <= _HIGH_SURROGATES[1]:
            self._halves[key] = text[-1]
            text = text[:-1]
        return representable(text)
