"""Finds the records in a host's log that must not be there."""

import re
from itertools import pairwise

from dev.processes import KEPT_LINES

# A host that logs only errors keeps its complete log until the end: `ChildProcess` keeps the last KEPT_LINES lines.
QUIET = {"AzureFunctionsJobHost__logging__logLevel__default": "Error"}

_RECORD = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} ([A-Z]+) ", re.MULTILINE)
_BAD = {"ERROR", "CRITICAL"}


def error_records(log: str) -> list[str]:
    """Return the records of errors, and those with a traceback."""
    starts = [match.start() for match in _RECORD.finditer(log)]
    # The text before the first record was printed, not logged.
    records = [log[start:end] for start, end in pairwise([0, *starts, len(log)])]
    found = [record.rstrip() for record in records if _bad(record)]
    if log.count("\n") >= KEPT_LINES - 1:
        found.append(f"The log has more than {KEPT_LINES} lines; its first lines are lost.")
    return found


def _bad(record: str) -> bool:
    level = _RECORD.match(record)
    if "aiohttp.http_exceptions.BadHttpMessage" in record:
        # The server library logs an error for each request that is not HTTP. It is the client's error.
        return False
    return "Traceback" in record or bool(level and level[1] in _BAD)
