"""Azure Table Storage as a `Table`.

Retries, transport, Microsoft Entra and exceptions come from azure.core. Requests are written and replies are
read here, which takes a fifth of the time of Microsoft's client. Source:
docs/decisions/0004-own-table-requests.md.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import aiohttp
from azure.core import AsyncPipelineClient
from azure.core.exceptions import AzureError
from azure.core.pipeline import PipelineResponse
from azure.core.pipeline.policies import AsyncRetryPolicy, UserAgentPolicy
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest

from shared.adapters.azure_tables.account import (
    CONNECT_SECONDS,
    READ_SECONDS,
    CompareClock,
    TableAccount,
    credential_policy,
)
from shared.adapters.azure_tables.limits import check_key, check_writes
from shared.adapters.azure_tables.wire import (
    BATCH_TYPE,
    JSON_TYPE,
    Fault,
    Operation,
    batch_body,
    entity_path,
    operation,
    operation_headers,
    query_string,
    read_batch,
    read_entities,
    read_entity,
    read_fault,
)
from shared.adapters.storage_account import close_credential
from shared.errors import RowConflict, StorageUnavailable
from shared.ports.tables import Delete, Row, Write

if TYPE_CHECKING:
    from shared.adapters.storage_account import Credential

_T = TypeVar("_T")

API_VERSION = "2019-02-02"
# The time-out of a request with its retries and its wait for a free connection.
TOTAL_SECONDS = 60
RETRIES = 2
BACKOFF_SECONDS = 0.2
MAX_RETRY_AFTER_SECONDS = 5
CONNECTIONS = 256
# Larger than most replies, so that they are read at once.
READ_BLOCK_BYTES = 1024 * 1024
ROWS_PER_PAGE = 1000

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_NO_TABLE = "TableNotFound"
_NO_ROW = frozenset({"ResourceNotFound", _NO_TABLE})
_CONFLICTS = frozenset({"EntityAlreadyExists", "UpdateConditionNotSatisfied", "ResourceNotFound"})
_CONTINUATION = {
    "NextPartitionKey": "x-ms-continuation-NextPartitionKey",
    "NextRowKey": "x-ms-continuation-NextRowKey",
}
_JSON = {"Accept": f"{JSON_TYPE};odata=minimalmetadata", "DataServiceVersion": "3.0"}
_BATCH = {"Accept": JSON_TYPE, "Content-Type": BATCH_TYPE, "DataServiceVersion": "3.0"}


class TableStorage:
    """The connections that all tables of an account share.

    They are opened when needed, in the running event loop. Close this object in the same loop. If it is used
    after that, it opens new connections.
    """

    def __init__(
        self,
        account: TableAccount,
        *,
        connections: int = CONNECTIONS,
        compare_clock: CompareClock | None = None,
    ) -> None:
        self.endpoint = account.endpoint
        self._account = account
        self._connections = connections
        self._compare_clock = compare_clock
        self._client: AsyncPipelineClient[HttpRequest, AsyncHttpResponse] | None = None
        self._credential: Credential | None = None

    def table(self, name: str) -> "AzureTable":
        return AzureTable(self, name)

    async def close(self) -> None:
        client, self._client = self._client, None
        credential, self._credential = self._credential, None
        if client:
            await client.close()
        if credential:
            await close_credential(credential)

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: str | bytes | None = None
    ) -> AsyncHttpResponse:
        """Return the reply, whatever its status. Raises StorageUnavailable when there is none.

        Writes are retried like reads. If the first attempt took effect, the retry gets a conflict.
        """
        request = HttpRequest(
            method,
            self.endpoint + path,
            headers={"x-ms-version": API_VERSION, **headers},
            content=body,
        )
        client = self._client or self._open()
        sent = time.time()
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                response = await client.send_request(request, retry_on_methods=_METHODS)
        except TimeoutError as error:
            raise StorageUnavailable(
                f"{self.endpoint} did not answer within {TOTAL_SECONDS} seconds"
            ) from error
        except AzureError as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise StorageUnavailable(f"{self.endpoint} did not answer: {reason}") from error
        if self._compare_clock:
            self._compare_clock(response.headers.get("Date", ""), sent, time.time())
        return response

    def _open(self) -> AsyncPipelineClient[HttpRequest, AsyncHttpResponse]:
        self._credential = self._account.credential()
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections), cookie_jar=aiohttp.DummyCookieJar()
        )
        transport = AioHttpTransport(
            session=session,
            use_env_settings=False,
            connection_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            connection_data_block_size=READ_BLOCK_BYTES,
        )
        policies = [
            UserAgentPolicy("baton", user_agent_use_env=False),
            _Retries(retry_total=RETRIES, retry_backoff_factor=BACKOFF_SECONDS),
            credential_policy(self._credential),
        ]
        self._client = AsyncPipelineClient(self.endpoint, policies=policies, transport=transport)
        return self._client


class _Retries(AsyncRetryPolicy[Any, Any]):
    """Waits as long as the storage requests in Retry-After, up to MAX_RETRY_AFTER_SECONDS."""

    def get_retry_after(self, response: PipelineResponse[Any, Any]) -> float | None:
        wait = super().get_retry_after(response)
        return None if wait is None else min(wait, MAX_RETRY_AFTER_SECONDS)


class AzureTable:
    """One table. It must exist before the first write: see `account.create_missing_tables`.

    A table that does not exist holds no rows, so a new account can be read before anything was written to it.
    """

    def __init__(self, storage: TableStorage, name: str) -> None:
        self._storage = storage
        self.name = name

    async def get(self, partition: str, key: str) -> Row | None:
        check_key(partition)
        check_key(key)
        response = await self._storage.send("GET", entity_path(self.name, partition, key), _JSON)
        if _not_found(response) in _NO_ROW:
            return None
        return self._read(response, read_entity)

    async def query(
        self,
        partition: str,
        first: str,
        end: str,
        *,
        where: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        rows: list[Row] = []
        top = None if limit is None else min(limit, ROWS_PER_PAGE)
        continuation: dict[str, str] = {}
        while top != 0:
            query = query_string((partition, first, end), where or {}, top, continuation)
            response = await self._storage.send("GET", f"/{self.name}()?{query}", _JSON)
            if _not_found(response) == _NO_TABLE:
                break
            rows += self._read(response, read_entities)
            headers = response.headers
            continuation = {
                name: headers[header] for name, header in _CONTINUATION.items() if header in headers
            }
            if not continuation or (limit is not None and len(rows) >= limit):
                break
        return rows[:limit]

    async def query_each(
        self, bounds: Mapping[str, tuple[str, str]], *, where: Mapping[str, str], limit: int
    ) -> list[Row]:
        queries = (self.query(each, *ends, where=where, limit=limit) for each, ends in bounds.items())
        return [row for rows in await asyncio.gather(*queries) for row in rows]

    async def write(self, partition: str, writes: Sequence[Write]) -> str:
        check_writes(partition, writes)
        operations = [operation(self.name, partition, write) for write in writes]
        if len(operations) == 1:
            return await self._write_one(writes[0], operations[0])
        return await self._write_all(writes, operations)

    async def _write_one(self, write: Write, request: Operation) -> str:
        """Send a plain request, which does the same as a transaction of one write and costs less."""
        headers = operation_headers(request)
        response = await self._storage.send(request.method, request.path, headers, request.entity or None)
        if response.status_code >= 300:
            self._refuse([write], response.status_code, read_fault(response.content))
        return self._etag(write, response.headers.get("ETag", ""))

    async def _write_all(self, writes: Sequence[Write], operations: Sequence[Operation]) -> str:
        body = batch_body(self._storage.endpoint, operations)
        response = await self._storage.send("POST", "/$batch", _BATCH, body)
        if response.status_code != 202:
            self._refuse(writes, response.status_code, read_fault(response.content))
        replies = read_batch(response.content)
        for reply in replies:
            if reply.status >= 300:
                self._refuse(writes, reply.status, read_fault(reply.body))
        if len(replies) != len(operations):
            raise StorageUnavailable(
                f"{self._storage.endpoint} answered {len(replies)} of {len(operations)} writes"
            )
        return self._etag(writes[0], replies[0].etag)

    def _etag(self, write: Write, etag: str) -> str:
        if isinstance(write, Delete):
            return ""
        if not etag:  # an empty etag would make the next conditional write unconditional
            raise StorageUnavailable(f"{self._storage.endpoint} answered a write without an etag")
        return etag

    def _read(self, response: AsyncHttpResponse, read: Callable[[bytes], _T]) -> _T:
        if response.status_code != 200:
            raise self._unavailable(response.status_code, read_fault(response.content))
        try:
            return read(response.content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StorageUnavailable(
                f"{self._storage.endpoint} answered a read of {self.name!r}, but not with rows"
            ) from error

    def _refuse(self, writes: Sequence[Write], status: int, fault: Fault) -> NoReturn:
        if fault.code in _CONFLICTS:
            keys = [write.key if isinstance(write, Delete) else write.row.key for write in writes]
            known = fault.position is not None and fault.position < len(keys)
            raise RowConflict(keys[fault.position or 0] if known else ", ".join(keys))
        raise self._unavailable(status, fault)

    def _unavailable(self, status: int, fault: Fault) -> StorageUnavailable:
        if fault.code == _NO_TABLE:
            return StorageUnavailable(f"table {self.name!r} does not exist in {self._storage.endpoint}")
        reason = " ".join(filter(None, (str(status), fault.code, fault.message)))
        return StorageUnavailable(f"{self._storage.endpoint} refused a request on {self.name!r}: {reason}")


def _not_found(response: AsyncHttpResponse) -> str:
    """Return the storage's code for what it did not find, or "" for every other reply."""
    return read_fault(response.content).code if response.status_code == 404 else ""
