"""Tool definitions of the Responses API as those of Chat Completions."""

from collections.abc import Iterable
from typing import Any

from shared.core.chat.content import NotSendable
from shared.core.transcript import Item, shown_name

_FIELDS = ("name", "description", "parameters", "strict")


def chat_tools(definitions: Iterable[Item]) -> list[Item]:
    """Return the definitions of function tools for a chat. Raises NotSendable for any other tool."""
    return [_function(each) for each in definitions]


def _function(definition: Item) -> dict[str, Any]:
    kind, name = definition.get("type"), definition.get("name")
    if kind != "function":
        raise NotSendable(
            f"The tool {shown_name(kind)}",
            "Its provider has to carry it out: use a function of the app instead, or a provider with the Responses API.",
        )
    if not isinstance(name, str) or not name:
        raise NotSendable("A function tool without a name", "Give it a name.")
    fields = {"parameters": {"type": "object", "properties": {}}} | {
        field: definition[field] for field in _FIELDS if definition.get(field) is not None
    }
    return {"type": "function", "function": fields}
