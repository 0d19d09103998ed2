"""Where the text of an answer stands in the JSON text of its output items.

A client who reads a run gets the output as it is stored, and beside it the text of the answer. That text is cut out
of the output as it stands there, so no read parses the output.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.core import transcript
from shared.core.text import json_text
from shared.core.transcript import Item

# The begin and the end of a part of a text.
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """The spans that make up the text of the answer, and those of refusals. Each is the inside of a JSON string."""

    text: tuple[Span, ...] = ()
    refusal: tuple[Span, ...] = ()

    @classmethod
    def parse(cls, stored: str, output: str) -> "Answer | None":
        """Return what `str` of an Answer gave. None when it cannot be that of this output."""
        try:
            text, refusal = json.loads(stored)
            return cls(_spans(text, len(output)), _spans(refusal, len(output)))
        except (ValueError, TypeError, RecursionError):
            return None

    def __str__(self) -> str:
        return json.dumps([self.text, self.refusal], separators=(",", ":"))


def _spans(stored: list[list[int]], length: int) -> tuple[Span, ...]:
    """Return spans that follow each other. Raises ValueError and TypeError for others."""
    spans, after = [], 0
    for begin, end in stored:
        if not after <= begin <= end <= length:
            raise ValueError("a span is not in its place")
        spans.append((begin, end))
        after = end
    return tuple(spans)


def find_answer(output: str, items: Sequence[Item]) -> Answer | None:
    """Return where the answer among `items` stands in their JSON text `output`; None if it cannot be found."""
    texts, refusals = _find(output, transcript.texts_of(items)), _find(output, transcript.refusals_of(items))
    return None if texts is None or refusals is None else Answer(texts, refusals)


def cut(output: str, spans: Iterable[Span]) -> str:
    """Return the JSON string that joins the strings at `spans`."""
    return f'"{"".join(output[begin:end] for begin, end in spans)}"'


def _find(output: str, texts: Iterable[str]) -> tuple[Span, ...] | None:
    """Return where the texts stand in `output`. Any place is right that has the same characters."""
    spans: list[Span] = []
    after = 0
    for text in filter(None, texts):
        written = json_text(text)
        begin = output.find(written, after)
        if begin < 0:
            return None
        after = begin + len(written)
        spans.append((begin + 1, after - 1))
    return tuple(spans)
