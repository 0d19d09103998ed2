"""Check the limits of Azure Table Storage before a request is sent. Azurite does not check most of them.

Source: "Understanding the Table service data model" in Microsoft's REST reference.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from shared.adapters.azure_tables.wire import entity_text
from shared.ports.tables import Delete, Row, Value, Write

MAX_WRITES = 100
MAX_TRANSACTION_BYTES = 4 * 1024 * 1024
MAX_ROW_BYTES = 1024 * 1024
MAX_VALUE_BYTES = 64 * 1024
# The limit is 255, and PartitionKey, RowKey and Timestamp count too.
MAX_PROPERTIES = 252
MAX_KEY_BYTES = 1024
MAX_NAME_LENGTH = 255

# The size of the headers, addresses and boundaries around each entity of a batch, at most.
_FRAME_BYTES = 2048
# The JSON of a row is at most this many times as long as the size by Microsoft's formula. A character that
# becomes \uXXXX has less than 4 times its size, and for a name that is written twice the formula adds twelve
# bytes.
_LONGEST_JSON = 6
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
_GOOD_KEY = re.compile(r"[^/\\#?\x00-\x1f\x7f-\x9f\ud800-\udfff]*")
_RESERVED_NAMES = frozenset({"PartitionKey", "RowKey", "Timestamp"})


def check_key(key: str) -> None:
    """Raise ValueError for a key that Table Storage would refuse."""
    if not _GOOD_KEY.fullmatch(key):
        raise ValueError(
            f"key {key!r} has a character that Table Storage forbids: / \\ # ? or a control character"
        )
    if _text_bytes(key) > MAX_KEY_BYTES:
        raise ValueError(f"key {key[:40]!r}... is over {MAX_KEY_BYTES} bytes of UTF-16")


def check_writes(partition: str, writes: Sequence[Write]) -> None:
    """Raise ValueError for a transaction that Table Storage would refuse, whatever is stored."""
    if not 1 <= len(writes) <= MAX_WRITES:
        raise ValueError(f"a transaction holds 1 to {MAX_WRITES} writes, not {len(writes)}")
    check_key(partition)
    rows = [write.row for write in writes if not isinstance(write, Delete)]
    keys = [row.key for row in rows] + [write.key for write in writes if isinstance(write, Delete)]
    for key in keys:
        check_key(key)
    if len(set(keys)) < len(keys):
        raise ValueError(f"a transaction may name a row only once: {', '.join(sorted(keys))}")
    stored = sum(_checked_size(partition, row) for row in rows)
    if stored * _LONGEST_JSON + len(writes) * _FRAME_BYTES > MAX_TRANSACTION_BYTES:
        _check_sent(partition, rows, len(writes))


def _check_sent(partition: str, rows: Sequence[Row], writes: int) -> None:
    sent = sum(len(entity_text(partition, row)) for row in rows) + writes * _FRAME_BYTES
    if sent > MAX_TRANSACTION_BYTES:
        raise ValueError(f"a transaction of {sent} bytes is over {MAX_TRANSACTION_BYTES}")


def _checked_size(partition: str, row: Row) -> int:
    """Return the size of a row in bytes, by Microsoft's formula."""
    if len(row.values) > MAX_PROPERTIES:
        raise ValueError(f"row {row.key!r} has {len(row.values)} properties, over {MAX_PROPERTIES}")
    size = 4 + _text_bytes(partition) + _text_bytes(row.key)
    for name, value in row.values.items():
        name_size = _name_bytes(name)
        if not name_size:
            raise ValueError(f"row {row.key!r} cannot have a property named {name[:300]!r}")
        try:
            value_size = _value_bytes(value)
        except UnicodeEncodeError as error:
            raise ValueError(f"property {name!r} of row {row.key!r} has a lone surrogate") from error
        if value_size > MAX_VALUE_BYTES:
            raise ValueError(
                f"property {name!r} of row {row.key!r} has {value_size} bytes, over {MAX_VALUE_BYTES}"
            )
        size += 12 + name_size + value_size
    if size > MAX_ROW_BYTES:
        raise ValueError(f"row {row.key!r} has {size} bytes, over {MAX_ROW_BYTES}")
    return size


@lru_cache(maxsize=256)
def _name_bytes(name: str) -> int:
    """Return the size of a property's name in bytes, or 0 when the name is not allowed."""
    allowed = name.isidentifier() and len(name) <= MAX_NAME_LENGTH and name not in _RESERVED_NAMES
    return _text_bytes(name) if allowed else 0


def _value_bytes(value: Value) -> int:
    match value:
        case str():
            return _text_bytes(value)
        case bytes():
            return len(value)
        case bool():
            return 1
        case int() if value in _INT64:
            return 4 if value in _INT32 else 8
    raise ValueError(f"Table Storage has no type for {type(value).__name__} {value!r:.40}")


def _text_bytes(text: str) -> int:
    return 2 * len(text) if text.isascii() else len(text.encode("utf-16-le"))
