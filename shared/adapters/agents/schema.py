"""A tool's parameters as JSON schema, and the model's arguments checked against them.

Import this module only for an agent that has tools: it imports pydantic, which is slow.
"""

import copy
import inspect
import json
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from shared.adapters.agents.raised import told, type_of
from shared.agent import IdempotencyKey, Tool, ToolError
from shared.core.structure import has_more_marks, nests_deeper, read_json

MAX_ARGUMENT_BYTES = 1024 * 1024
MAX_ARGUMENT_MARKS = 20_000
# How many faults of arguments are described to the model.
MAX_FAULTS = 20
# About as deep as Python can read.
_MAX_NESTING = 500
_NESTED = "the arguments are nested too deeply"

Schema = dict[str, Any]

# The keywords of OpenAI's strict dialect, documented under "Supported schemas" of Structured Outputs.
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
# The strict dialect refuses or ignores these. They can be left out, because pydantic fills in defaults.
_DROPPED = frozenset({"default", "title"})

# What some models send when there are no arguments.
_NO_ARGUMENTS = frozenset({"", "null"})


class BadArguments(Exception):
    """The model's arguments do not fit the tool. The message is for the model."""


class NotStrict(Exception):
    """The strict dialect cannot express a schema. The message names what it cannot express."""


class ToolSchema:
    """The definition of a tool for the model, and the check of the model's arguments.

    Raises TypeError when a parameter's type cannot be resolved, or has no JSON schema.
    """

    def __init__(self, tool: Tool[..., Any]) -> None:
        try:
            hints = get_type_hints(tool.function, include_extras=True)
            parameters = inspect.signature(tool.function).parameters
            self._keys = [name for name in parameters if hints[name] is IdempotencyKey]
            visible = [parameter for name, parameter in parameters.items() if name not in self._keys]
            self._names = {each.name for each in visible}
            self._defaults = {each.name: each.default for each in visible if each.default is not each.empty}
            self._adapter = _adapter(
                {each.name: _annotation(each, hints[each.name], tool.parameters) for each in visible}
            )
            loose = self._adapter.json_schema()
        except Exception as error:  # an annotation is evaluated, so it may raise anything
            raise TypeError(f"Tool {tool.name}: {_culprit(tool)}") from error
        try:
            schema, strict = strict_schema(loose), True
        except NotStrict:
            schema, strict = loose, False
        self.definition: Schema = {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": schema,
            "strict": strict,
        }

    def _check(self, text: str) -> None:
        """Refuse what pydantic accepts, or would explain at length."""
        unknown = _read_json(text).keys() - self._names
        if len(unknown) > MAX_FAULTS:
            raise BadArguments(f"there are no parameters with {len(unknown)} of these names")

    def arguments(self, text: str, idempotency_key: str) -> dict[str, Any]:
        """Return the arguments for the tool's function. Raises BadArguments."""
        return self._given(text) | dict.fromkeys(self._keys, IdempotencyKey(idempotency_key))

    def complete(self, text: str) -> dict[str, Any]:
        """Return the arguments with the defaults of those that were left out, and without keys. Raises BadArguments.

        The defaults are copies: whoever changes them does not change those of the tool's function.
        """
        given = self._given(text)
        left_out = {name: value for name, value in self._defaults.items() if name not in given}
        return given | copy.deepcopy(left_out)

    def _given(self, text: str) -> dict[str, Any]:
        text = text.strip()
        if text in _NO_ARGUMENTS:
            text = "{}"
        self._check(text)
        reason = ""
        try:
            given = self._adapter.validate_json(text)
        except ToolError as error:
            reason = told(error) or "a check of the arguments failed"
        except ValidationError as error:
            reason = _reason(error)
        if reason:
            # Not inside of an `except`, because what is raised there keeps the fault with all its details.
            raise BadArguments(reason)
        # With a strict schema the model must send every property, and null means the default.
        return {
            name: value for name, value in given.items() if value is not None or name not in self._defaults
        }


def _culprit(tool: Tool[..., Any]) -> str:
    """Return which parameter of a tool has no JSON schema, and why."""
    for name, annotation in tool.function.__annotations__.items():
        if name == "return":
            continue
        try:
            hint = _hint(tool, annotation)
            if hint is not IdempotencyKey:
                TypeAdapter(hint).json_schema()
        except Exception as error:  # noqa: BLE001 - an annotation is evaluated, so it may raise anything
            reason = _why_not(error)
            return f"its parameter {name} has a type that cannot be described to a model: {reason}"
    return "its parameters cannot be described to a model"


def _why_not(error: Exception) -> str:
    """Return why a type has no schema. Pydantic's advice, a setting of models, does not help the author of a tool."""
    reason = str(error).partition("\n")[0]
    if "arbitrary_types_allowed" in reason:
        known = "a type with a JSON schema, such as str, list[int] or a pydantic model"
        return f"{reason.partition('. ')[0]}. Use {known}, and make the object of it in the tool."
    return reason


