"""The keys of rows, and the format of their values.

Times are ISO 8601 text in UTC. None has no property. Nested values are JSON text. They are compressed JSON
when a caller, a model or a provider decides how long they are.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, wraps
from typing import Any, TypeVar

from shared.core.delivery import ClockRow
from shared.core.ids import is_id
from shared.core.run import Content
from shared.core.structure import has_more_marks
from shared.core.text import is_name
from shared.core.times import is_usable
from shared.errors import UnreadableRow
from shared.log import log_skipped
from shared.ports.tables import Row, Value

TICK_KEY = "pending|"
PAUSED = "paused|"

# Shorter values are not compressed. It would take longer than to read and write the rest of the row.
_SHORT_BYTES = 512
_ZLIB = b"x"
# More than any packed value has, and than anything counts.
_LONGEST_BYTES = 4 * 1024 * 1024
_MOST_MARKS = 500_000
_LARGEST_COUNT = 2**53
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_T = TypeVar("_T")


def reader(read: Callable[[Row], _T]) -> Callable[[Row], _T]:
    """Let a function that reads a row raise UnreadableRow for whatever is wrong with the row."""

    @wraps(read)
    def checked(row: Row) -> _T:
        try:
            return read(row)
        except Exception as fault:
            # A row may hold anything, and must not hide the rows beside it.
            raise UnreadableRow(row.key) from fault

    return checked


def readable(read: Callable[[Row], _T], row: Row) -> _T | None:
    """Return what a row holds. None when it is broken, so that it does not hide other rows."""
    try:
        return read(row)
    except UnreadableRow as fault:
        log_skipped(fault)
        return None


def run_key(run_id: str) -> str:
    return f"run|{run_id}"


def owed_key(run_id: str) -> str:
    return f"pending|{run_id}"


def clock_key(clock: ClockRow) -> str:
    return f"pending~{time_text(clock.due)}|{clock.run_id}|{clock.name}"


def paused_key(since: datetime, run_id: str) -> str:
    """Return the key of a run with calls that wait for an answer: the run that has waited longest comes first.

    These rows come right before those of runs that are owed a step, so one query finds all pending runs.
    """
    return f"{PAUSED}{time_text(since)}|{run_id}"


def owed_bounds(now: datetime) -> tuple[str, str]:
    """Return the bounds of the keys of the tick, runs that are owed a step, and clock rows due until `now`."""
    # "}" is the character after the separator "|", so clock rows that are due exactly `now` are included.
    return TICK_KEY, f"pending~{time_text(now)}}}"


def quota_key(owner: str) -> str:
    """Return the key of an owner's quota. It comes before the keys of all runs that are owed a step."""
    return f"owner|{name_hash(owner)}"


def session_key(session_id: str) -> str:
    return f"session|{session_id}"


def log_key(run_id: str, number: int) -> str:
    """Return the key of the row whose last entry has this number."""
    return f"event|{run_id}|{number:08d}"


def delivery_key(run_id: str, name: str) -> str:
    return f"delivery|{run_id}|{name}"


def result_key(run_id: str, turn: int, call_id: str) -> str:
    return f"tool|{run_id}|{turn:02d}|{name_hash(call_id)}"


def answer_key(run_id: str, turn: int, call_id: str) -> str:
    return f"answer|{run_id}|{turn:02d}|{name_hash(call_id)}"


def bounds(start: str) -> tuple[str, str]:
    """Return the bounds of all keys that begin with `start` and a separator."""
    return f"{start}|", f"{start}}}"


def name_hash(name: str) -> str:
    """Return a part of a row key for text that may hold any characters: a model chose it, or it names an owner."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


# Each change of a run writes most of its times again.
@lru_cache(maxsize=1024)
def time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def optional_time(values: Mapping[str, Value], name: str) -> datetime | None:
    return read_time(values, name) if isinstance(values.get(name), str) else None


def read_time(values: Mapping[str, Value], name: str) -> datetime:
    at = datetime.fromisoformat(str(values[name]))
    if not is_usable(at):
        raise ValueError(f"the time {name} has no zone, or is in the year {at.year}")
    return at


def text(values: Mapping[str, Value], name: str) -> str:
    """Return a text. Raises KeyError and TypeError."""
    value = values[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def identifier(kind: str, text: object) -> str:
    """Return an id of a run or a session. Raises ValueError for anything else."""
    if not isinstance(text, str) or not is_id(kind, text):
        raise ValueError(f"there is no {kind} id")
    return text


def agent(values: Mapping[str, Value]) -> str:
    """Return the name of an agent. Raises KeyError, TypeError and ValueError."""
    name = text(values, "agent")
    if not is_name(name):
        raise ValueError("this is no name of an agent")
    return name


def count(values: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Return a number that counts something. Without a `default` it must be there. Raises KeyError and ValueError."""
    value = values[name] if default is None else values.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_COUNT:
        raise ValueError(f"{name} is no count")
    return value


def optional_text(values: Mapping[str, Value], name: str) -> str | None:
    text = values.get(name)
    return text if isinstance(text, str) else None


def optional_number(values: Mapping[str, Value], name: str) -> int | None:
    return count(values, name) if name in values else None


def content_value(content: Content) -> Value:
    """Return the value of `content` in a row: its bytes, or a pointer to its chunk rows."""
    return content.inline if content.inline is not None else f"{content.chunks}|{content.name}"


def read_content(value: Value | None) -> Content:
    match value:
        case bytes():
            return Content(inline=value)
        case str() if value:
            chunks, name = value.split("|", 1)
            return Content(name=name, chunks=count({"chunks": int(chunks)}, "chunks"))
    return Content()


def pack(value: Any) -> bytes:
    """Return `value` as JSON, compressed when it is long, so that it fits into a property."""
    plain = _ENCODER.encode(value).encode()
    return zlib.compress(plain) if len(plain) > _SHORT_BYTES else plain


def unpack(value: Value | None) -> Any:
    if not isinstance(value, bytes):
        return None
    # Every zlib stream begins with this byte, and no JSON text does.
    plain = unzipped(value, _LONGEST_BYTES) if value.startswith(_ZLIB) else value
    if has_more_marks(plain, _MOST_MARKS):
        raise ValueError("a packed value has too many brackets and commas")
    return json.loads(plain)


def unzipped(packed: bytes, most: int) -> bytes:
    """Return what was compressed. Raises ValueError when it is broken, or longer than `most` bytes."""
    unpacking = zlib.decompressobj()
    try:
        plain = unpacking.decompress(packed, most)
    except zlib.error as fault:
        raise ValueError("a compressed value is broken") from fault
    if not unpacking.eof:
        raise ValueError(f"a compressed value is cut, or longer than {most} bytes")
    return plain


def present(values: Mapping[str, Any]) -> dict[str, Value]:
    """Return the values without None, and with times as text."""
    return {
        name: time_text(value) if isinstance(value, datetime) else value
        for name, value in values.items()
        if value is not None
    }
