"""The app behind proxies and in front of a gateway: real requests through the local host and Microsoft's worker."""

import gzip
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import NewSite
from tests.e2e.site import Site, script

START = json.dumps({"agent": "scripted", "input": script(turns=[{"text": "a"}])}).encode()


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(site: Site, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """Send a request as it is given; `body` may be an iterator, whose parts are sent as chunks."""
    connection = http.client.HTTPConnection(urlsplit(site.bases[0]).netloc, timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, f"/api/{path}", body, {"x-functions-key": site.keys.host, **given})
        reply = connection.getresponse()
        sent = {name.lower(): value for name, value in reply.getheaders() if name != "Date"}
        return Reply(reply.status, sent, reply.read())
    finally:
        connection.close()


def test_a_head_is_answered_as_a_get_without_a_body(site: Site) -> None:
    run = site.outcome(site.start(script(turns=[{"text": "漢字"}])))
    paths = ["health", "runs", "agents", "openapi.json", "dashboard", "runs?limit=0", "runs/run_x"]
    paths += [f"runs/{run['id']}", f"runs/{run['id']}/events", f"sessions/{run['session_id']}"]
    for path in paths:
        got, head = (send(site, method, path) for method in ("GET", "HEAD"))
        assert (head.status, head.headers, head.body) == (got.status, got.headers, b""), path
        assert head.headers["content-length"] == str(len(got.body))
    etag = send(site, "HEAD", f"runs/{run['id']}").headers["etag"]
    same = [send(site, method, f"runs/{run['id']}", If_None_Match=etag) for method in ("GET", "HEAD")]
    assert [reply.status for reply in same] == [304, 304]
    assert same[0].headers == same[1].headers
    assert same[1].headers["etag"] == etag
    assert site.api("HEAD", "runs", x_functions_key="wrong").status == 401


def test_a_gateways_parameters_are_ignored_and_get_into_no_link(site: Site) -> None:
    run_ids = [site.start(script(turns=[{"text": "a"}])) for _ in range(2)]
    foreign = "subscription-key=s3cret&subscription-key=t&$top=1&%FF=%FE&=x&a&%00=%00"
    for path in ("runs?", f"runs/{run_ids[0]}?", f"runs/{run_ids[0]}/events?", "health?", "agents?"):
        assert send(site, "GET", path + foreign).status == 200, path
    for query in (
        "limit=1&limit=2",
        "limit=1,2",
        "status=queued&status=failed",
        "cursor=a&cursor=b",
        "limit=%FF",
    ):
        assert send(site, "GET", f"runs?{query}&{foreign}").status in {400, 422}, query
    listed = send(site, "GET", f"runs?limit=1&agent=scripted&{foreign}")
    assert "s3cret" not in listed.body.decode()
    link = urlsplit(listed.json["nextLink"])
    names = [pair.partition("=")[0] for pair in link.query.split("&")]
    assert sorted(names) == ["agent", "cursor", "limit"]
    assert site.api("GET", listed.json["nextLink"]).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "gzip, identity"])
def test_a_packed_body_is_refused(site: Site, encoding: str) -> None:
    reply = send(site, "POST", "runs", gzip.compress(START), Content_Encoding=encoding)
    assert (reply.status, reply.json["code"]) == (415, "unsupported_encoding")
    assert f"'{encoding.removesuffix(', identity')}'" in reply.json["detail"]
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["accept-encoding"] == "identity"


def test_bodies_arrive_or_it_is_clear_why_not(site: Site) -> None:
    chunked = send(site, "POST", "runs", iter([START[:10], START[10:]]))
    assert (chunked.status, chunked.json["code"]) == (411, "length_required")
    empty = [send(site, "POST", "runs", b""), send(site, "POST", "runs", None)]
    assert [(reply.status, reply.json["code"]) for reply in empty] == [(400, "not_json")] * 2
    assert "empty" in empty[0].json["detail"]
    assert send(site, "POST", "runs", b"\xef\xbb\xbf" + START).status == 202
    assert send(site, "POST", "runs", START, Content_Encoding="identity").status == 202
    exposed = "Location, ETag, Retry-After"
    assert {reply.headers["access-control-expose-headers"] for reply in (chunked, *empty)} == {exposed}


FORWARDED = {"Forwarded": 'for=192.0.2.1;host="api.contoso.com:8443";proto=https, host=inner'}


def test_the_headers_of_a_trusted_proxy_name_the_host(new_site: NewSite) -> None:
    site = new_site(TRUST_FORWARDED="on")
    site.add_host()
    started = send(site, "POST", "runs", START, **FORWARDED)
    assert started.headers["location"] == f"https://api.contoso.com:8443/api/runs/{started.json['id']}"
    send(site, "POST", "runs", START)
    listed = send(site, "GET", "runs?limit=1", X_Original_Host="other.example", X_Forwarded_Proto="https")
    assert listed.json["nextLink"].startswith("https://other.example/api/runs?limit=1&cursor=")


def test_without_trust_the_host_is_the_requests_own(site: Site) -> None:
    for headers in (FORWARDED, {"X_Forwarded_Host": "a.example"}, {"X_Original_Host": "a.example"}):
        started = send(site, "POST", "runs", START, X_Forwarded_Proto="https", **headers)
        assert started.headers["location"] == f"{site.bases[0]}/api/runs/{started.json['id']}"


@dataclass
class Gateway:
    """A gateway in front of a provider. It refuses every create, and repeats the key that it got."""

    base: str
    arrived: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.arrived.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"statusCode": 400, "message": f"No: {self.headers['X-Key']}"}).encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Gateway(f"http://127.0.0.1:{server.server_port}/v1")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def test_the_gateway_of_the_provider_gets_its_headers(new_site: NewSite, gateway: Gateway) -> None:
    headers = json.dumps({"X-Key": "a.gateway.key", "x-team": "a"})
    site = new_site(OPENAI_BASE_URL=gateway.base, PROVIDER_HEADERS=headers)
    site.add_host()
    run = send(site, "POST", "runs", START).json
    assert (run["status"], run["error"]["message"]) == ("failed", "No: [secret]")
    [arrived] = gateway.arrived
    assert (arrived["x-key"], arrived["x-team"]) == ("a.gateway.key", "a")
    assert "a.gateway.key" not in site.hosts[0].output
