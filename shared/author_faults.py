"""What is wrong with single values that the author of an agent wrote: sentences that the author reads when the app starts."""

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from shared.core.text import is_name

# The JSON text of a schema that an author wrote. It is sent with every turn.
MAX_PARAMETERS_BYTES = 64 * 1024


def faults_of_name(name: object) -> Iterator[str]:
    if not isinstance(name, str) or not is_name(name):
        yield "its name must be 1 to 64 letters, digits, underscores or hyphens of ASCII"


def faults_of_value(what: str, value: Any, kind: type, low: Any, high: Any) -> Iterator[str]:
    if not isinstance(value, kind) or not low <= value <= high:
        yield f"{what} must be of type {kind.__name__}, from {low} to {high}, and is {value!r}"


def faults_of_json(what: str, value: Mapping[str, Any]) -> Iterator[str]:
    try:
        _json(value)
    except (TypeError, ValueError, RecursionError) as error:
        yield f"{what} cannot be written as JSON ({error})"


def faults_of_approval(approval: object) -> Iterator[str]:
    """Return why a tool cannot decide whether its calls need an approval."""
    if isinstance(approval, bool):
        return
    if not callable(approval):
        yield f"its approval must be True, False or a function, and is {approval!r}"
    elif inspect.isgeneratorfunction(approval) or inspect.isasyncgenfunction(approval):
        yield "its approval function must return True or False, and is a generator"
    elif not _takes_one_argument(approval):
        yield "its approval function must take one argument, the dict of the arguments of a call"


def faults_of_parameters(parameters: object) -> Iterator[str]:
    """Return why a value is no JSON schema of the arguments of a tool."""
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        yield "its parameters must be a JSON schema with the type object, such as {'type': 'object', 'properties': {}}"
        return
    if not isinstance(parameters.get("properties", {}), Mapping):
        yield "the properties of its parameters must be a dict"
    if faults := [*faults_of_json("parameters", parameters)]:
        yield from faults
    elif len(_json(parameters).encode(errors="surrogatepass")) > MAX_PARAMETERS_BYTES:
        yield f"its parameters are longer than {MAX_PARAMETERS_BYTES} bytes of JSON"


def _takes_one_argument(function: Any) -> bool:
    try:
        inspect.signature(function).bind({})
    except TypeError:
        return False
    except ValueError:
        # Some builtins have no signature. A call that fails counts as "approval is needed".
        return True
    return True


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
