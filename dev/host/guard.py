"""Refuses requests that a page in the developer's browser could send without their knowledge.

A page of any origin can send simple requests to a loopback address, which is called CSRF. A page whose own name leads to
127.0.0.1 can even read the answers, which is called DNS rebinding. On Azure the platform has checks of its own.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from aiohttp import web

from dev.host.errors import StartupError

ALLOWED_HOSTS = "FUNCTIONS_ALLOWED_HOSTS"
NAME = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]{3,}\]")
PORT = re.compile(r":[0-9]+$")
# A browser sends these for a page of another origin without a preflight request. It also sends
# application/x-www-form-urlencoded so, but that is the default of curl and urllib.
SIMPLE_TYPES = {"text/plain", "multipart/form-data"}
_OTHER_TYPE = (
    "Send the body as application/json: "
    "this host refuses text/plain and multipart/form-data, which pages of any origin can send."
)


@dataclass(frozen=True)
class Refusal:
    status: HTTPStatus
    reason: str  # one sentence for the client


@dataclass(frozen=True)
class Guard:
    """Serves loopback names and `names`, which are in lower case and without ports."""

    names: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Raises StartupError with every name that is none."""
        text = environ.get(ALLOWED_HOSTS, "").strip().lower()
        names = [name.strip() for name in text.split(",")] if text else []
        problems = [name for name in names if not NAME.fullmatch(name)]
        if problems:
            raise StartupError.of(
                f"{ALLOWED_HOSTS}: {name!r} is not a host name or an address without a port"
                for name in problems
            )
        return cls(frozenset(names))

    def refusal(self, request: web.Request) -> Refusal | None:
        """Look at the headers only: the body has not been read."""
        # A request target with a host of its own counts before the header.
        for authority in (request.headers.get("Host", ""), request.host):
            if not self._serves(authority):
                # The status for a server that the request does not mean (RFC 9110, 7.4). With a 403 or 404,
                # a client could not tell this from a wrong key or path.
                return Refusal(HTTPStatus.MISDIRECTED_REQUEST, _how_to_allow(authority))
        own = f"http://{request.headers['Host']}"
        if _is_foreign(request, own):
            reason = f"This host refuses requests of pages of another origin than its own, which is {own}."
            return Refusal(HTTPStatus.FORBIDDEN, reason)
        if not SIMPLE_TYPES.isdisjoint(map(_media_type, request.headers.getall("Content-Type", []))):
            return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, _OTHER_TYPE)
        return None

    def _serves(self, authority: str) -> bool:
        name = PORT.sub("", authority.lower())
        return name in self.names or is_loopback(name.removeprefix("[").removesuffix("]"))


def is_loopback(name: str) -> bool:
    """Return whether a name, without port and brackets, leads to this machine whoever resolves it.

    Names under `.localhost` do not: some systems ask DNS for their addresses.
    """
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _how_to_allow(authority: str) -> str:
    name = PORT.sub("", authority) or "NAME"
    return (
        "This host serves only localhost and loopback addresses: "
        f"to allow another name, start it with {ALLOWED_HOSTS}={name} in its environment."
    )


def _is_foreign(request: web.Request, own: str) -> bool:
    """Return whether a page of another origin caused the request.

    A browser sends `Origin` with all but simple GETs, and `Sec-Fetch-Site` with those, too. Other clients send neither.
    """
    if any(_plain(origin) != _plain(own) for origin in request.headers.getall("Origin", [])):
        return True
    site = request.headers.get("Sec-Fetch-Site", "none")
    return site not in {"none", "same-origin"} and not _opens_a_page(request)


def _opens_a_page(request: web.Request) -> bool:
    """Return whether it opens an address in a tab, as a link to the dashboard does. The page with the link gets nothing."""
    mode, target = (request.headers.get(f"Sec-Fetch-{name}") for name in ("Mode", "Dest"))
    return request.method in {"GET", "HEAD"} and (mode, target) == ("navigate", "document")


def _plain(origin: str) -> str:
    """Return an origin as browsers write it: in lower case, without the default port."""
    return origin.lower().removesuffix(":80")


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
