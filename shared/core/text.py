"""What text may be: the one pattern of names, and the one place where text that JSON cannot carry is replaced."""

import re

NAME = r"[A-Za-z0-9_-]{1,64}"
"""A name of an agent or a tool, in the syntax of OpenAI and of openapi.json alike."""

_NAME = re.compile(NAME)


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def representable(text: str) -> str:
    """Return `text` with each lone surrogate, which UTF-8 cannot encode, as U+FFFD.

    NUL, control characters and everything else stay as they are.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
