"""The messages on the queues.

Each is a hint: a worker reads what is stored, and does only what is owed.
"""

import re
from collections.abc import Sequence

from shared.core.delivery import WAIT, ClockRow
from shared.core.ids import is_id
from shared.core.queues import Queue
from shared.core.run import Owed, Run, RunStatus, Step
from shared.store.rows import time_text

# How many messages a bundle holds. The storage allows 48 KiB for one.
MAX_BUNDLED = 400

_SHARD = re.compile(r"shard_(0[0-9a-f])")


def queue_of(message: str) -> Queue:
    """Return the queue that a message is sent to. A bundle goes where its first message goes."""
    first, _, _ = message.partition("\n")
    if generate_of_message(first):
        return Queue.GENERATE
    clock = clock_of_message(first)
    return Queue.DELIVER if clock and clock.name != WAIT else Queue.WORK


def shard_message(shard: str) -> str:
    """Return the message for polling what is due in a shard."""
    return f"shard_{shard}"


def clock_message(clock: ClockRow) -> str:
    """Return the message for making a delivery, or for ending waits."""
    if clock.name == WAIT:
        return f"wait {time_text(clock.due)} {clock.run_id}"
    return f"delivery {time_text(clock.due)} {clock.run_id} {clock.name}"


def poll_message(run_id: str) -> str:
    """Return the message for polling one run by a worker."""
    return f"poll {run_id}"


def generate_message(run_id: str) -> str:
    """Return the message for generating a turn of a run."""
    return f"generate {run_id}"


def step_message(run: Run | Owed) -> str:
    """Return the message that a run is owed a step.

    A run that is being cancelled does not wait for a worker that may hold a stream.
    """
    run_id = run.id if isinstance(run, Run) else run.run_id
    generates = run.step is Step.GENERATE and run.status is not RunStatus.CANCELLING
    return generate_message(run_id) if generates else run_id


def bundle_message(messages: Sequence[str]) -> str:
    """Return a message that stands for several. A bundle of one is the message itself."""
    return "\n".join(messages)


def bundle_of_message(message: str) -> tuple[str, str] | None:
    """Return the first message of a bundle, and a bundle of the others; None for a message that is no bundle."""
    first, _, rest = message.partition("\n")
    return (first, rest) if rest else None


def shard_of_message(message: str) -> str | None:
    found = _SHARD.fullmatch(message)
    return found[1] if found else None


def poll_of_message(message: str) -> str | None:
    """Return the id of the run that a worker has to poll."""
    kind, _, run_id = message.partition(" ")
    return run_id if kind == "poll" and is_id("run", run_id) else None


def generate_of_message(message: str) -> str | None:
    """Return the id of the run of which a worker has to generate a turn."""
    kind, _, run_id = message.partition(" ")
    return run_id if kind == "generate" and is_id("run", run_id) else None


def clock_of_message(message: str) -> ClockRow | None:
    match message.split(" "):
        case ["delivery", due, run_id, name] if name != WAIT:
            pass
        case ["wait", due, run_id]:
            name = WAIT
        case _:
            return None
    try:
        return ClockRow.parse(due, run_id, name)
    except ValueError:
        return None
