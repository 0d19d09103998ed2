"""OpenAI and Azure OpenAI: responses in background mode.

Polls go through one aiohttp session: they are nearly all the requests there are, and the SDK takes
four times as long over one. What is rare goes through the SDK. docs/decisions/0006-lean-polls.md.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import aiohttp
from azure.core.exceptions import AzureError

from shared.adapters.decode import Unreadable, error_of, retry_after, snapshot
from shared.core.model import ResponseStatus, RunError, Snapshot
from shared.log import say
from shared.ports import (
    Absent,
    CancelReply,
    ChainBroken,
    CreateReply,
    DeleteReply,
    NotNow,
    ReadReply,
    Refused,
    ResponseRequest,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# More than any model writes in one response; beyond it a reply is not read to its end.
MAX_REPLY_BYTES = 64 * 1024 * 1024

_BUSY = frozenset({408, 409, 425, 429})
_DENIED = frozenset({401, 403})
_CHAIN_CODES = frozenset({"previous_response_not_found"})
_CHAIN_MESSAGES = ("no tool call found", "no tool output found", "previous response")
_DENIED_MESSAGE = (
    "The provider does not accept the app's key or identity; check OPENAI_API_KEY, or for Azure OpenAI "
    "AZURE_OPENAI_API_KEY or the role of the app's identity."
)
# No provider answers with it: our own sign for a reply that was not read to its end.
_TOO_LARGE = 599
# What an agent's options cannot change: a run depends on it.
_OWN = frozenset(
    {"background", "store", "stream", "model", "input", "instructions", "tools", "previous_response_id"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the provider is, and who we are there: `api_key`, or an identity for `scope` when it is empty."""

    base_url: str
    api_key: str = ""
    scope: str = ""
    client_id: str | None = None
    create_timeout: timedelta
    read_timeout: timedelta
    connections: int = 1000


