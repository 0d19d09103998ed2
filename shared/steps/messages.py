"""The messages of the work queue.

Each is a hint: a worker reads what is stored, and does only what is owed.
"""

import re

from shared.core.delivery import ClockRow
from shared.core.ids import is_id
from shared.store.rows import time_text

_SHARD = re.compile(r"shard_(0[0-9a-f])")


def shard_message(shard: str) -> str:
    """Return the message for polling what is due in a shard."""
    return f"shard_{shard}"


def delivery_message(clock: ClockRow) -> str:
    """Return the message for making a delivery."""
    return f"delivery {time_text(clock.due)} {clock.run_id} {clock.name}"


def poll_message(run_id: str) -> str:
    """Return the message for polling one run by a worker."""
    return f"poll {run_id}"


def shard_of_message(message: str) -> str | None:
    found = _SHARD.fullmatch(message)
    return found[1] if found else None


def poll_of_message(message: str) -> str | None:
    """Return the id of the run that a worker has to poll."""
    kind, _, run_id = message.partition(" ")
    return run_id if kind == "poll" and is_id("run", run_id) else None


def clock_of_message(message: str) -> ClockRow | None:
    match message.split(" "):
        case ["delivery", due, run_id, name]:
            try:
                return ClockRow.parse(due, run_id, name)
            except ValueError:
                return None
    return None
