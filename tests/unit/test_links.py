"""Absolute addresses as the client sees them."""

import pytest

from shared.web.http import Request
from shared.web.links import link
from tests.support.client import Client

URL = "http://10.0.0.7:8080/api/runs?code=s3cret"


def linked(headers: dict[str, str], *, url: str = URL, base: str | None = None) -> str:
    return link(Request(url=url, headers=headers), base, "runs/run_1")


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({}, "http://10.0.0.7:8080/api/runs/run_1"),
        ({"x-forwarded-proto": "https"}, "https://10.0.0.7:8080/api/runs/run_1"),
        ({"x-forwarded-host": "app.example"}, "http://app.example/api/runs/run_1"),
        (
            {"x-forwarded-proto": "https", "x-forwarded-host": "app.example:8443"},
            "https://app.example:8443/api/runs/run_1",
        ),
        ({"x-forwarded-host": "[2001:db8::1]:8443"}, "http://[2001:db8::1]:8443/api/runs/run_1"),
        (
            {"x-forwarded-proto": "https, http", "x-forwarded-host": "app.example, inner.example"},
            "https://app.example/api/runs/run_1",
        ),
    ],
    ids=["no proxy", "scheme", "host", "both", "IPv6", "two proxies"],
)
def test_an_address_is_the_one_that_the_client_asked(headers, address):
    assert linked(headers) == address


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-proto": "javascript"},
        {"x-forwarded-proto": ""},
        {"x-forwarded-host": ""},
        {"x-forwarded-host": "evil.example/path"},
        {"x-forwarded-host": "user@evil.example"},
        {"x-forwarded-host": "a b"},
        {"x-forwarded-host": "evil.example\r\nSet-Cookie: a=b"},
        {"x-forwarded-host": "app.example:port"},
        {"x-forwarded-host": "[evil"},
    ],
    ids=str,
)
def test_a_header_without_a_host_or_scheme_is_ignored(headers):
    assert linked(headers) == "http://10.0.0.7:8080/api/runs/run_1"


@pytest.mark.parametrize("base", ["https://public.example", "https://public.example/"])
def test_the_public_address_of_the_settings_wins(base):
    headers = {"x-forwarded-proto": "http", "x-forwarded-host": "other.example"}
    assert linked(headers, base=base) == "https://public.example/api/runs/run_1"


def test_a_public_address_may_have_a_path():
    assert linked({}, base="https://public.example/baton") == "https://public.example/baton/api/runs/run_1"


def test_parameters_are_escaped():
    request = Request(url="https://app.example/api/runs", headers={})
    assert link(request, None, "runs", {"agent": "a&b=c", "cursor": "0z"}) == (
        "https://app.example/api/runs?agent=a%26b%3Dc&cursor=0z"
    )


@pytest.mark.parametrize(
    ("headers", "base", "root"),
    [
        ({}, None, "https://app.example"),
        ({"X-Forwarded-Host": "front.example"}, None, "https://front.example"),
        ({"X-Forwarded-Host": "front.example"}, "https://public.example", "https://public.example"),
    ],
    ids=["no proxy", "proxy", "set"],
)
async def test_location_and_next_links_are_such_addresses(world, headers, base, root):
    client = Client(world.context, public_base_url=base)
    started = await client.start(headers=headers)
    assert started.headers["Location"] == f"{root}/api/runs/{started.json['id']}"
    await client.start()
    listed = await client.get("/runs", headers=headers, limit="1", code="s3cret")
    assert listed.json["nextLink"].startswith(f"{root}/api/runs?limit=1&cursor=")
    assert "s3cret" not in listed.json["nextLink"]
