"""HTTP requests and replies, without any framework."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

JSON = "application/json"
PROBLEM = "application/problem+json"
EVENT_STREAM = "text/event-stream"

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. Header names are in lower case."""

    url: str
    headers: Mapping[str, str]
    method: str = "GET"
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, with the messages that are sent to the work queue together with it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    messages: tuple[str, ...] = ()


def json_reply(
    status: int, value: object, headers: Mapping[str, str] | None = None, *, messages: tuple[str, ...] = ()
) -> Reply:
    body = _ENCODER.encode(value).encode()
    return Reply(
        status, body, {"Content-Type": JSON, "Cache-Control": "no-cache", **(headers or {})}, messages
    )
