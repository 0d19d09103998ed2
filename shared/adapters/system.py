"""The clock and the randomness of this machine."""

import logging
import random
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from shared.core.clock_offset import ClockOffset
from shared.core.times import is_usable
from shared.log import log_event

# A smaller change of the correction is not logged.
_LOGGED = timedelta(seconds=1)


def _local_time() -> datetime:
    return datetime.now(UTC)


class SystemClock:
    """This machine's clock. It is corrected when it differs from the storage's by more than leases have room for."""

    def __init__(self, local_time: Callable[[], datetime] = _local_time) -> None:
        self._local_time = local_time
        self._offset = ClockOffset()
        self._date = ""
        self._logged = timedelta()
        self.correction = timedelta()

    def now(self) -> datetime:
        return self._local_time() + self.correction

    def compare(self, date: str, sent: float, received: float) -> None:
        """Compare the clock with the `Date` of a reply of the storage.

        `sent` and `received` are Unix times by the local clock. Within one second of the storage the first reply counts.
        """
        if date == self._date:
            return
        self._date = date
        try:
            at = parsedate_to_datetime(date)
        except (ValueError, OverflowError):
            return
        if not is_usable(at):
            return
        local = (datetime.fromtimestamp(each, UTC) for each in (sent, received))
        self._offset = self._offset.compared(at, *local)
        self.correction = self._offset.correction
        if abs(self.correction - self._logged) > _LOGGED:
            self._logged = self.correction
            log_event("clock.corrected", level=logging.WARNING, seconds=self.correction.total_seconds())


class SystemRandomness:
    def bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)

    def fraction(self) -> float:
        return random.random()  # noqa: S311  (jitter needs no secure randomness)
