"""How long a provider asks its clients to wait before the next request."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# A longer wait is cut to this. A wrong header would otherwise keep a run from being polled until its deadline.
MAX_RETRY_AFTER = timedelta(minutes=5)

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return the wait that a reply asks for, at most `MAX_RETRY_AFTER`; None if it asks for none.

    Reads `retry-after-ms` (OpenAI and Azure), then `Retry-After` in seconds or as a date (RFC 9110, 10.2.3).
    A value that is zero, negative or unreadable is ignored. `headers` must ignore the case of names.
    """
    seconds = _number(headers.get("retry-after-ms", "")) / 1000
    value = headers.get("retry-after", "")
    wait = _limited(seconds or _number(value)) or _until(value, now)
    return wait if wait > timedelta() else None


def _number(text: str) -> float:
    return float(text) if _NUMBER.fullmatch(text.strip()) else 0.0


def _limited(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, MAX_RETRY_AFTER.total_seconds()))


def _until(text: str, now: datetime) -> timedelta:
    try:
        at = parsedate_to_datetime(text)
        # RFC 9110: dates are in GMT, also those without a zone.
        return min((at if at.tzinfo else at.replace(tzinfo=UTC)) - now, MAX_RETRY_AFTER)
    except (ValueError, OverflowError):
        # A year or a zone can have more digits than `datetime` accepts.
        return timedelta()
