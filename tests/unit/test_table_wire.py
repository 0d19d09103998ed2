"""Requests and replies of Azure Table Storage as text, and the credentials that sign them."""

import json
from email import message_from_bytes, policy

import pytest
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from shared.adapters.azure_tables import wire
from shared.adapters.azure_tables.account import TableAccount
from shared.adapters.azure_tables.limits import check_key, check_writes
from shared.ports.tables import Delete, Insert, Merge, Put, Row

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\#?"), max_size=50)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z_0-9]{0,20}", fullmatch=True).filter(
    lambda name: name not in ("PartitionKey", "RowKey", "Timestamp")
)
VALUES = st.dictionaries(
    NAMES, st.one_of(TEXT, st.booleans(), st.binary(), st.integers(-(2**63), 2**63 - 1)), max_size=5
)
ENDPOINT = "http://127.0.0.1:10002/devstoreaccount1"


@given(KEYS, KEYS, VALUES)
def test_a_row_is_read_as_it_was_written(partition, key, values):
    check_writes(partition, [Insert(Row(key, values))])
    text = wire.entity_text(partition, Row(key, values))
    entity = json.loads(text) | {
        "odata.etag": "W/1",
        "odata.metadata": "x",
        "Timestamp": "2026-01-01T00:00:00Z",
    }
    row = wire.read_entity(json.dumps(entity).encode())
    assert row == Row(key, values, "W/1")
    assert [type(value) for value in row.values.values()] == [type(value) for value in values.values()]
    assert text.isascii()
    assert text.isprintable()


def test_a_row_has_types_only_where_json_has_none():
    row = Row("a", {"text": "é", "int": 1, "long": 2**31, "yes": True, "data": b"\xff"})
    assert json.loads(wire.entity_text("p", row)) == {
        "PartitionKey": "p",
        "RowKey": "a",
        "text": "é",
        "int": 1,
        "long@odata.type": "Edm.Int64",
        "long": "2147483648",
        "yes": True,
        "data@odata.type": "Edm.Binary",
        "data": "/w==",
    }


def test_an_etag_that_is_left_out_follows_from_the_timestamp():
    body = b'{"value":[{"PartitionKey":"p","RowKey":"a","Timestamp":"2026-01-02T03:04:05.6789012Z"}]}'
    (row,) = wire.read_entities(body)
    assert row == Row("a", {}, "W/\"datetime'2026-01-02T03%3A04%3A05.6789012Z'\"")


@given(KEYS, KEYS)
def test_the_path_that_is_signed_is_the_path_that_is_sent(partition, key):
    check_key(partition)
    path = wire.entity_path("runs", partition, key)
    sent = URL(ENDPOINT + path)
    assert sent.raw_path == "/devstoreaccount1" + path
    literals = (text.replace("'", "''") for text in (partition, key))
    assert sent.path == "/devstoreaccount1/runs(PartitionKey='{}',RowKey='{}')".format(*literals)


@given(KEYS, TEXT, TEXT)
def test_a_filter_quotes_its_values(partition, first, value):
    query = wire.query_string((partition, first, "~"), {"owner": value}, 7, {"NextRowKey": "a&b=c+d"})
    p, f, v = (text.replace("'", "''") for text in (partition, first, value))
    assert dict(URL(f"{ENDPOINT}/runs()?{query}").query) == {
        "$filter": f"PartitionKey eq '{p}' and RowKey ge '{f}' and RowKey lt '~' and owner eq '{v}'",
        "$top": "7",
        "NextRowKey": "a&b=c+d",
    }


WRITES = [
    Insert(Row("a", {"x": 1})),
    Put(Row("b", {"x": 'text\r\n--changeset_baton--\r\n{"'})),
    Put(Row("c'|", {}), "W/\"datetime'1'\""),
    Merge(Row("d", {"x": True})),
    Merge(Row("f", {"x": 2}), "W/\"datetime'2'\""),
    Delete("e"),
]


def test_a_mail_parser_reads_a_batch():
    body = wire.batch_body(ENDPOINT, [wire.operation("runs", "p", write) for write in WRITES])
    message = message_from_bytes(
        b"Content-Type: " + wire.BATCH_TYPE.encode() + b"\r\n\r\n" + body, policy=policy.HTTP
    )
    (changeset,) = message.get_payload()
    parts = [part.get_payload().split("\r\n") for part in changeset.get_payload()]
    assert [part.get_content_type() for part in changeset.get_payload()] == ["application/http"] * 6
    runs = f"{ENDPOINT}/runs"
    assert [lines[0] for lines in parts] == [
        f"POST {runs} HTTP/1.1",
        f"PUT {runs}(PartitionKey='p',RowKey='b') HTTP/1.1",
        f"PUT {runs}(PartitionKey='p',RowKey='c''%7C') HTTP/1.1",
        f"PATCH {runs}(PartitionKey='p',RowKey='d') HTTP/1.1",
        f"PATCH {runs}(PartitionKey='p',RowKey='f') HTTP/1.1",
        f"DELETE {runs}(PartitionKey='p',RowKey='e') HTTP/1.1",
    ]
    conditions = [[line for line in lines if line.startswith("If-Match")] for lines in parts]
    first, second = "If-Match: W/\"datetime'1'\"", "If-Match: W/\"datetime'2'\""
    assert conditions == [[], [], [first], ["If-Match: *"], [second], ["If-Match: *"]]
    assert [lines[-1] for lines in parts] == [wire.entity_text("p", write.row) for write in WRITES[:-1]] + [
        ""
    ]


