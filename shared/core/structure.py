"""JSON texts from outside: how much structure one has, found without parsing it, and what is refused when it is parsed.

A parsed value needs up to a hundred times the memory of its text when the text has little but structure, such as
`[[],[],[]]`. So the structure of a text from outside is counted first.
"""

import json
import math
import re
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Any

_MARKS = b"[]{},"
_QUOTE = ord('"')
# How a mark changes the depth.
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord(","): 0}
# A string, perhaps without its end, or a mark. The possessive quantifiers keep the search linear.
_STRING_OR_MARK = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[][{},]', re.DOTALL)


def has_more_marks(text: bytes, most: int) -> bool:
    """Return whether a JSON text in UTF-8 has more than `most` brackets and commas outside of its strings."""
    # Usually one of the two fast checks is enough. They count what is in strings too.
    if len(text) <= most or marks_at_most(text) <= most:
        return False
    # In JSON, two strings have a colon or a mark between them. A text with more strings need not be searched.
    marks = strings = 0
    for token in _tokens(text):
        if token == _QUOTE:
            strings += 1
        else:
            marks += 1
        if marks > most or strings > 2 * most + 2:
            return True
    return False


def marks_at_most(text: bytes) -> int:
    """Return a number that a text's marks do not exceed. It is found fast, because it counts what is in strings too."""
    return sum(text.count(mark) for mark in _MARKS)


def nests_deeper(text: bytes, levels: int, *, marks: int) -> bool:
    """Return whether lists and objects are nested deeper than `levels` among the first `marks` marks of a JSON text."""
    # As many strings as JSON has beside so many marks.
    tokens = islice(_tokens(text), 3 * marks + 2)
    steps = (_STEPS[token] for token in tokens if token != _QUOTE)
    return any(depth > levels for depth in accumulate(islice(steps, marks)))


def _tokens(text: bytes) -> Iterator[int]:
    """Yield each mark, and a quotation mark for each string."""
    return (text[found.start()] for found in _STRING_OR_MARK.finditer(text))


def finite(text: str) -> float:
    """Return a number of a JSON text. Raises ValueError for NaN, for infinities, and for what Python takes for one."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is not finite")
    return number


def read_json(text: str) -> Any:
    """Return a JSON value. Raises ValueError also for what programs read in more than one way: duplicate keys, and what
    `finite` refuses.
    """
    return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=finite, parse_float=finite)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found