def _hint(tool: Tool[..., Any], annotation: Any) -> Any:
    """Return the type that an annotation means, which may be written as a text."""

    def holder() -> None:
        pass

    holder.__annotations__ = {"hint": annotation}
    names = getattr(tool.function, "__globals__", {})
    return get_type_hints(holder, globalns=names, include_extras=True)["hint"]


def _adapter(fields: Mapping[str, Any]) -> TypeAdapter[Any]:
    # A TypedDict and not a model, because a model cannot have fields such as `schema`, `copy` or `_x`.
    arguments: Any = TypedDict("arguments", dict(fields))  # type: ignore[misc]
    return TypeAdapter(with_config(extra="forbid", allow_inf_nan=False)(arguments))


def _annotation(parameter: inspect.Parameter, hint: Any, descriptions: Mapping[str, str]) -> Any:
    description = descriptions.get(parameter.name, "")
    if parameter.default is parameter.empty:
        return Annotated[hint, Field(description=description or None)]
    if isinstance(parameter.default, str | int | float):
        description = f"{description} Null means {json.dumps(parameter.default)}.".strip()
    return NotRequired[Annotated[hint | None, Field(description=description or None)]]


def strict_schema(node: Schema) -> Schema:
    """Return a schema in OpenAI's strict dialect: closed objects whose properties are all required.

    Raises NotStrict when the strict dialect cannot express the schema.
    """
    strict = {key: value for key, value in node.items() if key not in _DROPPED}
    if not _expressible(strict):
        raise NotStrict(_shown(node))
    for key in strict.keys() & {"$defs", "properties"}:
        strict[key] = {name: strict_schema(value) for name, value in strict[key].items()}
    if "items" in strict:
        strict["items"] = strict_schema(strict["items"])
    if "anyOf" in strict:
        strict["anyOf"] = [strict_schema(value) for value in strict["anyOf"]]
    if strict.get("type") == "object":
        strict |= {"required": [*strict["properties"]], "additionalProperties": False}
    if "$ref" in strict and len(strict) > 1:
        # The strict dialect allows no other keyword beside `$ref`.
        strict["anyOf"] = [{"$ref": strict.pop("$ref")}]
    return strict


def _shown(node: Schema) -> str:
    if node.get("type") == "object" and "properties" not in node:
        return "an object whose names are not known"
    if node.keys() <= {"title", "description", "default"}:
        return "a value of any type"
    other = sorted(node.keys() - _STRICT_KEYWORDS - _DROPPED)
    return f"a value with {', '.join(other)}" if other else f"a value of the type {node.get('type', 'any')}"


def _expressible(node: Schema) -> bool:
    """Return whether the strict dialect allows this node, without regard to the nodes below it."""
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
        # The strict dialect has no look-around in patterns.
        and "(?" not in node.get("pattern", "")
    )


def _reason(error: ValidationError) -> str:
    """Return what is wrong with arguments. To describe thousands of faults would take seconds."""
    if error.error_count() > MAX_FAULTS:
        return f"{error.error_count()} values do not fit the parameters"
    return "; ".join(map(_describe, error.errors(include_url=False, include_input=False)))


def _read_json(text: str) -> dict[str, Any]:
    """Return the arguments. Refuse what pydantic accepts: what `read_json` refuses, and texts that are too long."""
    try:
        encoded = text.encode()
        if len(encoded) > MAX_ARGUMENT_BYTES:
            raise BadArguments(f"the arguments are longer than {MAX_ARGUMENT_BYTES} bytes")
        if has_more_marks(encoded, MAX_ARGUMENT_MARKS):
            deep = nests_deeper(encoded, _MAX_NESTING, marks=MAX_ARGUMENT_MARKS)
            raise BadArguments(
                _NESTED if deep else f"the arguments have more than {MAX_ARGUMENT_MARKS} brackets and commas"
            )
        value = read_json(text)
    except RecursionError:
        raise BadArguments(_NESTED) from None
    except ValueError as error:
        raise BadArguments(f"the arguments are not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadArguments("the arguments must be a JSON object")
    return value


def _describe(fault: Mapping[str, Any]) -> str:
    location, message = ".".join(map(str, fault["loc"])), fault["msg"]
    raised = fault.get("ctx", {}).get("error")
    if isinstance(raised, BaseException):
        # A validator of the author raised this ValueError or AssertionError, and pydantic repeats its text. It may come
        # from a library that the validator called, and quote what the model must not see, so the rule for tools holds.
        message = told(raised) or f"a check of this value raised {type_of(raised)}"
    return f"{location}: {message}" if location else str(message)
