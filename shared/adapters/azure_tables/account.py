"""How requests to the tables are signed, and the tables that the app needs."""

import base64
import hmac
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import AzureError
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import (
    AsyncBearerTokenCredentialPolicy,
    AzureSasCredentialPolicy,
    SansIOHTTPPolicy,
)

from shared.adapters.storage_account import ServiceAccount, close_credential
from shared.errors import StorageUnavailable

# Time-outs of one attempt of a request to the storage.
CONNECT_SECONDS = 10
READ_SECONDS = 10

if TYPE_CHECKING:
    from shared.adapters.storage_account import Credential

TOKEN_SCOPE = "https://storage.azure.com/.default"  # noqa: S105 - a scope, not a secret


# Gets the Date of a reply, and the Unix times at which its request was sent and it was received.
CompareClock = Callable[[str, float, float], None]


class TableAccount(ServiceAccount):
    """A storage account's table service."""

    __slots__ = ()
    service = "table"


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
