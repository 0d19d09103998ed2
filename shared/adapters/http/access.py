"""The address of a provider, and the credentials for it: a key, or an access token of Microsoft Entra."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ClientAuthenticationError

if TYPE_CHECKING:
    from azure.identity.aio import DefaultAzureCredential

AZURE_SCOPE = "https://cognitiveservices.azure.com/.default"
_AZURE_PATH = "/openai/v1"
# A shorter key or value of a header is hardly a secret, such as the "x" that a local server is given, and it can be a
# part of many words.
_SHORTEST_SECRET = 6
_SHORTEST_STRUCK = 16
# A header such as "Basic dXNlcjpwYXNz": a scheme and credentials (RFC 9110, 11.4).
_CREDENTIALS = re.compile(r"[A-Za-z][A-Za-z-]{2,31} +(\S{6,})")


def azure_base_url(endpoint: str) -> str:
    """Return the address of the Responses API of a resource such as https://RESOURCE.openai.azure.com."""
    address = endpoint.rstrip("/")
    return address if address.endswith(_AZURE_PATH) else address + _AZURE_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach a provider. Without a key, tokens of Microsoft Entra are used, unless it is `open`.

    Raises ValueError when tokens would be sent unencrypted.
    """

    # The part of all addresses before "/responses" or "/chat/completions".
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    # Whether requests without a key have no Authorization header.
    open: bool = False
    # Further headers of every request, such as the key of a gateway. Their values are secrets.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    # What to check when this provider refuses the credentials. Empty: the settings of the app's own provider.
    credentials: str = ""
    scope: str = AZURE_SCOPE
    # The user-assigned managed identity to use; None leaves the choice to DefaultAzureCredential.
    client_id: str | None = None
    # The time limit for a complete create.
    create_timeout: timedelta = timedelta(seconds=60)
    # The time limit for a complete read, cancel or delete, with its wait for a free connection.
    read_timeout: timedelta = timedelta(seconds=10)
    # How many polls may be in flight at once. As many other requests may be in flight besides.
    connections: int = 1000
    # The longest time for which a slice of a stream is read.
    slice_budget: timedelta = timedelta(seconds=1)
    # After a pause of this length, a slice has received all events that the provider has now.
    slice_pause: timedelta = timedelta(milliseconds=250)

    def __post_init__(self) -> None:
        if not self.api_key and not self.open and not self.base_url.startswith("https://"):
            raise ValueError(f"{self.base_url} must begin with https:// because access tokens are sent to it")

    @property
    def to_check(self) -> str:
        """The settings to check when the provider refuses the credentials."""
        if self.credentials:
            return self.credentials
        headers = ", and PROVIDER_HEADERS" if self.headers else ""
        if self.api_key:
            return f"OPENAI_API_KEY, or AZURE_OPENAI_API_KEY with AZURE_OPENAI_ENDPOINT{headers}"
        return (
            "that the identity of this app has the role Cognitive Services OpenAI User "
            f"on the resource of AZURE_OPENAI_ENDPOINT, and AZURE_CLIENT_ID{headers}"
        )

    @property
    def secrets(self) -> re.Pattern[str] | None:
        """What must be removed from messages: the key and the values of the headers. None if there is neither.

        A short one is removed only where it is a word of its own.
        """
        # Of two values that begin at the same place, the longer one is removed.
        patterns = [_pattern(value) for value in sorted(self._values, key=len, reverse=True)]
        return re.compile("|".join(patterns)) if patterns else None

    @property
    def long_secrets(self) -> tuple[bytes, ...]:
        """The secrets that are removed from all that the provider sends. Shorter ones could be words of an answer."""
        found = sorted(self._values, key=len, reverse=True)
        return tuple(value.encode() for value in found if len(value) >= _SHORTEST_STRUCK)

    @property
    def _values(self) -> set[str]:
        given = {self.api_key, *self.headers.values()}
        # A provider may repeat the credentials of a header without their scheme.
        bare = {found[1] for value in given if value and (found := _CREDENTIALS.fullmatch(value))}
        return {value for value in given | bare if value}


def _pattern(secret: str) -> str:
    if len(secret) >= _SHORTEST_SECRET:
        return re.escape(secret)
    return rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])"


class NoToken(Exception):
    """There is no access token. `refused` when a later attempt will not get one either: the set-up is wrong."""

    def __init__(self, reason: str, *, refused: bool) -> None:
        super().__init__(reason)
        self.refused = refused


class Access:
    """The headers that let requests in, and what of them must never come back. Opens by itself; close it in the same event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._long_secrets = connection.long_secrets
        self._credential: DefaultAzureCredential | None = None
        self._new_token: Callable[[], Awaitable[str]] | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """The same for every request. Authorization is not among them, because its token changes."""
        return self._connection.headers

    def struck(self, received: bytes) -> bytes:
        """Return what was received, without the secrets that it repeats."""
        for secret in self._long_secrets:
            if secret in received:
                received = received.replace(secret, b"[secret]")
        return received

    async def token(self, ends: float | None = None) -> str | None:
        """Return the key, or a token that is renewed before it expires, or None for an open provider. Raises NoToken.

        The wait for a token ends when the event loop's clock reaches `ends`.
        """
        if self._connection.api_key or self._connection.open:
            return self._connection.api_key
        try:
            async with asyncio.timeout_at(ends):
                return await (self._new_token or self._open())()
        except ClientAuthenticationError as fault:
            raise NoToken("there is no identity that may use the provider", refused=True) from fault
        except AzureError as fault:
            raise NoToken(f"Microsoft Entra gave no token: {type(fault).__name__}", refused=False) from fault
        except TimeoutError as fault:
            raise NoToken("Microsoft Entra gave no token in time", refused=False) from fault

    def _open(self) -> Callable[[], Awaitable[str]]:
        # The import is slow, and only an app without a key needs it.
        from azure.identity.aio import DefaultAzureCredential, get_bearer_token_provider  # noqa: PLC0415

        self._credential = DefaultAzureCredential(managed_identity_client_id=self._connection.client_id)
        self._new_token = get_bearer_token_provider(self._credential, self._connection.scope)
        return self._new_token

    async def close(self) -> None:
        credential, self._credential, self._new_token = self._credential, None, None
        if credential:
            await credential.close()
