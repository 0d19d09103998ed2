"""The scheme and host that a client used, from the headers of the proxies in front of the app.

Any client can send these headers, so they count only if a proxy replaces them. In a list, the first element is of the
proxy next to the client. Scheme and host are looked up one by one. A value that is no scheme or no host is skipped.
"""

import ipaddress
import re
from collections.abc import Mapping

# A pair of a Forwarded header, and what follows it (RFC 7239, 4). Values with a colon must be quoted there, but proxies
# send them without quotes too.
_PAIR = re.compile(
    r"[ \t]*+(?:(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s",;]*)))?'
    r"[ \t]*+(?P<end>[,;]|\Z)"
)
_ESCAPED = re.compile(r"\\(.)")
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(
    rf"(?:(?P<name>{_LABEL}(?:\.{_LABEL})*)\.?|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{{1,5}}))?"
)
_MAX_NAME_CHARACTERS = 253
_MAX_PORT = 65_535


def forwarded_scheme(headers: Mapping[str, str]) -> str | None:
    """Return `http` or `https`: from Forwarded, or else from X-Forwarded-Proto."""
    for named in (_first_element(headers).get("proto", ""), _first(headers, "x-forwarded-proto")):
        if named.lower() in {"http", "https"}:
            return named.lower()
    return None


def forwarded_host(headers: Mapping[str, str]) -> str | None:
    """Return a host, perhaps with a port: from Forwarded, else from X-Forwarded-Host, else from X-Original-Host."""
    for named in (
        _first_element(headers).get("host", ""),
        _first(headers, "x-forwarded-host"),
        _first(headers, "x-original-host"),
    ):
        if is_host(named):
            return named
    return None


def _first(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "").split(",")[0].strip(" \t")


def _first_element(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the pairs of the first element of Forwarded that has any; none if it breaks the grammar."""
    text, at = headers.get("forwarded", ""), 0
    found: dict[str, str] = {}
    while pair := _PAIR.match(text, at):
        if name := (pair["name"] or "").lower():
            if name in found:
                return {}
            found[name] = pair["bare"] if pair["quoted"] is None else _ESCAPED.sub(r"\1", pair["quoted"])
        if not pair["end"] or (found and pair["end"] == ","):
            return found
        at = pair.end()
    return {}


def is_host(text: str) -> bool:
    """Return whether this is a host with or without a port, and nothing else (RFC 3986, 3.2.2)."""
    found = _HOST.fullmatch(text)
    if found is None or not 1 <= int(found["port"] or "80") <= _MAX_PORT:
        return False
    name = found["name"] or ""
    try:
        if found["ipv6"]:
            ipaddress.IPv6Address(found["ipv6"])
        elif name.rpartition(".")[2].isdigit():
            # A name that ends in a number is an IPv4 address.
            ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return len(name) <= _MAX_NAME_CHARACTERS
