"""The pattern of names, the replacement of what a text must not contain, and the clipping of long texts."""

import json
import math
import re
from typing import Any

# A name of an agent or a tool. OpenAI and openapi.json use the same pattern.
NAME = r"[A-Za-z0-9_-]{1,64}"

_NAME = re.compile(NAME)
# Keys of OpenAI and of Azure, access tokens, and a wrong key as OpenAI repeats it, with a part of it masked.
_KEY = re.compile(
    r"\b(?:sk|rk|pk|sess)-[\w*.-]{4,}|\bBearer\s+\S+|\beyJ[\w-]{8,}[\w.-]*|\b[A-Za-z0-9]{32,128}\b"
)


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def representable(text: str) -> str:
    """Return `text` with U+FFFD in place of each lone surrogate, which UTF-8 cannot encode.

    All other characters stay as they are, NUL and control characters too.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def json_text(value: Any) -> str:
    """Return a JSON value as text that every client can read."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(without_nan(value), ensure_ascii=False)
    return representable(text)


def without_nan(value: Any) -> Any:
    """Return the value with null for the numbers that JSON does not allow: NaN and the infinities."""
    match value:
        case dict():
            return {name: without_nan(inner) for name, inner in value.items()}
        case list():
            return [without_nan(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
    return value


def without_keys(text: str) -> str:
    """Return `text` with what looks like a key or a token replaced."""
    return _KEY.sub("[secret]", text)


def clipped(text: str, characters: int) -> str:
    """Return `text`, cut to at most this many characters. The last one then shows that it was cut."""
    return text if len(text) <= characters else text[: characters - 1] + "…"
