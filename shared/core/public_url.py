"""Which addresses of the web a caller may name for somebody else to read."""

import ipaddress
import re
from urllib.parse import urlsplit

MAX_URL_CHARACTERS = 8192

# Printable ASCII. A backslash is a slash to browsers and to nobody else, and programs differ in what ends at a "#".
_CHARACTERS = re.compile(r'[!"$-\[\]-~]+')
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
# Names that only have a meaning inside of a network: RFC 6761, RFC 6762, RFC 7686, RFC 8375, what ICANN does not give out,
# and the usual names of Kubernetes, Consul and home routers.
_INSIDE = tuple(
    f".{name}"
    for name in (
        *(
            "localhost",
            "local",
            "localdomain",
            "internal",
            "intranet",
            "private",
            "corp",
            "home",
            "home.arpa",
            "lan",
        ),
        *("svc", "default", "cluster", "consul", "onion", "test", "invalid", "alt", "mail"),
    )
)
# Addresses inside of a network that look like any other: protocols and metadata, and what Azure has for each machine.
_IPV4_INSIDE = tuple(map(ipaddress.IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
# What is given out to hosts of the Internet, and the part of it that wraps addresses of IPv4.
_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")
_IPV6_INSIDE = tuple(map(ipaddress.IPv6Network, ("2002::/16", "3fff::/20")))
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


def is_public_https(url: str) -> bool:
    """Return whether a URL is https and names a host of the Internet, as far as the URL itself can tell.

    No name is resolved, so whoever opens the URL has to look at the address that it leads to.
    """
    if len(url) > MAX_URL_CHARACTERS or not _CHARACTERS.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        # Reading the port checks it.
        reachable = parts.port != 0
    except ValueError:
        return False
    host = parts.hostname or ""
    # A user's name and password come before the host.
    plain = parts.scheme == "https" and "@" not in parts.netloc and not parts.netloc.endswith(":")
    return reachable and plain and (_is_public_address(host) or _is_public_name(host))


def _is_public_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inside = any(address in net for net in _IPV6_INSIDE) or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP
        return address.is_global and address in _IPV6_UNICAST and not inside and "%" not in host
    return address.is_global and not address.is_multicast and not any(address in net for net in _IPV4_INSIDE)


def _is_public_name(host: str) -> bool:
    # A name whose last part is a number is an address of IPv4, in one of its many forms.
    return (
        bool(_NAME.fullmatch(host))
        and not _NUMBER.fullmatch(host.rpartition(".")[2])
        and not f".{host.lower()}".endswith(_INSIDE)
    )
