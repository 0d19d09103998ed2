"""What the model writes at a provider without background mode, and how that provider continues a text."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from shared.core.calls import ToolCall
from shared.core.chat.echo import EchoFilter
from shared.core.chat.events import (
    ChatBroken,
    ChatCall,
    ChatEnd,
    ChatEvent,
    ChatNotRepeated,
    ChatReasoning,
    ChatText,
)
from shared.core.response import Usage
from shared.core.text import representable
from shared.ports.chat import ChatRequest
from shared.steps.generate import MAX_HELD_CHARACTERS
from tests.proofs.simulation.scheduler import Invocation
from tests.proofs.simulation.waiting import ALWAYS, HOSTED, Plan

# The name of the provider.
CHAT = "chat"
# In what share of the seeds the agent has such a provider.
_CHATS = 0.22
# How long the model takes for a piece, in seconds, in one stream.
_PACES = (0.05, 0.4, 1.5, 5.0)
# How many pieces a text has when it begins, and when it goes on.
_BEGUN, _CONTINUED = (0, 1, 4, 12), (0, 1, 3, 5)
_SPACES = (" ", " ", "\n", "", " ü ")
# A character in two halves, as some providers send it.
_HALVES = ("\ud83e", "\udd8a")
_LONG = "".join(Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9_000))
_REASONS = ("stop", "stop", "stop", None, "length", "length", "content_filter", "odd")


@dataclass(frozen=True, slots=True)
class ChatPlan:
    """How the provider of a seed continues a text, and how long an invocation holds its stream."""

    continues: bool
    trims: bool
    generate_for: timedelta
    function_timeout: timedelta
    # Whether most streams are cut.
    fragile: bool
    # Whether its streams begin with the text so far.
    echoes: bool

    @classmethod
    def of(cls, seed: int) -> "ChatPlan | None":
        # Drawn apart, so that the other seeds stay as they are.
        random = Random(f"chats of {seed}")
        if random.random() >= _CHATS:
            return None
        continues = random.random() < 0.65
        seconds = random.choice((4, 15, 240))
        minutes = 10 if continues else random.choice((2, 10))
        return cls(
            continues,
            continues and random.random() < 0.4,
            timedelta(seconds=seconds),
            timedelta(minutes=minutes),
            random.random() < (0.2 if continues else 0.5),
            continues and random.random() < 0.3,
        )

    def stores(self, text: str) -> bool:
        """Return whether this piece of a text is stored at a checkpoint: it ends with a character that can be continued."""
        return text != _HALVES[0] and not (self.trims and text[-1:].isspace())

    def longest(self, stream: "Stream") -> float:
        """Return how many seconds an invocation may hold a stream. What cannot be continued is cut later."""
        longest_work = (self.function_timeout - timedelta(minutes=1)).total_seconds()
        held = self.trims and len(stream.sent) <= MAX_HELD_CHARACTERS
        written = any(not (held and piece[-1:].isspace()) for piece in stream.pieces)
        continued = self.continues and written and not stream.calls
        return min(self.generate_for.total_seconds(), longest_work) if continued else longest_work


@dataclass(eq=False, slots=True)
class Stream:
    """One stream of a turn: what it was asked to continue, and what it has brought so far."""

    request: ChatRequest
    by: Invocation
    began_at: float
    pieces: list[str] = field(default_factory=list)
    # What it has to bring of the text, if it is not cut. None while that is not drawn.
    expected: str | None = None
    # Whether its provider did not repeat the text so far, as it does otherwise.
    unclear: bool = False
    reasoned: bool = False
    calls: list[ToolCall] = field(default_factory=list)
    end: ChatEnd | ChatBroken | None = None
    # How many characters of what it sent are stored.
    stored: int = 0
    # When it brought the last event.
    sent_at: float = 0.0

    @property
    def sent(self) -> str:
        return representable("".join(self.pieces))

    @property
    def text(self) -> str:
        """The text of the turn, as far as this stream has brought it."""
        return self.request.prefix + self.sent

    def note(self, event: ChatEvent, now: float) -> None:
        self.sent_at = now
        match event:
            case ChatText(text):
                self.pieces.append(text)
            case ChatReasoning():
                self.reasoned = True
            case ChatCall():
                self._join(event)
            case ChatEnd() | ChatBroken():
                self.end = event

    def _join(self, piece: ChatCall) -> None:
        if piece.call_id:
            self.calls.append(ToolCall(piece.call_id, piece.name, piece.arguments))
        else:
            last = self.calls[piece.index]
            self.calls[piece.index] = ToolCall(last.call_id, last.name, last.arguments + piece.arguments)

    @property
    def finished(self) -> bool:
        return isinstance(self.end, ChatEnd)


def echoed(stream: Stream, events: Sequence[ChatEvent], random: Random) -> list[ChatEvent]:
    """Return the events as an adapter tells them whose provider repeats the text so far, mostly all of it.

    What the stream has to bring then is noted in it.
    """
    prefix = stream.request.prefix
    repeated = random.choices((prefix, prefix[:-1] + "~", ""), weights=(6, 2, 1))[0]
    text = "".join(event.text for event in events if isinstance(event, ChatText))
    stream.unclear = repeated != prefix and bool(repeated + text)
    stream.expected = representable(text if repeated == prefix else repeated + text)
    echo, missed, told = EchoFilter(prefix), False, list[ChatEvent]()
    first = next((n for n, event in enumerate(events) if isinstance(event, ChatText | ChatEnd)), len(events))
    parts: list[ChatEvent] = [ChatText(part) for part in _halved(repeated)]
    for event in [*events[:first], *parts, *events[first:]]:
        match event:
            case ChatText(text):
                new = echo.passed(text)
            case ChatEnd():
                new = echo.rest()
            case _:
                new = ""
        if echo.missed and not missed:
            missed = True
            told.append(ChatNotRepeated())
        told += [ChatText(new)] if new else []
        told += [] if isinstance(event, ChatText) else [event]
    return told


@dataclass
class Writer:
    """Draws what streams bring."""

    random: Random
    # What waits for people, in the seeds that have it.
    plan: Plan | None
    # Each stream and piece has a text of its own, so that nothing can be dropped, doubled or mixed up unseen.
    _streams: int = 0

    def events(self, request: ChatRequest) -> tuple[list[ChatEvent], float]:
        """Return the events of a stream without faults, and how many seconds each takes."""
        random, events = self.random, list[ChatEvent]()
        self._streams += 1
        if random.random() < (0.15 if request.prefix else 0.35):
            events += [ChatReasoning(f"thought {n} ") for n in range(random.choice((1, 3, 12)))]
        text, calls = self._text(request), self._calls(request)
        events += [*calls, *text] if random.random() < 0.15 else [*text, *calls]
        usage = None
        if random.random() < 0.7:
            tokens = 4 ** (request.turn - 1)
            usage = Usage(tokens, 0, tokens, tokens, tokens)
        reason = random.choice(_REASONS)
        if calls and random.random() < 0.85:
            reason = "tool_calls"
        return [*events, ChatEnd(reason, usage)], random.choice(_PACES)

    def _text(self, request: ChatRequest) -> list[ChatEvent]:
        random, events = self.random, list[ChatEvent]()
        for n in range(random.choice(_CONTINUED if request.prefix else _BEGUN)):
            long = _LONG if random.random() < 0.03 else ""
            events.append(ChatText(f"s{self._streams}p{n}{long}{random.choice(_SPACES)}"))
            if random.random() < 0.1:
                events += map(ChatText, _HALVES)
        return events

    def _calls(self, request: ChatRequest) -> list[ChatEvent]:
        random, first = self.random, request.turn == 1
        names = list[str]()
        if self.plan:
            known = [{"name": tool["function"]["name"]} for tool in json.loads(request.tools)]
            names = self.plan.names(random, json.dumps(known), first=first)
        elif random.random() < (0.6 if first else 0.35):
            names = random.choices(
                ("pay", "look_up", "no_such_tool"), weights=(6, 4, 1), k=random.randint(1, 3)
            )
        pieces: list[ChatEvent] = []
        # Nothing of this kind is hosted.
        names = [ALWAYS if name == HOSTED else name for name in names]
        for index, name in enumerate(names):
            call_id = f"call_{self._streams}_{request.turn}_{index}"
            arguments = self.plan.item(name, call_id, random)["arguments"] if self.plan else "{}"
            at = random.randrange(len(arguments) + 1)
            pieces.append(ChatCall(index, call_id, name, arguments[:at]))
            pieces += [ChatCall(index, "", "", part) for part in _halved(arguments[at:])]
        return pieces


def _halved(text: str) -> Sequence[str]:
    return [part for part in (text[: len(text) // 2], text[len(text) // 2 :]) if part]
