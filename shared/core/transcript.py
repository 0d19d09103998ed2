"""The items of a conversation as the Responses API writes them: messages, function calls, their outputs.

They come from a provider or a client and may hold anything. What does not match the documented format is
ignored here.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.core.calls import ToolCall
from shared.core.text import is_name, representable

Item = dict[str, Any]

# OpenAI's limit for the length of call ids.
MAX_CALL_ID = 64
# The types of content parts that the Responses API documents for answers.
_PART_KINDS = frozenset({"output_text", "refusal", "reasoning_text", "summary_text"})
# Replaces a name that no tool can have. Providers accept it, and no Python function can have this name.
NOT_A_NAME = "not-a-name"


def parse(text: str) -> list[Item]:
    """Return the objects of a JSON list, or an empty list when `text` is not one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def calls(output: str) -> tuple[ToolCall, ...]:
    """Return the function calls in the JSON text of output items."""
    return calls_among(parse(output))


def calls_among(items: Iterable[object]) -> tuple[ToolCall, ...]:
    """Return the function calls that can be answered: those with a valid id that no earlier call has."""
    found: dict[str, ToolCall] = {}
    for item in items:
        if isinstance(item, dict) and (call := _call(item)):
            found.setdefault(call.call_id, call)
    return tuple(found.values())


def _call(item: Item) -> ToolCall | None:
    call_id, name = item.get("call_id"), item.get("name")
    if item.get("type") != "function_call" or not _is_call_id(call_id):
        return None
    # A call with an invalid name is kept, because the provider requires an output for it too.
    return ToolCall(str(call_id), name_of(name, NOT_A_NAME), _arguments(item.get("arguments")))


def _is_call_id(value: object) -> bool:
    return (
        isinstance(value, str) and 0 < len(value) <= MAX_CALL_ID and value.isascii() and value.isprintable()
    )


def _arguments(value: object) -> str:
    if value is None:
        return ""
    # Some servers send the object itself instead of its JSON text.
    return representable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class PartOutline:
    """A content part of a message: its type, and how many characters of the answer's text it has."""

    kind: str
    characters: int


@dataclass(frozen=True, slots=True)
class ItemOutline:
    """An output item without its contents: its type, the name of the called tool, its content parts."""

    kind: str
    name: str = ""
    parts: tuple[PartOutline, ...] = ()


def output_text(output: str) -> str:
    """Return the text of all messages, joined as OpenAI's SDK joins it. Refusals are left out."""
    return text_of(parse(output))


def text_of(items: Iterable[Item]) -> str:
    return "".join(_part_text(part) for item in items for part in _parts(item))


def outline(items: Iterable[Item]) -> tuple[ItemOutline, ...]:
    """Return the items in order, with the lengths of the texts that `text_of` joins."""
    return tuple(
        ItemOutline(
            name_of(item.get("type")),
            name_of(item.get("name"), ""),
            tuple(PartOutline(part_kind(part), len(_part_text(part))) for part in _parts(item)),
        )
        for item in items
    )


def name_of(value: object, default: str = "unknown") -> str:
    """Return a type or name that a provider sent, or `default` when it is not a valid one."""
    return value if isinstance(value, str) and is_name(value) else default


def part_kind(part: Mapping[str, Any]) -> str:
    """Return the type of a content part, or "unknown".

    There may be thousands of parts in an answer, so the row that logs them has no space for any other name.
    """
    kind = part.get("type")
    return kind if isinstance(kind, str) and kind in _PART_KINDS else "unknown"


def _parts(item: Item) -> Iterator[Item]:
    content = item.get("content")
    if item.get("type") == "message" and isinstance(content, list):
        yield from (part for part in content if isinstance(part, dict))


def _part_text(part: Item) -> str:
    text = part.get("text")
    return text if part.get("type") == "output_text" and isinstance(text, str) else ""


def tool_output(call_id: str, output: str) -> Item:
    """Return the item that answers a function call."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def _function_call(call: ToolCall) -> Item:
    return {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}


def replayable(items: Iterable[Item]) -> list[Item]:
    """Return the conversation so far as input items that a provider accepts without the previous responses.

    - Messages, references, and function calls with their outputs are kept. They lose the id and status that
      bind them to a response.
    - Calls without an output and outputs without a call are left out, because providers refuse them.
    - Reasoning is left out: it has no content without its id, and it is refused without the item after it.
    - Items of hosted tools are left out: they are refused without their id, and the messages contain their
      results.
    """
    kept: list[Item | None] = []
    # The positions in `kept` of calls that have no output yet, by call id.
    unanswered: dict[str, int] = {}
    for item in items:
        match item.get("type", "message"):
            case "message":
                kept.append(_message(item))
            case "item_reference":
                kept.append(item)
            case "function_call" if (call := _call(item)) and call.call_id not in unanswered:
                unanswered[call.call_id] = len(kept)
                kept.append(_function_call(call))
            case "function_call_output" if (call_id := str(item.get("call_id"))) in unanswered:
                del unanswered[call_id]
                kept.append(_without_id(item))
    left_out = set(unanswered.values())
    return [item for position, item in enumerate(kept) if item and position not in left_out]


def _without_id(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in {"id", "status"}}


def _message(item: Item) -> Item | None:
    role, content = item.get("role"), item.get("content")
    if role != "assistant" or not isinstance(content, list):
        return _without_id(item) if isinstance(role, str) else None
    parts = [kept for part in content if (kept := _part(part))]
    return _without_id(item) | {"type": "message", "content": parts} if parts else None


def _part(part: object) -> Item | None:
    """Return a part of an assistant's message without annotations, because their targets may be deleted."""
    match part:
        case {"type": "output_text", "text": str(text)}:
            return {"type": "output_text", "text": text}
        case {"type": "refusal", "refusal": str(text)}:
            return {"type": "refusal", "refusal": text}
    return None
