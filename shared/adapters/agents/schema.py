"""A tool's parameters as JSON schema, and the model's arguments checked against them.

Import this late: it brings in pydantic.
"""

import inspect
import json
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError, with_config
from pydantic.errors import PydanticUserError
from typing_extensions import TypedDict

from shared.agent import IdempotencyKey, Tool

MAX_ARGUMENT_BYTES = 1024 * 1024

Schema = dict[str, Any]

# What OpenAI's strict dialect knows, as documented under "Supported schemas" of Structured Outputs.
_STRICT_KEYWORDS = frozenset(
    {
        *(
            "$defs",
            "$ref",
            "additionalProperties",
            "anyOf",
            "const",
            "description",
            "enum",
            "exclusiveMaximum",
        ),
        *("exclusiveMinimum", "format", "items", "maxItems", "maximum", "minItems", "minimum", "multipleOf"),
        *("pattern", "properties", "required", "type"),
    }
)
_STRICT_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"}
)
# Refused or useless there, and safe to leave out: pydantic fills in defaults itself.
_DROPPED = frozenset({"default", "title"})


class BadArguments(Exception):
    """The model's arguments do not fit the tool. The message is for the model."""


class _NotStrict(Exception):
    """The strict dialect cannot express a schema."""


class ToolSchema:
    """What the model is told of a tool (`definition`), and the way back (`arguments`).

    Raises TypeError when a parameter's type cannot be resolved, or cannot come as JSON.
    """

    def __init__(self, tool: Tool[..., Any]) -> None:
        try:
            hints = get_type_hints(tool.function, include_extras=True)
            parameters = inspect.signature(tool.function).parameters
            self._keys = [name for name in parameters if hints[name] is IdempotencyKey]
            visible = [parameter for name, parameter in parameters.items() if name not in self._keys]
            self._optional = {each.name for each in visible if each.default is not each.empty}
            self._adapter = _adapter(
                {each.name: _annotation(each, hints[each.name], tool.parameters) for each in visible}
            )
            loose = self._adapter.json_schema()
        except (NameError, PydanticUserError) as error:
            raise TypeError(f"Tool {tool.name}: its parameters have no JSON schema: {error}") from error
        try:
            schema, strict = _strict(loose), True
        except _NotStrict:
            schema, strict = loose, False
        self.definition: Schema = {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": schema,
            "strict": strict,
        }

    def arguments(self, text: str, idempotency_key: str) -> dict[str, Any]:
        """Return what to call the tool's function with. Raises BadArguments."""
        # Some models send nothing at all where there is nothing to send.
        text = text.strip() or "{}"
        _check_json(text)
        try:
            given = self._adapter.validate_json(text)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            raise BadArguments("; ".join(map(_describe, faults))) from None
        # A strict schema leaves nothing out: null stands for the default.
        arguments = {
            name: value for name, value in given.items() if value is not None or name not in self._optional
        }
        return arguments | dict.fromkeys(self._keys, IdempotencyKey(idempotency_key))


def _adapter(fields: Mapping[str, Any]) -> TypeAdapter[Any]:
    # A TypedDict rather than a model: parameters may be called `schema`, `copy` or `_x`.
    arguments: Any = TypedDict("arguments", dict(fields))  # type: ignore[misc]
    return TypeAdapter(with_config(extra="forbid", allow_inf_nan=False)(arguments))


def _annotation(parameter: inspect.Parameter, hint: Any, descriptions: Mapping[str, str]) -> Any:
    description = descriptions.get(parameter.name, "")
    if parameter.default is parameter.empty:
        return Annotated[hint, Field(description=description or None)]
    if isinstance(parameter.default, str | int | float):
        description = f"{description} Null means {json.dumps(parameter.default)}.".strip()
    return NotRequired[Annotated[hint | None, Field(description=description or None)]]


def _strict(node: Schema) -> Schema:
    """Return a schema in OpenAI's strict dialect: closed objects whose properties are all required.

    Raises _NotStrict when that cannot say the same.
    """
    strict = {key: value for key, value in node.items() if key not in _DROPPED}
    if not _expressible(strict):
        raise _NotStrict
    for key in strict.keys() & {"$defs", "properties"}:
        strict[key] = {name: _strict(value) for name, value in strict[key].items()}
    if "items" in strict:
        strict["items"] = _strict(strict["items"])
    if "anyOf" in strict:
        strict["anyOf"] = [_strict(value) for value in strict["anyOf"]]
    if strict.get("type") == "object":
        strict |= {"required": [*strict["properties"]], "additionalProperties": False}
    if "$ref" in strict and len(strict) > 1:
        # A reference may have no description beside it.
        strict["anyOf"] = [{"$ref": strict.pop("$ref")}]
    return strict


def _expressible(node: Schema) -> bool:
    """Say whether the strict dialect has this node, whatever is below it."""
    match node.get("type"):
        case "object":
            complete = "properties" in node and node.get("additionalProperties", False) is False
        case "array":
            complete = "items" in node
        case None:
            complete = "anyOf" in node or "$ref" in node
        case _:
            complete = True
    return (
        complete
        and node.keys() <= _STRICT_KEYWORDS
        and ("format" not in node or node["format"] in _STRICT_FORMATS)
        # It has no look-around.
        and "(?" not in node.get("pattern", "")
    )


def _check_json(text: str) -> None:
    """Refuse what pydantic would let pass: duplicate keys, NaN, and texts too long to be arguments."""
    try:
        if len(text.encode()) > MAX_ARGUMENT_BYTES:
            raise BadArguments(f"the arguments are longer than {MAX_ARGUMENT_BYTES} bytes")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadArguments("the arguments are nested too deeply") from None
    except ValueError as error:
        raise BadArguments(f"the arguments are not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadArguments("the arguments must be a JSON object")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _describe(fault: Mapping[str, Any]) -> str:
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])
