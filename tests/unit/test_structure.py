"""The structure of a JSON text, counted without parsing it."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.structure import has_more_marks, nests_deeper

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)
MIB = 2**20


def marks_of(value: object) -> int:
    """Count the brackets and commas that JSON needs for a value."""
    match value:
        case dict():
            return 2 + max(0, len(value) - 1) + sum(map(marks_of, value.values()))
        case list():
            return 2 + max(0, len(value) - 1) + sum(map(marks_of, value))
    return 0


def depth_of(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@given(VALUES, st.booleans())
def test_marks_are_counted_outside_of_strings(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    marks = marks_of(value)
    assert not has_more_marks(text, marks)
    assert marks == 0 or has_more_marks(text, marks - 1)


@given(VALUES)
def test_the_depth_is_that_of_the_value(value):
    text = json.dumps(value).encode()
    assert not nests_deeper(text, depth_of(value), marks=len(text))
    assert depth_of(value) == 0 or nests_deeper(text, depth_of(value) - 1, marks=len(text))


@given(st.binary())
def test_any_bytes_are_counted(text):
    assert has_more_marks(text, 3) in {True, False}
    assert not has_more_marks(text, len(text))


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (b'["' + b"a, [b], {c} " * (8 * MIB // 12) + b'"]', False),
        (b'["' + b'\\"[,' * (8 * MIB // 4) + b'"]', False),
        (b'["' + b"\\\\" * (4 * MIB) + b'"]' + b"," * 40_000, False),
        (b'["' + b'\\",' * (8 * MIB // 3), False),
        (b"[],{}," * (8 * MIB // 6), True),
        (b'{"":0},' * (8 * MIB // 7), True),
        (b'"","",' * (8 * MIB // 6), True),
        (b'""' * (4 * MIB) + b"," * 60_000, True),
        (b"," * (8 * MIB), True),
    ],
    ids=["prose", "quotes", "backslashes", "no end", "lists", "objects", "strings", "no JSON", "commas"],
)
def test_eight_mebibytes_are_counted_soon(text, more):
    """In the time in which a few such texts are parsed, however the marks are hidden."""
    harmless = json.dumps("a" * (8 * MIB)).encode()
    began = time.process_time()
    for _ in range(20):
        json.loads(harmless)
    allowed = time.process_time() - began + 0.2
    began = time.process_time()
    assert has_more_marks(text, 50_000) is more
    assert time.process_time() - began < allowed
