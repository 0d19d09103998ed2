"""Input and output items of the Responses API, as far as Baton looks into them.

Items are the provider's own JSON and pass through as they are: unknown kinds are kept, and what is not
as documented is overlooked rather than trusted.
"""

import json
from collections.abc import Iterable
from typing import Any

from shared.core.model import FunctionCall

Item = dict[str, Any]

# OpenAI's limits for what is sent back.
MAX_CALL_ID = 64
MAX_CALL_NAME = 128

# What may be sent back as input without ids. A reasoning item needs the stored content behind its id, and the
# call of a hosted tool needs what the service kept of it; their outcome is in the messages that follow.
_REPLAYABLE = {"message", "function_call", "function_call_output"}
# Given by the service, and refused or misleading as input once the response is not named.
_OWN_TO_A_RESPONSE = ("id", "status")


def parse(text: str) -> list[Item]:
    """Return the items in a JSON text; whatever is no item is left out."""
    found = json.loads(text) if text else []
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def calls(output: str) -> tuple[FunctionCall, ...]:
    """Return the function calls among output items; of calls with the same id only the first."""
    return calls_of(parse(output))


def calls_of(items: Iterable[Item]) -> tuple[FunctionCall, ...]:
    found: dict[str, FunctionCall] = {}
    for item in items:
        match item:
            case {"type": "function_call", "call_id": str() as call_id, "name": str() as name}:
                if 0 < len(call_id) <= MAX_CALL_ID and call_id not in found:
                    arguments = item.get("arguments")
                    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
                    found[call_id] = FunctionCall(call_id, name[:MAX_CALL_NAME], text)
    return tuple(found.values())


def output_text(output: str) -> str:
    """Return the text of all messages among output items, as OpenAI's own clients put it together."""
    found = []
    for item in parse(output):
        content = item.get("content") if item.get("type") == "message" else None
        for part in content if isinstance(content, list) else []:
            match part:
                case {"type": "output_text", "text": str() as text}:
                    found.append(text)
    return "".join(found)


def tool_output(call_id: str, output: str) -> Item:
    """Return the item that tells the model what a tool call came to."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def replayable(items: Iterable[Item]) -> list[Item]:
    """Return the items that can be sent as input again, without what ties them to a stored response."""
    return [
        {name: value for name, value in item.items() if name not in _OWN_TO_A_RESPONSE}
        for item in items
        if item.get("type", "message") in _REPLAYABLE
    ]
