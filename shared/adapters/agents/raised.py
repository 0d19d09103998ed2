"""What is shown of an exception that a tool's own code raised.

Its message may contain anything that the process knows, such as a connection string. So only the message of a
`ToolError` is shown to the model and to clients, and none is logged.
"""

import logging

from shared.agent import ToolError
from shared.core.calls import ToolCall
from shared.faults import class_name, described, message_of
from shared.log import log_event


def on_purpose(fault: BaseException) -> bool:
    """Return whether it is a ToolError: an answer of the tool's author for the model, and no defect."""
    # `isinstance` could call a property of the exception, which may raise.
    return issubclass(type(fault), ToolError)


def told(fault: BaseException) -> str | None:
    """Return the message of a ToolError, or None if it has none. None for any other exception."""
    return message_of(fault) or None if on_purpose(fault) else None


def type_of(fault: BaseException) -> str:
    return class_name(type(fault))


def log_call(event: str, call: ToolCall, *, level: int, **fields: object) -> None:
    """Log what happened to a call."""
    log_event(event, level=level, run_id=call.run_id, call_id=call.call_id, tool=call.name, **fields)


def log_raised(event: str, fault: BaseException, call: ToolCall, *, level: int = logging.ERROR) -> None:
    """Log the type of an exception and where it was raised, so that the author of the tool can find the fault."""
    log_call(event, call, level=level, **described(fault, messages=False))
