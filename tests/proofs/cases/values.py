"""Checks of values in JSON. A path such as `output.0.type` names a value; a list is entered by position."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MISSING = "(missing)"


def at(value: Any, path: str) -> Any:
    """Return the value at a path, or `MISSING`."""
    for step in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and step.lstrip("-").isdigit() and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            return MISSING
    return value


def equal(value: Any, wanted: Mapping[str, Any]) -> Iterator[str]:
    for path, one in wanted.items():
        found = at(value, path)
        if found != one or isinstance(found, bool) is not isinstance(one, bool):
            yield f"{path} is {found!r} and not {one!r}"


def contain(value: Any, wanted: Mapping[str, str]) -> Iterator[str]:
    for path, piece in wanted.items():
        if piece not in str(at(value, path)):
            yield f"{path} is {at(value, path)!r}, without {piece!r}"


def end(value: Any, wanted: Mapping[str, str]) -> Iterator[str]:
    for path, piece in wanted.items():
        if not str(at(value, path)).endswith(piece):
            yield f"{path} does not end in {piece!r}: {at(value, path)!r}"


def null(value: Any, paths: Iterable[str]) -> Iterator[str]:
    """Say which values are missing or not null."""
    for path in paths:
        if at(value, path) is not None:
            yield f"{path} is {at(value, path)!r} and not null"


def nothing(value: Any, paths: Iterable[str]) -> Iterator[str]:
    """Say which values are neither missing nor null nor 0."""
    for path in paths:
        if at(value, path) not in (None, 0, MISSING):
            yield f"{path} is {at(value, path)!r}, though nothing is known of it"


def given(value: Any, paths: Iterable[str]) -> Iterator[str]:
    """Say which values are missing, null, empty or 0."""
    for path in paths:
        if at(value, path) in (None, "", 0, MISSING):
            yield f"{path} is {at(value, path)!r}"


def counted(what: str, found: int, wanted: int | Mapping[str, int]) -> Iterator[str]:
    """Say when a number is not as wanted: a number, or the least and the most that it may be."""
    bounds = {"least": wanted, "most": wanted} if isinstance(wanted, int) else wanted
    if not bounds.get("least", 0) <= found <= bounds.get("most", found):
        yield f"{what}: {found} and not {wanted}"
