"""What is owed to somebody else, and must be done even if the process ends right after the run has changed."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CancelResponse:
    """A response that no run adopted has to be stopped at the provider."""

    provider: str
    response_id: str


# More kinds will come: a webhook, a message.
Deliverable = CancelResponse


@dataclass(frozen=True, slots=True)
class ClockRow:
    """Says that a delivery is due: the key of the row by which the poll loop finds it, and the text of its message."""

    due: datetime
    run_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Something that is made at least once. `name` is unique in its run."""

    run_id: str
    name: str
    content: Deliverable
    created_at: datetime
    due: datetime

    @property
    def clock(self) -> ClockRow:
        return ClockRow(self.due, self.run_id, self.name)
