"""The provider adapter over real HTTP: what each reply, and each missing reply, leads to."""

import asyncio
import gzip
import json
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError

from shared.adapters.http.access import Access, Connection, NoToken, azure_base_url
from shared.adapters.responses_api import interpret
from shared.adapters.responses_api.provider import MAX_STATUSES_REPORTED, ResponsesProvider
from shared.core import transcript
from shared.core.response import Absent, ChainBroken, NotNow, Refused, ResponseStatus, RunError, Snapshot
from tests.support.loopback import Arrived, Server, read_request
from tests.support.requests import LONG, conversation, provided, request

# Unlike any real key, so that only its own removal can remove it from a text.
KEY = "a.test.key"
ROOT = Path(__file__).parents[2]
# Long enough to send a request on a busy machine, and short enough for a test.
SHORT = timedelta(milliseconds=500)
Json = dict[str, Any]


def response(**fields: Any) -> Json:
    return {"id": "resp_1", "status": "in_progress", "output": []} | fields


def http(status: int, body: Any = b"", **headers: str) -> bytes:
    """Return a complete HTTP reply; a body that is not bytes becomes JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"content-length": str(len(content)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + content


def complaint(message: str, code: str | None = None, param: str | None = None) -> Json:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


@dataclass
class ScriptedServer(Server):
    """Sends the same reply to every request, and remembers the requests. `reply` None is silence, b"" a cut."""

    reply: bytes | None = None
    received: list[Arrived] = field(default_factory=list)
    sent: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.received.append(await read_request(reader))
            if self.reply is None:
                await reader.read()
            await self._say(writer, self.reply or b"")

    async def _say(self, writer: asyncio.StreamWriter, reply: bytes) -> None:
        head, _, body = reply.partition(b"\r\n\r\n")
        for at in range(0, len(reply), 1 << 20):
            writer.write(reply[at : at + (1 << 20)])
            await writer.drain()
            self.sent += 1 << 20
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not reply or len(body) < int(length or 0):
            raise asyncio.CancelledError


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest.fixture
async def provider(server: ScriptedServer) -> AsyncIterator[ResponsesProvider]:
    async with provided(server, api_key=KEY) as provider:
        yield provider


@pytest.fixture
async def hasty(server: ScriptedServer) -> AsyncIterator[ResponsesProvider]:
    """A provider that waits only a short time."""
    async with provided(server, api_key=KEY, create_timeout=SHORT, read_timeout=SHORT) as provider:
        yield provider


CREATE = lambda provider: provider.create(request())  # noqa: E731
CHAINED = lambda provider: provider.create(request(previous_response_id="resp_0"))  # noqa: E731
READ = lambda provider: provider.read("resp_1")  # noqa: E731
CANCEL = lambda provider: provider.cancel("resp_1")  # noqa: E731
DELETE = lambda provider: provider.delete("resp_1")  # noqa: E731
Operation = Callable[[ResponsesProvider], Awaitable[Any]]
ALL = {"create": CREATE, "read": READ, "cancel": CANCEL, "delete": DELETE}
# A repetition of these could have an effect twice, or come too late.
UNSURE = {"create", "cancel"}

every = pytest.mark.parametrize("operation", ALL)
by_id = pytest.mark.parametrize("operation", ["read", "cancel", "delete"])


# What is sent.


async def test_a_create_is_sent_in_background_mode_and_stored(server, provider):
    server.reply = http(200, response(status="queued"))
    text = '[{"role": "user", "content": "漢 \U0001f680 \\u0000"}]'
    made = request(input=text, tools='[{"type": "function", "name": "f"}]', previous_response_id="resp_0")
    assert await provider.create(made) == Snapshot(response_id="resp_1", status=ResponseStatus.QUEUED)
    (sent,) = server.received
    assert (sent.method, sent.path) == ("POST", "/v1/responses")
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["content-type"] == "application/json"
    assert json.loads(sent.body) == {
        "model": "gpt-9",
        "instructions": "Write.",
        "background": True,
        "store": True,
        "metadata": {"baton_run": "run_7", "baton_turn": "2"},
        "previous_response_id": "resp_0",
        "input": json.loads(text),
        "tools": [{"type": "function", "name": "f"}],
    }


async def test_the_options_of_an_agent_are_sent(server, provider):
    server.reply = http(200, response())
    wanted = {"temperature": 0.5, "reasoning": {"effort": "low"}}
    await provider.create(request(options=wanted))
    sent = json.loads(server.received[0].body)
    assert {name: sent[name] for name in wanted} == wanted
    assert not {"stream", "stream_options", "conversation", "previous_response_id"} & set(sent)
    assert (sent["background"], sent["store"], sent["model"]) == (True, True, "gpt-9")
    assert (sent["tools"], sent["instructions"]) == ([], "Write.")


@pytest.mark.parametrize(
    "name",
    [
        *("background", "store", "stream", "stream_options", "conversation", "previous_response_id"),
        *("model", "input", "instructions", "tools", "metadata"),
    ],
)
async def test_an_option_cannot_change_what_baton_sets_itself(server, provider, name):
    with pytest.raises(ValueError, match=f"options cannot set {name}"):
        await provider.create(request(options={"temperature": 0.5, name: None}))
    assert server.received == []


async def test_a_create_is_always_valid_unicode(server, provider):
    server.reply = http(200, response())
    await provider.create(request(instructions="a\ud800b", input='[{"content": "\udc00"}]'))
    sent = json.loads(server.received[0].body)
    assert (sent["instructions"], sent["input"]) == ("a\ufffdb", [{"content": "\ufffd"}])


async def test_the_other_requests_name_the_response(server, provider):
    server.reply = http(200, response())
    await provider.read("resp_1")
    await provider.cancel("resp_1")
    await provider.delete("resp_1")
    assert [(sent.method, sent.path) for sent in server.received] == [
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("DELETE", "/v1/responses/resp_1"),
    ]
    assert {sent.headers["authorization"] for sent in server.received} == {f"Bearer {KEY}"}


@by_id
@pytest.mark.parametrize("bad", ["", ".", "..", "a\nb", "a\x7fb", "x" * 1025])
async def test_no_request_is_made_for_an_invalid_id(server, provider, operation, bad):
    assert await getattr(provider, operation)(bad) == Absent()
    assert server.received == []


@every
async def test_the_environment_changes_nothing(server, provider, operation, monkeypatch):
    server.reply = http(200, response())
    dead = "http://127.0.0.1:1"
    for name, value in {
        "OPENAI_ORG_ID": "o",
        "OPENAI_PROJECT_ID": "p",
        "HTTP_PROXY": dead,
        "ALL_PROXY": dead,
    }.items():
        monkeypatch.setenv(name, value)
    assert not isinstance(await ALL[operation](provider), NotNow)
    assert not {name for name in server.received[0].headers if name.startswith("openai-")}


# Success.


@pytest.mark.parametrize("operation", ["create", "read", "cancel"])
async def test_a_response_is_a_snapshot(server, provider, operation):
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "漢\x00"}]}
    server.reply = http(200, response(status="completed", output=[message]))
    found = await ALL[operation](provider)
    assert isinstance(found, Snapshot)
    assert found.status is ResponseStatus.COMPLETED
    assert transcript.output_text(found.output) == "漢\x00"


@pytest.mark.parametrize("operation", ["create", "read", "cancel"])
async def test_a_compressed_reply_is_understood(server, provider, operation):
    body = gzip.compress(json.dumps(response(status="queued")).encode())
    server.reply = http(200, body, content_encoding="gzip")
    assert await ALL[operation](provider) == Snapshot(response_id="resp_1", status=ResponseStatus.QUEUED)


@pytest.mark.parametrize("body", [b"", b"not JSON", {"id": "resp_1", "deleted": True}])
async def test_a_successful_delete_is_absent_whatever_the_body(server, provider, body):
    server.reply = http(200, body)
    assert await provider.delete("resp_1") == Absent()


JUNK: dict[str, Any] = {
    "html": b"<!DOCTYPE html><html></html>",
    "list": [1, 2],
    "string": "hello",
    "empty": b"",
    "truncated": b'{"id": "resp_1", "sta',
    "no_id": {"status": "queued", "output": []},
    "odd_id": response(id=".."),
    "no_status": {"id": "resp_1", "output": []},
    "null_output": response(status="completed", output=None),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("operation", ["create", "read", "cancel"])
@pytest.mark.parametrize("junk", JUNK)
async def test_a_reply_that_is_no_response_is_not_accepted(server, provider, operation, junk):
    server.reply = http(200, JUNK[junk])
    found = await ALL[operation](provider)
    # The request has named the response. Of a new one, only the id matters.
    named = {"no_id", "odd_id"} if operation != "create" else {"no_status", "null_output"}
    if junk in named:
        assert found.response_id == "resp_1"
        return
    assert isinstance(found, NotNow)
    assert found.error.code == "unreadable_reply"
    assert found.error.message.startswith("The reply cannot be used: ")
    assert found.unknown is (operation in UNSURE)
    assert found.unusable is (operation == "create")


@pytest.mark.parametrize("operation", ["read", "cancel"])
async def test_the_address_names_the_response_and_its_metadata_the_run(server, provider, operation):
    server.reply = http(200, response(id="resp_2", status="completed", metadata={"baton_run": "run_9"}))
    found = await ALL[operation](provider)
    assert (found.response_id, found.run_id) == ("resp_1", "run_9")


async def test_each_unknown_status_is_logged_once_and_means_in_progress(server, provider, caplog):
    for status in ["pondering", "pondering", "dozing"] + [f"s{n}" for n in range(MAX_STATUSES_REPORTED)]:
        server.reply = http(200, response(status=status))
        assert await provider.read("resp_1") == Snapshot(
            response_id="resp_1", status=ResponseStatus.IN_PROGRESS
        )
    logged = [record.getMessage() for record in caplog.records if "unknown_status" in record.getMessage()]
    assert len(logged) == MAX_STATUSES_REPORTED
    assert sum("pondering" in line for line in logged) == 1


async def test_a_read_stops_at_the_size_limit_and_the_response_has_failed(server, provider):
    server.reply = http(200, b" " * (interpret.MAX_REPLY_BYTES * 2))
    found = await provider.read("resp_1")
    assert isinstance(found, Snapshot)
    assert (found.status, found.error.code) == (ResponseStatus.FAILED, "output_too_large")
    assert server.sent < interpret.MAX_REPLY_BYTES * 1.5
    server.reply = http(200, response())
    assert (await provider.read("resp_1")).status is ResponseStatus.IN_PROGRESS


# Not now.


@every
@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
async def test_a_passing_fault_is_tried_again_later(server, provider, operation, status):
    server.reply = http(status, complaint("Busy."), retry_after="7")
    maybe_done = operation in UNSURE and status not in {409, 425, 429}
    found = await ALL[operation](provider)
    assert len(server.received) == 1
    if (operation, status) == ("cancel", 409):
        assert found == Refused(RunError("provider_rejected", "Busy."))
        return
    code = "rate_limited" if status == 429 else "provider_unavailable"
    error = RunError(code, f"The provider answered HTTP {status}. Busy.")
    assert found == NotNow(error, timedelta(seconds=7), unknown=maybe_done)


@every
@pytest.mark.parametrize("body", [b"<html>", b"", [1], "x", {"error": "x"}, {"error": {"message": 7}}])
async def test_the_body_of_a_fault_may_be_anything(server, provider, operation, body):
    server.reply = http(503, body)
    found = await ALL[operation](provider)
    stated = body == "x" or (isinstance(body, dict) and body["error"] == "x")
    reason = " x" if stated else ""
    error = RunError(
        "provider_unavailable", f"The provider answered HTTP 503.{reason}", "x" if stated else None
    )
    assert found == NotNow(error, unknown=operation in UNSURE)


@pytest.mark.parametrize("operation", ["create", "read"])
async def test_a_retry_after_may_be_a_date_or_absurdly_long(server, provider, operation):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    server.reply = http(429, retry_after=date)
    assert timedelta(seconds=80) < (await ALL[operation](provider)).retry_after <= timedelta(seconds=100)
    for absurd, wait in {"999999": timedelta(minutes=5), "-1": None, "0": None, "soon": None}.items():
        server.reply = http(429, retry_after=absurd)
        assert (await ALL[operation](provider)).retry_after == wait
    server.reply = http(429, retry_after_ms="250")
    assert (await ALL[operation](provider)).retry_after == timedelta(milliseconds=250)


@every
async def test_a_silent_server_is_given_up(server, hasty, operation):
    server.reply = None
    found = await ALL[operation](hasty)
    assert isinstance(found, NotNow)
    assert found.unknown is (operation in UNSURE)
    assert len(server.received) == 1


@every
async def test_a_reply_that_never_ends_is_given_up(server, hasty, operation):
    server.reply = http(200, response()).replace(b"content-length: ", b"content-length: 9999999")

    async def dribble(writer: asyncio.StreamWriter, reply: bytes) -> None:
        writer.write(reply)
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0)

    server._say = dribble
    found = await ALL[operation](hasty)
    assert isinstance(found, NotNow)
    assert found.unknown is (operation in UNSURE)


@every
async def test_a_cut_connection_is_no_answer(server, provider, operation):
    server.reply = b""
    found = await ALL[operation](provider)
    assert isinstance(found, NotNow)
    assert found.unknown is (operation in UNSURE)


@every
async def test_a_cut_body_is_no_answer(server, provider, operation):
    server.reply = http(200, response(status="completed"))[:-3]
    found = await ALL[operation](provider)
    assert isinstance(found, NotNow)
    assert found.unknown is (operation in UNSURE)


@every
async def test_bytes_that_are_no_http_are_no_answer(server, provider, operation):
    server.reply = b"SSH-2.0-OpenSSH\r\n\r\n"
    assert isinstance(await ALL[operation](provider), NotNow)


@every
async def test_a_closed_port_is_no_answer(operation):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        provider = ResponsesProvider(Connection(base_url=base_url, api_key=KEY))
        found = await ALL[operation](provider)
        await provider.close()
    error = RunError("provider_unreachable", "The provider gave no answer: ClientConnectorError.")
    assert found == NotNow(error, unknown=False)


@every
async def test_a_redirect_is_not_followed(server, provider, operation):
    server.reply = http(307, location=f"http://127.0.0.1:{server.port}/elsewhere")
    found = await ALL[operation](provider)
    assert isinstance(found, NotNow if operation == "read" else Refused)
    assert len(server.received) == 1


# Absent, denied, refused.


@by_id
@pytest.mark.parametrize("body", [complaint("No such response."), b"<html>", b""])
async def test_an_unknown_response_is_absent(server, provider, operation, body):
    server.reply = http(404, body)
    assert await ALL[operation](provider) == Absent()


@by_id
@pytest.mark.parametrize("status", [401, 403])
async def test_a_denial_after_a_success_is_tried_again(server, provider, operation, status, caplog):
    for _ in range(2):
        server.reply = http(status, complaint("Incorrect API key."))
        found = await ALL[operation](provider)
        assert isinstance(found, NotNow)
        assert found.error.code == "provider_denied"
        assert f"(HTTP {status}). Check OPENAI_API_KEY" in found.error.message
        assert found.error.message.endswith(" Incorrect API key.")
    server.reply = http(200, response())
    assert not isinstance(await ALL[operation](provider), NotNow)
    logged = [
        (record.levelno, record.getMessage().split()[0])
        for record in caplog.records
        if record.name == "baton"
    ]
    assert logged == [(logging.WARNING, "provider.denied"), (logging.WARNING, "provider.admitted")]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_denial_before_any_success_refuses_the_create(server, provider, status):
    server.reply = http(status, complaint(f"Incorrect API key provided: {KEY}."))
    found = await provider.create(request())
    assert isinstance(found, Refused)
    assert found.error.code == "provider_denied"
    assert "OPENAI_API_KEY" in found.error.message
    assert KEY not in found.error.message


@pytest.mark.parametrize("status", [400, 405, 413, 422])
async def test_a_refused_create_has_its_reason(server, provider, status):
    server.reply = http(status, complaint(f"Invalid\x00\n'tools' for key {KEY}: " + "very " * 200))
    found = await CREATE(provider)
    assert isinstance(found, Refused)
    assert found.error.code == "provider_rejected"
    assert found.error.message.startswith("Invalid 'tools' for key [secret]: very")
    assert found.error.message.endswith("very very")
    assert 490 < len(found.error.message) <= 500


GATEWAY_KEY = "a.gateway+key (2)"
ECHOES = {
    f"Key {GATEWAY_KEY} is unknown.": "Key [secret] is unknown.",
    f"x{GATEWAY_KEY}x, {GATEWAY_KEY}-longer, {KEY}": "x[secret]x, [secret], [secret]",
    "Team abc may not, but abcd and labc may.": "Team [secret] may not, but abcd and labc may.",
    "x-team='abc';abc": "x-team='[secret]';[secret]",
    GATEWAY_KEY * 2: "[secret][secret]",
    f"{GATEWAY_KEY}\x00{KEY}": "[secret] [secret]",
}


@pytest.mark.parametrize(("echo", "shown"), ECHOES.items(), ids=range(len(ECHOES)))
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_an_echo_of_a_header_of_the_settings_is_removed_as_the_key_is(server, status, echo, shown):
    headers = {"api-key": GATEWAY_KEY, "api-key-2": f"{GATEWAY_KEY}-longer", "x-team": "abc"}
    async with provided(server, api_key=KEY, headers=headers) as provider:
        for body in (complaint(echo), {"statusCode": status, "message": echo}, {"error": echo}):
            server.reply = http(status, body)
            for operation in ALL.values():
                found = await operation(provider)
                assert not [value for value in (KEY, GATEWAY_KEY) if value in repr(found)]
                if not isinstance(found, Absent):
                    assert found.error.message.endswith(shown)
            assert (await CREATE(provider)).error.message.endswith(shown)


async def test_a_denial_names_the_headers_among_the_settings_to_check(server, provider):
    server.reply = http(401, {"statusCode": 401, "message": "Access denied due to missing subscription key."})
    assert "PROVIDER_HEADERS" not in (await CREATE(provider)).error.message
    async with provided(server, api_key=KEY, headers={"api-key": "a"}) as other:
        assert "PROVIDER_HEADERS" in (await CREATE(other)).error.message


@pytest.mark.parametrize("operation", ["cancel", "delete"])
async def test_any_other_refusal_is_final(server, provider, operation):
    server.reply = http(400, complaint("Cannot cancel a completed response."))
    error = RunError("provider_rejected", "Cannot cancel a completed response.")
    assert await ALL[operation](provider) == Refused(error)


@pytest.mark.parametrize("body", [b"<html>", b"", [1], {"error": None}, {"error": {"message": [7]}}])
async def test_a_refusal_without_a_reason_has_a_default_message(server, provider, body):
    server.reply = http(400, body)
    error = RunError("provider_rejected", "The provider answered HTTP 400 and gave no reason.")
    assert await CREATE(provider) == Refused(error)


@pytest.mark.parametrize("body", [{"statusCode": 400, "message": "Too long."}, {"error": "Too long."}])
async def test_refusals_of_gateways_are_read_too(server, provider, body):
    server.reply = http(400, body)
    assert await CREATE(provider) == Refused(RunError("provider_rejected", "Too long."))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, complaint("The model does not exist.", "model_not_found")),
        (400, complaint("The model does not exist.", "model_not_found")),
        (404, complaint("The API deployment for this resource does not exist.", "DeploymentNotFound")),
        (404, b"<html>"),
    ],
)
async def test_an_unknown_model_is_named(server, provider, status, body):
    server.reply = http(status, body)
    found = await CREATE(provider)
    assert isinstance(found, Refused)
    assert found.error.code == "model_not_found"
    assert "'gpt-9'" in found.error.message
    chained = await CHAINED(provider)
    if b"model_not_found" in server.reply:
        assert chained == found
    else:
        # The 404 may be about the earlier response. The complete conversation shows whether it is.
        assert isinstance(chained, ChainBroken)


CHAIN_FAULTS = [
    (400, complaint("Previous response with id 'resp_0' not found.", "previous_response_not_found")),
    (404, complaint("Previous response with id 'resp_0' not found.")),
    (404, complaint("Gone.", "previous_response_not_found")),
    (400, complaint("No tool call found for function call output with call_id call_1.", None, "input")),
    (400, complaint("No tool output found for function call call_1.", None, "input")),
    (400, complaint("This organization keeps no responses.", None, "previous_response_id")),
]


@pytest.mark.parametrize(("status", "body"), CHAIN_FAULTS)
async def test_a_response_that_cannot_be_continued_breaks_the_chain(server, provider, status, body):
    server.reply = http(status, body)
    assert isinstance(await CHAINED(provider), ChainBroken)
    assert isinstance(await CREATE(provider), Refused)


async def test_a_chained_create_is_refused_for_what_the_complete_conversation_would_be_refused_for(
    server, provider
):
    server.reply = http(400, complaint("Filtered.", "content_filter"))
    assert await CHAINED(provider) == Refused(RunError("provider_rejected", "Filtered.", "content_filter"))


# Keys, tokens, logs, imports.


async def test_no_request_and_no_reply_is_logged(server, provider, caplog):
    caplog.set_level(logging.DEBUG)
    for status, text in [(200, "OUTPUT"), (400, "COMPLAINT"), (401, "DENIAL"), (500, "FAULT")]:
        server.reply = http(status, response(status="completed", output=[text]) | complaint(text))
        await provider.create(request(instructions="INSTRUCTIONS", input='[{"content": "PROMPT"}]'))
        for operation in ("read", "cancel", "delete"):
            await ALL[operation](provider)
    assert caplog.records
    logged = "\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records)
    for secret in ("INSTRUCTIONS", "PROMPT", "OUTPUT", "COMPLAINT", "DENIAL", "FAULT", KEY):
        assert secret not in logged
    assert KEY not in repr(Connection(base_url="https://x/v1", api_key=KEY))


class FakeAccess(Access):
    """Gives one token after another, or raises an error."""

    def __init__(self, connection: Connection, *tokens: str | Exception) -> None:
        super().__init__(connection)
        self.tokens = list(tokens)

        async def token() -> str:
            found = self.tokens.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        self._new_token = token


IDENTITY = Connection(base_url="https://res.openai.azure.com/openai/v1")


@every
async def test_each_request_carries_the_current_token(server, provider, operation):
    server.reply = http(200, response())
    provider._transport._access = FakeAccess(IDENTITY, "first", "second")
    await ALL[operation](provider)
    await ALL[operation](provider)
    assert [sent.headers["authorization"] for sent in server.received] == ["Bearer first", "Bearer second"]


@every
async def test_without_an_identity_nothing_is_sent(server, provider, operation):
    provider._transport._access = FakeAccess(IDENTITY, ClientAuthenticationError("tenant secrets"))
    found = await ALL[operation](provider)
    if operation == "create":
        assert found.error.code == "provider_denied"
        assert "tenant" not in found.error.message
    else:
        assert isinstance(found, NotNow)
        assert found.error.code == "provider_denied"
        assert "there is no identity that may use the provider" in found.error.message
    assert server.received == []


@every
async def test_an_entra_outage_is_tried_again_later(server, provider, operation):
    provider._transport._access = FakeAccess(IDENTITY, ServiceRequestError("no route"))
    error = RunError("provider_unreachable", "Microsoft Entra gave no token: ServiceRequestError.")
    assert await ALL[operation](provider) == NotNow(error)
    assert server.received == []


async def test_an_identity_that_the_machine_does_not_have_is_reported(monkeypatch):
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    access = Access(IDENTITY)
    with pytest.raises(NoToken) as raised:
        await access.token()
    assert raised.value.refused
    await access.close()


def test_tokens_are_not_sent_unencrypted():
    with pytest.raises(ValueError, match="https"):
        Connection(base_url="http://res.openai.azure.com/openai/v1")


@pytest.mark.parametrize(
    "endpoint",
    ["https://r.openai.azure.com", "https://r.openai.azure.com/", "https://r.openai.azure.com/openai/v1/"],
)
def test_the_address_of_an_azure_resource_gets_its_path(endpoint):
    assert azure_base_url(endpoint) == "https://r.openai.azure.com/openai/v1"


IMPORTS = """
import asyncio, sys
from datetime import timedelta
from shared.adapters.http.access import Connection
from shared.adapters.responses_api.provider import ResponsesProvider
from shared.ports.providers import ResponseRequest
from tests.support.loopback import Arrived, Server, read_request
from tests.support.requests import LONG, provided, request

