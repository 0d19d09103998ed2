"""The keys of rows, and how values are written in them.

Times are ISO 8601 text in UTC. What is None has no property. Anything nested is JSON text, or compressed JSON where a
caller, a model or a provider decides how long it gets.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shared.core.delivery import ClockRow
from shared.core.run import Content
from shared.ports.tables import Value

TICK_KEY = "pending|"

# To compress less than this takes longer than to read and write all the rest of its row, and saves nothing.
_SHORT_BYTES = 512
_ZLIB = b"x"


def run_key(run_id: str) -> str:
    return f"run|{run_id}"


def owed_key(run_id: str) -> str:
    return f"pending|{run_id}"


def clock_key(clock: ClockRow) -> str:
    return f"pending~{time_text(clock.due)}|{clock.run_id}|{clock.name}"


def owed_bounds(now: datetime) -> tuple[str, str]:
    """Return the bounds of all keys of what may be owed: the tick, runs that are owed a step, clock rows until `now`."""
    # "}" follows the separator "|", so a clock row that is due just now is within.
    return TICK_KEY, f"pending~{time_text(now)}}}"


def session_key(session_id: str) -> str:
    return f"session|{session_id}"


def log_key(run_id: str, number: int) -> str:
    """Return the key of the row whose last entry has this number."""
    return f"event|{run_id}|{number:08d}"


def delivery_key(run_id: str, name: str) -> str:
    return f"delivery|{run_id}|{name}"


def result_key(run_id: str, turn: int, call_id: str) -> str:
    return f"tool|{run_id}|{turn:02d}|{name_hash(call_id)}"


def bounds(start: str) -> tuple[str, str]:
    """Return the bounds of all keys that begin with `start` and a separator."""
    return f"{start}|", f"{start}}}"


def name_hash(name: str) -> str:
    """Return a row name for text that a model chose."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def optional_time(values: Mapping[str, Value], name: str) -> datetime | None:
    text = values.get(name)
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def read_time(values: Mapping[str, Value], name: str) -> datetime:
    return datetime.fromisoformat(str(values[name]))


def optional_text(values: Mapping[str, Value], name: str) -> str | None:
    text = values.get(name)
    return text if isinstance(text, str) else None


def optional_number(values: Mapping[str, Value], name: str) -> int | None:
    number = values.get(name)
    return number if isinstance(number, int) else None


def content_value(content: Content) -> Value:
    """Return what stands in the row for `content`: its bytes, or a pointer to its chunk rows."""
    return content.inline if content.inline is not None else f"{content.chunks}|{content.name}"


def read_content(value: Value | None) -> Content:
    match value:
        case bytes():
            return Content(inline=value)
        case str() if value:
            chunks, name = value.split("|", 1)
            return Content(name=name, chunks=int(chunks))
    return Content()


def pack(value: Any) -> bytes:
    """Return JSON that callers, models or providers decide the length of, small enough for a property."""
    plain = json.dumps(value, ensure_ascii=False).encode()
    return zlib.compress(plain) if len(plain) > _SHORT_BYTES else plain


def unpack(value: Value | None) -> Any:
    if not isinstance(value, bytes):
        return None
    # No JSON begins with the byte that every zlib stream begins with.
    return json.loads(zlib.decompress(value) if value.startswith(_ZLIB) else value)


def present(values: Mapping[str, Any]) -> dict[str, Value]:
    """Leave out what is None and write times as text."""
    return {
        name: time_text(value) if isinstance(value, datetime) else value
        for name, value in values.items()
        if value is not None
    }
