"""The messages of the work queue.

Each is a hint: a worker reads what is stored, and does only what is owed.
"""

import re
from datetime import datetime

from shared.core.delivery import ClockRow
from shared.core.ids import is_id
from shared.store.rows import time_text

_SHARD = re.compile(r"shard_(0[0-9a-f])")
_DELIVERY = re.compile(r"delivery (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (\w{4,40}) (\d{8}-\d{1,3})")


def shard_message(shard: str) -> str:
    """Return the message for polling what is due in a shard."""
    return f"shard_{shard}"


def delivery_message(clock: ClockRow) -> str:
    """Return the message for making a delivery."""
    return f"delivery {time_text(clock.due)} {clock.run_id} {clock.name}"


def shard_of_message(message: str) -> str | None:
    found = _SHARD.fullmatch(message)
    return found[1] if found else None


def clock_of_message(message: str) -> ClockRow | None:
    found = _DELIVERY.fullmatch(message)
    if found is None or not is_id("run", found[2]):
        return None
    try:
        return ClockRow(datetime.fromisoformat(found[1]), found[2], found[3])
    except ValueError:
        return None
