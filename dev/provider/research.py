"""The novelist's first turn: calls of its two tools, with arguments that fit the schemas offered."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dev.provider.script import Call
from dev.provider.wire import Json

_MAX_DEPTH = 4
_ROLES = ("commander", "navigator", "xenobiologist", "engineer", "physician")


def research_calls(names: Sequence[str], offered: Mapping[str, Json], topic: str) -> tuple[Call, ...]:
    """Return one call per named tool."""
    calls = []
    for name in names:
        schema = {"type": "object", **(offered[name].get("parameters") or {})}
        calls.append(Call(name, json.dumps(_value("", schema, topic, schema), ensure_ascii=False)))
    return tuple(calls)


def _value(name: str, schema: Any, topic: str, root: Json, depth: int = 0) -> Any:
    """Return a sensible value for a schema; `name` is the property it belongs to."""
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    match _kind(schema):
        case "object":
            properties = schema.get("properties", {})
            required = schema.get("required", list(properties))
            return {
                key: _value(key, properties[key], topic, root, depth + 1)
                for key in required
                if key in properties
            }
        case "array":
            return _list(name, schema, topic, root, depth)
        case "integer" | "number":
            return min(max(4, schema.get("minimum", 1)), schema.get("maximum", 100))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return topic


def _list(name: str, schema: Json, topic: str, root: Json, depth: int) -> list[Any]:
    items = _resolve(schema.get("items", {"type": "string"}), root)
    if items.get("type") == "string" and "role" in name:
        return list(_ROLES)
    # A schema may contain itself.
    return [] if depth > _MAX_DEPTH else [_value(name, items, topic, root, depth + 1)]


def _kind(schema: Json) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        return next((one for one in kind if one != "null"), "null")
    return kind


def _resolve(schema: Any, root: Json) -> Json:
    """Follow a reference into $defs and take the first choice that is not null."""
    if not isinstance(schema, dict):
        return {}
    if "$ref" in schema:
        schema = root.get("$defs", {}).get(schema["$ref"].rsplit("/", 1)[-1], {})
    choices = [one for one in schema.get("anyOf", ()) if isinstance(one, dict) and one.get("type") != "null"]
    if choices:
        schema = choices[0]
    return schema if isinstance(schema, dict) else {}
