"""JSON bytes, error bodies, and an escape for text that the engine's encoder cannot carry."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

# The engine encodes replies as UTF-8 and fails on a lone surrogate. So each one is escaped: this private-use mark,
# then a private-use character in its place. The mark itself is doubled.
_MARK = "\U000f0ffe"
_STAND_IN_BASE = 0xF0000
_SURROGATE_BASE = 0xD800
_UNSAFE = re.compile("[\ud800-\udfff\U000f0ffe]")
_MARKED = re.compile(_MARK + "(.)", re.DOTALL)


@dataclass
class Reply:
    """A complete HTTP reply."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(eq=False)
class ApiError(Exception):
    """An error reply in the shape of the documented service."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    type: str = "invalid_request_error"
    headers: dict[str, str] = field(default_factory=dict)

    def reply(self) -> Reply:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return Reply(self.status, encode({"error": error}), dict(self.headers))


def encode(value: Any) -> bytes:
    """Return JSON bytes; if a string has a lone surrogate, all non-ASCII becomes JSON escapes."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def escape(value: Any) -> Any:
    """Make every string in a JSON value safe to pass through the engine."""
    return _walk(value, _escape_text)


def unescape(value: Any) -> Any:
    """Undo `escape`."""
    return _walk(value, _unescape_text)


def _walk(value: Any, change: Any) -> Any:
    match value:
        case str():
            return change(value)
        case list():
            return [_walk(item, change) for item in value]
        case dict():
            return {change(key): _walk(item, change) for key, item in value.items()}
        case _:
            return value


def _escape_text(text: str) -> str:
    return _UNSAFE.sub(_stand_in, text)


def _stand_in(found: re.Match[str]) -> str:
    unit = found.group()
    return _MARK + (_MARK if unit == _MARK else chr(ord(unit) - _SURROGATE_BASE + _STAND_IN_BASE))


def _unescape_text(text: str) -> str:
    return _MARKED.sub(_original, text) if _MARK in text else text


def _original(found: re.Match[str]) -> str:
    follower = found.group(1)
    return _MARK if follower == _MARK else chr(ord(follower) - _STAND_IN_BASE + _SURROGATE_BASE)
