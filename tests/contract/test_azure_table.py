"""The adapter for Azure Table Storage: the protocol, the network, the credentials."""

import asyncio
import secrets
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from uuid import UUID

import pytest
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential
from azure.data.tables import (
    AccountSasPermissions,
    EdmType,
    EntityProperty,
    ResourceTypes,
    UpdateMode,
    generate_account_sas,
)
from azure.data.tables.aio import TableClient

from dev import azurite
from shared.adapters.azure_tables.account import TableAccount, create_missing_tables
from shared.adapters.azure_tables.table import TableStorage
from shared.errors import RowConflict, StorageUnavailable
from shared.ports.tables import Delete, Insert, Merge, Put, Row

DATA = bytes(range(256))
ETAG = "W/\"datetime'2026-01-02T03%3A04%3A05.6789012Z'\""
KEY = "it's 50% + a|b"


# Nothing takes so long, unless the code is broken.
GIVE_UP_SECONDS = 60


@pytest.fixture
async def table(azure_table):
    return await azure_table()


@pytest.fixture
async def microsofts(connection_string, table) -> AsyncIterator[TableClient]:
    """Microsoft's own client for the same table."""
    async with TableClient.from_connection_string(connection_string, table.name) as client:
        yield client


async def test_microsofts_client_reads_our_rows(table, microsofts):
    values = {"text": "宇 \x00 '\"", "int": -5, "long": 2**40, "yes": True, "data": DATA}
    etag = await table.write("p", [Insert(Row(KEY, values)), Insert(Row("other", values))])
    await table.write("p", [Put(Row("other", {"text": "put"})), Merge(Row(KEY, {"int": 6}))])
    entity = await microsofts.get_entity("p", KEY)
    assert entity.pop("long") == EntityProperty(2**40, EdmType.INT64)
    assert entity == {
        "PartitionKey": "p",
        "RowKey": KEY,
        "text": "宇 \x00 '\"",
        "int": 6,
        "yes": True,
        "data": DATA,
    }
    assert dict(await microsofts.get_entity("p", "other")) == {
        "PartitionKey": "p",
        "RowKey": "other",
        "text": "put",
    }
    with pytest.raises(RowConflict):
        await table.write("p", [Put(Row(KEY, {}), etag)])


async def test_we_read_rows_of_microsofts_client(table, microsofts):
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    entity = {
        "PartitionKey": "p",
        "RowKey": KEY,
        "text": "宇 \x00 '\"",
        "int": 5,
        "small_long": EntityProperty(7, EdmType.INT64),
        "yes": True,
        "data": DATA,
        "moment": moment,
        "whole": 3.0,
        "fraction": 0.25,
        "guid": UUID(int=5),
        "left_out": None,
    }
    await microsofts.create_entity(entity)
    values = {
        "text": "宇 \x00 '\"",
        "int": 5,
        "small_long": 7,
        "yes": True,
        "data": DATA,
        "moment": "2026-01-02T03:04:05.678901Z",
        "whole": 3,
        "fraction": "0.25",
        "guid": str(UUID(int=5)),
    }
    row = await table.get("p", KEY)
    assert row.values == values
    assert await table.query("p", "", "~") == [row]
    changed = {"PartitionKey": "p", "RowKey": KEY, "text": "changed"}
    await microsofts.submit_transaction([("update", changed, {"mode": UpdateMode.REPLACE})])
    with pytest.raises(RowConflict):
        await table.write("p", [Put(Row(KEY, {}), row.etag)])
    assert (await table.get("p", KEY)).values == {"text": "changed"}


READS = {
    "get": lambda table: table.get("p", "a"),
    "query": lambda table: table.query("p", "", "~"),
    "query_each": lambda table: table.query_each({"p": ("", "~")}, where={}, limit=1),
}
WRITES = {
    "insert": lambda table: table.write("p", [Insert(Row("a", {}))]),
    "put": lambda table: table.write("p", [Put(Row("a", {}), ETAG)]),
    "delete": lambda table: table.write("p", [Delete("a")]),
    "transaction": lambda table: table.write("p", [Put(Row("a", {})), Delete("b")]),
}
OPERATIONS = READS | WRITES


