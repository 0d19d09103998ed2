"""Logging: an event name and its fields on each line.

The fields are part of the text, because the Functions worker forwards only the formatted text.
"""

import json
import logging
import traceback

from shared.core.text import representable
from shared.errors import UnreadableRow

_LOGGER = logging.getLogger("baton")
# This library logs every request. That costs more than the request, and the log would contain its address.
_NOISY = ("azure",)
_CAUSE_CHARACTERS = 200


def log_event(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log `event`. Fields are ids, statuses and counts, never prompts, outputs, tokens or keys."""
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, "%s %s", event, json.dumps(fields, default=str))


def log_fault(event: str, fault: BaseException, **fields: object) -> None:
    """Log an exception with its traceback, as valid Unicode whatever its message contains."""
    if _LOGGER.isEnabledFor(logging.ERROR):
        trace = representable("".join(traceback.format_exception(fault)).rstrip())
        _LOGGER.error("%s %s\n%s", event, json.dumps(fields, default=str), trace)


def log_skipped(fault: UnreadableRow) -> None:
    """Log a row that was left out. It is met again and again, so its traceback is not logged."""
    cause = representable(repr(fault.__cause__))
    log_event("row.skipped", level=logging.ERROR, row=fault.key, cause=cause[:_CAUSE_CHARACTERS])


def quiet_libraries() -> None:
    """Let these libraries log warnings and errors only."""
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
