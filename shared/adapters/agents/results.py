"""What a tool returned, as the text or the content parts for the model.

The tool took effect when it returned, so its call is completed, even if its result cannot be shown.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, SupportsFloat

from shared.adapters.agents.raised import log_call, log_raised, on_purpose, told, type_of
from shared.agent import ToolError
from shared.core.calls import CallStatus, ToolCall, ToolResult
from shared.core.limits import MAX_TOOL_OUTPUT_BYTES
from shared.core.text import clipped, representable
from shared.faults import class_name

# The longest message that is sent to the model instead of a result.
MAX_MESSAGE_CHARACTERS = 1000
# The content parts that the Responses API accepts as the output of a function call. A part needs one of these
# properties. Each that it has is a text.
_PARTS: Mapping[str, frozenset[str]] = {
    "input_text": frozenset({"text"}),
    "input_image": frozenset({"image_url", "file_id"}),
    "input_file": frozenset({"file_data", "file_id", "file_url"}),
}


class _TooLarge(Exception):
    """A result is longer than the limit."""


def completed(call: ToolCall, value: object) -> ToolResult:
    """Return the result of a call whose tool returned `value`.

    Raises nothing, whatever the value and its methods do.
    """
    try:
        output, parts = _output(value)
    except _TooLarge as error:
        log_call("tool.result_too_large", call, level=logging.WARNING)
        output, parts = _not_shown("result_too_large", str(error)), False
    except BaseException as error:  # noqa: BLE001 - the methods of the value may raise anything, also SystemExit
        level = logging.WARNING if on_purpose(error) else logging.ERROR
        log_raised("tool.result_not_shown", error, call, level=level)
        output, parts = _not_shown("invalid_result", _reason(error)), False
    return ToolResult(call.call_id, CallStatus.COMPLETED, output, parts=parts)


def _output(value: object) -> tuple[str, bool]:
    """Return the text for the model, and whether it is the JSON text of content parts."""
    text, parts = (str.__str__(value), False) if isinstance(value, str) else _json(value)
    text = representable(text)
    if len(text.encode()) > MAX_TOOL_OUTPUT_BYTES:
        raise _TooLarge(f"it is longer than {MAX_TOOL_OUTPUT_BYTES} bytes. Request less")
    return text, parts


def _json(value: object) -> tuple[str, bool]:
    """Return a value as JSON text, and whether it is content parts. Raises whatever its methods raise."""
    from pydantic_core import to_jsonable_python  # noqa: PLC0415 - makes cold starts slow

    if isinstance(value, Iterator):
        value = list(value)
    plain = to_jsonable_python(value, inf_nan_mode="constants", fallback=_known_to_json)
    text = _text(plain)
    if "NaN" in text or "Infinity" in text:
        plain = _finite(plain, _native(value))
        text = _text(plain)
    if _is_part(plain):
        return f"[{text}]", True
    return text, isinstance(plain, list) and bool(plain) and all(map(_is_part, plain))


def _text(plain: object) -> str:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _known_to_json(value: Any) -> object:
    """Return a value of another library, such as numpy, as Python's own types. Raises ToolError."""
    if callable(to_list := getattr(value, "tolist", None)) and type(listed := to_list()) is not type(value):
        return listed
    if isinstance(value, SupportsFloat):
        return float(value)
    raise ToolError(f"a value of the type {class_name(type(value))} cannot be written as JSON")


def _native(value: object) -> object:
    """Return the value with its models and dataclasses as dicts, and with its numbers as they are."""
    from pydantic_core import SchemaSerializer, core_schema  # noqa: PLC0415 - makes cold starts slow

    return SchemaSerializer(core_schema.any_schema()).to_python(
        value, fallback=_known_to_json, warnings=False
    )


def _finite(plain: Any, native: object) -> Any:
    """Return `plain` with null for each NaN and infinity.

    A Decimal is a text in `plain`. `native`, the same value before, shows which texts were a Decimal.
    """
    match plain:
        case float():
            return plain if math.isfinite(plain) else None
        case str():
            decimal = native.value if isinstance(native, Enum) else native
            return None if isinstance(decimal, Decimal) and not decimal.is_finite() else plain
        case list():
            return [_finite(*pair) for pair in zip(plain, _elements(native, plain), strict=True)]
        case dict():
            values = native.values() if isinstance(native, dict) else ()
            pairs = zip(plain, plain.values(), _elements([*values], plain), strict=True)
            return {name: _finite(each, before) for name, each, before in pairs}
    return plain


def _elements(native: object, plain: Sequence[Any] | Mapping[str, Any]) -> list[object]:
    """Return the elements of `native` that those of `plain` come from; None for each that is not known."""
    if isinstance(native, set | frozenset):
        # A copy of a set may have another order.
        by_text = {str(element): element for element in native}
        return [by_text.get(str(element)) for element in plain]
    same = isinstance(native, Sequence) and len(native) == len(plain)
    return list(native) if same else [None] * len(plain)  # type: ignore[call-overload]


def _is_part(value: object) -> bool:
    """Return whether a value is a content part that can be sent. Others would make the provider refuse the turn."""
    if not isinstance(value, dict) or not isinstance(kind := value.get("type"), str):
        return False
    given = [value[name] for name in _PARTS.get(kind, ()) if value.get(name) is not None]
    if not given or not all(isinstance(each, str) for each in given):
        return False
    # Only a text may be empty.
    return kind == "input_text" or any(given)


def _reason(error: BaseException) -> str:
    from pydantic_core import PydanticSerializationError  # noqa: PLC0415 - makes cold starts slow

    if type(error) is PydanticSerializationError and error.__cause__ is not None:
        # A serializer of a model raised this.
        error = error.__cause__
    return told(error) or f"writing it as JSON raised {type_of(error)}"


def _not_shown(code: str, reason: str) -> str:
    message = clipped(
        f"The tool took effect, but its result cannot be shown: {reason}.", MAX_MESSAGE_CHARACTERS
    )
    return json.dumps(
        {"result_not_shown": {"code": code, "message": representable(message)}}, ensure_ascii=False
    )