@pytest.mark.parametrize("operation", READS)
async def test_a_missing_table_is_read_as_an_empty_one(storage, operation):
    assert await READS[operation](storage.table("nowhere")) == (None if operation == "get" else [])


@pytest.mark.parametrize("operation", WRITES.values(), ids=WRITES)
async def test_a_missing_table_that_is_written_to_is_named(storage, operation):
    with pytest.raises(StorageUnavailable, match=r"table 'nowhere' does not exist in http://"):
        await operation(storage.table("nowhere"))


async def test_tables_are_created_once(account, storage):
    names = [f"t{secrets.token_hex(8)}" for _ in range(2)]
    await create_missing_tables(account, names[:1])
    await storage.table(names[0]).write("p", [Insert(Row("a", {}))])
    await create_missing_tables(account, names)
    assert await storage.table(names[0]).get("p", "a")
    assert await storage.table(names[1]).get("p", "a") is None


async def test_each_reply_is_compared_with_the_clock(account):
    seconds = []

    def compare(date: str, sent: float, received: float) -> None:
        assert sent <= received
        seconds.append(parsedate_to_datetime(date).timestamp() - received)

    name = f"t{secrets.token_hex(8)}"
    await create_missing_tables(account, [name], compare)
    # Also when the table was there before.
    await create_missing_tables(account, [name], compare)
    storage = TableStorage(account, compare_clock=compare)
    await storage.table(name).write("p", [Insert(Row("a", {}))])
    with pytest.raises(RowConflict):
        await storage.table(name).write("p", [Insert(Row("a", {}))])
    await storage.close()
    assert len(seconds) == 4
    # This test runs on the machine of the storage. Its Date has no fraction of a second.
    assert all(-GIVE_UP_SECONDS < each <= 0.01 for each in seconds)


async def test_a_closed_storage_opens_again(storage):
    assert await storage.table("nowhere").get("p", "a") is None
    await storage.close()
    await storage.close()
    assert await storage.table("nowhere").get("p", "a") is None


@asynccontextmanager
async def opened(account: TableAccount) -> AsyncIterator[TableStorage]:
    storage = TableStorage(account)
    try:
        yield storage
    finally:
        await storage.close()


@pytest.fixture
def signature() -> str:
    return generate_account_sas(
        AzureNamedKeyCredential(azurite.ACCOUNT, azurite.KEY),
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, update=True),
        datetime.now(UTC) + timedelta(hours=1),
    )


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_shared_access_signature_gives_access(account, table, signature, operation):
    await table.write("p", [Put(Row("b", {}))])
    text = f"TableEndpoint={account.endpoint};SharedAccessSignature={signature}"
    async with opened(TableAccount.from_connection_string(text)) as storage:
        if operation in ("put", "delete"):  # of a row that is not there
            with pytest.raises(RowConflict):
                await OPERATIONS[operation](storage.table(table.name))
        else:
            await OPERATIONS[operation](storage.table(table.name))


async def test_a_wrong_signature_is_refused_and_never_shown(account, table, signature):
    wrong = signature.replace("sig=", "sig=wrong")
    account = TableAccount.from_connection_string(
        f"TableEndpoint={account.endpoint};SharedAccessSignature=?{wrong}"
    )
    assert "wrong" not in repr(account)
    async with opened(account) as storage:
        for operation in OPERATIONS.values():
            with pytest.raises(StorageUnavailable, match="403 Auth") as raised:
                await operation(storage.table(table.name))
            assert "sig=" not in "".join(traceback.format_exception(raised.value))


async def test_a_signature_is_not_shown_when_no_server_listens(signature):
    text = f"TableEndpoint=http://127.0.0.1:9/acc;SharedAccessSignature={signature}"
    async with opened(TableAccount.from_connection_string(text)) as storage:
        with pytest.raises(StorageUnavailable, match="Cannot connect to host") as raised:
            await storage.table("runs").get("p", "a")
    assert "sig=" not in "".join(traceback.format_exception(raised.value))