AZURE_REPLY = b"""--batchresponse_1
Content-Type: multipart/mixed; boundary=changesetresponse_2

--changesetresponse_2
Content-Type: application/http
Content-Transfer-Encoding: binary

HTTP/1.1 204 No Content
X-Content-Type-Options: nosniff
DataServiceId: https://acc.table.core.windows.net/runs(PartitionKey='p',RowKey='a')
ETag: W/"datetime'2026-01-02T03%3A04%3A05.6789012Z'"


--changesetresponse_2
Content-Type: application/http
Content-Transfer-Encoding: binary

HTTP/1.1 204 No Content
DataServiceVersion: 1.0;


--changesetresponse_2--
--batchresponse_1--
"""
AZURE_REFUSAL = b"""--batchresponse_1
Content-Type: multipart/mixed; boundary=changesetresponse_2

--changesetresponse_2
Content-Type: application/http
Content-Transfer-Encoding: binary

HTTP/1.1 412 Precondition Failed
DataServiceVersion: 3.0;
Content-Type: application/json;odata=minimalmetadata;streaming=true;charset=utf-8

{"odata.error":{"code":"UpdateConditionNotSatisfied","message":{"lang":"en-US","value":"3:The update condition \
specified in the request was not satisfied.\\nRequestId:1\\nTime:2026-01-02T03:04:05.6789012Z"}}}
--changesetresponse_2--
--batchresponse_1--
"""


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_a_batch_reply_is_parsed(line_end):
    done = wire.read_batch(AZURE_REPLY.replace(b"\n", line_end))
    assert [(reply.status, reply.etag) for reply in done] == [
        (204, "W/\"datetime'2026-01-02T03%3A04%3A05.6789012Z'\""),
        (204, ""),
    ]
    (refused,) = wire.read_batch(AZURE_REFUSAL.replace(b"\n", line_end))
    assert refused.status == 412
    assert wire.read_fault(refused.body) == wire.Fault(
        "UpdateConditionNotSatisfied",
        "3:The update condition specified in the request was not satisfied.",
        3,
    )


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"\xff", b"null", b'{"odata.error":7}', b"HTTP/1.1 x"]
)
def test_an_unreadable_reply_raises_only_the_expected_errors(body):
    assert wire.read_fault(body) == wire.Fault("", "")
    assert wire.read_batch(body) == []
    for read in (wire.read_entity, wire.read_entities):
        with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
            read(body)


KEY = "a2V5"
NAMED = f"AccountName=acc;AccountKey={KEY}"
ACCOUNTS = {
    "UseDevelopmentStorage=true": "http://127.0.0.1:10002/devstoreaccount1",
    NAMED: "https://acc.table.core.windows.net",
    f"DefaultEndpointsProtocol=http;{NAMED};EndpointSuffix=core.chinacloudapi.cn;": (
        "http://acc.table.core.chinacloudapi.cn"
    ),
    f"{NAMED};TableEndpoint=https://tables.example/acc/": "https://tables.example/acc",
    "tableendpoint=https://t.example;sharedaccesssignature=?sv=1&sig=a%3D": "https://t.example",
    "AccountName=acc;SharedAccessSignature=sv=1&sig=a%3D": "https://acc.table.core.windows.net",
}


@pytest.mark.parametrize(("text", "endpoint"), ACCOUNTS.items())
def test_a_connection_string_names_endpoint_and_secret(text, endpoint):
    account = TableAccount.from_connection_string(text)
    assert account.endpoint == endpoint
    match account.secret:
        case AzureSasCredential() as secret:
            assert secret.signature == "sv=1&sig=a%3D"
        case AzureNamedKeyCredential(named_key=named):
            assert named.name in ("acc", "devstoreaccount1")
            assert named.key == KEY or len(named.key) == 88
        case other:
            pytest.fail(f"{other} is no secret")
    assert KEY not in repr(account)
    assert "sig" not in repr(account)


BAD = {
    "": "not a connection string",
    "hunter2": "not a connection string",
    "AccountKey=hunter2": "neither TableEndpoint nor AccountName",
    "AccountName=acc": "neither AccountName with AccountKey",
    "TableEndpoint=https://t.example;AccountKey=hunter2": "neither AccountName with AccountKey",
    "AccountName=acc;AccountKey=hunter2": "not base64",
    f"{NAMED};TableEndpoint=ftp://hunter2": "must be a plain http or https URL",
    f"{NAMED};TableEndpoint=https://t.example?sig=hunter2": "must be a plain http or https URL",
}


@pytest.mark.parametrize(("text", "complaint"), BAD.items())
def test_a_bad_connection_string_is_refused_without_showing_it(text, complaint):
    with pytest.raises(ValueError, match=complaint) as raised:
        TableAccount.from_connection_string(text)
    assert "hunter2" not in str(raised.value)


def test_an_endpoint_for_entra_has_to_be_https():
    account = TableAccount.from_endpoint("https://acc.table.core.windows.net/", client_id="id")
    assert account == TableAccount("https://acc.table.core.windows.net", None, "id")
    with pytest.raises(ValueError, match="https://"):
        TableAccount.from_endpoint("http://acc.table.core.windows.net")
