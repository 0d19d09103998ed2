"""How long a provider asks to be left alone."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# What is asked for beyond this is not believed: a run would sleep past its deadline on a typing error.
MAX_RETRY_AFTER = timedelta(minutes=5)

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return the wait that a reply asks for, at most `MAX_RETRY_AFTER`; None if it asks for none.

    Reads `retry-after-ms` (OpenAI and Azure), then `Retry-After` in seconds or as a date (RFC 9110, 10.2.3).
    What is zero, negative or unreadable asks for nothing. `headers` must not mind the case of names.
    """
    seconds = _number(headers.get("retry-after-ms", "")) / 1000
    asked = headers.get("retry-after", "")
    wait = _limited(seconds or _number(asked)) or _until(asked, now)
    return wait if wait > timedelta() else None


def _number(text: str) -> float:
    return float(text) if _NUMBER.fullmatch(text.strip()) else 0.0


def _limited(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, MAX_RETRY_AFTER.total_seconds()))


def _until(text: str, now: datetime) -> timedelta:
    try:
        at = parsedate_to_datetime(text)
        # RFC 9110 dates are in GMT, whether they say so or not.
        return min((at if at.tzinfo else at.replace(tzinfo=UTC)) - now, MAX_RETRY_AFTER)
    except (ValueError, OverflowError):
        # A year or a zone can have more digits than any date holds.
        return timedelta()