async def test_a_wrong_key_is_refused_and_never_shown(connection_string, table):
    key = "bm90IHRoZSBrZXk="
    account = TableAccount.from_connection_string(connection_string.replace(azurite.KEY, key))
    assert key not in repr(account)
    async with opened(account) as storage:
        for operation in OPERATIONS.values():
            with pytest.raises(StorageUnavailable, match="403 Auth") as raised:
                await operation(storage.table(table.name))
            assert key not in "".join(traceback.format_exception(raised.value))


Handler = Callable[[int, bytes], Awaitable[bytes | None]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[tuple[TableStorage, list[bytes]]]:
    """A storage whose server replies what `handler` returns for the number and bytes of a request; None disconnects."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        requests.append(head)
        reply = await handler(len(requests), head)
        if reply is not None:
            writer.write(reply)
            await writer.drain()
        writer.transport.abort() if reply is None else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = f"AccountName=acc;AccountKey={azurite.KEY};TableEndpoint=http://127.0.0.1:{port}/acc"
    async with server, opened(TableAccount.from_connection_string(text)) as storage:
        yield storage, requests


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def fault(status: str, code: str, message: str, *headers: str) -> bytes:
    body = '{"odata.error":{"code":"%s","message":{"lang":"en-US","value":"%s"}}}' % (code, message)  # noqa: UP031
    return http(status, body.encode(), *headers)


BUSY = fault("503 Server Busy", "ServerBusy", "The server is busy.\\nRequestId:1")
ROW = http("200 OK", b'{"odata.etag":"W/1","PartitionKey":"p","RowKey":"a","n":1}')
DONE = http("204 No Content", b"", "ETag: W/1")
TRANSACTION = http("202 Accepted", b"--b\r\n\r\nHTTP/1.1 204 No Content\r\nETag: W/1\r\n\r\n" * 2)
GOOD = {"get": ROW, "insert": DONE, "put": DONE, "delete": DONE, "transaction": TRANSACTION}


@pytest.mark.parametrize("bad", [BUSY, None, ROW[:-20]], ids=["busy", "hung up", "cut off"])
@pytest.mark.parametrize("operation", GOOD)
async def test_a_passing_fault_is_tried_again(operation, bad):
    async def handler(number: int, _: bytes) -> bytes | None:
        return bad if number == 1 else GOOD[operation]

    async with answering(handler) as (storage, requests):
        result = await OPERATIONS[operation](storage.table("runs"))
    assert result == {"get": Row("a", {"n": 1}, "W/1"), "delete": ""}.get(operation, "W/1")
    assert len(requests) == 2


async def test_each_attempt_is_authorized_anew():
    secret = AzureSasCredential("sig=first")

    async def handler(number: int, _: bytes) -> bytes | None:
        secret.update("sig=second")
        return BUSY if number == 1 else ROW

    async with (
        answering(handler) as (server, requests),
        opened(TableAccount(server.endpoint, secret)) as storage,
    ):
        await storage.table("runs").get("p", "a")
    assert b"sig=second" not in requests[0]
    assert b"sig=second" in requests[1]


UNANSWERED = {
    "busy": (BUSY, "503 ServerBusy The server is busy."),
    "hung up": (None, "did not answer: .*"),
    "not HTTP": (b"junk\r\n\r\n", "did not answer: .*"),
    "page of a proxy": (http("502 Bad Gateway", b"<html>"), "502"),
    "address of something else": (http("404 Not Found", b"<html>"), "404"),
    "code in XML": (
        http("403 No", b"<m:error><m:code>InsufficientAccountPermissions</m:code>"),
        "403 Insuff.*",
    ),
    "no JSON": (http("200 OK", b"<html>"), ".*"),
    "no entity": (http("200 OK", b"[1]"), ".*"),
    "no row": (http("200 OK", b'{"value":[{"a":1}]}'), ".*"),
    "no transaction": (http("202 Accepted", b"<html>"), ".*"),
    "no etag": (http("204 No Content"), ".*"),
}


@pytest.mark.parametrize(("reply", "complaint"), UNANSWERED.values(), ids=UNANSWERED)
@pytest.mark.parametrize("operation", ["get", "query", "query_each", "insert", "put", "transaction"])
async def test_any_other_answer_is_storage_unavailable(operation, reply, complaint):
    async def handler(*_: object) -> bytes | None:
        return reply

    async with answering(handler) as (storage, requests):
        with pytest.raises(StorageUnavailable, match=rf"^http://127.0.0.1:\d+/acc .*{complaint}$"):
            await OPERATIONS[operation](storage.table("runs"))
    assert 1 <= len(requests) <= 6  # aiohttp repeats what is idempotent once by itself


async def test_a_transaction_that_took_effect_before_a_retry_is_a_conflict():
    async def handler(number: int, _: bytes) -> bytes | None:
        if number == 1:
            return None
        body = (
            b"HTTP/1.1 409 Conflict\r\nA: b\r\n\r\n"
            + fault("", "EntityAlreadyExists", "1:It is there.").partition(b"\r\n\r\n")[2]
        )
        return http("202 Accepted", body + b"\r\n--b--")

    async with answering(handler) as (storage, _):
        with pytest.raises(RowConflict, match=r"^b$"):
            await storage.table("runs").write("p", [Put(Row("a", {})), Insert(Row("b", {}))])


async def test_a_query_follows_pages_that_are_empty():
    pages = [
        http("200 OK", b'{"value":[]}', "x-ms-continuation-NextPartitionKey: 1!4!cA--"),
        http(
            "200 OK",
            b'{"value":[{"PartitionKey":"p","RowKey":"a","odata.etag":"W/1"}]}',
            "x-ms-continuation-NextPartitionKey: a+b",
            "x-ms-continuation-NextRowKey: c&d=e",
        ),
        http("200 OK", b'{"value":[{"PartitionKey":"p","RowKey":"b","odata.etag":"W/2"}]}'),
    ]

    async def handler(number: int, _: bytes) -> bytes:
        return pages[number - 1]

    async with answering(handler) as (storage, requests):
        rows = await storage.table("runs").query("p", "", "~")
    assert rows == [Row("a", {}, "W/1"), Row("b", {}, "W/2")]
    assert b"NextPartitionKey=1!4!cA-- HTTP" in requests[1]
    assert b"&NextPartitionKey=a%2Bb&NextRowKey=c%26d%3De HTTP" in requests[2]


async def test_a_long_retry_after_of_the_storage_is_shortened(monkeypatch):
    monkeypatch.setattr("shared.adapters.azure_tables.table.MAX_RETRY_AFTER_SECONDS", 0.01)
    monkeypatch.setattr("shared.adapters.azure_tables.table.TOTAL_SECONDS", 5)
    later = fault("503 Server Busy", "ServerBusy", "Busy.", "Retry-After: 3600")

    async def handler(number: int, _: bytes) -> bytes:
        return later if number == 1 else ROW

    async with answering(handler) as (storage, _):
        assert await storage.table("runs").get("p", "a")


async def test_a_silent_server_is_given_up(monkeypatch):
    monkeypatch.setattr("shared.adapters.azure_tables.table.TOTAL_SECONDS", 0.1)
    silence = asyncio.Event()

    async def handler(*_: object) -> None:
        await silence.wait()

    async with answering(handler) as (storage, _):
        with pytest.raises(StorageUnavailable, match="did not answer within"):
            await storage.table("runs").get("p", "a")
        silence.set()


async def test_entra_tokens_are_sent_only_over_https():
    class Identity:
        closed = False

        async def get_token(self, *scopes: str, **_: object) -> AccessToken:
            assert scopes == ("https://storage.azure.com/.default",)
            return AccessToken("token", 2**40)

        async def close(self) -> None:
            self.closed = True

    identity = Identity()

    class Account(TableAccount):
        def credential(self):
            return identity

    async with opened(Account("http://127.0.0.1:9")) as storage:
        with pytest.raises(StorageUnavailable, match="TLS protected"):
            await storage.table("runs").get("p", "a")
    assert identity.closed


def test_a_read_imports_no_heavy_package(connection_string):
    program = f"""
import asyncio, sys
from shared.adapters.azure_tables.account import TableAccount
from shared.adapters.azure_tables.table import TableStorage
async def main():
    storage = TableStorage(TableAccount.from_connection_string({connection_string!r}))
    print(await storage.table("nowhere").get("p", "a"))
    await storage.close()
asyncio.run(main())
print(sorted({{"openai", "azure.identity", "azure.data.tables", "pydantic"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines() == ["None", "[]"]
