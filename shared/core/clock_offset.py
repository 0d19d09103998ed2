"""How far the clock of this host is from that of the storage, which all hosts share.

The storage says its time in seconds only, and a reply takes time. So one reply shows an interval that holds the
offset, and several replies together show a narrower one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

# Less is not corrected, because leases have room for it.
TOLERATED = timedelta(seconds=2)
# A corrected clock stays corrected until it differs by less than this, so that it does not jump to and fro.
_AGREES = timedelta(seconds=1)
# A date that is further away is wrong. With such a clock the storage refuses a host's requests in any case.
MOST = timedelta(hours=1)
_RESOLUTION = timedelta(seconds=1)
# A reply that took longer shows too little of a clock that may be right: it waited somewhere, before or after its date.
_SLOW = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """An interval that holds what has to be added to this host's clock, and whether it is added."""

    low: timedelta = -MOST
    high: timedelta = MOST
    corrects: bool = False

    @property
    def correction(self) -> timedelta:
        """What is added to this host's clock."""
        return (self.low + self.high) / 2 if self.corrects else timedelta()

    def compared(self, date: datetime, sent: datetime, received: datetime) -> "ClockOffset":
        """Return the offset after a reply with the storage's `date`, both other times by this host's clock."""
        low, high = date - received, date + _RESOLUTION - sent
        if low > MOST or high < -MOST or low > high:
            return self
        if received - sent > _SLOW and low <= TOLERATED and high >= -TOLERATED:
            return self
        both = max(low, self.low), min(high, self.high)
        if both[0] <= both[1]:
            low, high = both
        # Else one of the clocks was set, and what was known before is worth nothing.
        most = _AGREES if self.corrects else TOLERATED
        return ClockOffset(low, high, abs(low + high) / 2 > most)
