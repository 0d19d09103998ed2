"""A client of Azure Queue Storage with only the operations that the host needs.

Not the SDK, because that shares the app's loggers and tracing, where the host must not appear.
Source: learn.microsoft.com, "Queue Storage REST API" and "Authorize with Shared Key".
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from types import TracebackType
from typing import Self
from xml.etree import ElementTree as ET

import aiohttp
from yarl import URL

API_VERSION = "2021-12-02"
REQUEST_TIMEOUT = timedelta(seconds=30)
DEVELOPMENT_STORAGE = (
    "AccountName=devstoreaccount1;"
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;"
)


class QueueServiceError(Exception):
    """The service cannot be reached, or it refused the request."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status  # of the HTTP reply; 0 without one


@dataclass(frozen=True)
class Message:
    id: str
    pop_receipt: str
    text: str  # as stored: base64, if a Functions host sent it
    dequeue_count: int
    inserted: datetime
    expires: datetime
    next_visible: datetime


@dataclass(frozen=True)
class Account:
    name: str
    key: bytes
    endpoint: URL

    @classmethod
    def parse(cls, connection_string: str) -> Self:
        """Raises ValueError if it has no account key or names no queue endpoint."""
        if connection_string.strip().rstrip(";").lower() == "usedevelopmentstorage=true":
            connection_string = DEVELOPMENT_STORAGE
        parts = dict(part.split("=", 1) for part in connection_string.split(";") if "=" in part)
        try:
            name, key = parts["AccountName"], base64.b64decode(parts["AccountKey"], validate=True)
        except KeyError as error:
            raise ValueError(f"the connection string has no {error.args[0]}") from error
        default = "{}://{}.queue.{}".format(
            parts.get("DefaultEndpointsProtocol", "https"),
            name,
            parts.get("EndpointSuffix", "core.windows.net"),
        )
        return cls(name, key, URL(parts.get("QueueEndpoint", default).rstrip("/")))


class QueueService:
    """The queues of one account. Every method raises QueueServiceError."""

    def __init__(self, account: Account, session: aiohttp.ClientSession) -> None:
        self._account = account
        self._session = session

    async def create(self, queue: str) -> None:
        await self._request("PUT", queue)

    async def put(self, queue: str, text: str) -> None:
        """Add a message, and the queue if there is none."""
        body = f"<QueueMessage><MessageText>{text}</MessageText></QueueMessage>"
        try:
            await self._request("POST", f"{queue}/messages", body=body)
        except QueueServiceError as error:
            if error.status != 404:
                raise
            await self.create(queue)
            await self._request("POST", f"{queue}/messages", body=body)

    async def receive(self, queue: str, *, count: int, visibility: timedelta) -> list[Message]:
        query = {"numofmessages": str(count), "visibilitytimeout": _seconds(visibility)}
        reply = await self._request("GET", f"{queue}/messages", query=query)
        return [_parse_message(element) for element in ET.fromstring(reply.body).iter("QueueMessage")]

    async def postpone(self, queue: str, message: Message, *, by: timedelta, pop_receipt: str) -> str:
        """Hide a received message for `by` from now and return its new pop receipt."""
        query = {"popreceipt": pop_receipt, "visibilitytimeout": _seconds(by)}
        reply = await self._request("PUT", f"{queue}/messages/{message.id}", query=query)
        return reply.headers["x-ms-popreceipt"]

    async def delete(self, queue: str, message: Message, *, pop_receipt: str) -> None:
        await self._request("DELETE", f"{queue}/messages/{message.id}", query={"popreceipt": pop_receipt})

    async def _request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: str = ""
    ) -> "_Reply":
        url = self._account.endpoint / path
        headers = _signed_headers(self._account, method, url, query or {}, body)
        try:
            async with self._session.request(
                method, url.with_query(query), data=body.encode(), headers=headers
            ) as reply:
                content = await reply.read()
                if reply.status >= 300:
                    problem = f"{method} {url}: {reply.status} {reply.headers.get('x-ms-error-code', '')}"
                    raise QueueServiceError(problem.rstrip(), reply.status)
                return _Reply(content, reply.headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise QueueServiceError(f"{method} {url}: {error or 'timed out'}") from error


class QueueServices:
    """The queue services behind the app's connection strings, over one HTTP session."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT.total_seconds())
        )
        self._services: dict[Account, QueueService] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    def service(self, account: Account) -> QueueService:
        return self._services.setdefault(account, QueueService(account, self._session))


@dataclass(frozen=True)
class _Reply:
    body: bytes
    headers: Mapping[str, str]


def _signed_headers(
    account: Account, method: str, url: URL, query: Mapping[str, str], body: str
) -> dict[str, str]:
    """Sign with Shared Key. A header that is signed but not sent is an empty line."""
    date = format_datetime(datetime.now(UTC), usegmt=True)
    headers = {"x-ms-date": date, "x-ms-version": API_VERSION}
    content_type = "application/xml" if body else "application/octet-stream"
    length = str(len(body.encode())) if body else ""
    resource = f"/{account.name}{url.raw_path}" + "".join(f"\n{k}:{query[k]}" for k in sorted(query))
    unsent = [""] * 6
    lines = [method, "", "", length, "", content_type, *unsent]
    lines += [f"{name}:{value}" for name, value in headers.items()]
    text = "\n".join([*lines, resource])
    signature = base64.b64encode(hmac.digest(account.key, text.encode(), hashlib.sha256)).decode()
    authorization = f"SharedKey {account.name}:{signature}"
    return {**headers, "Content-Type": content_type, "Authorization": authorization}


def _parse_message(element: ET.Element) -> Message:
    def text(tag: str) -> str:
        return element.findtext(tag) or ""

    return Message(
        id=text("MessageId"),
        pop_receipt=text("PopReceipt"),
        text=text("MessageText"),
        dequeue_count=int(text("DequeueCount")),
        inserted=parsedate_to_datetime(text("InsertionTime")),
        expires=parsedate_to_datetime(text("ExpirationTime")),
        next_visible=parsedate_to_datetime(text("TimeNextVisible")),
    )


def _seconds(duration: timedelta) -> str:
    return str(int(duration.total_seconds()))
