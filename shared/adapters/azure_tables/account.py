"""The address of the tables and the credentials: a connection string, or an endpoint and Microsoft Entra."""

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import AzureError
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import (
    AsyncBearerTokenCredentialPolicy,
    AzureSasCredentialPolicy,
    SansIOHTTPPolicy,
)
from azure.core.utils import parse_connection_string

from shared.errors import StorageUnavailable

# Time-outs of one attempt of a request to the storage.
CONNECT_SECONDS = 10
READ_SECONDS = 10

if TYPE_CHECKING:
    from azure.identity.aio import DefaultAzureCredential

    Credential = AzureNamedKeyCredential | AzureSasCredential | DefaultAzureCredential

TOKEN_SCOPE = "https://storage.azure.com/.default"  # noqa: S105 - a scope, not a secret
# The values of `UseDevelopmentStorage=true`. They are public and the same for every emulator.
_DEVELOPMENT = {
    "accountname": "devstoreaccount1",
    "accountkey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "tableendpoint": "http://127.0.0.1:10002/devstoreaccount1",
}


# Gets the Date of a reply, and the Unix times at which its request was sent and it was received.
CompareClock = Callable[[str, float, float], None]


@dataclass(frozen=True, slots=True)
class TableAccount:
    """A storage account's table service."""

    endpoint: str
    # The key or signature. None: tokens from Microsoft Entra are used.
    secret: AzureNamedKeyCredential | AzureSasCredential | None = None
    # The user-assigned managed identity to use. None: DefaultAzureCredential chooses one.
    client_id: str | None = None

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
        return cls(_checked_endpoint(_named_endpoint(parts)), _secret(parts))

    @classmethod
    def from_endpoint(cls, endpoint: str, *, client_id: str | None = None) -> Self:
        """Use the identity of this app. Raises ValueError unless `endpoint` is an https URL."""
        endpoint = _checked_endpoint(endpoint)
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


def credential_policy(credential: "Credential") -> Any:
    """Return the pipeline policy that signs requests. It must come after the policy for retries."""
    match credential:
        case AzureNamedKeyCredential():
            return SharedKeyLitePolicy(*credential.named_key)
        case AzureSasCredential():
            return AzureSasCredentialPolicy(credential)
    return AsyncBearerTokenCredentialPolicy(credential, TOKEN_SCOPE)


class SharedKeyLitePolicy(SansIOHTTPPolicy[Any, Any]):
    """Signs each attempt separately, because the storage refuses dates that are older than 15 minutes.

    Source: "Authorize with Shared Key", section on Shared Key Lite for the Table service.
    """

    def __init__(self, account: str, key: str) -> None:
        self._account = account
        self._hash = hmac.new(base64.b64decode(key), digestmod="sha256")

    def on_request(self, request: PipelineRequest[Any]) -> None:
        date = formatdate(time.time(), usegmt=True)
        path = "/" + request.http_request.url.split("/", 3)[3].partition("?")[0]
        signature = self._hash.copy()
        signature.update(f"{date}\n/{self._account}{path}".encode("ascii"))
        signed = base64.b64encode(signature.digest()).decode()
        request.http_request.headers["x-ms-date"] = date
        request.http_request.headers["Authorization"] = f"SharedKeyLite {self._account}:{signed}"


async def create_missing_tables(
    account: TableAccount, names: Iterable[str], compare_clock: CompareClock | None = None
) -> None:
    """Create the tables that do not exist. Raises StorageUnavailable.

    These are the first requests of a process, so its clock is compared before anything depends on it.
    """
    # Slow to import, and needed once in an account's life.
    from azure.data.tables.aio import TableServiceClient  # noqa: PLC0415

    credential = account.credential()
    try:
        async with TableServiceClient(
            account.endpoint,
            credential=credential,
            retry_total=2,
            connection_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
        ) as service:
            for name in names:
                hook = _compared_by(compare_clock, time.time()) if compare_clock else None
                await service.create_table_if_not_exists(name, raw_response_hook=hook)
    except AzureError as error:
        raise StorageUnavailable(
            f"the tables {', '.join(names)} could not be created in {account.endpoint}: {error.message}"
        ) from error
    finally:
        await close_credential(credential)


def _compared_by(compare_clock: CompareClock, sent: float) -> Callable[[PipelineResponse[Any, Any]], None]:
    def compare(response: PipelineResponse[Any, Any]) -> None:
        compare_clock(response.http_response.headers.get("Date", ""), sent, time.time())

    return compare


async def close_credential(credential: "Credential") -> None:
    if not isinstance(credential, AzureNamedKeyCredential | AzureSasCredential):
        await credential.close()


def _named_endpoint(parts: dict[str, str]) -> str:
    if endpoint := parts.get("tableendpoint"):
        return endpoint
    if name := parts.get("accountname"):
        protocol = parts.get("defaultendpointsprotocol", "https")
        return f"{protocol}://{name}.table.{parts.get('endpointsuffix', 'core.windows.net')}"
    raise ValueError("it names neither TableEndpoint nor AccountName")


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


def _checked_endpoint(endpoint: str) -> str:
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or url.username:
        raise ValueError(
            "its table endpoint must be a plain http or https URL such as https://NAME.table.core.windows.net"
        )
    return endpoint.rstrip("/")