async def ask():
    provider = ResponsesProvider(Connection(base_url="http://127.0.0.1:{port}/v1", api_key="k"))
    named = dict(run_id="r", turn=1, model="m", instructions="i", input="[]", tools="[]")
    for stream in (False, True):
        await provider.create(ResponseRequest(**named, previous_response_id=None, stream=stream))
    await provider.read("resp_1")
    await provider.slice("resp_1", 0)
    await provider.cancel("resp_1")
    await provider.delete("resp_1")
    await provider.close()

asyncio.run(ask())
print([name for name in ("openai", "httpx2", "pydantic", "azure.identity") if name in sys.modules])
"""


async def test_no_request_needs_the_sdk_and_a_key_needs_no_identity(server):
    server.reply = http(200, response())
    code = IMPORTS.replace("{port}", str(server.port))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, error = await child.communicate()
    assert (child.returncode, out.strip()) == (0, b"[]"), error.decode()
    assert len(server.received) == 6


async def test_reads_need_no_more_connections_than_allowed(server):
    server.reply = http(200, response())
    base_url = f"http://127.0.0.1:{server.port}/v1"
    provider = ResponsesProvider(Connection(base_url=base_url, api_key=KEY, connections=3))
    found = await asyncio.gather(*(provider.read("resp_1") for _ in range(50)))
    assert {one.status for one in found} == {ResponseStatus.IN_PROGRESS}
    assert len(server._open) <= 3
    await provider.close()


async def test_an_adapter_can_be_closed_twice_and_used_again(server, provider):
    server.reply = http(200, response())
    for _ in range(2):
        await provider.create(request())
        await provider.read("resp_1")
        await provider.close()
        await provider.close()
    assert len(server.received) == 4


# The emulator, which stands in for OpenAI's server.


@pytest.fixture
async def live(emulated: str) -> AsyncIterator[ResponsesProvider]:
    found = ResponsesProvider(Connection(base_url=f"{emulated}/v1", api_key="k"))
    yield found
    await found.close()


async def finished(provider: ResponsesProvider, response_id: str) -> Snapshot:
    async with asyncio.timeout(LONG.total_seconds()):
        while True:
            found = await provider.read(response_id)
            assert isinstance(found, Snapshot)
            if found.status.finished:
                return found


def scripted(*turns: Json) -> list[transcript.Item]:
    return [{"role": "user", "content": f"Please. [[script {json.dumps({'turns': turns})}]]"}]


@pytest.mark.parametrize("replay", [False, True])
async def test_a_conversation_with_a_tool_continues_with_both_kinds_of_chaining(live, replay):
    tool = {"type": "function", "name": "look_up", "strict": False, "parameters": {"type": "object"}}
    asked = scripted(
        {"calls": [{"name": "look_up", "arguments": {"topic": "moons"}}]}, {"text": "There are 4. 漢"}
    )
    first = await live.create(request(input=json.dumps(asked), tools=json.dumps([tool])))
    assert isinstance(first, Snapshot)
    called = await finished(live, first.response_id)
    (call,) = called.calls
    assert (call.name, json.loads(call.arguments)) == ("look_up", {"topic": "moons"})
    answer = transcript.tool_output(call.call_id, "4")
    sent = conversation(*asked, *transcript.parse(called.output), answer) if replay else [answer]
    second = await live.create(
        request(
            input=json.dumps(sent),
            tools=json.dumps([tool]),
            previous_response_id=None if replay else first.response_id,
        )
    )
    assert isinstance(second, Snapshot)
    done = await finished(live, second.response_id)
    assert transcript.output_text(done.output) == "There are 4. 漢"
    assert done.usage.total_tokens > 0
    assert await live.delete(second.response_id) == Absent()
    assert await live.read(second.response_id) == Absent()


async def test_the_emulator_refuses_as_documented(live):
    unknown = await live.create(request(previous_response_id="resp_unknown"))
    assert isinstance(unknown, ChainBroken)
    assert await live.read("resp_unknown") == Absent()
    assert await live.cancel("resp_unknown") == Absent()
    assert isinstance(await live.create(request(input="[]")), Refused)
