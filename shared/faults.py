"""What a log may say of an exception: its type, where it was raised, and what caused it.

Nothing here raises, whatever the exception's class does: a class may have its own `__str__`, and properties and a
metaclass that hide the attributes of exceptions.
"""

from collections.abc import Iterator
from types import TracebackType
from typing import Any

from shared.core.text import clipped, is_name, without_keys

# Of a longer traceback the outermost and the innermost frames are logged. They show who called, and what failed.
MAX_FRAMES = 16
# An exception, what it contains if it is a group, and their causes.
MAX_FAULTS = 4
MAX_MESSAGE_CHARACTERS = 500
# The longest name of a file or a function.
MAX_PLACE_CHARACTERS = 80
# Searching a longer text for keys would take too long, and less than this is logged.
_SEARCHED_CHARACTERS = 20 * MAX_MESSAGE_CHARACTERS


def class_name(kind: type) -> str:
    """Return the name of a class, or of its nearest base class with a plain name.

    A name that a program made may be long, and contain anything.
    """
    names = (str.__str__(_own(type, "__name__", each)) for each in _own(type, "__mro__", kind))
    return next(filter(is_name, names))


def message_of(fault: BaseException) -> str:
    """Return the message of an exception; an empty text if it cannot be read."""
    try:
        return str.__str__(str(fault))
    except BaseException:  # noqa: BLE001 - `__str__` may raise anything, also SystemExit
        return ""


def short_message(fault: BaseException, characters: int = MAX_MESSAGE_CHARACTERS) -> str:
    """Return the message of an exception for the log: short, and without what looks like a key."""
    return clipped(without_keys(message_of(fault)[:_SEARCHED_CHARACTERS]), characters)


def described(fault: BaseException, *, messages: bool) -> dict[str, object]:
    """Return the fields that describe an exception in the log. They have texts only with `messages`."""
    first, *others = [_described(each, messages) for each in _with_causes(fault)]
    return first | {"causes": others} if others else first


def _described(fault: BaseException, messages: bool) -> dict[str, object]:
    message = {"message": short_message(fault)} if messages else {}
    return {"type": class_name(type(fault)), **message, "frames": _frames(fault)}


def _frames(fault: BaseException) -> list[str]:
    """Return where an exception came by, the place where it was raised last. No place has a message or a folder."""
    found = [*_places(_own(BaseException, "__traceback__", fault))]
    if len(found) > MAX_FRAMES:
        half = MAX_FRAMES // 2
        found = [*found[:half], "…", *found[-half:]]
    return found


def _places(trace: TracebackType | None) -> Iterator[str]:
    while trace:
        code = trace.tb_frame.f_code
        file = code.co_filename.replace("\\", "/").rpartition("/")[2]
        name = clipped(code.co_name, MAX_PLACE_CHARACTERS)
        yield f"{clipped(file, MAX_PLACE_CHARACTERS)}:{trace.tb_lineno} {name}"
        trace = trace.tb_next


def _with_causes(fault: BaseException) -> list[BaseException]:
    """Return an exception, and then what it contains and what caused it, the nearest first."""
    found = [fault]
    for each in found:
        if len(found) < MAX_FAULTS:
            found += _behind(each)
    return found[:MAX_FAULTS]


def _behind(fault: BaseException) -> Iterator[BaseException]:
    if issubclass(type(fault), BaseExceptionGroup):
        yield from _own(BaseExceptionGroup, "exceptions", fault)[:MAX_FAULTS]
    cause = _own(BaseException, "__cause__", fault)
    if cause is None and not _own(BaseException, "__suppress_context__", fault):
        cause = _own(BaseException, "__context__", fault)
    if cause is not None:
        yield cause


def _own(kind: type, name: str, value: object) -> Any:
    """Return an attribute as `kind` defines it, although the class of `value` may define another."""
    return kind.__dict__[name].__get__(value)
