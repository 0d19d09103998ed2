"""The port to the services that answer a conversation in one stream, and keep nothing of it."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from shared.core.chat.events import ChatBroken, ChatCall, ChatEnd, ChatEvent, ChatReasoning, ChatText

__all__ = [
    "ChatBroken",
    "ChatCall",
    "ChatEnd",
    "ChatEvent",
    "ChatProvider",
    "ChatProviders",
    "ChatReasoning",
    "ChatRequest",
    "ChatText",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a provider needs to generate the answer of one turn, or the rest of it.

    `messages` and `tools` are JSON texts: messages and tool definitions of Chat Completions.
    """

    run_id: str
    turn: int
    model: str
    messages: str
    # "[]" for none.
    tools: str
    # Further fields of the request, by name.
    options: Mapping[str, object] = field(default_factory=dict)
    # The text of the answer so far, which is to be continued. Empty when the answer begins.
    prefix: str = ""


class ChatProvider(Protocol):
    """A service that streams chat completions. Failures are events, and not raised."""

    def generate(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Yield what the stream brings, and at last `ChatEnd` or `ChatBroken`.

        Closing the generator closes the connection.
        """
        ...


# The chat providers of the app, by the names that agents use.
ChatProviders = Mapping[str, ChatProvider]
