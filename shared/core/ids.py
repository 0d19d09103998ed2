"""Ids that name their shard and sort newest first.

`run_0f` + 26 letters and digits: kind, shard (two hex digits), then 48 bits of time counted
backwards and 80 random bits in Crockford's base 32. Rows are stored in key order, so counting
backwards makes every listing newest first without an index.
"""

import hashlib
import re
from datetime import datetime

SHARDS = 16
RANDOM_BYTES = 10

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_BITS = 48
_LENGTH = 26
_CALL = re.compile(r"call_[0-9]{2}_[0-9a-f]{32}")
_PATTERN = re.compile(rf"(run|ses)_0[0-9a-f][{_ALPHABET}]{{{_LENGTH}}}")


def new_id(kind: str, shard: int, now: datetime, random: bytes) -> str:
    """Return an id of `kind` ("run" or "ses") in `shard`; `random` is `RANDOM_BYTES` long."""
    backwards = (1 << _TIME_BITS) - 1 - int(now.timestamp() * 1000)
    number = (backwards << (8 * RANDOM_BYTES)) | int.from_bytes(random, "big")
    letters = "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(_LENGTH)))
    return f"{kind}_{shard:02x}{letters}"


def item_id(run_id: str, ordinal: int) -> str:
    """Return the id of an output item of a run; `ordinal` counts them from 0."""
    return f"item_{run_id.partition('_')[2]}_{ordinal}"


def call_id(turn: int, provider_id: str) -> str:
    """Return the id of a tool call in its run. The provider's own id may hold anything, and be used again in a later turn."""
    return f"call_{turn:02d}_{hashlib.sha256(provider_id.encode()).hexdigest()[:32]}"


def is_call_id(text: str) -> bool:
    return _CALL.fullmatch(text) is not None


def is_id(kind: str, text: str) -> bool:
    """Return whether `text` is a well-formed id of `kind`. Nothing else is sent to the storage."""
    return text.startswith(f"{kind}_") and _PATTERN.fullmatch(text) is not None


def shard_of(identifier: str) -> str:
    """Return the partition that holds all rows of this run or session: "00" to "0f"."""
    return identifier[4:6]


def position(identifier: str) -> str:
    """Return the part of an id that orders runs of all shards, newest first."""
    return identifier[6:]


def first_position(at: datetime) -> str:
    """Return the first position that a run of this millisecond can have. Those of earlier runs sort after it."""
    return position(new_id("run", 0, at, bytes(RANDOM_BYTES)))


def all_shards() -> tuple[str, ...]:
    return tuple(f"{shard:02x}" for shard in range(SHARDS))


def key_hash(owner: str, key: str) -> str:
    """Return the row name of an Idempotency-Key.

    It contains the owner, so two owners may use the same key.
    """
    return hashlib.sha256(f"{len(owner)}:{owner}{key}".encode()).hexdigest()


def key_shard(hashed: str) -> str:
    return f"{int(hashed[:2], 16) % SHARDS:02x}"


def home_shard(owner: str) -> str:
    """Return the shard in which an owner's new sessions begin while there are quotas."""
    return key_shard(hashlib.sha256(owner.encode()).hexdigest())
