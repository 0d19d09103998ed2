"""The items of a conversation as the Responses API writes them: messages, function calls, their outputs.

They come from a provider or a client and may hold anything. What is not as documented is passed over here.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from shared.core.response import FunctionCall
from shared.core.text import is_name, representable

Item = dict[str, Any]

# OpenAI's limit for the ids it hands out and takes back.
MAX_CALL_ID = 64
# Stands for a name that no tool can have. A provider takes it back; no Python function is called so.
NOT_A_NAME = "not-a-name"


def parse(text: str) -> list[Item]:
    """Return the items of a JSON text: its objects when it is a list, and nothing when it is not."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def calls(output: str) -> tuple[FunctionCall, ...]:
    """Return the function calls in the JSON text of output items."""
    return calls_among(parse(output))


def calls_among(items: Iterable[object]) -> tuple[FunctionCall, ...]:
    """Return the function calls that can be answered: those with an id that no earlier one has."""
    found: dict[str, FunctionCall] = {}
    for item in items:
        if isinstance(item, dict) and (call := _call(item)):
            found.setdefault(call.call_id, call)
    return tuple(found.values())


def _call(item: Item) -> FunctionCall | None:
    call_id, name = item.get("call_id"), item.get("name")
    if item.get("type") != "function_call" or not _is_call_id(call_id):
        return None
    # A call with a bad name is kept: the provider demands an answer to it all the same.
    named = isinstance(name, str) and is_name(name)
    return FunctionCall(str(call_id), str(name) if named else NOT_A_NAME, _arguments(item.get("arguments")))


def _is_call_id(value: object) -> bool:
    return (
        isinstance(value, str) and 0 < len(value) <= MAX_CALL_ID and value.isascii() and value.isprintable()
    )


def _arguments(value: object) -> str:
    if value is None:
        return ""
    # Some servers send the object itself, not its JSON text.
    return representable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class PartOutline:
    """A content part of a message: its type, and how many characters of the answer's text it has."""

    kind: str
    characters: int


@dataclass(frozen=True, slots=True)
class ItemOutline:
    """An output item without what it holds: its type, the name of the tool that it calls, its content parts."""

    kind: str
    name: str = ""
    parts: tuple[PartOutline, ...] = ()


def output_text(output: str) -> str:
    """Return the text of all messages, joined as OpenAI's SDK joins it. Refusals are no part of it."""
    return text_of(parse(output))


def text_of(items: Iterable[Item]) -> str:
    return "".join(_part_text(part) for item in items for part in _parts(item))


def outline(items: Iterable[Item]) -> tuple[ItemOutline, ...]:
    """Return the items in order, with the lengths of the texts that `text_of` joins."""
    return tuple(
        ItemOutline(
            name_of(item.get("type")),
            name_of(item.get("name"), ""),
            tuple(PartOutline(name_of(part.get("type")), len(_part_text(part))) for part in _parts(item)),
        )
        for item in items
    )


def name_of(value: object, otherwise: str = "unknown") -> str:
    """Return a type or name that a provider wrote, or `otherwise` when it is not one."""
    return value if isinstance(value, str) and is_name(value) else otherwise


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


def replayable(items: Iterable[Item]) -> list[Item]:
    """Return what a provider takes as the conversation so far, without knowing the responses it came from.

    Kept are messages, references and answered function calls, without the ids and states that tie them to a
    response. Left out are calls without an answer and answers without a call, which providers refuse;
    reasoning, which is nothing without its id and is refused without the item after it; and what hosted
    tools did, which is refused without its id, and whose yield is in the messages.
    """
    kept: list[Item | None] = []
    unanswered: dict[str, int] = {}
    for item in items:
        match item.get("type", "message"):
            case "message":
                kept.append(_message(item))
            case "item_reference":
                kept.append(item)
            case "function_call" if (call := _call(item)) and call.call_id not in unanswered:
                unanswered[call.call_id] = len(kept)
                kept.append({"type": "function_call", **asdict(call)})
            case "function_call_output" if (call_id := str(item.get("call_id"))) in unanswered:
                del unanswered[call_id]
                kept.append(_bare(item))
    dangling = set(unanswered.values())
    return [item for at, item in enumerate(kept) if item and at not in dangling]


def _bare(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in {"id", "status"}}


def _message(item: Item) -> Item | None:
    role, content = item.get("role"), item.get("content")
    if role != "assistant" or not isinstance(content, list):
        return _bare(item) if isinstance(role, str) else None
    parts = [kept for part in content if (kept := _part(part))]
    return _bare(item) | {"type": "message", "content": parts} if parts else None


def _part(part: object) -> Item | None:
    """Return a part of an assistant's message without its annotations: what they point to may be gone."""
    match part:
        case {"type": "output_text", "text": str(text)}:
            return {"type": "output_text", "text": text}
        case {"type": "refusal", "refusal": str(text)}:
            return {"type": "refusal", "refusal": text}
    return None
