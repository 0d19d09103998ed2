"""What the stream of a chat completion brings."""

from dataclasses import dataclass
from datetime import timedelta

from shared.core.response import RunError, Usage


@dataclass(frozen=True, slots=True)
class ChatText:
    """Text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatReasoning:
    """Text of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatRefusal:
    """Text with which the model refuses to answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatNotRepeated:
    """The provider was to repeat the text so far in front, and did not. What of the text that follows is new is not known."""


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A piece of a function call. The pieces of one call have the same index, and no other call has it."""

    index: int
    # In the first piece that brings it, and empty in most others.
    call_id: str
    # The same. Where it comes in pieces, each has what is new.
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatEnd:
    """The stream ended as it should."""

    # As the provider wrote it. None when the stream ended without one.
    finish_reason: str | None
    # None when the provider did not send it.
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class ChatBroken:
    """The request was refused, or its stream was cut."""

    error: RunError
    # The pause that the provider requested, if any.
    retry_after: timedelta | None
    # Whether the same request may succeed later.
    retryable: bool


ChatEvent = ChatText | ChatReasoning | ChatRefusal | ChatNotRepeated | ChatCall | ChatEnd | ChatBroken
