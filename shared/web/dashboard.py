"""The dashboard: one page, with headers that let the browser run only its own script and style."""

import base64
import hashlib
import importlib.resources
import re
from functools import cache

from shared.web.http import UNSHARED, Reply

_INLINE = re.compile(rb"<(?P<tag>script|style)\b[^>]*>(?P<content>.*?)</(?P=tag)>", re.DOTALL)


@cache
def page() -> Reply:
    """Return the page.

    It holds no data, and asks the user for a key if nobody is signed in. So it is served to everybody.
    """
    body = importlib.resources.files("shared.web").joinpath("dashboard.html").read_bytes()
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": _policy(body),
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": UNSHARED,
    }
    return Reply(200, body, headers)


def _policy(body: bytes) -> str:
    """Return the Content-Security-Policy that names the page's one script and one style by their hashes."""
    inline = [(found["tag"].decode(), found["content"]) for found in _INLINE.finditer(body)]
    (style,) = (_hash(content) for tag, content in inline if tag == "style")
    (script,) = (_hash(content) for tag, content in inline if tag == "script")
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src '{script}'",
            f"style-src '{style}'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # The page's own script cannot turn text into HTML either.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash(content: bytes) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()
