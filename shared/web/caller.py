"""Find the caller of a request."""

from shared.core.caller import Caller
from shared.errors import Unidentified
from shared.web.http import Request

# The owner is part of the URL of every listing query at the storage, which has a limited length.
MAX_OWNER_CHARACTERS = 256


def caller_of(request: Request, header: str | None) -> Caller:
    """Return the caller of a request.

    The owner is the value of `header`, which the proxy in front of the app sets.
    Without `header`, all requests have the same owner. Raises Unidentified.
    """
    if header is None:
        return Caller("default")
    value = request.headers.get(header.lower(), "").strip()
    if not value:
        raise Unidentified(f"The header {header} is missing.", field=header)
    if len(value) > MAX_OWNER_CHARACTERS or not value.isprintable():
        raise Unidentified(
            f"{header} must be up to {MAX_OWNER_CHARACTERS} printable characters.",
            code="invalid_owner",
            field=header,
        )
    return Caller(value)
