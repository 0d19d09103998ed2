"""Microsoft's Responses server, called in this process; its ids and shapes become those of the documented service."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from azure.ai.agentserver.responses import InMemoryResponseProvider, ResponsesAgentServerHost
from azure.ai.agentserver.responses._id_generator import IdGenerator
from azure.ai.agentserver.responses.models._validators import validate_create_response_payload

from dev.provider.wire import ApiError, Json, Reply, encode, escape, unescape

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

PREFIX = "/v1"
_ENGINE_PREFIX = "caresp_"
_PUBLIC_PREFIX = "resp_"


def new_response_id() -> str:
    return _PUBLIC_PREFIX + IdGenerator.new_response_id().removeprefix(_ENGINE_PREFIX)


def to_response_id(engine_id: str) -> str:
    return _PUBLIC_PREFIX + engine_id.removeprefix(_ENGINE_PREFIX)


def to_engine_id(response_id: str) -> str:
    return _ENGINE_PREFIX + response_id.removeprefix(_PUBLIC_PREFIX)


class Engine:
    """The server's ASGI app; `call` for JSON replies, `stream` for server-sent events."""

    def __init__(self, handler: Any) -> None:
        os.environ.setdefault("OTEL_SDK_DISABLED", "true")
        self._app = ResponsesAgentServerHost(
            prefix=PREFIX, configure_observability=None, store=InMemoryResponseProvider()
        )
        self._app.response_handler(handler)

    def check(self, request: Json) -> None:
        """Raise ApiError where a create request does not fit the engine's schema."""
        faults = validate_create_response_payload(_without_nulls(request))
        if faults:
            raise ApiError(400, *_clearest(faults), "invalid_value")

    async def create(self, response_id: str, request: Json) -> Json:
        return await self._json("POST", "/responses", _engine_request(response_id, request))

    async def retrieve(self, response_id: str) -> Json:
        return await self._json("GET", f"/responses/{to_engine_id(response_id)}")

    async def cancel(self, response_id: str) -> Json:
        return await self._json("POST", f"/responses/{to_engine_id(response_id)}/cancel")

    async def delete(self, response_id: str) -> None:
        await self._json("DELETE", f"/responses/{to_engine_id(response_id)}")

    async def input_items(self, response_id: str, query: str) -> Json:
        path = f"/responses/{to_engine_id(response_id)}/input_items"
        listed = await self._json("GET", path, query=query)
        return {**listed, "data": [_public_item(item) for item in listed["data"]]}

    async def create_stream(self, response_id: str, request: Json, receive: Receive, send: Send) -> None:
        body = encode(_engine_request(response_id, request))
        await self._stream(_scope("POST", "/responses"), body, receive, send)

    async def replay_stream(self, response_id: str, query: str, receive: Receive, send: Send) -> None:
        scope = _scope("GET", f"/responses/{to_engine_id(response_id)}", query)
        await self._stream(scope, b"", receive, send)

    async def _json(self, method: str, path: str, payload: Json | None = None, query: str = "") -> Json:
        body = b"" if payload is None else encode(payload)
        reply = Reply(500, b"")

        async def receive() -> Message:
            return await _body_then(body, _never, sent)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
            else:
                reply.body += message.get("body", b"")

        sent: list[bool] = []
        await self._app(_scope(method, path, query), receive, send)
        value = unescape(reply.json())
        if reply.status >= 400:
            raise public_error(reply.status, value)
        return dict(value)

    async def _stream(self, scope: Json, body: bytes, receive: Receive, send: Send) -> None:
        sent: list[bool] = []

        async def engine_receive() -> Message:
            return await _body_then(body, receive, sent)

        await self._app(scope, engine_receive, send)


async def _body_then(body: bytes, receive: Receive, sent: list[bool]) -> Message:
    if sent:
        return await receive()
    sent.append(True)
    return {"type": "http.request", "body": body, "more_body": False}


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def _scope(method: str, path: str, query: str = "") -> Json:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": PREFIX + path,
        "raw_path": (PREFIX + path).encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
    }


def _engine_request(response_id: str, request: Json) -> Json:
    payload = {**_without_nulls(request), "response_id": to_engine_id(response_id)}
    if payload.get("previous_response_id"):
        payload["previous_response_id"] = to_engine_id(payload["previous_response_id"])
    return dict(escape(payload))


def _public_item(item: Json) -> Json:
    return {key: value for key, value in item.items() if key not in {"response_id", "agent_reference"}}


def public_output(response: Json) -> list[Json]:
    return [_public_item(item) for item in response.get("output", [])]


def public_event(block: bytes) -> Json | None:
    """Return the payload of one server-sent event, or None for a comment."""
    for line in block.split(b"\n"):
        if line.startswith(b"data: "):
            event = dict(unescape(json.loads(line[6:])))
            if "item" in event:
                event["item"] = _public_item(event["item"])
            return event
    return None


def _without_nulls(request: Json) -> Json:
    """Drop nulls: the documented service reads null as a missing parameter, the engine does not."""
    return {name: value for name, value in request.items() if value is not None}


def _clearest(faults: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    """Return message and parameter of one of the engine's schema faults: the first about a type, else the first."""
    about_type = [fault for fault in faults if fault["message"].startswith("Invalid discriminator")]
    fault = (about_type or faults)[0]
    return fault["message"], fault["path"].removeprefix("$").removeprefix(".")


def public_error(status: int, value: Json) -> ApiError:
    error = value["error"]
    code = error.get("code")
    return ApiError(
        status,
        error["message"].replace(_ENGINE_PREFIX, _PUBLIC_PREFIX),
        error.get("param"),
        None if code == "invalid_request_error" else code,
        error.get("type", "invalid_request_error"),
    )
