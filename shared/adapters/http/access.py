"""Where the provider is, and what lets us in: a key, or a token of Microsoft Entra."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ClientAuthenticationError

if TYPE_CHECKING:
    from azure.identity.aio import DefaultAzureCredential

AZURE_SCOPE = "https://cognitiveservices.azure.com/.default"
_AZURE_PATH = "/openai/v1"


def azure_base_url(endpoint: str) -> str:
    """Return the address of the Responses API of a resource such as https://RESOURCE.openai.azure.com."""
    address = endpoint.rstrip("/")
    return address if address.endswith(_AZURE_PATH) else address + _AZURE_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach a provider of the Responses API. Without a key, Microsoft Entra lets us in.

    Raises ValueError when tokens would be sent unencrypted.
    """

    base_url: str
    """What "/responses" is added to."""
    api_key: str | None = field(default=None, repr=False)
    scope: str = AZURE_SCOPE
    client_id: str | None = None
    """Of the user-assigned managed identity to use; None leaves the choice to DefaultAzureCredential."""
    create_timeout: timedelta = timedelta(seconds=60)
    """For the whole of a create."""
    read_timeout: timedelta = timedelta(seconds=10)
    """For the whole of a read, its wait for a free connection included, a cancel or a delete."""
    connections: int = 1000
    """How many reads may be in flight, and how many other requests besides."""
    slice_budget: timedelta = timedelta(seconds=1)
    """How long a slice of a stream is read at most."""
    slice_pause: timedelta = timedelta(milliseconds=250)
    """How long a stream may say nothing until what came is taken for all that there is now."""

    def __post_init__(self) -> None:
        if not self.api_key and not self.base_url.startswith("https://"):
            raise ValueError(f"{self.base_url} must begin with https:// because access tokens are sent to it")

    @property
    def to_check(self) -> str:
        """What may be wrong when the provider does not let us in."""
        if self.api_key:
            return "OPENAI_API_KEY, or AZURE_OPENAI_API_KEY with AZURE_OPENAI_ENDPOINT"
        return (
            "that the identity of this app has the role Cognitive Services OpenAI User "
            "on the resource of AZURE_OPENAI_ENDPOINT, and AZURE_CLIENT_ID"
        )


class NoToken(Exception):
    """Microsoft Entra gave no token. `refused` when it, or the machine's set-up, will not give one."""

    def __init__(self, reason: str, *, refused: bool) -> None:
        super().__init__(reason)
        self.refused = refused


class Access:
    """What goes into the Authorization header. Opens by itself; close it in the same event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._credential: DefaultAzureCredential | None = None
        self._new_token: Callable[[], Awaitable[str]] | None = None

    async def token(self, ends: float | None = None) -> str:
        """Return the key, or a token that is renewed in time. Raises NoToken.

        A token is waited for until the event loop's clock says `ends`.
        """
        if self._connection.api_key:
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
        # Slow to import, and needed without a key only.
        from azure.identity.aio import DefaultAzureCredential, get_bearer_token_provider  # noqa: PLC0415

        self._credential = DefaultAzureCredential(managed_identity_client_id=self._connection.client_id)
        self._new_token = get_bearer_token_provider(self._credential, self._connection.scope)
        return self._new_token

    async def close(self) -> None:
        credential, self._credential, self._new_token = self._credential, None, None
        if credential:
            await credential.close()
