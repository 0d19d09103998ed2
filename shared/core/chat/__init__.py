"""Our items as messages of Chat Completions, and the streamed answer as items."""

from shared.core.chat.collected import Collected
from shared.core.chat.content import NotSendable
from shared.core.chat.echo import EchoFilter
from shared.core.chat.events import ChatBroken, ChatCall, ChatEnd, ChatEvent, ChatReasoning, ChatText
from shared.core.chat.messages import chat_messages
from shared.core.chat.tools import chat_tools

__all__ = [
    "ChatBroken",
    "ChatCall",
    "ChatEnd",
    "ChatEvent",
    "ChatReasoning",
    "ChatText",
    "Collected",
    "EchoFilter",
    "NotSendable",
    "chat_messages",
    "chat_tools",
]
