"""A growing text over a status line, on a terminal. Returns the characters to write; no IO."""

import json
import re
import unicodedata
from collections import deque

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# What Python calls printable, and nobody sees.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_REPLACEMENT = "\ufffd"
_TAB = "    "
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def visible(text: str) -> str:
    """Replace every character that controls a terminal or changes the order of text.

    A model may write escape sequences; a terminal must not carry them out. Line ends and tabs stay.
    """
    return _UNSAFE.sub(_stand_in, text)


def one_line(text: str) -> str:
    """As `visible`, and replace line ends and tabs too."""
    return visible(text).replace("\n", "\u240a").replace("\t", " ")


def spelled_out(text: str) -> str:
    """Return a text with each character that nobody sees as JSON escapes it, for people who decide about the text.

    Control characters stay: `visible` has signs for them.
    """
    if text.isascii():
        return text
    return "".join(each if _is_seen(each) else json.dumps(each)[1:-1] for each in text)


def _is_seen(character: str) -> bool:
    printable = character.isprintable() and not _BLANK.match(character)
    return printable or unicodedata.category(character) == "Cc"


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
    """Break one line at spaces, or inside a word that is too long; more text may follow the last part.

    Wrapping in two steps gives the same lines as one: wrap(a + b) is wrap(a)[:-1] + wrap(wrap(a)[-1] + b).
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
            # The character takes two cells, the space that was cut off only one.
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
    """The lowest rows of a terminal: the unfinished line of text, and the status under it.

    Rows above stay as they are. With `window` only the last lines of the text are shown, over the status.
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

    def start_new_text(self) -> None:
        """Begin the next text on a line of its own."""
        if self._line:
            self._end_line()
        if self._recent is not None:
            self._recent.clear()

    def note(self, text: str, width: int) -> None:
        """Add a line about the run to the text."""
        if self._line and self._recent is None:
            self._end_line()
        note = fit(one_line(text), width)
        # Between lines of text a note must look different.
        self._above.append(note if self._recent is not None else _DIM + note + _PLAIN)

    def paint(self, status: str, width: int) -> str:
        """Return what draws all new text, with the status under it."""
        recent = list(self._recent or ())
        # A terminal that became narrower has wrapped the line that was drawn.
        line = [] if not self._line else [wrap(self._line, width)[-1]]
        rows = [*(fit(row, width) for row in recent), *line, _DIM + fit(one_line(status), width) + _PLAIN]
        return self._redraw(rows)

    def finish(self) -> str:
        """Return what removes the status and leaves the text."""
        if self._line and self._recent is None:
            self._end_line()
        return self._redraw([])

    def leave(self, status: str, width: int) -> str:
        """Return what leaves the text, and under it a last status."""
        if self._line and self._recent is None:
            self._end_line()
        self._above.append(_DIM + fit(one_line(status), width) + _PLAIN)
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
