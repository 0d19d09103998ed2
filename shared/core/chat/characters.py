"""Texts that come in pieces, which may cut a character in half."""

from shared.core.text import representable


class WholeCharacters:
    """Joins the halves of characters that JSON writes as two escapes, when they come in two pieces."""

    def __init__(self) -> None:
        # The first half of a character whose second half may follow.
        self._half = ""

    def add(self, piece: str) -> str:
        """Return the text up to its last whole character. Halves that stay alone are replaced by U+FFFD."""
        text = self._half + piece
        self._half = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        return representable(text[:-1] if self._half else text)

    def rest(self) -> str:
        """Return what is left at the end."""
        half, self._half = self._half, ""
        return representable(half)
