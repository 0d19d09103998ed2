"""The wire format of Azure Table Storage: requests and replies as text. Pure.

Sources: "Payload format for Table service operations" and "Performing entity group transactions" in
Microsoft's REST reference, API version 2019-02-02.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from shared.ports.tables import Delete, Insert, Merge, Put, Row, Value, Write

JSON_TYPE = "application/json"
BATCH_TYPE = "multipart/mixed; boundary=batch_baton"

_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
_TYPE = "@odata.type"
# The characters that aiohttp does not escape. The signed path must equal the path that aiohttp sends.
_SAFE_IN_PATH = "!$'()*,:;=@&"
# ASCII on one line, so that no text in a row can look like a boundary of a batch.
_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Operation(NamedTuple):
    """One write as a request."""

    method: str
    path: str
    # The If-Match header. Empty: the write has no condition.
    match: str = ""
    entity: str = ""


class Reply(NamedTuple):
    """The reply to one operation."""

    status: int
    etag: str
    body: bytes


class Fault(NamedTuple):
    """An error that the storage reports."""

    code: str
    message: str
    # The position of the failed operation in its batch, if the storage reports it.
    position: int | None = None


def quoted(text: str) -> str:
    """Return `text` as a literal in a filter or a key."""
    return "'" + text.replace("'", "''") + "'"


def entity_path(table: str, partition: str, key: str) -> str:
    keys = f"PartitionKey={quoted(partition)},RowKey={quoted(key)}"
    return f"/{table}({quote(keys, safe=_SAFE_IN_PATH)})"


def query_string(
    bounds: tuple[str, str, str],
    where: Mapping[str, str],
    top: int | None,
    continuation: Mapping[str, str],
) -> str:
    """Return the query string. `bounds` are the partition, the first key, and the key to stop before."""
    partition, first, end = map(quoted, bounds)
    tests = [f"PartitionKey eq {partition}", f"RowKey ge {first}", f"RowKey lt {end}"]
    tests += [f"{name} eq {quoted(value)}" for name, value in where.items()]
    parameters = {"$filter": " and ".join(tests), **({"$top": str(top)} if top else {}), **continuation}
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())


def entity_text(partition: str, row: Row) -> str:
    """Return the JSON of a row. Only values whose type JSON does not show get a type property."""
    entity: dict[str, Value] = {"PartitionKey": partition, "RowKey": row.key}
    for name, value in row.values.items():
        if isinstance(value, bytes):
            entity[name + _TYPE] = "Edm.Binary"
            entity[name] = b64encode(value).decode()
        elif isinstance(value, int) and value not in _INT32:
            entity[name + _TYPE] = "Edm.Int64"
            entity[name] = str(value)
        else:
            entity[name] = value
    return _json(entity)


def _number(text: str) -> Value:
    """Return an Edm.Double, which we never write.

    An integral value becomes an int if the storage has room for it. Another one stays text.
    """
    value = float(text)
    return int(value) if value.is_integer() and int(value) in _INT64 else text


_parsed = json.JSONDecoder(parse_float=_number).decode


def read_entity(body: bytes) -> Row:
    """Return the row in the reply to a point read.

    Raises ValueError, KeyError or TypeError for other replies.
    """
    return _row(_parsed(body.decode()))


def read_entities(body: bytes) -> list[Row]:
    """Return the rows in the reply to a query. Raises like `read_entity`."""
    return [_row(entity) for entity in _parsed(body.decode())["value"]]


def _row(entity: Mapping[str, Any]) -> Row:
    """Return the row of an entity with minimal metadata.

    An Edm.DateTime, which we never write, stays text.
    """
    values = {name: value for name, value in entity.items() if "odata." not in name}
    if len(entity) > len(values) + 1:  # more metadata than the etag: types of values
        values |= _typed(entity)
    del values["PartitionKey"]
    key = values.pop("RowKey")
    changed = values.pop("Timestamp", "")
    # Microsoft's client makes the etag in the same way when the service leaves it out.
    return Row(key, values, entity.get("odata.etag") or f"W/\"datetime'{quote(changed)}'\"")


def _typed(entity: Mapping[str, Any]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, kind in entity.items():
        if name.endswith(_TYPE):
            plain = name.removesuffix(_TYPE)
            if kind == "Edm.Binary":
                values[plain] = b64decode(entity[plain])
            elif kind == "Edm.Int64":
                values[plain] = int(entity[plain])
    return values


def operation(table: str, partition: str, write: Write) -> Operation:
    match write:
        case Insert(row):
            return Operation("POST", f"/{table}", entity=entity_text(partition, row))
        case Put(row, etag):
            return Operation("PUT", entity_path(table, partition, row.key), etag, entity_text(partition, row))
        case Merge(row, etag):
            path = entity_path(table, partition, row.key)
            return Operation("PATCH", path, etag or "*", entity_text(partition, row))
        case Delete(key):
            return Operation("DELETE", entity_path(table, partition, key), "*")


def operation_headers(operation: Operation) -> dict[str, str]:
    headers = {"Accept": JSON_TYPE, "DataServiceVersion": "3.0"}
    if operation.entity:
        headers |= {"Content-Type": JSON_TYPE, "Prefer": "return-no-content"}
    if operation.match:
        headers["If-Match"] = operation.match
    return headers


def batch_body(endpoint: str, operations: Sequence[Operation]) -> bytes:
    """Return the operations as one entity group transaction."""
    lines = ["--batch_baton", "Content-Type: multipart/mixed; boundary=changeset_baton", ""]
    for number, each in enumerate(operations):
        lines += [
            "--changeset_baton",
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            f"Content-ID: {number}",
            "",
            f"{each.method} {endpoint}{each.path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in operation_headers(each).items()),
            "",
            each.entity,
        ]
    lines += ["--changeset_baton--", "--batch_baton--", ""]
    return "\r\n".join(lines).encode("ascii")


_REPLY = re.compile(rb"^HTTP/1\.[01] (\d{3})", re.MULTILINE)
_ETAG = re.compile(rb"^ETag: *([^\r\n]+)", re.MULTILINE | re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_BOUNDARY = re.compile(rb"^--", re.MULTILINE)


def read_batch(body: bytes) -> list[Reply]:
    """Return the replies in the reply to a batch. There is only one when an operation failed."""
    _, *parts = _REPLY.split(body)
    return [_read_part(int(status), rest) for status, rest in zip(parts[::2], parts[1::2], strict=True)]


def _read_part(status: int, text: bytes) -> Reply:
    head, *rest = _BLANK_LINE.split(text, maxsplit=1)
    etag = _ETAG.search(head)
    content = _BOUNDARY.split(rest[0], maxsplit=1)[0] if rest else b""
    return Reply(status, etag.group(1).decode("latin-1").strip() if etag else "", content)


_XML_CODE = re.compile(rb"<(?:m:)?code>(\w+)<", re.IGNORECASE)
_POSITION = re.compile(r"(\d+):")


def read_fault(body: bytes) -> Fault:
    """Return the error in the body of a reply. Its code is empty when the body holds no error."""
    try:
        error = json.loads(body)["odata.error"]
        code, message = str(error["code"]), str(error["message"]["value"])
    except (ValueError, KeyError, TypeError):
        found = _XML_CODE.search(body)
        return Fault(found.group(1).decode() if found else "", "")
    position = _POSITION.match(message)
    # Only the first line is kept. The others name the request, and after a wrong signature the signed text.
    return Fault(code, message.partition("\n")[0], int(position.group(1)) if position else None)
