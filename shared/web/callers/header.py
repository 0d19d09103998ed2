"""Find the caller of a request that a key of the Functions host has let in, by the header of a proxy."""

from collections.abc import Callable

from shared.core.caller import KEY_OWNER, PERSON_OWNER, Caller, Recognition
from shared.errors import Unidentified
from shared.web.http import Request

# The owner is part of the URL of every listing query at the storage, which has a limited length.
MAX_OWNER_CHARACTERS = 256
# Whose everything is while the app does not tell owners apart. Once it does, nobody can claim that.
DEFAULT_OWNER = "default"

# RFC 9110, 5.5: what may stand around the value of a header, and does not belong to it.
_AROUND = " \t"
_EVERYBODY = Caller(DEFAULT_OWNER)


def header_callers(header: str | None) -> Callable[[Request], Caller]:
    """Return the function that finds the caller of a request by the header with this name."""
    return lambda request: caller_of(request, header)


def caller_of(request: Request, header: str | None) -> Caller:
    """Return the caller of a request.

    The owner is the value of `header`, which the proxy in front of the app sets.
    Without `header`, all requests have the same owner. Raises Unidentified.
    """
    if header is None:
        return _EVERYBODY
    value = request.headers.get(header.lower(), "").strip(_AROUND)
    if not value:
        raise Unidentified(f"The header {header} is missing.", field=header)
    if len(value) > MAX_OWNER_CHARACTERS or not value.isprintable():
        raise _invalid(f"{header} must be up to {MAX_OWNER_CHARACTERS} printable characters.", header)
    if value == DEFAULT_OWNER:
        raise _invalid(f"{header} must not be {DEFAULT_OWNER!r}: that is nobody's name.", header)
    if value.startswith((KEY_OWNER, PERSON_OWNER)):
        # Otherwise it would be the owner whom the app recognises by a key or a sign-in with other settings.
        raise _invalid(f"{header} must not begin with {KEY_OWNER!r} or {PERSON_OWNER!r}.", header)
    return Caller(value, recognition=Recognition.OWNER_HEADER)


def _invalid(message: str, header: str) -> Unidentified:
    return Unidentified(message, code="invalid_owner", field=header)
