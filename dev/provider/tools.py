"""Checks of the tools that a request offers."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from jsonschema import Draft202012Validator, SchemaError

from dev.provider.checks import check_type
from dev.provider.wire import ApiError, Json

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check_tools(tools: Sequence[Any]) -> None:
    for index, tool in enumerate(tools):
        at = f"tools[{index}]"
        check_type(at, tool, ("object",), nullable=False)
        if tool.get("type") != "function":
            continue
        name = tool.get("name")
        if not name:
            message = f"Missing required parameter: '{at}.name'."
            raise ApiError(400, message, f"{at}.name", "missing_required_parameter")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            message = f"Invalid '{at}.name': expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
            raise ApiError(400, message, f"{at}.name", "invalid_value")
        check_type(f"{at}.parameters", tool.get("parameters"), ("object",))
        _check_schema(name, tool, f"{at}.parameters")


def _check_schema(name: str, tool: Json, param: str) -> None:
    schema = tool.get("parameters") or {}
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        message = f"Invalid schema for function '{name}': {error.message}."
        raise ApiError(400, message, param, "invalid_function_parameters") from None
    if tool.get("strict", True):
        _check_strict_schema(name, schema, (), param)


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
    properties = schema.get("properties", {})
    if not is_root and schema.get("type") != "object" and not properties:
        return None
    if schema.get("type") != "object":
        return "schema must be a JSON Schema of 'type: \"object\"'."
    if schema.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    missing = [key for key in properties if key not in schema.get("required", ())]
    if missing:
        return (
            "'required' is required to be supplied and to be an array including every key in properties. "
            f"Missing '{missing[0]}'."
        )
    return None


def _inner_schemas(schema: Json) -> Iterator[tuple[tuple[str, ...], Any]]:
    for group in ("properties", "$defs"):
        for key, inner in schema.get(group, {}).items():
            yield (group, key), inner
    yield ("items",), schema.get("items")
    for number, inner in enumerate(schema.get("anyOf", ())):
        yield ("anyOf", str(number)), inner
