"""Parse the tools of a start request: function tools that the caller runs. Errors are as in `parse`."""

import json
from collections.abc import Mapping
from typing import Any

from shared.core.text import is_name
from shared.errors import InvalidInput, TooLarge
from shared.usecases.start import CallerTools

MAX_CALLER_TOOLS = 64
# All definitions together, as JSON.
MAX_CALLER_TOOLS_BYTES = 256 * 1024

_FIELDS = frozenset({"type", "name", "description", "parameters", "strict"})
_NO_PARAMETERS = {"type": "object", "properties": {}}


def caller_tools(given: Any) -> CallerTools | None:
    """Return the tools of a start request. None when it brings none."""
    if given is None or given == []:
        return None
    if not isinstance(given, list) or not all(isinstance(tool, dict) for tool in given):
        raise _invalid("tools must be a list of function tools")
    if len(given) > MAX_CALLER_TOOLS:
        raise TooLarge(f"tools has more than {MAX_CALLER_TOOLS} tools.", code="too_many_tools", field="tools")
    definitions = [_definition(tool, f"tools[{position}]") for position, tool in enumerate(given)]
    names = frozenset(str(each["name"]) for each in definitions)
    if len(names) < len(definitions):
        raise _invalid("two of the tools have the same name")
    text = json.dumps(definitions, ensure_ascii=False)
    if len(text.encode()) > MAX_CALLER_TOOLS_BYTES:
        raise TooLarge(
            f"tools has more than {MAX_CALLER_TOOLS_BYTES // 1024} KiB.", code="tools_too_long", field="tools"
        )
    return CallerTools(names, text)


def _definition(tool: Mapping[str, Any], place: str) -> dict[str, object]:
    """Return the definition of a tool as it is sent to providers."""
    if tool.get("type") != "function":
        raise _invalid(f"{place} must have the type function: the caller can run no other tools")
    if "function" in tool:
        raise _invalid(f"{place} has the shape of Chat Completions: put name and parameters beside its type")
    if unknown := sorted(set(tool) - _FIELDS):
        raise _invalid(f"{place} has a field {unknown[0][:64]!r}, which is not allowed")
    name, description, parameters, strict = (
        tool.get(field) for field in ("name", "description", "parameters", "strict")
    )
    if not isinstance(name, str) or not is_name(name):
        raise _invalid(f"{place}.name must be 1 to 64 letters, digits, underscores or hyphens of ASCII")
    if description is not None and not isinstance(description, str):
        raise _invalid(f"{place}.description must be a text")
    if parameters is not None and (not isinstance(parameters, dict) or parameters.get("type") != "object"):
        raise _invalid(f"{place}.parameters must be a JSON schema of the type object")
    if strict is not None and not isinstance(strict, bool):
        raise _invalid(f"{place}.strict must be true or false")
    return {
        "type": "function",
        "name": name,
        "description": description or "",
        "parameters": parameters or _NO_PARAMETERS,
        # Without this a provider expects a schema of its strict dialect.
        "strict": bool(strict),
    }


def _invalid(reason: str) -> InvalidInput:
    return InvalidInput(f"{reason}.", code="invalid_tools", field="tools")
