"""The one place where text that JSON cannot carry is replaced."""


def representable(text: str) -> str:
    """Return `text` with each lone surrogate, which UTF-8 cannot encode, as U+FFFD.

    NUL, control characters and everything else stay as they are.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
