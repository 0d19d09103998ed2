"""Absolute URLs that a client can use."""

import re
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from shared.web.http import Request

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_API = "/api/"


def link(request: Request, base: str | None, path: str, query: Mapping[str, str] | None = None) -> str:
    """Return the URL of `path` in the API. `base` is the public URL of the app, if it is set."""
    root = (base or _root(request)).rstrip("/")
    return f"{root}{_API}{path}" + (f"?{urlencode(query)}" if query else "")


def _root(request: Request) -> str:
    """Return scheme and host from the headers of a proxy, or else from the request itself."""
    url = urlsplit(request.url)
    scheme = _first(request, "x-forwarded-proto")
    host = _first(request, "x-forwarded-host")
    if scheme not in {"http", "https"}:
        scheme = url.scheme or "https"
    if not _HOST.fullmatch(host):
        host = url.netloc
    return f"{scheme}://{host}"


def _first(request: Request, header: str) -> str:
    return request.headers.get(header, "").split(",")[0].strip()
