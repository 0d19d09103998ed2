"""One event name and its fields a line: the Functions worker forwards only the formatted text."""

import json
import logging
import traceback

from shared.core.text import representable

_LOGGER = logging.getLogger("baton")
# It logs every request, which costs more than the request and says where it went.
_CHATTY = ("azure",)


def log_event(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log `event`. Fields are ids, statuses and counts; never prompts, outputs, tokens or keys."""
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, "%s %s", event, json.dumps(fields, default=str))


def log_fault(event: str, fault: BaseException, **fields: object) -> None:
    """Log an exception with its traceback, as text that any log can take whatever the exception says."""
    if _LOGGER.isEnabledFor(logging.ERROR):
        trace = representable("".join(traceback.format_exception(fault)).rstrip())
        _LOGGER.error("%s %s\n%s", event, json.dumps(fields, default=str), trace)


def quiet_libraries() -> None:
    """Let libraries log from warnings upwards."""
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
