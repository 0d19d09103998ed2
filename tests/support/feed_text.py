"""The rule by which every reader of a feed comes to the text of its run."""

from collections.abc import Mapping
from typing import Any


def text_after(text: str, event: Mapping[str, Any]) -> str:
    """Return the text that a reader holds after `event`, having held `text` before it."""
    match event["type"]:
        case "turn.started":
            return ""
        case "text.delta":
            return text + str(event["text"])
        case "text.replaced":
            return str(event["text"])
    return text
