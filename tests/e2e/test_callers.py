"""An app that recognises its callers itself, in Microsoft's worker library: the host lets everything through."""

import hashlib
import http.client
import json
from urllib.parse import urlsplit

import pytest

from dev.processes import ChildFailed
from tests.e2e.conftest import NewSite
from tests.e2e.site import Answer, Site, call, script, wait_until
from tests.support.principals import HEADER, TENANT, claims, principal

KEYS = {"nightly": ["caller"], "watch": ["reader", "admin"]}
SETTINGS = {
    "AUTH": "callers",
    "API_KEYS": json.dumps(
        [
            {
                "name": name,
                "roles": roles,
                "sha256": hashlib.sha256(f"key-of-{name}".encode()).hexdigest(),
            }
            for name, roles in KEYS.items()
        ]
    ),
}
NIGHTLY = {"Authorization": "Bearer key-of-nightly"}


def ask(site: Site, method: str, path: str, body: object = None, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(method, f"{site.bases[0]}/api/{path}", body, given)


def doubled(site: Site, header: str, *values: str) -> int:
    """Send a header several times, and return the status."""
    connection = http.client.HTTPConnection(urlsplit(site.bases[0]).netloc, timeout=60)
    try:
        connection.putrequest("GET", "/api/me")
        for value in values:
            connection.putheader(header, value)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_app_refuses_what_the_host_lets_through(new_site: NewSite) -> None:
    site = new_site(**SETTINGS)
    site.add_host()
    start = {"agent": "scripted", "input": script(turns=[{"text": "done"}])}
    for method, path in (("GET", "runs"), ("POST", "runs"), ("GET", "agents"), ("GET", "me")):
        for headers in ({}, {"x_functions_key": site.keys.host}, {HEADER: principal(claims("admin"))}):
            reply = ask(site, method, path, start if method == "POST" else None, **headers)
            assert reply.status == 401
            assert reply.headers["www-authenticate"] == "Bearer"
    for path in ("dashboard", "openapi.json", "health"):
        assert call("HEAD", f"{site.bases[0]}/api/{path}").status == 200
    assert ask(site, "GET", "health").body == {"status": "ok"}
    for name in ("code", "api-key"):
        assert ask(site, "GET", f"me?{name}=key-of-nightly", **NIGHTLY).body["code"] == "key_in_url"
    for header in ("Authorization", "api-key", "x-functions-key"):
        value = NIGHTLY["Authorization"] if header == "Authorization" else "key-of-nightly"
        assert doubled(site, header, value) == 200
        assert doubled(site, header, value, value) == 401
    assert ask(site, "POST", "runs", start, api_key="key-of-watch").body["code"] == "role_missing"
    file = [{"role": "user", "content": [{"type": "input_file", "file_id": "file-of-somebody"}]}]
    of_another = ask(site, "POST", "runs", start | {"input": file}, **NIGHTLY)
    assert of_another.body["code"] == "input_not_allowed"
    run_id = ask(site, "POST", "runs", start, **NIGHTLY).body["id"]
    wait_until(lambda: ask(site, "GET", f"runs/{run_id}", **NIGHTLY).body["status"] == "completed", run_id)
    assert ask(site, "GET", f"runs/{run_id}", api_key="key-of-watch").status == 404
    assert ask(site, "GET", "health", api_key="key-of-watch").body["pending"] == 0
    assert ask(site, "GET", "me", api_key="key-of-nightly").body["owner"] == "key:nightly"


def test_the_sign_in_of_the_platform_arrives(new_site: NewSite) -> None:
    site = new_site(AUTH="callers", ENTRA_TENANTS=TENANT, WEBSITE_AUTH_ENABLED="True")
    site.add_host()
    person = {HEADER: principal(claims("caller", name="Zo\u00eb"))}
    start = {"agent": "scripted", "input": script(turns=[{"text": "done"}])}
    me = ask(site, "GET", "me", **person).body
    assert (me["name"], me["roles"], me["recognised_by"]) == ("Zo\u00eb", ["reader", "caller"], "sign_in")
    assert ask(site, "POST", "runs", start, **person).body["code"] == "cross_site"
    assert ask(site, "POST", "runs", start, **person, Origin=site.bases[0]).status == 202
    assert ask(site, "GET", "me").body["sign_in"] == "/.auth/login/aad"
    assert doubled(site, HEADER, person[HEADER], person[HEADER]) == 401


def test_an_app_that_could_be_deceived_does_not_start(new_site: NewSite) -> None:
    site = new_site(AUTH="callers", ENTRA_TENANTS=TENANT, OWNER_HEADER="X-Owner")
    with pytest.raises(ChildFailed) as failure:
        site.add_host()
    for name in ("OWNER_HEADER", "WEBSITE_AUTH_ENABLED"):
        assert name in str(failure.value)
