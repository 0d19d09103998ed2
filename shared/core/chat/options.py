"""The options of an agent, as requests for chat completions have them."""

from collections.abc import Mapping
from typing import Any

# Fields of a request that Baton sets itself, so options cannot set them.
RESERVED_CHAT_OPTIONS = frozenset(
    {
        "add_generation_prompt",
        "continue_final_message",
        "messages",
        "model",
        "stream",
        "stream_options",
        "tools",
    }
)
# Those with another name, and nothing else that is different.
_RENAMED = {"max_output_tokens": "max_tokens"}


def chat_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of the Responses API as those of Chat Completions. Others are sent as they are."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        match name, value:
            case "text", {"format": {"type": "json_schema", **schema}}:
                found["response_format"] = {"type": "json_schema", "json_schema": schema}
            case "text", {"format": kind}:
                found["response_format"] = kind
            case "text", _:
                # Its other fields say how long an answer is, which these services cannot be told.
                pass
            case "reasoning", {"effort": effort}:
                found["reasoning_effort"] = effort
            case "tool_choice", {"type": "function", "name": tool}:
                found["tool_choice"] = {"type": "function", "function": {"name": tool}}
            case _:
                found[_RENAMED.get(name, name)] = value
    return found
