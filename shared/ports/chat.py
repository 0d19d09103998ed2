"""The port to the services that answer a conversation in one stream, and keep nothing of it."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from shared.core.chat.events import (
    ChatBroken,
    ChatCall,
    ChatEnd,
    ChatEvent,
    ChatNotRepeated,
    ChatReasoning,
    ChatRefusal,
    ChatText,
)
from shared.core.invocation import END_MARGIN, FUNCTION_TIMEOUT

__all__ = [
    "ChatBroken",
    "ChatCall",
    "ChatEnd",
    "ChatEvent",
    "ChatNotRepeated",
    "ChatProvider",
    "ChatReasoning",
    "ChatRefusal",
    "ChatRequest",
    "ChatService",
    "ChatServices",
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
    # How long the answer may take, however little of it comes. Whoever waits longer is ended by the host.
    within: timedelta = FUNCTION_TIMEOUT - END_MARGIN


class ChatProvider(Protocol):
    """A service that streams chat completions. Failures are events, and not raised."""

    def generate(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Yield what the stream brings, and at last `ChatEnd` or `ChatBroken`.

        Closing the generator closes the connection.
        """
        ...


@dataclass(frozen=True, slots=True)
class ChatService:
    """A provider without background mode, and what is known of how it continues a text."""

    provider: ChatProvider
    # Whether it continues a text that it has begun. Otherwise the text is written anew.
    continues: bool = False
    # Whether it leaves out white space at the end of such a text.
    trims: bool = False


# The providers without background mode, by the names that agents use.
ChatServices = Mapping[str, ChatService]
