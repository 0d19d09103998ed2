"""Find the caller of a request by one of the app's own keys."""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence

from shared.core.caller import KEY_OWNER, ApiKey, Caller, Recognition
from shared.errors import Unauthenticated
from shared.web.http import Request

MAX_KEY_CHARACTERS = 256

AUTHORIZATION = "authorization"
_HEADERS = (AUTHORIZATION, "api-key", "x-functions-key")
# RFC 9110, 11.4: the scheme in any case, and a space.
_BEARER = re.compile(r"bearer (.*)", re.IGNORECASE | re.DOTALL)
# No comma: the Functions host joins the values of a header that was sent twice with one. No white space: a header that
# was folded has some.
_KEY = re.compile(r"[!-+\--~]+")
# A token of the platform's sign-in, which is a JWT: three parts, the first of them a JSON object.
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
# Under these names clients of other services send a key in the URL. The API has none of these parameters.
_PARAMETERS = frozenset(
    {"code", "key", "api-key", "api_key", "apikey", "x-functions-key", "access_token", "token", "bearer"}
)


class KeyRing:
    """The app's own keys, as hashes."""

    def __init__(
        self, keys: Sequence[ApiKey], equal: Callable[[bytes, bytes], bool] = hmac.compare_digest
    ) -> None:
        self._keys = tuple(keys)
        self._equal = equal

    def caller(self, key: str) -> Caller:
        """Return the caller with this key. Raises Unauthenticated."""
        digest = hashlib.sha256(key.encode("ascii")).digest()
        # Each entry is compared, so that the time does not depend on which of them fits.
        fitting = [entry for entry in self._keys if self._equal(entry.digest, digest)]
        if not fitting:
            raise Unauthenticated("There is no such key.", code="invalid_key")
        return Caller(KEY_OWNER + fitting[0].name, fitting[0].roles, Recognition.API_KEY)


def refuse_key_in_url(request: Request) -> None:
    """Raise Unauthenticated if the URL has a key, even a wrong one."""
    for name, value in request.query.items():
        if value and name.lower() in _PARAMETERS:
            raise Unauthenticated(
                f"A key in the URL, here as {name.lower()}, is refused. URLs are logged, so replace this key by another "
                "one, and send that in a header: Authorization: Bearer KEY.",
                code="key_in_url",
                field=name.lower(),
            )


def has_token(request: Request) -> bool:
    """Return whether a request has a token of the platform's sign-in as its only credentials in a header."""
    given = _given(request.headers)
    bearer = _BEARER.fullmatch(given.get(AUTHORIZATION, ""))
    return len(given) == 1 and bearer is not None and _TOKEN.fullmatch(bearer[1]) is not None


def presented_key(request: Request) -> str | None:
    """Return the key that a request has in its headers; None if it has none. Raises Unauthenticated."""
    keys = {_checked(name, value) for name, value in _given(request.headers).items()}
    if len(keys) > 1:
        raise Unauthenticated(
            f"The request has different keys in {', '.join(_HEADERS)}. Send one key.", code="keys_differ"
        )
    return next(iter(keys), None)


def _given(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _HEADERS if name in headers}


def _checked(name: str, value: str) -> str:
    """Return the key in the value of a header. Nothing is trimmed: what stands around a key was not sent as one."""
    if name == AUTHORIZATION:
        bearer = _BEARER.fullmatch(value)
        if bearer is None:
            raise Unauthenticated("Authorization must be: Bearer KEY.", code="invalid_key", field=name)
        value = bearer[1]
    if len(value) > MAX_KEY_CHARACTERS or not _KEY.fullmatch(value):
        raise Unauthenticated(
            f"{name} must hold one key, once: up to {MAX_KEY_CHARACTERS} printable ASCII characters without spaces and "
            "commas.",
            code="invalid_key",
            field=name,
        )
    return value
