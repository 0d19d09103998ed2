"""Read and check the JSON object in the body of a request."""

import json
from collections import Counter
from typing import Any, NoReturn

from shared.core.structure import has_more_marks, nests_deeper
from shared.core.text import representable
from shared.errors import LengthRequired, Malformed, TooLarge, UnsupportedEncoding
from shared.web.http import Request

MAX_BODY_BYTES = 8 * 1024 * 1024
# The most brackets and commas of a body, outside of strings. No input needs so many.
MAX_BODY_MARKS = 50_000
# Deeper than any input item of the Responses API, and much less than Python's recursion limit.
MAX_NESTING = 64

# A Content-Encoding with more characters is shown cut off.
_SHOWN_CHARACTERS = 64


def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body of a request, with lone surrogates replaced.

    Raises UnsupportedEncoding, LengthRequired, TooLarge or Malformed.
    """
    body = _arrived(request)
    if has_more_marks(body, MAX_BODY_MARKS):
        if nests_deeper(body, MAX_NESTING, marks=MAX_BODY_MARKS):
            raise _nested()
        raise TooLarge(
            f"The body has more than {MAX_BODY_MARKS:,} brackets and commas.", code="too_many_values"
        )
    try:
        # Some clients begin a text with a byte order mark.
        text = body.decode("utf-8-sig")
        if not text.strip():
            raise Malformed("The body is empty. Send a JSON object, with a Content-Length.", code="not_json")
        value = _DECODER.decode(text)
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.", code="not_utf8") from None
    except RecursionError:
        raise _nested() from None
    except json.JSONDecodeError as fault:
        raise Malformed(f"The body is not JSON: {fault}.", code="not_json") from None
    except ValueError:
        # The decoder raises other ValueErrors only for integers with more digits than Python converts.
        raise Malformed("A number has too many digits.", code="not_json") from None
    if not isinstance(value, dict):
        raise Malformed("The body must be a JSON object.", code="not_an_object")
    return _checked(value, 0)  # type: ignore[no-any-return]


def _nested() -> Malformed:
    return Malformed(f"The body is nested deeper than {MAX_NESTING} levels.", code="nested_too_deep")


def _arrived(request: Request) -> bytes:
    """Return the bytes of a body that is not encoded and not too large."""
    if encodings := _encodings(request.headers.get("content-encoding", "")):
        raise UnsupportedEncoding(
            f"The body has the Content-Encoding {encodings[:_SHOWN_CHARACTERS]!r}. Send it without an encoding.",
            field="Content-Encoding",
        )
    size = len(request.body)
    if not size and "transfer-encoding" in request.headers:
        # The Functions host hands on a body only when the request states its length.
        raise LengthRequired(
            "No body arrived, because the request does not state its length. Send it with a Content-Length.",
            field="Content-Length",
        )
    if size > MAX_BODY_BYTES:
        raise TooLarge(
            f"The body has {size} bytes; at most {MAX_BODY_BYTES} are allowed.", code="body_too_large"
        )
    return request.body


def _encodings(header: str) -> str:
    """Return the encodings that a Content-Encoding lists, without `identity`, which means none (RFC 9110, 8.4)."""
    listed = (encoding.strip() for encoding in header.split(","))
    return ", ".join(encoding for encoding in listed if encoding.lower() not in {"", "identity"})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Lone surrogates are replaced before the check, because the replacement can make two keys equal.
    found = {representable(name): value for name, value in pairs}
    if len(found) < len(pairs):
        names = Counter(representable(name) for name, _ in pairs)
        duplicate = names.most_common(1)[0][0][:64]
        raise Malformed(
            f"The key {duplicate!r} occurs twice in one object.", code="duplicate_key", field=duplicate
        )
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not a JSON value.", code="not_json")


# Unlike `json.loads`, it does not advise Python's users in its messages.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _checked(value: Any, depth: int) -> Any:
    if depth > MAX_NESTING:
        raise _nested()
    match value:
        case str():
            return representable(value)
        case dict():
            return {name: _checked(inner, depth + 1) for name, inner in value.items()}
        case list():
            return [_checked(inner, depth + 1) for inner in value]
        case float() if value in {float("inf"), float("-inf")}:
            raise Malformed("A number is too large.", code="not_json")
    return value
