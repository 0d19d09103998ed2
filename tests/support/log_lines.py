"""Reads what the app has logged, and checks the form of each line."""

import json
import logging
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Line:
    level: str
    event: str
    fields: dict[str, Any]


def logged(caplog: pytest.LogCaptureFixture, *events: str) -> list[Line]:
    """Return all that was logged, or these events. Each record must be one line of ASCII with a JSON object."""
    lines = [_line(record) for record in caplog.records]
    return [line for line in lines if not events or line.event in events]


def _line(record: logging.LogRecord) -> Line:
    text = logging.Formatter("%(message)s").format(record)
    assert text.isascii(), text
    assert text.isprintable(), text
    assert record.name == "baton", text
    event, _, fields = text.partition(" ")
    value = json.loads(fields)
    assert isinstance(value, dict), text
    return Line(record.levelname, event, value)
