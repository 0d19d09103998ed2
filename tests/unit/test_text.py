import pytest

from shared.core.text import representable


@pytest.mark.parametrize("text", ["", "plain", "漢字 \U0001f680", "\x00\x1f\x7f\ufffe\uffff"])
def test_text_that_json_can_represent_stays(text):
    assert representable(text) is text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\ud800", "\ufffd"),
        ("a\ud83db", "a\ufffdb"),
        ("\udc00\udc00", "\ufffd\ufffd"),
        ("x\ud800", "x\ufffd"),
        ("\ud800漢\U0001f680\x00", "\ufffd漢\U0001f680\x00"),
    ],
)
def test_each_lone_surrogate_becomes_one_replacement_character(text, seen):
    assert representable(text) == seen
