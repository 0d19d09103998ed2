"""What a host's log tells of things that must not happen."""

import re
from itertools import pairwise

from dev.processes import KEPT_LINES

# A host that writes only of errors can be asked for all of it at the end: `ChildProcess` remembers KEPT_LINES lines.
QUIET = {"AzureFunctionsJobHost__logging__logLevel__default": "Error"}

_RECORD = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} ([A-Z]+) ", re.MULTILINE)
_BAD = {"ERROR", "CRITICAL"}


def troubles(log: str) -> list[str]:
    """Return the records of errors, and of anything with a traceback."""
    starts = [match.start() for match in _RECORD.finditer(log)]
    # What comes before the first record is not logged but printed.
    records = [log[start:end] for start, end in pairwise([0, *starts, len(log)])]
    found = [record.rstrip() for record in records if _bad(record)]
    if log.count("\n") >= KEPT_LINES - 1:
        found.append(f"The log has more than {KEPT_LINES} lines; what it said at first is lost.")
    return found


def _bad(record: str) -> bool:
    level = _RECORD.match(record)
    if "aiohttp.http_exceptions.BadHttpMessage" in record:
        # What is not HTTP is refused, and complained of, by the server library.
        return False
    return "Traceback" in record or bool(level and level[1] in _BAD)
