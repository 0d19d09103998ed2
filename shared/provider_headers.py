"""Headers that go with every request to a provider, such as the key of a gateway. PROVIDER_HEADERS has those of the default one.

Their values are secrets, so a fault shows none. It does not show a wrong name either, because that may hold a value.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MAX_HEADERS = 16
MAX_NAME_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 4_096

# RFC 9110, 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 9110, 5.5, in ASCII. White space at the ends would not arrive.
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
# The description of what `is_header_value` accepts.
A_VALUE = f"1 to {MAX_VALUE_CHARACTERS} printable ASCII characters, without a space at either end"

_CONNECTION = "HTTP sets it for each connection and body"
_CONTENT = "Baton sets it, because it describes what Baton sends and can read"
_CREDENTIALS = "Baton sets it from OPENAI_API_KEY, AZURE_OPENAI_API_KEY, the api_key of a declared provider, or the identity"
_RESERVED: Mapping[str, str] = {
    "host": _CONNECTION,
    "connection": _CONNECTION,
    "keep-alive": _CONNECTION,
    "proxy-connection": _CONNECTION,
    "upgrade": _CONNECTION,
    "te": _CONNECTION,
    "trailer": _CONNECTION,
    "transfer-encoding": _CONNECTION,
    "content-length": _CONNECTION,
    "expect": _CONNECTION,
    "content-type": _CONTENT,
    "content-encoding": _CONTENT,
    "accept": _CONTENT,
    "accept-encoding": _CONTENT,
    # With two sources for one header, it would be unclear which of them a provider refuses.
    "authorization": _CREDENTIALS,
    "idempotency-key": "each request needs another one",
}
# Names and values. A JSON object may have a name twice. A JSON array is a list instead.
_Pairs = tuple[tuple[Any, Any], ...]


def parse_headers(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the headers in the setting, and all its faults. With a fault there are no headers."""
    if not text:
        return {}, []
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        pairs = None
    if not isinstance(pairs, tuple):
        return {}, ['must be a JSON object, such as {"api-key": "..."}.']
    faults = list(faults_of_headers(pairs))
    return ({} if faults else dict(pairs)), faults


def is_header_value(text: str) -> bool:
    return len(text) <= MAX_VALUE_CHARACTERS and _VALUE.fullmatch(text) is not None


def faults_of_headers(pairs: _Pairs, *, later: Callable[[str], bool] = lambda _value: False) -> Iterator[str]:
    """Return what is wrong with headers. A value is not checked when `later` says that it is not complete yet."""
    if len(pairs) > MAX_HEADERS:
        yield f"must have at most {MAX_HEADERS} headers."
    names: set[str] = set()
    for number, (name, value) in enumerate(pairs, start=1):
        shown = f"header {number}"
        if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS or not _TOKEN.fullmatch(name):
            yield f"must give {shown} a name: a token of 1 to {MAX_NAME_CHARACTERS} characters, as RFC 9110 calls it."
        else:
            shown = name
            yield from _name_faults(name, names)
        if not isinstance(value, str):
            yield f"must give {shown} a string as its value."
        elif not later(value) and not is_header_value(value):
            yield f"must give {shown} a value of {A_VALUE}."


def _name_faults(name: str, earlier: set[str]) -> Iterator[str]:
    key = name.lower()
    if key in _RESERVED:
        yield f"must not have {name}: {_RESERVED[key]}."
    if key in earlier:
        yield f"must not have {name} twice."
    earlier.add(key)
