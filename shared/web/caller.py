"""Whose a request is."""

from shared.core.caller import Caller
from shared.errors import Unidentified
from shared.web.http import Request

# Part of every filter that the storage is sent, in an address.
MAX_OWNER_CHARACTERS = 256


def caller_of(request: Request, header: str | None) -> Caller:
    """Return who sends a request: the owner is the value of `header`, which the front of the app sets.

    Without a header all requests are of one owner. Raises Unidentified.
    """
    if header is None:
        return Caller("default")
    value = request.headers.get(header.lower(), "").strip()
    if not value:
        raise Unidentified(f"The header {header} is missing.", field=header)
    if len(value) > MAX_OWNER_CHARACTERS or not value.isprintable():
        raise Unidentified(
            f"{header} has to be up to {MAX_OWNER_CHARACTERS} printable characters.",
            code="invalid_owner",
            field=header,
        )
    return Caller(value)
