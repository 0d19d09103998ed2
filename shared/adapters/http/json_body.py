"""Parses the JSON in the body of a reply. The body counts as UTF-8, whatever charset the reply names."""

import codecs
import json
from typing import Any

from shared.core.structure import has_more_marks

# The most brackets and commas of a body. Parsed, each of them takes up to 100 bytes.
MAX_REPLY_MARKS = 500_000


class TooManyMarks(ValueError):
    """The value of a JSON text could use up the memory of the process."""

    def __init__(self) -> None:
        super().__init__(f"it has more than {MAX_REPLY_MARKS:,} brackets and commas")


def read_json(body: bytes) -> Any:
    """Return the value of a JSON text. Invalid bytes become U+FFFD.

    Raises ValueError, which may be TooManyMarks, and RecursionError.
    """
    if has_more_marks(body, MAX_REPLY_MARKS):
        raise TooManyMarks
    # A byte order mark does not belong to the text.
    return json.loads(body.removeprefix(codecs.BOM_UTF8).decode(errors="replace"))


def json_of(body: bytes) -> object:
    """Return the value of a JSON text, or None when the body is not JSON."""
    try:
        return read_json(body)
    except (ValueError, RecursionError):
        return None
