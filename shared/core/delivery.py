"""Deliveries: work for other services that is not lost when the process ends right after a transition."""

import re
from dataclasses import dataclass
from datetime import datetime

from shared.core.ids import is_id
from shared.core.times import is_usable

_DUE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_NAME = re.compile(r"\d{8}-\d{1,3}|wait", re.ASCII)
# The name of the clock row for the first end of a run's waits.
WAIT = "wait"


@dataclass(frozen=True, slots=True)
class CancelResponse:
    """A response that no run adopted has to be stopped at the provider."""

    provider: str
    response_id: str


# A union of one type so far. Webhooks and messages will be further types.
Deliverable = CancelResponse


@dataclass(frozen=True, slots=True)
class ClockRow:
    """When a delivery is due, and which one, or when a wait of a run ends.

    The key of the clock row and the text of the message are made of this.
    """

    due: datetime
    run_id: str
    # That of the delivery, or `WAIT`.
    name: str

    @classmethod
    def parse(cls, due: str, run_id: str, name: str) -> "ClockRow":
        """Return the clock row of these texts. Raises ValueError when one of them is not valid."""
        at = datetime.fromisoformat(due)
        # A time has one spelling, so that the row of a clock can be found by it.
        if (
            not _DUE.fullmatch(due)
            or not is_usable(at)
            or not is_id("run", run_id)
            or not _NAME.fullmatch(name)
        ):
            raise ValueError("these texts do not name a clock row")
        return cls(at, run_id, name)


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
