"""The port to services that write one answer at a time, over a connection that stays open meanwhile."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from shared.core.response import RunError, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a provider needs to write an answer, or the rest of one.

    `messages` and `tools` are JSON texts: chat messages, and definitions of chat tools, "[]" for none.
    """

    run_id: str
    turn: int
    model: str
    messages: str
    tools: str
    # Further fields of the request, by name.
    options: Mapping[str, object] = field(default_factory=dict)
    # The text so far, which is to be continued. Empty: the answer begins.
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class ChatText:
    """Text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatReasoning:
    """Text that the model wrote while it thought."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A piece of a call. The pieces of one call have the same index; only the first has its id and its name."""

    index: int
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatEnd:
    """The answer ended as it should. `usage` is None when the provider did not report it."""

    finish_reason: str | None
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class ChatBroken:
    """The request was refused, or the answer broke off."""

    error: RunError
    # The pause that the provider requested, if any.
    retry_after: timedelta | None
    # Whether the request may succeed later.
    retryable: bool


ChatEvent = ChatText | ChatReasoning | ChatCall | ChatEnd | ChatBroken


class ChatProvider(Protocol):
    """A service that writes answers while a connection is open."""

    def generate(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Yield the answer as it is written. The last event is a ChatEnd or a ChatBroken; no failure is raised.

        Closing the generator closes the connection.
        """
        ...
