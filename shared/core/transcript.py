"""The items of a conversation as the Responses API writes them: messages, function calls, their outputs.

They come from a provider or a client and may hold anything. What does not match the documented format is
ignored here.
"""

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.core.calls import CallKind, ToolCall
from shared.core.text import clipped, is_name, representable

Item = dict[str, Any]

# The longest call id. OpenAI's are shorter than 64 characters; gateways put signatures into theirs.
MAX_CALL_ID = 16 * 1024
# The types of content parts that the Responses API documents for answers.
_PART_KINDS = frozenset({"output_text", "refusal", "reasoning_text", "summary_text"})
# The calls of tools that an app would have to carry out itself, besides those of functions.
_APP_CALLS = frozenset(
    {"custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call"}
)
# The phase of a message that is the answer. Other messages say what the model does.
FINAL_ANSWER = "final_answer"
# The longest name of a tool that is shown. The row of a run has space for this many bytes of it.
MAX_NAME_CHARACTERS = 64
MAX_NAME_BYTES = 128
# Shown for a call without a name.
NO_NAME = "(no name)"
# What providers do not accept in the name of a tool.
_NOT_SENDABLE = re.compile(r"[^a-zA-Z0-9_-]")


def parse(text: str) -> list[Item]:
    """Return the objects of a JSON list, or an empty list when `text` is not one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def calls(output: str) -> tuple[ToolCall, ...]:
    """Return the calls in the JSON text of output items."""
    return calls_among(parse(output))


def calls_among(items: Iterable[object]) -> tuple[ToolCall, ...]:
    """Return the function calls, and the requests to approve hosted ones, that can be answered: those with an id that no
    earlier call has.
    """
    objects = [item for item in items if isinstance(item, dict)]
    answered = _answered(objects)
    found: dict[str, ToolCall] = {}
    for item in objects:
        if (call := _call(item)) and call.call_id not in answered:
            found.setdefault(call.call_id, call)
    return tuple(found.values())


def _answered(items: Iterable[Item]) -> frozenset[str]:
    """Return the ids of the calls whose outputs are among the items: the provider answered them itself."""
    outputs = [item.get("call_id") for item in items if str(item.get("type")).endswith("_output")]
    outputs += [
        item.get("approval_request_id") for item in items if item.get("type") == "mcp_approval_response"
    ]
    return frozenset(call_id for call_id in outputs if isinstance(call_id, str))


def ends_with_output(items: Sequence[Item]) -> bool:
    """Return whether the last item answers a call."""
    kind = str(items[-1].get("type")) if items else ""
    return kind.endswith("_output") or kind == "mcp_approval_response"


def call_id_of(item: Item) -> object:
    """Return the id under which a call is answered. Some services send only the id of the item."""
    call_id = item.get("call_id")
    return item.get("id") if call_id is None and item.get("type") == "function_call" else call_id


def _call(item: Item) -> ToolCall | None:
    call_id, name = call_id_of(item), item.get("name")
    if item.get("type") == "mcp_approval_request" and _is_call_id(item.get("id")):
        return ToolCall(
            str(item["id"]),
            shown_name(name),
            arguments_text(item.get("arguments")),
            kind=CallKind.MCP_APPROVAL,
            server=shown_name(item.get("server_label")),
        )
    if item.get("type") != "function_call" or not _is_call_id(call_id):
        return None
    # A call with an invalid name is kept, because the provider requires an output for it too.
    return ToolCall(str(call_id), shown_name(name), arguments_text(item.get("arguments")))


def _is_call_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_CALL_ID and value == representable(value)


def ends_unanswered(items: Sequence[object]) -> bool:
    """Return whether the items end with a call that nobody in this app can answer.

    A call that is followed by its output, or by a message, was answered by the provider.
    """
    found = [item for item in items if isinstance(item, dict)]
    after_message = max((n for n, item in enumerate(found, 1) if _is_answer(item)), default=0)
    outputs = _answered(found)
    return any(_is_unanswerable(item, outputs) for item in found[after_message:])


def _is_answer(item: Item) -> bool:
    """Return whether an item is a message that says something, and is no commentary."""
    if item.get("type") != "message" or item.get("phase") not in (None, FINAL_ANSWER):
        return False
    return any(_part_text(part) or _part_refusal(part) for part in _parts(item))


def _is_unanswerable(item: Item, outputs: Container[object]) -> bool:
    kind, call_id = item.get("type"), item.get("call_id")
    if kind in ("function_call", "mcp_approval_request"):
        return _call(item) is None
    if not isinstance(kind, str):
        return False
    # The calls that a provider carries out by itself have no call id, because nobody answers them.
    asks = kind in _APP_CALLS or (kind.endswith("_call") and isinstance(call_id, str))
    return asks and not (isinstance(call_id, str) and call_id in outputs)


def arguments_text(value: object) -> str:
    """Return the arguments of a call as text."""
    if value is None:
        return ""
    # Some servers send the object itself instead of its JSON text.
    return representable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class PartOutline:
    """A content part of a message: its type, and how many characters of text or refusal it has."""

    kind: str
    characters: int


@dataclass(frozen=True, slots=True)
class ItemOutline:
    """An output item without its contents: its type, the name of the called tool, its content parts."""

    kind: str
    name: str = ""
    parts: tuple[PartOutline, ...] = ()
    # Whether it is a message, and not the answer.
    commentary: bool = False


def output_text(output: str) -> str:
    """Return the text of the answer. See `text_of`."""
    return text_of(parse(output))


def text_of(items: Sequence[Item]) -> str:
    """Return the text of the answer, joined as OpenAI's SDK joins it. Refusals are left out.

    The answer is the messages of the phase "final_answer", or all messages when there is none.
    """
    return "".join(texts_of(items))


def texts_of(items: Sequence[Item]) -> Iterator[str]:
    """Yield the texts of the answer, one for each content part."""
    phased = _has_final_answer(items)
    return (_part_text(part) for item in items if not _is_commentary(item, phased) for part in _parts(item))


def commentary_of(items: Sequence[Item]) -> str:
    """Return the text of the messages that are not the answer."""
    phased = _has_final_answer(items)
    return "".join(
        _part_text(part) for item in items if _is_commentary(item, phased) for part in _parts(item)
    )


def refusal_of(items: Iterable[Item]) -> str:
    """Return the text with which the model refused to answer; an empty text when it did not."""
    return "".join(refusals_of(items))


def refusals_of(items: Iterable[Item]) -> Iterator[str]:
    """Yield the texts of refusals, one for each content part."""
    return (_part_refusal(part) for item in items for part in _parts(item))


def _has_final_answer(items: Iterable[Item]) -> bool:
    return any(item.get("type") == "message" and item.get("phase") == FINAL_ANSWER for item in items)


def _is_commentary(item: Item, phased: bool) -> bool:
    return phased and item.get("type") == "message" and item.get("phase") != FINAL_ANSWER


def outline(items: Sequence[Item]) -> tuple[ItemOutline, ...]:
    """Return the items in order, with the lengths of the texts that the functions above join."""
    phased = _has_final_answer(items)
    return tuple(
        ItemOutline(
            name_of(item.get("type")),
            name_of(item.get("name"), ""),
            tuple(
                PartOutline(part_kind(part), len(_part_text(part) or _part_refusal(part)))
                for part in _parts(item)
            ),
            _is_commentary(item, phased),
        )
        for item in items
    )


def excerpt(items: Iterable[Item], characters: int) -> str:
    """Return the beginning of what the user wrote, on one line."""
    texts: list[str] = []
    for item in items:
        content = item.get("content")
        parts = content if isinstance(content, list) else [{"type": "input_text", "text": content}]
        if item.get("role") == "user":
            texts += [text[: 4 * characters] for part in parts if (text := _input_text(part))]
    return clipped(" ".join(" ".join(texts).split()), characters)


def _input_text(part: object) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "input_text" else None
    return text if isinstance(text, str) else ""


def name_of(value: object, default: str = "unknown") -> str:
    """Return a type or name that a provider sent, or `default` when it is not a valid one."""
    return value if isinstance(value, str) and is_name(value) else default


def shown_name(value: object) -> str:
    """Return the name of a tool as the model wrote it, but printable, and with "…" where it was cut.

    A name that was changed cannot be the name of a tool.
    """
    if not isinstance(value, str) or not value.strip():
        return NO_NAME
    start = value[: MAX_NAME_CHARACTERS + 1]
    shown = "".join(each if each.isprintable() else "\ufffd" for each in start)
    encoded = shown.encode()
    if len(shown) <= MAX_NAME_CHARACTERS and len(encoded) <= MAX_NAME_BYTES:
        return shown
    kept = encoded[: MAX_NAME_BYTES - len("…".encode())].decode(errors="ignore")
    return kept[: MAX_NAME_CHARACTERS - 1] + "…"


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


def _part_refusal(part: Item) -> str:
    text = part.get("refusal")
    return text if part.get("type") == "refusal" and isinstance(text, str) else ""


def message_of(text: str) -> Item:
    """Return an answer with this text."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "role": "assistant", "status": "completed", "content": [part]}


def tool_output(call_id: str, output: str | list[Item]) -> Item:
    """Return the item that answers a function call, with a text or with content parts."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def approval_response(request_id: str, *, approve: bool, reason: str = "") -> Item:
    """Return the item that answers a hosted MCP server's request for approval."""
    item = {"type": "mcp_approval_response", "approval_request_id": request_id, "approve": approve}
    return item | {"reason": reason} if reason else item


def sendable_name(name: str) -> str:
    """Return the name of a tool in a form that providers accept."""
    return _NOT_SENDABLE.sub("_", name)[:MAX_NAME_CHARACTERS] or "_"
