"""The queues between timer, requests and workers."""

from enum import StrEnum

# The host moves a message that failed five times to a queue of this name. Source: maxDequeueCount in host.json.
POISON = "-poison"


class Queue(StrEnum):
    """A queue. Each has a function of its own, so that what is slow in one keeps nothing in another waiting."""

    # Creates, tools, cancellations, purges, polls by workers.
    WORK = "work"
    # Turns at providers without background mode.
    GENERATE = "generate"
    # Deliveries to other systems.
    DELIVER = "deliver"
