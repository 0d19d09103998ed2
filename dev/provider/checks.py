"""Checks of single JSON values, with the error messages of the documented service."""

from typing import Any

from dev.provider.wire import ApiError


def check_type(name: str, value: Any, kinds: tuple[str, ...], *, nullable: bool = True) -> None:
    if value is None and nullable:
        return
    kind = _kind(value)
    if kind in kinds or (kind == "integer" and "number" in kinds):
        return
    expected = " or ".join(_with_article("decimal" if one == "number" else one) for one in kinds)
    message = f"Invalid type for '{name}': expected {expected}, but got {_a(value)} instead."
    raise ApiError(400, message, name, "invalid_type")


def check_length(name: str, value: str, limit: int) -> None:
    if len(value) > limit:
        message = (
            f"Invalid '{name}': string too long. Expected a string with maximum length {limit}, "
            f"but got a string with length {len(value)} instead."
        )
        raise ApiError(400, message, name, "string_above_max_length")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _a(value: Any) -> str:
    kind = _kind(value)
    return "null" if kind == "null" else _with_article("decimal" if kind == "number" else kind)


def _with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeio" else "a ") + noun
