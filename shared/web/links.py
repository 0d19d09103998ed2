"""URLs that a client can use."""

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from shared.web.forwarded import forwarded_host, forwarded_scheme, is_host
from shared.web.http import Request

_API = "/api/"
# Scheme and host of a URL. A list of schemes, as the Functions host takes it from a header, counts as its first one.
# The name and password of a user do not belong to the host.
_ORIGIN = re.compile(r"(?P<scheme>https?)(?:,[ a-z,]*)?://(?:[^/?#]*@)?(?P<host>[^/?#@]*)", re.IGNORECASE)


def link(base: str, path: str, query: Mapping[str, str] | None = None) -> str:
    """Return the URL of `path` in the API of the app at `base`."""
    return f"{base.rstrip('/')}{_API}{path}" + (f"?{urlencode(query)}" if query else "")


def root(request: Request, *, trust_forwarded: bool) -> str:
    """Return the scheme and host of a request, or those that proxies name if their headers are trusted.

    Empty when no valid host is known: links are relative then.
    """
    own = _ORIGIN.match(request.url)
    scheme, host = (own["scheme"].lower(), own["host"]) if own else ("https", "")
    if trust_forwarded:
        scheme = forwarded_scheme(request.headers) or scheme
        host = forwarded_host(request.headers) or host
    return f"{scheme}://{host}" if is_host(host) else ""
