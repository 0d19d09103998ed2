"""Absolute addresses as the client sees them."""

import pytest

from shared.web.http import Request
from shared.web.links import link, root
from tests.support.client import Client

URL = "http://10.0.0.7:8080/api/runs?code=s3cret"
OWN = "http://10.0.0.7:8080"


def root_of(headers: dict[str, str], *, url: str = URL, trusted: bool = True) -> str:
    return root(Request(url=url, headers=headers), trust_forwarded=trusted)


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({}, OWN),
        ({"x-forwarded-proto": "https"}, "https://10.0.0.7:8080"),
        ({"x-forwarded-proto": "HTTPS"}, "https://10.0.0.7:8080"),
        ({"x-forwarded-host": "app.example"}, "http://app.example"),
        ({"x-original-host": "app.example"}, "http://app.example"),
        (
            {"x-forwarded-proto": "https", "x-forwarded-host": "app.example:8443"},
            "https://app.example:8443",
        ),
        ({"x-forwarded-host": "[2001:db8::1]:8443"}, "http://[2001:db8::1]:8443"),
        (
            {"x-forwarded-proto": "https, http", "x-forwarded-host": "app.example, inner.example"},
            "https://app.example",
        ),
        ({"forwarded": "for=192.0.2.1;host=api.contoso.com;proto=https"}, "https://api.contoso.com"),
    ],
    ids=[
        "no proxy",
        "scheme",
        "in capitals",
        "host",
        "original host",
        "both",
        "IPv6",
        "two proxies",
        "standard",
    ],
)
def test_behind_a_trusted_proxy_the_address_is_the_one_that_the_client_asked(headers, address):
    assert root_of(headers) == address


NAMED = {
    "forwarded": "host=a.example;proto=https",
    "x-forwarded-host": "b.example",
    "x-forwarded-proto": "https",
    "x-original-host": "c.example",
}


@pytest.mark.parametrize(
    ("absent", "address"),
    [
        ([], "https://a.example"),
        (["forwarded"], "https://b.example"),
        (["forwarded", "x-forwarded-host"], "https://c.example"),
        (["forwarded", "x-forwarded-host", "x-forwarded-proto"], "http://c.example"),
    ],
    ids=["the standard", "X-Forwarded-Host", "X-Original-Host", "nothing but a host"],
)
def test_one_header_has_precedence_over_the_next(absent, address):
    assert root_of({name: value for name, value in NAMED.items() if name not in absent}) == address


def test_what_one_header_leaves_out_is_taken_from_the_next():
    assert root_of(NAMED | {"forwarded": "for=192.0.2.1"}) == "https://b.example"
    assert root_of(NAMED | {"forwarded": "host=a.example", "x-forwarded-proto": "ftp"}) == "http://a.example"
    assert root_of(NAMED | {"forwarded": "host=a.example:0"}) == "https://b.example"
    assert root_of(NAMED | {"forwarded": "for=1, host=a.example"}) == "https://b.example"


@pytest.mark.parametrize("name", NAMED)
async def test_without_trust_no_such_header_counts(world, name):
    assert root_of({name: NAMED[name]}, trusted=False) == OWN
    started = await Client(world.context).start(headers={name: NAMED[name]})
    assert started.headers["Location"].startswith("https://app.example/api/")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://app.example/api/runs", "https://app.example"),
        ("HTTPS://app.example:8443/api/runs", "https://app.example:8443"),
        ("http://[2001:db8::1]:80/api/runs?a=@b", "http://[2001:db8::1]:80"),
        ("https://user:s3cret@app.example/api/runs", "https://app.example"),
        # Not a host: links are relative then.
        ("http://[broken/api/runs", ""),
        ("http://app.example:99999/api/runs", ""),
        ("http://app.example:0/api/runs", ""),
        ("http://app.example%0d%0aX:1/api/runs", ""),
        ('http://app.example"><script>/api/runs', ""),
        ("http:///api/runs", ""),
        ("/api/runs", ""),
        # The Functions host copies a list of schemes from the front end of Azure as it is.
        ("https, http://app.example/api/runs", "https://app.example"),
        ("http,https://app.example/api/runs", "http://app.example"),
    ],
)
@pytest.mark.parametrize("trusted", [True, False])
def test_without_a_proxy_the_address_is_the_requests_own(url, address, trusted):
    assert root_of({}, url=url, trusted=trusted) == address


def test_the_address_of_a_page():
    assert link("https://app.example", "runs/run_1") == "https://app.example/api/runs/run_1"
    assert link("https://app.example/baton/", "runs/run_1") == "https://app.example/baton/api/runs/run_1"


def test_parameters_are_escaped():
    assert link("https://app.example", "runs", {"agent": "a&b=c", "cursor": "0z"}) == (
        "https://app.example/api/runs?agent=a%26b%3Dc&cursor=0z"
    )


@pytest.mark.parametrize(
    ("headers", "base", "address"),
    [
        ({}, None, "https://app.example"),
        ({"X-Forwarded-Host": "front.example"}, None, "https://front.example"),
        ({"Forwarded": "host=front.example"}, None, "https://front.example"),
        ({"X-Forwarded-Host": "front.example"}, "https://public.example", "https://public.example"),
        ({"Forwarded": "host=front.example"}, "https://public.example/", "https://public.example"),
    ],
    ids=["no proxy", "proxy", "proxy by the standard", "set", "set, by the standard"],
)
async def test_location_and_next_links_are_such_addresses(world, headers, base, address):
    client = Client(world.context, public_base_url=base, trust_forwarded=True)
    started = await client.start(headers=headers)
    assert started.headers["Location"] == f"{address}/api/runs/{started.json['id']}"
    await client.start()
    listed = await client.get("/runs", headers=headers, limit="1", code="s3cret")
    assert listed.json["nextLink"].startswith(f"{address}/api/runs?limit=1&cursor=")
    assert "s3cret" not in listed.json["nextLink"]
