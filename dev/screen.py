"""A growing text over a status line, on a terminal. Returns what to write; no IO."""

import re
import unicodedata
from collections import deque

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
_TAB = "    "
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def visible(text: str) -> str:
    """Replace everything that would make a terminal do something, or show text in another order.

    A model may write escape sequences; no terminal is to obey them. Line ends and tabs stay.
    """
    return _UNSAFE.sub(_stand_in, text)


def one_line(text: str) -> str:
    """The same for text that must not have lines of its own."""
    return visible(text).replace("\n", "\u240a").replace("\t", " ")


def _stand_in(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else _REPLACEMENT


def cells(character: str) -> int:
    """Return how many cells of a terminal a character takes."""
    if character.isascii():
        return 1
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def wrap(text: str, width: int) -> list[str]:
    """Break one line at spaces, or inside a word that is too long; the last part may go on.

    Going on with the last part gives the same as beginning again: wrap(a + b) is
    wrap(a)[:-1] + wrap(wrap(a)[-1] + b).
    """
    lines: list[str] = []
    line: list[str] = []
    used, space = 0, 0
    for character in text:
        used += cells(character)
        if used <= width:
            line.append(character)
            space = len(line) if character == " " else space
            continue
        if character == " ":
            lines.append("".join(line))
            line, used, space = [], 0, 0
            continue
        cut = space or len(line)
        lines.append("".join(line[:cut]).rstrip(" "))
        line = line[cut:]
        if sum(map(cells, line)) + cells(character) > width:
            # Two cells where the space that was cut off had one.
            lines.append("".join(line))
            line = []
        line.append(character)
        used, space = sum(map(cells, line)), 0
    return [*lines, "".join(line)]


def fit(text: str, width: int) -> str:
    """Cut a line where the terminal ends."""
    used = 0
    for index, character in enumerate(text):
        used += cells(character)
        if used > width:
            return text[:index]
    return text


class Screen:
    """The lowest rows of a terminal: the line that is being written, and the status under it.

    Everything above stays where it is. With `window` the text does not stay: its last lines are shown.
    """

    def __init__(self, window: int | None = None) -> None:
        self._line = ""
        self._above: list[str] = []
        self._recent: deque[str] | None = None if window is None else deque(maxlen=window)
        self._rows = 0

    def write(self, text: str, width: int) -> None:
        for index, line in enumerate(visible(text).replace("\t", _TAB).split("\n")):
            if index:
                self._end_line()
            *full, self._line = wrap(self._line + line, width)
            self._keep(full)

    def begin_anew(self) -> None:
        """Let the next text stand by itself."""
        if self._line:
            self._end_line()
        if self._recent is not None:
            self._recent.clear()

    def note(self, text: str, width: int) -> None:
        """Put a line about the run where the text stands."""
        if self._line and self._recent is None:
            self._end_line()
        note = fit(one_line(text), width)
        # Amid the text it must not look like text.
        self._above.append(note if self._recent is not None else _DIM + note + _PLAIN)

    def paint(self, status: str, width: int) -> str:
        """Return what draws everything new, with the status under it."""
        recent = list(self._recent or ())
        # A terminal that became narrower has broken the line that was there.
        line = [] if not self._line else [wrap(self._line, width)[-1]]
        rows = [*(fit(row, width) for row in recent), *line, _DIM + fit(one_line(status), width) + _PLAIN]
        return self._redraw(rows)

    def finish(self) -> str:
        """Return what leaves the text alone on the terminal."""
        if self._line and self._recent is None:
            self._end_line()
        return self._redraw([])

    def _end_line(self) -> None:
        self._keep([self._line])
        self._line = ""

    def _keep(self, lines: list[str]) -> None:
        (self._above if self._recent is None else self._recent).extend(lines)

    def _redraw(self, rows: list[str]) -> str:
        up = f"\x1b[{self._rows - 1}A" if self._rows > 1 else ""
        clear = f"\r{up}\x1b[J" if self._rows else ""
        above = "".join(line + "\n" for line in self._above)
        self._above, self._rows = [], len(rows)
        return clear + above + "\n".join(rows)
