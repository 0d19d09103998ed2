"""Read a JSON object that anybody may have sent."""

import json
from collections import Counter
from typing import Any, NoReturn

from shared.core.text import representable
from shared.errors import Malformed, TooLarge

MAX_BODY_BYTES = 8 * 1024 * 1024
# Deeper than any input item of the Responses API, and far from the interpreter's own limit.
MAX_NESTING = 64


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`, with lone surrogates replaced. Raises Malformed or TooLarge."""
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(
            f"The body has {len(body)} bytes; at most {MAX_BODY_BYTES} are taken.", code="body_too_large"
        )
    try:
        value = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.", code="not_utf8") from None
    except RecursionError:
        raise Malformed(
            f"The body is nested deeper than {MAX_NESTING} levels.", code="nested_too_deep"
        ) from None
    except json.JSONDecodeError as fault:
        raise Malformed(f"The body is not JSON: {fault}.", code="not_json") from None
    except ValueError:
        # What else the decoder raises is about integers, which it converts up to a length only.
        raise Malformed("A number has too many digits.", code="not_json") from None
    if not isinstance(value, dict):
        raise Malformed("The body has to be a JSON object.", code="not_an_object")
    return _clean(value, 0)  # type: ignore[no-any-return]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Replacing lone surrogates may make two keys one, so it comes first.
    found = {representable(name): value for name, value in pairs}
    if len(found) < len(pairs):
        names = Counter(representable(name) for name, _ in pairs)
        twice = names.most_common(1)[0][0][:64]
        raise Malformed(f"The key {twice!r} stands twice in one object.", code="duplicate_key", field=twice)
    return found


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not a JSON value.", code="not_json")


def _clean(value: Any, depth: int) -> Any:
    if depth > MAX_NESTING:
        raise Malformed(f"The body is nested deeper than {MAX_NESTING} levels.", code="nested_too_deep")
    match value:
        case str():
            return representable(value)
        case dict():
            return {name: _clean(inner, depth + 1) for name, inner in value.items()}
        case list():
            return [_clean(inner, depth + 1) for inner in value]
        case float() if value in {float("inf"), float("-inf")}:
            raise Malformed("A number is too large.", code="not_json")
    return value
