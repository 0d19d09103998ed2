"""Times that can be calculated with."""

from datetime import datetime, timedelta

# Times at the edge of what `datetime` can hold break every calculation with them.
FIRST_YEAR, LAST_YEAR = 1970, 9000


def is_usable(at: datetime) -> bool:
    """Return whether a time has a zone, and is far enough from the edge of what `datetime` can hold."""
    return at.tzinfo is not None and FIRST_YEAR <= at.year <= LAST_YEAR


def spoken(span: timedelta) -> str:
    """Return a time span for people: "7 days", "1 hour 30 minutes"."""
    seconds, words = round(span.total_seconds()), []
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return " ".join(words) or "0 seconds"
