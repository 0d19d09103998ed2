"""Checks of a create request that the documented service makes and the engine does not."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dev.provider.wire import ApiError, Json

MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512
MAX_INPUT_CHARACTERS = 10_485_760
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

# Parameter: kinds of JSON value it takes, after null.
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "background": ("boolean",),
    "context_management": ("array",),
    "conversation": ("string", "object"),
    "include": ("array",),
    "input": ("string", "array"),
    "instructions": ("string",),
    "max_output_tokens": ("integer",),
    "max_tool_calls": ("integer",),
    "metadata": ("object",),
    "model": ("string",),
    "moderation": ("object",),
    "parallel_tool_calls": ("boolean",),
    "previous_response_id": ("string",),
    "prompt": ("object",),
    "prompt_cache_key": ("string",),
    "prompt_cache_options": ("object",),
    "prompt_cache_retention": ("string",),
    "reasoning": ("object",),
    "safety_identifier": ("string",),
    "service_tier": ("string",),
    "store": ("boolean",),
    "stream": ("boolean",),
    "stream_options": ("object",),
    "temperature": ("number",),
    "text": ("object",),
    "tool_choice": ("string", "object"),
    "tools": ("array",),
    "top_logprobs": ("integer",),
    "top_p": ("number",),
    "truncation": ("string",),
    "user": ("string",),
}
_LIMITS: Mapping[str, tuple[float, float]] = {
    "max_output_tokens": (16, float("inf")),
    "max_tool_calls": (1, float("inf")),
    "temperature": (0, 2),
    "top_logprobs": (0, 20),
    "top_p": (0, 1),
}


def check_request(request: Any) -> None:
    """Raise ApiError for the first thing wrong with a create request taken by itself."""
    if not isinstance(request, dict):
        raise ApiError(
            400, f"Invalid type for request body: expected an object, but got {_a(request)} instead."
        )
    for name, value in request.items():
        if name not in _PARAMETERS:
            raise ApiError(400, f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        check_type(name, value, _PARAMETERS[name])
        _check_limit(name, value)
    for name in ("model", "input"):
        if not request.get(name):
            message = f"Missing required parameter: '{name}'."
            raise ApiError(400, message, name, "missing_required_parameter")
    _check_combinations(request)
    _check_metadata(request.get("metadata") or {})
    _check_tools(request.get("tools") or [])
    if isinstance(request["input"], str):
        _check_length("input", request["input"], MAX_INPUT_CHARACTERS)


def _check_combinations(request: Json) -> None:
    if request.get("background") and request.get("store") is False:
        raise ApiError(400, "Background responses require 'store' to be true.", "store", "invalid_value")
    if request.get("conversation") and request.get("previous_response_id"):
        message = "Mutually exclusive parameters: 'conversation' and 'previous_response_id'."
        raise ApiError(400, message, code="mutually_exclusive_parameters")
    if request.get("conversation"):
        raise ApiError(404, "The emulator keeps no conversations.", "conversation")
    if request.get("stream_options") and not request.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise ApiError(400, message, "stream_options", "invalid_value")


def _check_metadata(metadata: Json) -> None:
    if len(metadata) > MAX_METADATA_PAIRS:
        message = (
            f"Invalid 'metadata': too many properties. Expected an object with at most {MAX_METADATA_PAIRS} "
            f"properties, but got an object with {len(metadata)} properties instead."
        )
        raise ApiError(400, message, "metadata", "object_above_max_properties")
    for key, value in metadata.items():
        if len(key) > MAX_METADATA_KEY:
            message = f"Invalid property name in 'metadata': '{key[:MAX_METADATA_KEY]}...' is too long."
            raise ApiError(400, message, "metadata", "property_name_above_max_length")
        check_type(f"metadata.{key}", value, ("string",), nullable=False)
        _check_length(f"metadata.{key}", value, MAX_METADATA_VALUE)


def _check_tools(tools: Sequence[Any]) -> None:
    for index, tool in enumerate(tools):
        at = f"tools[{index}]"
        check_type(at, tool, ("object",), nullable=False)
        if tool.get("type") != "function":
            continue
        name = tool.get("name")
        if not name:
            message = f"Missing required parameter: '{at}.name'."
            raise ApiError(400, message, f"{at}.name", "missing_required_parameter")
        if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
            message = f"Invalid '{at}.name': expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
            raise ApiError(400, message, f"{at}.name", "invalid_value")
        check_type(f"{at}.parameters", tool.get("parameters"), ("object",))
        if tool.get("strict", True):
            _check_strict_schema(name, tool.get("parameters") or {}, (), f"{at}.parameters")


def _check_strict_schema(name: str, schema: Any, context: tuple[str, ...], param: str) -> None:
    """A strict function demands closed objects whose properties are all required."""
    if not isinstance(schema, dict):
        return
    why = _schema_fault(schema, is_root=not context)
    if why:
        message = f"Invalid schema for function '{name}': In context={context}, {why}"
        raise ApiError(400, message, param, "invalid_function_parameters")
    for path, inner in _inner_schemas(schema):
        _check_strict_schema(name, inner, (*context, *path), param)


def _schema_fault(schema: Json, *, is_root: bool) -> str | None:
    properties = schema.get("properties") or {}
    if not is_root and schema.get("type") != "object" and not properties:
        return None
    if schema.get("type") != "object":
        return "schema must be a JSON Schema of 'type: \"object\"'."
    if schema.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    missing = [key for key in properties if key not in (schema.get("required") or ())]
    if missing:
        return (
            "'required' is required to be supplied and to be an array including every key in properties. "
            f"Missing '{missing[0]}'."
        )
    return None


def _inner_schemas(schema: Json) -> Iterator[tuple[tuple[str, ...], Any]]:
    for group in ("properties", "$defs"):
        inner = schema.get(group)
        for key, value in inner.items() if isinstance(inner, dict) else ():
            yield (group, key), value
    yield ("items",), schema.get("items")
    choices = schema.get("anyOf")
    for number, value in enumerate(choices if isinstance(choices, list) else ()):
        yield ("anyOf", str(number)), value


def check_type(name: str, value: Any, kinds: tuple[str, ...], *, nullable: bool = True) -> None:
    if value is None and nullable:
        return
    kind = _kind(value)
    if kind in kinds or (kind == "integer" and "number" in kinds):
        return
    expected = " or ".join(_with_article("decimal" if one == "number" else one) for one in kinds)
    message = f"Invalid type for '{name}': expected {expected}, but got {_a(value)} instead."
    raise ApiError(400, message, name, "invalid_type")


def _check_limit(name: str, value: Any) -> None:
    if value is None or name not in _LIMITS:
        return
    low, high = _LIMITS[name]
    kind = "integer" if isinstance(value, int) else "decimal"
    if value < low:
        message = f"Invalid '{name}': {kind} below minimum value. Expected a value >= {low}, but got {value} instead."
        raise ApiError(400, message, name, f"{kind}_below_min_value")
    if value > high:
        message = f"Invalid '{name}': {kind} above maximum value. Expected a value <= {high}, but got {value} instead."
        raise ApiError(400, message, name, f"{kind}_above_max_value")


def _check_length(name: str, value: str, limit: int) -> None:
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
