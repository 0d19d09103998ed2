"""Deliveries: work for other services that is not lost when the process ends right after a transition."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CancelResponse:
    """A response that no run adopted has to be stopped at the provider."""

    provider: str
    response_id: str


# A union of one type so far. Webhooks and messages will be further types.
Deliverable = CancelResponse


@dataclass(frozen=True, slots=True)
class ClockRow:
    """When a delivery is due, and which one.

    The key of the clock row and the text of the message are made of this.
    """

    due: datetime
    run_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery of a run. It is made at least once."""

    run_id: str
    # Unique in its run.
    name: str
    content: Deliverable
    created_at: datetime
    due: datetime

    @property
    def clock(self) -> ClockRow:
        return ClockRow(self.due, self.run_id, self.name)
