"""Removes the text that was to be continued from an answer that repeats it. Pure."""


class Echo:
    """The begin of an answer, as long as it may be a repetition. Without a text to continue it removes nothing."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        # How many characters have been repeated, and are held back.
        self._repeated = 0

    def pass_on(self, text: str) -> str:
        """Return what of a text belongs to the answer. Nothing is removed unless all of the prefix is repeated."""
        prefix, at = self._prefix, self._repeated
        left = len(prefix) - at
        if not left:
            return text
        if prefix.startswith(text[:left], at):
            self._repeated += min(left, len(text))
            return text[left:]
        return self.end() + text

    def end(self) -> str:
        """Return what was held back. It is no repetition, because the answer ends, or goes on differently."""
        held = self._prefix[: self._repeated] if self._repeated < len(self._prefix) else ""
        self._prefix, self._repeated = "", 0
        return held
