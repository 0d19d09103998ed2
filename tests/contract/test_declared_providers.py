"""What the adapter sends to a provider that an author declared, and what it shows of its credentials."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from shared.adapters.agents.running import InstalledAgents
from shared.app import Baton
from shared.core.response import Refused
from shared.provider import Responses
from shared.settings import load
from tests.support.loopback import Arrived, Loopback, always, reply
from tests.support.requests import ALL, provided

SECRETS = {"FAR_KEY": "far-key-of-24-characters", "FAR_TEAM": "blue-team-of-24-characters"}
CREATED = reply(200, json.dumps({"id": "resp_1", "status": "queued", "output": []}).encode())

every = pytest.mark.parametrize("operation", ALL)


def app_with(server: Loopback, **fields: object) -> Baton:
    far = Responses("far", base_url=f"http://127.0.0.1:{server.port}/v1/", **fields)
    environment = {"AzureWebJobsStorage": "UseDevelopmentStorage=true", "OPENAI_API_KEY": "default-key"}
    return Baton(load(environment | SECRETS, providers=[far]), InstalledAgents({}, {}))


@every
async def test_every_request_has_the_key_and_the_headers_of_its_provider(operation):
    async with Loopback(always(CREATED)) as server:
        app = app_with(server, api_key="%FAR_KEY%", headers={"x-team": "%FAR_TEAM%", "x-plain": "a"})
        await ALL[operation](app.context.provider("far"))
        await app.close()
    assert server.arrived
    for arrived in server.arrived:
        assert arrived.path.startswith("/v1/responses")
        assert arrived.headers["authorization"] == f"Bearer {SECRETS['FAR_KEY']}"
        assert (arrived.headers["x-team"], arrived.headers["x-plain"]) == (SECRETS["FAR_TEAM"], "a")
        assert "default-key" not in str(arrived.headers)


@every
async def test_without_a_key_no_request_has_an_authorization(operation):
    async with Loopback(always(CREATED)) as server:
        app = app_with(server, headers={"x-team": "%FAR_TEAM%"})
        await ALL[operation](app.context.provider("far"))
        await app.close()
    assert server.arrived
    for arrived in server.arrived:
        assert "authorization" not in arrived.headers
        assert arrived.headers["x-team"] == SECRETS["FAR_TEAM"]


async def test_a_refusal_names_the_provider_and_what_to_check_and_shows_no_secret(caplog):
    said = {"error": {"message": f"Wrong: {' '.join(SECRETS.values())}", "code": SECRETS["FAR_KEY"]}}
    async with Loopback(always(reply(401, json.dumps(said).encode()))) as server:
        app = app_with(server, api_key="%FAR_KEY%", headers={"x-team": "%FAR_TEAM%"})
        refused = await ALL["create"](app.context.provider("far"))
        await app.close()
    assert isinstance(refused, Refused)
    assert "Check api_key and headers of the provider far, and the setting FAR_KEY and FAR_TEAM." in (
        refused.error.message
    )
    logged = [(each.levelno, each.getMessage()) for each in caplog.records if each.name == "baton"]
    assert logged == [(logging.WARNING, 'provider.denied {"provider": "far", "http_status": 401}')]
    assert not [secret for secret in SECRETS.values() if secret in f"{refused} {logged}"]


@pytest.mark.parametrize("status", [404, 405, 410, 501])
async def test_a_service_without_reads_does_not_know_its_responses(status):
    async with Loopback(always(reply(status))) as server:
        app = app_with(server)
        found = await ALL["read"](app.context.provider("far"))
        await app.close()
    assert type(found).__name__ == "Absent"


@pytest.mark.parametrize("operation", ["create", "streamed create"])
async def test_a_create_without_a_reply_in_time_is_told_from_one_that_was_cut(operation):
    async def stall(_: Arrived) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    limit = {"create_timeout": timedelta(milliseconds=100)}
    async with Loopback(stall) as server, provided(server, **limit) as provider:
        slow = await ALL[operation](provider)
    async with Loopback(always(b"")) as server, provided(server) as provider:
        cut = await ALL[operation](provider)
    async with provided(server) as provider:
        unreachable = await ALL[operation](provider)
    assert [(each.unknown, each.timed_out) for each in (slow, cut, unreachable)] == [
        (True, True),
        (True, False),
        (False, False),
    ]
