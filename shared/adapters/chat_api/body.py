"""The body of a request for an answer, and how it asks for the rest of an answer that has begun. Pure."""

import json
from enum import StrEnum

from shared.core.chat.options import RESERVED_CHAT_OPTIONS
from shared.core.text import representable
from shared.ports.chat import ChatRequest


class Resume(StrEnum):
    """How a provider continues an answer that has begun. Each way sends its text as the last assistant message."""

    # It does not: the answer is written anew.
    RESTART = "restart"
    # The message is marked with `prefix` (DeepSeek, Mistral).
    PREFIX = "prefix"
    # The message is marked with `partial` (DashScope, Moonshot).
    PARTIAL = "partial"
    # The request is marked (vLLM).
    CONTINUE_FINAL_MESSAGE = "continue_final_message"
    # A last message of the assistant is continued without a mark (llama.cpp).
    TRAILING = "trailing"


_MARKS: dict[Resume, dict[str, object]] = {
    Resume.PREFIX: {"prefix": True},
    Resume.PARTIAL: {"partial": True},
}


def chat_body(request: ChatRequest, resume: Resume, *, usage: bool = True) -> bytes:
    """Return the body of a request. Messages and tools are JSON texts already, and may be megabytes long.

    `usage`: whether the stream is to report the usage. Raises ValueError for an option that Baton sets itself, and for
    a text to continue where the answer is always written anew.
    """
    if reserved := sorted(RESERVED_CHAT_OPTIONS & request.options.keys()):
        raise ValueError(f"options cannot set {', '.join(reserved)}: Baton sets this itself")
    if request.prefix and resume is Resume.RESTART:
        raise ValueError("this provider cannot continue a text: resume is restart")
    fields = dict(request.options) | {"model": request.model, "stream": True}
    if usage:
        fields["stream_options"] = {"include_usage": True}
    if request.prefix and resume is Resume.CONTINUE_FINAL_MESSAGE:
        fields |= {"continue_final_message": True, "add_generation_prompt": False}
    # An empty list of tools is an error at some providers.
    tools = f', "tools": {request.tools}' if request.tools.strip() != "[]" else ""
    head = json.dumps(fields, ensure_ascii=False)
    return representable(f'{head[:-1]}, "messages": {_messages(request, resume)}{tools}}}').encode()


def _messages(request: ChatRequest, resume: Resume) -> str:
    if not request.prefix:
        return request.messages
    message = {"role": "assistant", "content": request.prefix} | _MARKS.get(resume, {})
    before = request.messages.strip().removesuffix("]")
    comma = "" if before.strip() == "[" else ", "
    return f"{before}{comma}{json.dumps(message, ensure_ascii=False)}]"
