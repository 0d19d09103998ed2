"""Answers of chat completions: recorded ones, what events add up to, and requests for them."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from shared.adapters.chat_api.broken import reported
from shared.adapters.chat_api.provider import ChatCompletionsProvider, Dialect
from shared.adapters.chat_api.reader import AnswerReader
from shared.adapters.http.access import Connection
from shared.adapters.http.failures import Failures
from shared.core.response import Usage
from shared.ports.chat import (
    ChatBroken,
    ChatCall,
    ChatEnd,
    ChatEvent,
    ChatNotRepeated,
    ChatReasoning,
    ChatRefusal,
    ChatRequest,
    ChatText,
)
from tests.support.loopback import Server
from tests.support.requests import LONG

Json = dict[str, Any]
FOLDER = Path(__file__).parents[1] / "data" / "chat"
FAILURES = Failures(to_check="the key", secret=None)
REQUEST = ChatRequest(
    run_id="run_7", turn=2, model="m-9", messages='[{"role": "user", "content": "Go"}]', tools="[]"
)


def chat_request(**fields: Any) -> ChatRequest:
    return replace(REQUEST, **fields)


@dataclass
class Collected:
    """What the events of an answer add up to."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    # Id, name and arguments of each call.
    calls: list[list[str]] = field(default_factory=list)
    outcome: ChatEnd | ChatBroken | None = None

    @classmethod
    def of(cls, events: Iterable[ChatEvent]) -> Self:
        found = cls()
        for event in events:
            assert found.outcome is None, "an event after the last one"
            found.add(event)
        return found

    def add(self, event: ChatEvent) -> None:
        match event:
            case ChatText(text):
                assert text
                self.text += text
            case ChatReasoning(text):
                assert text
                self.reasoning += text
            case ChatRefusal(text):
                assert text
                self.refusal += text
            case ChatCall(index, call_id, name, arguments):
                pieces = (call_id, name, arguments)
                while index >= len(self.calls):
                    self.calls.append(["", "", ""])
                self.calls[index] = [
                    before + new for before, new in zip(self.calls[index], pieces, strict=True)
                ]
            case ChatNotRepeated():
                pass
            case _:
                self.outcome = event

    def begins(self, whole: Self) -> bool:
        """Return whether this is the begin of another answer, or all of it."""
        return (
            whole.text.startswith(self.text)
            and whole.reasoning.startswith(self.reasoning)
            and whole.refusal.startswith(self.refusal)
            and len(self.calls) <= len(whole.calls)
            and all(
                longer.startswith(shorter)
                for mine, others in zip(self.calls, whole.calls, strict=False)
                for shorter, longer in zip(mine, others, strict=True)
            )
        )


@dataclass(frozen=True)
class Recorded:
    """A stream, and what it says."""

    name: str
    body: bytes
    collected: Collected


def _recorded(path: Path) -> Recorded:
    said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    usage = Usage(**said.pop("usage")) if said["usage"] else said.pop("usage")
    end = ChatEnd(said.pop("finish_reason"), usage)
    return Recorded(path.stem, path.read_bytes(), Collected(**said, outcome=end))


RECORDED = {path.stem: _recorded(path) for path in sorted(FOLDER.glob("*.sse"))}


def a_reader(echo: str = "") -> AnswerReader:
    return AnswerReader(lambda data: data, lambda error: reported(FAILURES, "m-9", error), echo)


def read(*chunks: bytes, broken: ChatBroken | None = None, echo: str = "") -> Collected:
    """Return what the bytes of an answer lead to. `broken`: why there are no more."""
    reader = a_reader(echo)
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    events += reader.end(broken)
    assert reader.outcome
    return Collected.of([*events, reader.outcome])


def chunk(delta: Json | None = None, finish: str | None = None, **fields: Any) -> Json:
    return {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **fields}


def content(text: str) -> Json:
    return chunk({"content": text})


def events(*values: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)


DONE = b"data: [DONE]\n\n"


@asynccontextmanager
async def chatting(
    server: Server, dialect: Dialect | None = None, **fields: Any
) -> AsyncIterator[ChatCompletionsProvider]:
    """Give the adapter of a provider on this machine. It waits long, unless its dialect differs."""
    given = {"base_url": f"http://127.0.0.1:{server.port}/v1", "api_key": "k"} | fields
    found = ChatCompletionsProvider(Connection(**given), dialect or Dialect(silence=LONG))
    try:
        yield found
    finally:
        await found.close()


async def generated(provider: ChatCompletionsProvider, **fields: Any) -> Collected:
    return Collected.of([event async for event in provider.generate(chat_request(**fields))])
