"""Converts requests, messages and replies to and from the worker library's values, as the real host does.

Source: GrpcMessageConversionExtensions.cs of the Functions host.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from multidict import MultiMapping

from dev.host.queue_service import Message
from dev.host.worker import Datum


@dataclass(frozen=True)
class HttpCall:
    """An HTTP request: header and query values as received, the body complete."""

    method: str
    url: str
    headers: MultiMapping[str]
    query: MultiMapping[str]
    parameters: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class HttpReply:
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


def http_datum(call: HttpCall) -> Datum:
    """Repeated headers and query values become one, joined by commas; empty query values disappear."""
    query = {name: ",".join(call.query.getall(name)) for name in call.query}
    headers = {name.lower(): ",".join(call.headers.getall(name)) for name in call.headers}
    return Datum(
        {
            "method": _text(call.method),
            "url": _text(call.url),
            "headers": {name: _text(value) for name, value in headers.items()},
            "query": {name: _text(value) for name, value in query.items() if value},
            "params": {name: _text(value) for name, value in call.parameters.items()},
            "body": Datum(call.body, "bytes"),
        },
        "http",
    )


def http_reply(returned: Datum | None) -> HttpReply:
    if returned is None or returned.type is None:
        return HttpReply(204)
    if returned.type == "string":
        return HttpReply(200, [("Content-Type", "text/plain; charset=utf-8")], returned.value.encode())
    response = returned.value
    headers = [(name, value.value) for name, value in response["headers"].items()]
    for cookie in response["cookies"] or ():
        headers += [("Set-Cookie", morsel.OutputString()) for morsel in cookie.values()]
    return HttpReply(int(response["status_code"].value), headers, response["body"].value)


def timer_datum(*, past_due: bool) -> Datum:
    """No schedule status: the real host keeps none for timers that fire more than once a minute."""
    return Datum(
        json.dumps({"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": past_due}),
        "json",
    )


def queue_metadata(message: Message) -> dict[str, Datum]:
    return {
        "Id": _text(message.id),
        "PopReceipt": _text(message.pop_receipt),
        "DequeueCount": Datum(str(message.dequeue_count), "json"),
        "InsertionTime": _json(message.inserted.isoformat()),
        "ExpirationTime": _json(message.expires.isoformat()),
        "NextVisibleTime": _json(message.next_visible.isoformat()),
    }


def queue_messages(output: Datum) -> list[bytes]:
    """Return the messages of a queue output: a list of strings is one message each.

    Raises ValueError on `QueueMessage` objects, which this host does not write.
    """
    match output.type:
        case "string":
            return [output.value.encode()]
        case "bytes":
            return [output.value]
    items = json.loads(output.value)
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError("the local host writes text, bytes and lists of text to a queue, nothing else")
    return [item.encode() for item in items]


def _text(value: str) -> Datum:
    return Datum(value, "string")


def _json(value: str) -> Datum:
    return Datum(json.dumps(value), "json")