@dataclass(frozen=True, slots=True)
class _Reply:
    """An HTTP reply; status 0 stands for none, and `reason` then says why.

    `unknown` is true when there is none to a request that may have been carried out.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] | None = None
    reason: str = ""
    unknown: bool = False


class _TooLarge(Exception):
    """A reply is longer than anybody reads."""


class ResponsesProvider:
    """Implements `Provider`. It opens connections when first used, in the running event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session: aiohttp.ClientSession | None = None
        self._closing: list[Callable[[], Awaitable[None]]] = []

    async def create(self, request: ResponseRequest) -> CreateReply:
        parameters: dict[str, Any] = {
            name: value for name, value in request.options.items() if name not in _OWN
        }
        parameters |= {
            "model": request.model,
            "instructions": request.instructions,
            "input": json.loads(request.input),
            "background": True,
            "store": True,
            "metadata": {"baton_run": request.run_id, "baton_turn": str(request.turn)},
        }
        if tools := json.loads(request.tools):
            parameters["tools"] = tools
        if request.previous_response_id:
            parameters["previous_response_id"] = request.previous_response_id
        responses = self._client.responses.with_raw_response
        reply = await self._through_sdk(responses.create(**parameters))
        if 200 <= reply.status < 300:
            return _snapshot_or_not(reply, None)
        return self._not_created(reply, chained=request.previous_response_id is not None)

    async def read(self, response_id: str) -> ReadReply:
        reply = await self._get(response_id)
        if reply.status == 200:
            return _snapshot_or_not(reply, response_id)
        if reply.status == _TOO_LARGE:
            error = RunError(
                "output_too_large", f"The provider's reply is longer than {MAX_REPLY_BYTES} bytes."
            )
            return Snapshot(response_id=response_id, status=ResponseStatus.FAILED, error=error)
        return Absent() if reply.status == 404 else _not_now(reply)

    async def cancel(self, response_id: str) -> CancelReply:
        reply = await self._through_sdk(self._client.responses.with_raw_response.cancel(response_id))
        if reply.status == 200:
            return _snapshot_or_not(reply, response_id)
        return self._absent_or_refused(reply)

    async def delete(self, response_id: str) -> DeleteReply:
        reply = await self._through_sdk(self._client.responses.with_raw_response.delete(response_id))
        return Absent() if 200 <= reply.status < 300 else self._absent_or_refused(reply)

    async def close(self) -> None:
        if self._session:
            await self._session.close()
        for close in self._closing:
            await close()

    @cached_property
    def _key(self) -> str | Callable[[], Awaitable[str]]:
        """The key, or what gives a token for our identity; it keeps a token until it nears its end."""
        if self._connection.api_key:
            return self._connection.api_key
        from azure.identity.aio import DefaultAzureCredential, get_bearer_token_provider  # noqa: PLC0415  (slow)

        credential = DefaultAzureCredential(managed_identity_client_id=self._connection.client_id)
        self._closing.append(credential.close)
        return get_bearer_token_provider(credential, self._connection.scope)

    @cached_property
    def _client(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI  # noqa: PLC0415  (0.6 s that a status read must not pay)

        client = AsyncOpenAI(
            base_url=self._connection.base_url,
            api_key=self._key,
            # A repeated create makes a second response.
            max_retries=0,
            timeout=self._connection.create_timeout.total_seconds(),
        )
        self._closing.append(client.close)
        return client

    async def _through_sdk(self, call: Awaitable[Any]) -> _Reply:
        import openai  # noqa: PLC0415  (as above)

        try:
            raw = await call
        except openai.APIStatusError as error:
            response = error.response
            return _Reply(response.status_code, response.content, response.headers)
        except openai.APIConnectionError as error:
            # A connection that was never made carried no request.
            sent = type(error.__cause__).__name__ not in {"ConnectError", "ConnectTimeout", "PoolTimeout"}
            return _Reply(0, reason=type(error.__cause__ or error).__name__, unknown=sent)
        except AzureError as error:
            return _Reply(401, reason=f"no token: {type(error).__name__}")
        return _Reply(raw.http_response.status_code, raw.http_response.content, raw.http_response.headers)

    async def _get(self, response_id: str) -> _Reply:
        url = f"{self._connection.base_url.rstrip('/')}/responses/{response_id}"
        try:
            key = self._key if isinstance(self._key, str) else await self._key()
            headers = {"Authorization": f"Bearer {key}"}
            async with self._open().get(url, headers=headers, allow_redirects=False) as reply:
                return _Reply(reply.status, await _body(reply), reply.headers)
        except _TooLarge:
            return _Reply(_TOO_LARGE)
        except (aiohttp.ClientError, TimeoutError) as error:
            return _Reply(0, reason=type(error).__name__)
        except AzureError as error:
            return _Reply(401, reason=f"no token: {type(error).__name__}")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connection.connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._connection.read_timeout.total_seconds()),
            )
        return self._session

    def _not_created(self, reply: _Reply, *, chained: bool) -> CreateReply:
        if reply.status == 0 or reply.status in _BUSY or reply.status >= 500:
            return _not_now(reply, unknown=reply.unknown or reply.status >= 500)
        if reply.status in _DENIED:
            say("provider.denied", level=logging.ERROR, status=reply.status, reason=reply.reason)
            return Refused(RunError("provider_denied", _DENIED_MESSAGE))
        error = error_of(reply.body)
        message = self._without_key(error.message)
        if chained and (error.code in _CHAIN_CODES or message.lower().startswith(_CHAIN_MESSAGES)):
            return ChainBroken(message)
        code = "model_not_found" if reply.status == 404 else "provider_rejected"
        return Refused(RunError(code, f"The provider rejected the request: {message}"))

    def _absent_or_refused(self, reply: _Reply) -> Absent | NotNow | Refused:
        if reply.status == 404:
            return Absent()
        if reply.status == 0 or reply.status in _BUSY | _DENIED or reply.status >= 500:
            return _not_now(reply, unknown=reply.unknown or reply.status >= 500)
        return Refused(RunError("provider_rejected", self._without_key(error_of(reply.body).message)))

    def _without_key(self, message: str) -> str:
        key = self._connection.api_key
        return message.replace(key, "***") if key else message


async def _body(reply: aiohttp.ClientResponse) -> bytes:
    found, size = [], 0
    async for chunk in reply.content.iter_any():
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            raise _TooLarge
        found.append(chunk)
    return b"".join(found)


def _snapshot_or_not(reply: _Reply, response_id: str | None) -> Snapshot | NotNow:
    try:
        return snapshot(reply.body, response_id)
    except Unreadable as fault:
        # Created or not: nobody can tell from a reply like this.
        return NotNow(f"unreadable reply: {fault}", unknown=True)


def _not_now(reply: _Reply, *, unknown: bool = False) -> NotNow:
    if reply.status in _DENIED:
        say("provider.denied", level=logging.WARNING, status=reply.status, reason=reply.reason)
    wait = retry_after(reply.headers, datetime.now(UTC)) if reply.headers else None
    return NotNow(reply.reason or f"HTTP {reply.status}", wait, unknown)
