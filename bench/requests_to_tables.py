"""Compares requests to Table Storage: Microsoft's client, and our own requests over its HTTP pipeline."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Protocol

from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables.aio import TableClient

from bench.load import drive
from bench.measure import Meter
from shared.adapters.azure_tables.account import TableAccount, create_missing_tables
from shared.adapters.azure_tables.table import AzureTable, TableStorage
from shared.ports.tables import Insert, Row, Value

ROW: Mapping[str, Value] = {
    f"property_{n}": ("some text value", n, "2026-01-01T00:00:00.000000Z", True)[n % 4] for n in range(23)
}
SMALL_ROW = dict(list(ROW.items())[:7])
ROWS_IN_TRANSACTION = 4
ROWS_IN_QUERY = 300
WARM_UP = 10


class Client(Protocol):
    async def get(self) -> object: ...
    async def transaction(self, partition: str, keys: list[str], values: Mapping[str, Value]) -> object: ...
    async def query(self) -> int: ...


class Own:
    def __init__(self, table: AzureTable) -> None:
        self._table = table

    async def get(self) -> object:
        return await self._table.get("read", "key_000")

    async def transaction(self, partition: str, keys: list[str], values: Mapping[str, Value]) -> object:
        return await self._table.write(partition, [Insert(Row(key, values)) for key in keys])

    async def query(self) -> int:
        return len(await self._table.query("read", "key_", "key`"))


class Sdk:
    def __init__(self, table: TableClient) -> None:
        self._table = table

    async def get(self) -> object:
        return await self._table.get_entity("read", "key_000")

    async def transaction(self, partition: str, keys: list[str], values: Mapping[str, Value]) -> object:
        entities = [{"PartitionKey": partition, "RowKey": key, **values} for key in keys]
        return await self._table.submit_transaction([("create", entity) for entity in entities])

    async def query(self) -> int:
        parameters = {"p": "read", "a": "key_", "b": "key`"}
        found = self._table.query_entities(
            "PartitionKey eq @p and RowKey ge @a and RowKey lt @b", parameters=parameters
        )
        return len([entity async for entity in found])


@asynccontextmanager
async def _client(kind: str, storage: str) -> AsyncIterator[Client]:
    account = TableAccount.from_connection_string(storage)
    await create_missing_tables(account, ["runs"])
    if kind == "own":
        connection = TableStorage(account)
        yield Own(connection.table("runs"))
        await connection.close()
        return
    tuned = (
        {"transport": AioHttpTransport(use_env_settings=False), "retry_total": 2} if kind == "tuned" else {}
    )
    async with TableClient.from_connection_string(storage, "runs", **tuned) as table:
        yield Sdk(table)


async def requests(meter: Meter, *, storage: str, client: str, request: str, times: int) -> None:
    async with _client(client, storage) as table:
        keys = [f"key_{n:03d}" for n in range(ROWS_IN_QUERY)]
        for start in range(0, ROWS_IN_QUERY, 100):
            await table.transaction("read", keys[start : start + 100], SMALL_ROW)
        partitions = count()

        async def get(_: int) -> None:
            await table.get()

        async def transaction(_: int) -> None:
            await table.transaction(f"p{next(partitions)}", keys[:ROWS_IN_TRANSACTION], ROW)

        async def query(_: int) -> None:
            assert await table.query() == ROWS_IN_QUERY

        each: Callable[[int], Awaitable[None]] = {"get": get, "transaction": transaction, "query": query}[
            request
        ]
        await drive(each, times=WARM_UP, in_flight=8)
        with meter.measuring(count=times):
            await drive(each, times=times, in_flight=8)
