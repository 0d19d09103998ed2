"""The port to the queues, as far as the app itself looks at them. The host puts messages there and takes them out."""

from collections.abc import Mapping
from typing import Protocol


class Queues(Protocol):
    """The queues of this app."""

    async def poison_counts(self) -> Mapping[str, int]:
        """Return about how many messages the poison queue of each queue holds, by the queue's name.

        A queue that does not exist holds none. Raises StorageUnavailable.
        """
        ...


class NoQueues:
    """Stands for queues where there is no host."""

    async def poison_counts(self) -> Mapping[str, int]:
        return {}
