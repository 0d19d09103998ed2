"""A service of a storage account: its address and the credentials, by a connection string or by Microsoft Entra."""

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import urlsplit

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.utils import parse_connection_string

if TYPE_CHECKING:
    from azure.identity.aio import DefaultAzureCredential

    Credential = AzureNamedKeyCredential | AzureSasCredential | DefaultAzureCredential

# The values of `UseDevelopmentStorage=true`. They are public and the same for every emulator.
_DEVELOPMENT = {
    "accountname": "devstoreaccount1",
    "accountkey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "queueendpoint": "http://127.0.0.1:10001/devstoreaccount1",
    "tableendpoint": "http://127.0.0.1:10002/devstoreaccount1",
}


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """One service of a storage account. A subclass says which."""

    endpoint: str
    # The key or signature. None: tokens from Microsoft Entra are used.
    secret: AzureNamedKeyCredential | AzureSasCredential | None = None
    # The user-assigned managed identity to use. None: DefaultAzureCredential chooses one.
    client_id: str | None = None

    # As in the address of the service.
    service: ClassVar[str]

    @classmethod
    def chosen(cls, connection: str, endpoint: str, client_id: str) -> Self:
        """Use the connection string if there is one, else the identity of this app. Raises ValueError."""
        if connection:
            return cls.from_connection_string(connection)
        return cls.from_endpoint(endpoint, client_id=client_id or None)

    @classmethod
    def from_connection_string(cls, text: str) -> Self:
        """Read a connection string. Raises ValueError, whose message never contains a secret."""
        try:
            parts = dict(parse_connection_string(text))
        except ValueError:
            raise ValueError(
                "it is not a connection string: NAME=VALUE pairs with ';' between them"
            ) from None
        if parts.get("usedevelopmentstorage", "").lower() == "true":
            parts = _DEVELOPMENT
        return cls(cls._checked(cls._named_endpoint(parts)), _secret(parts))

    @classmethod
    def from_endpoint(cls, endpoint: str, *, client_id: str | None = None) -> Self:
        """Use the identity of this app. Raises ValueError unless `endpoint` is an https URL."""
        endpoint = cls._checked(endpoint)
        if not endpoint.startswith("https://"):
            raise ValueError(f"{endpoint} must begin with https:// because access tokens are sent to it")
        return cls(endpoint, client_id=client_id)

    def credential(self) -> "Credential":
        """Return the key, the signature, or a new identity, which the caller must close."""
        if self.secret:
            return self.secret
        # Slow to import, and needed on Azure only.
        from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

        return DefaultAzureCredential(managed_identity_client_id=self.client_id)

    @classmethod
    def _named_endpoint(cls, parts: dict[str, str]) -> str:
        if endpoint := parts.get(f"{cls.service}endpoint"):
            return endpoint
        if name := parts.get("accountname"):
            protocol = parts.get("defaultendpointsprotocol", "https")
            return f"{protocol}://{name}.{cls.service}.{parts.get('endpointsuffix', 'core.windows.net')}"
        raise ValueError(f"it names neither {cls.service.capitalize()}Endpoint nor AccountName")

    @classmethod
    def _checked(cls, endpoint: str) -> str:
        url = urlsplit(endpoint)
        plain = not (url.query or url.fragment or url.username)
        if url.scheme not in ("http", "https") or not url.hostname or not plain:
            raise ValueError(
                f"its {cls.service} endpoint must be a plain http or https URL such as "
                f"https://NAME.{cls.service}.core.windows.net"
            )
        return endpoint.rstrip("/")


async def close_credential(credential: "Credential") -> None:
    if not isinstance(credential, AzureNamedKeyCredential | AzureSasCredential):
        await credential.close()


def _secret(parts: dict[str, str]) -> AzureNamedKeyCredential | AzureSasCredential:
    if signature := parts.get("sharedaccesssignature"):
        return AzureSasCredential(signature.removeprefix("?"))
    name, key = parts.get("accountname"), parts.get("accountkey")
    if not (name and key):
        raise ValueError("it has neither AccountName with AccountKey nor SharedAccessSignature")
    try:
        base64.b64decode(key, validate=True)
    except binascii.Error:
        raise ValueError("its AccountKey is not base64") from None
    return AzureNamedKeyCredential(name, key)
