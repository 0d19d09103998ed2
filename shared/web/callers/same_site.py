"""Refuse a change that a page of another site makes with the sign-in of the person who visits it.

A browser sends the cookie of the sign-in with each request to the app, whichever page made the request. It also says in
Sec-Fetch-Site and in Origin where the request comes from, and no page can change that.
"""

import re
from collections.abc import Callable

from shared.errors import Forbidden
from shared.web.http import Request

_READING = frozenset({"GET", "HEAD"})
# RFC 6454, 7: one origin. A list of them, or `null`, is none.
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@,\s]+)", re.IGNORECASE)
_PORTS = {"http": ":80", "https": ":443"}


def refuse_other_sites(request: Request, own: Callable[[Request], tuple[str, ...]]) -> None:
    """Raise Forbidden for a change unless the request shows that it comes from a page of the app.

    `own` returns the origins of the app.
    """
    if request.method in _READING:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    same = (site is None or site == "same-origin") and (
        origin is None or any(_equal(origin, each) for each in own(request))
    )
    if not same or (site is None and origin is None):
        raise Forbidden(
            "A signed-in person can change something from the app's own page only, and this request comes from another "
            "site, or does not say where it comes from. A program sends a key, or a token of Entra in Authorization.",
            code="cross_site",
        )


def _equal(origin: str, own: str) -> bool:
    """Return whether an origin is one of the app's. Behind a proxy the app may see http where the browser uses https."""
    given, mine = _ORIGIN.fullmatch(origin), _ORIGIN.fullmatch(own.rstrip("/"))
    if given is None or mine is None:
        return False
    schemes = {mine["scheme"].lower(), "https"}
    return given["scheme"].lower() in schemes and _host(given) == _host(mine)


def _host(origin: re.Match[str]) -> str:
    return origin["host"].lower().removesuffix(_PORTS[origin["scheme"].lower()])
