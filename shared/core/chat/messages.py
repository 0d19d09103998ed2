"""The conversation as messages of Chat Completions.

The order of the messages is one that all known providers accept:

- One message of the role `system` comes first. Templates of some models allow no other, so instructions that come
  later in the conversation are moved there.
- The outputs of calls follow their calls, and nothing else comes between them.
- The assistant comes between tools and the user: Mistral's models refuse it otherwise.
"""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from shared.core.chat.call_ids import SentIds
from shared.core.chat.content import (
    NotSendable,
    assistant_text,
    joined,
    output_content,
    said,
    system_text,
    user_content,
)
from shared.core.limits import MAX_SENT_ARGUMENT_MARKS
from shared.core.structure import finite, has_more_marks
from shared.core.text import json_text, representable
from shared.core.transcript import Item, arguments_text, call_id_of, sendable_name, shown_name

_CALLS = frozenset({"function_call", "custom_tool_call"})
_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})
_NO_OUTPUT = "(no output)"
_ONLY_IMAGES = "(images, in the next message of the user)"
# What the assistant says between tools and the user.
_BRIDGE = "I have the results."


@dataclass
class _Call:
    """A call, with its output once that was found."""

    item: Item
    sent_id: str
    # How often the others had spoken before it.
    answer: int
    output: Item | None = None

    @property
    def name(self) -> str:
        return sendable_name(shown_name(self.item.get("name")))


def chat_messages(instructions: str, items: Sequence[Item]) -> list[Item]:
    """Return a conversation as chat messages, oldest first.

    - Texts and images of the user, texts and calls of the assistant, and outputs of calls are sent. Custom tools
      become functions with the parameter `input`.
    - Reasoning is left out. So are the items of hosted tools and MCP servers, of computers and shells: chat has
      nothing for them.
    - Calls without an output and outputs without a call are left out, because providers refuse them. So is what
      says nothing.

    Raises NotSendable for files, and for what names an item or a file that is stored at another provider.
    """
    conversation = _Conversation([representable(instructions)])
    try:
        for position, item in enumerate(items):
            conversation.add(item, position)
        return conversation.messages()
    except RecursionError:
        raise NotSendable("The conversation", "Its values are nested too deeply.") from None


def check_asked(messages: Sequence[Item], items: Sequence[Item]) -> None:
    """Raise NotSendable when nothing is left of what the model has to answer: it would go on with its last answer.

    A client may send the begin of an answer as its last item.
    """
    asks = bool(messages) and messages[-1]["role"] in {"user", "tool"}
    begins = bool(items) and items[-1].get("role") == "assistant"
    if not asks and not begins:
        advice = "Send a text, an image, or the output of a function or of a custom tool."
        raise NotSendable("The end of the conversation", advice)


@dataclass
class _Conversation:
    _system: list[str]
    # Messages of user and assistant, and calls, in their order. None: outputs of the calls before it came.
    _turns: list[Item | _Call | None] = field(default_factory=list)
    _ids: SentIds = field(default_factory=SentIds)
    # How often user or tools have spoken: what comes between is one answer of the model.
    _answers: int = 0
    # The calls that have no output yet, by their ids. Of those without an id, an output answers the oldest.
    _open: dict[str, deque[_Call]] = field(default_factory=dict)

    def add(self, item: Item, position: int) -> None:
        kind = item.get("type", "message")
        if not isinstance(kind, str):
            return
        if kind == "message":
            self._add_message(item, position)
        elif kind in _CALLS:
            self._add_call(item)
        elif kind in _OUTPUTS:
            self._add_output(item)
        elif kind == "item_reference":
            _refuse_reference(position)

    def _add_message(self, item: Item, position: int) -> None:
        content = item.get("content")
        match item.get("role"):
            case "user":
                asked = user_content(content, f"the user's message at position {position}")
                self._answers += 1
                if asked is not None:
                    self._turns.append({"role": "user", "content": asked})
            case "assistant" if said(text := assistant_text(content)):
                self._turns.append({"role": "assistant", "content": text})
            case "system" | "developer":
                self._system.append(system_text(content))

    def _add_call(self, item: Item) -> None:
        call_id = _text_or_empty(call_id_of(item))
        waiting = self._open.setdefault(call_id, deque())
        if call_id and waiting:
            if waiting[0].answer == self._answers:
                # Of the calls of an answer, the first with an id is carried out.
                return
            # A later answer uses the id of a call again that nobody has answered.
            waiting.clear()
        call = _Call(item, self._ids.sent(call_id), self._answers)
        waiting.append(call)
        self._turns.append(call)

    def _add_output(self, item: Item) -> None:
        if waiting := self._open.get(_text_or_empty(item.get("call_id"))):
            waiting.popleft().output = item
            self._turns.append(None)
            self._answers += 1

    def messages(self) -> list[Item]:
        written = _Written()
        if system := joined(self._system):
            written.messages.append({"role": "system", "content": system})
        calls: list[_Call] = []
        for turn in [*self._turns, None]:
            if isinstance(turn, _Call):
                # What is not answered is left out.
                calls += [turn] if turn.output else []
                continue
            written.add_calls(calls)
            calls = []
            if turn is not None:
                written.add(turn)
        return written.messages


@dataclass
class _Written:
    messages: list[Item] = field(default_factory=list)

    @property
    def _last(self) -> Item:
        return self.messages[-1] if self.messages else {}

    def add(self, message: Item) -> None:
        if message["role"] == "user" and self._last.get("role") == "tool":
            self.messages.append({"role": "assistant", "content": _BRIDGE})
        self.messages.append(message)

    def add_calls(self, calls: Sequence[_Call]) -> None:
        """Add calls that were made at once, and after them their outputs."""
        if not calls:
            return
        if self._last.get("role") != "assistant":
            self.messages.append({"role": "assistant", "content": None})
        self._last["tool_calls"] = [_tool_call(call) for call in calls]
        shown: list[Item] = []
        for call in calls:
            output = call.output["output"] if call.output and "output" in call.output else None
            text, images = output_content(output, f"the output of the call {call.sent_id} ({call.name})")
            text = text if said(text) else _ONLY_IMAGES if images else _NO_OUTPUT
            self.messages.append({"role": "tool", "tool_call_id": call.sent_id, "content": text})
            if images:
                label = f"Images in the output of the call {call.sent_id} ({call.name}):"
                shown += [{"type": "text", "text": label}, *images]
        if shown:
            # Few providers accept images in the messages of tools.
            self.add({"role": "user", "content": shown})


def _tool_call(call: _Call) -> Item:
    if call.item.get("type") == "custom_tool_call":
        arguments = json_text({"input": _text_or_empty(call.item.get("input"))})
    else:
        arguments = _object_text(arguments_text(call.item.get("arguments")))
    return {
        "id": call.sent_id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _object_text(text: str) -> str:
    """Return arguments as the JSON text of an object: many providers parse them, and refuse anything else."""
    if not said(text):
        return "{}"
    return text if is_object(text) else json_text({"unreadable_arguments": text})


def is_object(text: str) -> bool:
    """Return whether a text is a JSON object that is not too large to be parsed."""
    if has_more_marks(representable(text).encode(), MAX_SENT_ARGUMENT_MARKS):
        return False
    try:
        return isinstance(json.loads(text, parse_constant=finite, parse_float=finite), dict)
    except (ValueError, RecursionError):
        return False


def _refuse_reference(position: int) -> NoReturn:
    raise NotSendable(
        f"The item_reference at position {position} of the conversation",
        "It names an item that is stored at another provider: send the item instead.",
    )


def _text_or_empty(value: object) -> str:
    return value if isinstance(value, str) else ""
