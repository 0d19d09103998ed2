"""The novelist's opening move: calls of its two tools, with arguments that fit the schemas offered."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dev.provider.script import Call
from dev.provider.wire import Json

_ROLES = ("commander", "navigator", "xenobiologist", "engineer", "physician")


def research_calls(names: Sequence[str], offered: Mapping[str, Json], topic: str) -> tuple[Call, ...]:
    """Return one call per named tool."""
    calls = []
    for name in names:
        schema = {"type": "object", **(offered[name].get("parameters") or {})}
        calls.append(Call(name, json.dumps(_value("", schema, topic, schema), ensure_ascii=False)))
    return tuple(calls)


def _value(name: str, schema: Json, topic: str, root: Json) -> Any:
    """Return a sensible value for a schema; `name` is the property it belongs to."""
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    match kind:
        case "object":
            properties = schema.get("properties", {})
            required = schema.get("required", list(properties))
            return {key: _value(key, properties[key], topic, root) for key in required if key in properties}
        case "array":
            return _list(name, schema, topic, root)
        case "integer" | "number":
            return min(max(4, schema.get("minimum", 1)), schema.get("maximum", 100))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return topic


def _list(name: str, schema: Json, topic: str, root: Json) -> list[Any]:
    items = schema.get("items", {"type": "string"})
    if _resolve(items, root).get("type") == "string" and "role" in name:
        return list(_ROLES)
    return [_value(name, items, topic, root)]


def _resolve(schema: Json, root: Json) -> Json:
    if "$ref" in schema:
        return dict(root.get("$defs", {}).get(schema["$ref"].rsplit("/", 1)[-1], {}))
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            return _resolve(choice, root)
    return schema
