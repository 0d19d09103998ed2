"""Logging: an event name and its fields on each line.

The fields are part of the text, because the Functions worker forwards only the formatted text. They are a JSON
object in ASCII, so that no field can begin another line.
"""

import json
import logging

from shared.core.text import clipped
from shared.errors import UnreadableRow
from shared.faults import class_name, described, short_message

_LOGGER = logging.getLogger("baton")
# This library logs every request. That costs more than the request, and the log would contain its address.
_NOISY = ("azure",)
# A name from a model and the reason of a library may have any length.
MAX_FIELD_CHARACTERS = 500
# A line with fields of fields may be longer than all texts in it.
MAX_LINE_CHARACTERS = 16_000
_CAUSE_CHARACTERS = 200


def log_event(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log `event`. Fields are ids, statuses and counts, never prompts, outputs, tokens or keys."""
    if _LOGGER.isEnabledFor(level):
        bounded = {name: _bounded(value) for name, value in fields.items()}
        line = json.dumps(bounded, default=str)
        if len(line) > MAX_LINE_CHARACTERS:
            line = json.dumps({"cut": line[:MAX_LINE_CHARACTERS]})
        _LOGGER.log(level, "%s %s", event, line)


def log_fault(event: str, fault: BaseException, **fields: object) -> None:
    """Log an exception of Baton or its libraries with its message. Those of tools have messages that must not be logged."""
    if _LOGGER.isEnabledFor(logging.ERROR):
        log_event(event, level=logging.ERROR, **fields, **described(fault, messages=True))


def log_skipped(fault: UnreadableRow) -> None:
    """Log a row that was left out. It is met again and again, so where it was read is not logged."""
    cause = fault.__cause__ or fault
    reason = f"{class_name(type(cause))}: {short_message(cause, _CAUSE_CHARACTERS)}"
    log_event("row.skipped", level=logging.ERROR, row=fault.key, cause=reason)


def quiet_libraries() -> None:
    """Let these libraries log warnings and errors only."""
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _bounded(value: object) -> object:
    return clipped(value, MAX_FIELD_CHARACTERS) if isinstance(value, str) else value
