"""The pattern of names, and the replacement of characters that UTF-8 cannot encode."""

import re

# A name of an agent or a tool. OpenAI and openapi.json use the same pattern.
NAME = r"[A-Za-z0-9_-]{1,64}"

_NAME = re.compile(NAME)


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
