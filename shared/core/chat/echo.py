"""The begin of a continued answer, from a provider that may repeat the text before it."""

from shared.core.chat.characters import WholeCharacters


class EchoFilter:
    """Removes the text so far from the begin of its continuation, if all of it is repeated there.

    Text is held back while it may be a repetition. When it turns out to be none, it is passed on unchanged:
    nothing is dropped, nothing doubled. A character that comes in halves is passed on as a whole.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._characters = WholeCharacters()
        # How many characters of the prefix are repeated so far. They are held back.
        self._repeated = 0
        self._decided = False
        # Whether text came, and was no repetition of all of the prefix.
        self.missed = False

    def passed(self, text: str) -> str:
        """Return what of the text is new, after all that came before it."""
        return self._new(self._characters.add(text))

    def rest(self) -> str:
        """Return what was held back, at the end of the stream: not all of the prefix was repeated."""
        text = self._new(self._characters.rest())
        return text + self._held()

    def _new(self, text: str) -> str:
        if self._decided:
            return text
        compared = text[: len(self._prefix) - self._repeated]
        if not self._prefix.startswith(compared, self._repeated):
            held, self.missed = self._held(), True
            return held + text
        self._repeated += len(compared)
        self._decided = self._repeated == len(self._prefix)
        return text[len(compared) :]

    def _held(self) -> str:
        held = "" if self._decided else self._prefix[: self._repeated]
        self._decided, self.missed = True, self.missed or bool(held)
        return held
