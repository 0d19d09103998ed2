"""Find the caller of a request in an app that recognises its callers itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.core.caller import ApiKey, Caller
from shared.errors import Unauthenticated
from shared.web.callers.keys import KeyRing, has_token, presented_key, refuse_key_in_url
from shared.web.callers.principal import PRINCIPAL, signed_in
from shared.web.callers.same_site import refuse_other_sites
from shared.web.http import Request
from shared.web.links import root

# Where App Service authentication signs people in.
SIGN_IN = "/.auth/login/aad"


@dataclass(frozen=True, slots=True)
class CredentialCallers:
    """Finds callers by the app's own keys, and by the platform's sign-in if there are `tenants`."""

    keys: KeyRing
    # Those whose people may use the app. Without any, the sign-in is not looked at: then anybody can send its header.
    tenants: frozenset[str]
    # The origins of the app, as a browser names them.
    own_origins: Callable[[Request], tuple[str, ...]]

    def __call__(self, request: Request) -> Caller:
        """Return the caller. Raises Unauthenticated or Forbidden.

        A key in a header counts before a sign-in, because a browser adds the sign-in by itself. A wrong key is refused,
        although there is a sign-in: what the request does would belong to another owner than its sender expects.
        """
        try:
            return self._caller(request)
        except Unauthenticated as error:
            error.sign_in = SIGN_IN if self.tenants else None
            raise

    def _caller(self, request: Request) -> Caller:
        refuse_key_in_url(request)
        principal = request.headers.get(PRINCIPAL) if self.tenants else None
        # The platform has checked this token, and the principal is what it says.
        token = principal is not None and has_token(request)
        if not token and (key := presented_key(request)) is not None:
            return self.keys.caller(key)
        if principal is None:
            raise Unauthenticated(self._how())
        caller = signed_in(principal, self.tenants)
        if not token:
            # No page of another site can send a token.
            refuse_other_sites(request, self.own_origins)
        return caller

    def _how(self) -> str:
        also = ", or sign in" if self.tenants else ""
        return f"Send a key in a header, Authorization: Bearer KEY, api-key or x-functions-key{also}."


def credential_callers(
    keys: Sequence[ApiKey],
    tenants: frozenset[str],
    *,
    public_base_url: str | None = None,
    trust_forwarded: bool = False,
) -> CredentialCallers:
    """Return the callers of an app with these settings."""

    def own_origins(request: Request) -> tuple[str, ...]:
        public = _origin(public_base_url) if public_base_url else ""
        return (public, root(request, trust_forwarded=trust_forwarded))

    return CredentialCallers(KeyRing(keys), tenants, own_origins)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
