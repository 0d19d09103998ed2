"""A text that comes in small pieces, of which a part is asked for now and then."""

# So many small pieces are joined to a larger one. Each of them costs some fifty bytes beside its characters.
_JOINED = 1024


class Pieces:
    """Joins pieces. Adding one, and asking for the last part, costs the same however long the text is."""

    def __init__(self, text: str = "") -> None:
        self.length = 0
        self._long: list[str] = []
        self._short: list[str] = []
        self.add(text)

    def add(self, piece: str) -> None:
        if piece:
            self._short.append(piece)
            self.length += len(piece)
        if len(self._short) >= _JOINED:
            self._join()

    def since(self, start: int) -> str:
        """Return the text from `start` on."""
        self._join()
        begin, last = self.length, list[str]()
        while begin > start:
            last.append(self._long.pop())
            begin -= len(last[-1])
        if last:
            self._long.append("".join(reversed(last)))
            return self._long[-1][start - begin :]
        return ""

    def __str__(self) -> str:
        self._join()
        self._long = ["".join(self._long)]
        return self._long[0]

    def _join(self) -> None:
        if self._short:
            self._long.append("".join(self._short))
            self._short = []
