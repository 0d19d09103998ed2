"""Times that can be calculated with."""

from datetime import datetime

# Times at the edge of what `datetime` can hold break every calculation with them.
FIRST_YEAR, LAST_YEAR = 1970, 9000


def is_usable(at: datetime) -> bool:
    """Return whether a time has a zone, and is far enough from the edge of what `datetime` can hold."""
    return at.tzinfo is not None and FIRST_YEAR <= at.year <= LAST_YEAR
