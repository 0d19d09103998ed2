"""HTTP requests and replies, without any framework."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

JSON = "application/json"
PROBLEM = "application/problem+json"
EVENT_STREAM = "text/event-stream"
# A Cache-Control: what is sent to one caller must not be shown to another, and is asked for again each time.
UNSHARED = "private, no-cache"

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
    """One reply, with the messages that are sent to queues together with it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """A JSON text that is sent as it was stored. Parsing it could take long."""

    text: str


def json_text(fields: Mapping[str, object]) -> str:
    """Return the JSON text of an object. The values may be `Stored`."""
    encoded = (
        f"{_ENCODER.encode(name)}:{value.text if isinstance(value, Stored) else _ENCODER.encode(value)}"
        for name, value in fields.items()
    )
    return f"{{{','.join(encoded)}}}"


def json_reply(
    status: int,
    fields: Mapping[str, object],
    headers: Mapping[str, str] | None = None,
    *,
    messages: tuple[str, ...] = (),
) -> Reply:
    """Return a reply whose body is a JSON object."""
    body = json_text(fields).encode()
    return Reply(status, body, {"Content-Type": JSON, "Cache-Control": UNSHARED, **(headers or {})}, messages)
