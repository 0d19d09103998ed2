"""What a page in the developer's browser must not reach through the local host, and what must go on working."""

import http.client
import itertools
import socket
from collections.abc import Iterator, Mapping

import pytest

from dev.host.errors import StartupError
from dev.host.guard import Guard
from tests.dev.local_host import APPS, HOST_KEY, LONG, MASTER_KEY, Host, Reply, ready, start

PATH = "/api/work"
marks = itertools.count(1)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with start(APPS / "bare", "UseDevelopmentStorage=true", {"FUNCTIONS_ALLOWED_HOSTS": ""}) as child:
        yield ready(child)


def get(host: Host, headers: Mapping[str, str], method: str = "GET") -> Reply:
    return host.call(method, PATH, headers={**HOST_KEY, **headers})


def exchange(host: Host, request: str) -> bytes:
    """Send the text of a request without a body, and return the status line of the reply."""
    name, _, port = host.address.partition(":")
    with socket.create_connection((name, int(port)), LONG.total_seconds()) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        return connection.makefile("rb").readline()


def refused_before_its_body(host: Host, path: str, headers: Mapping[str, str]) -> Reply:
    """Send the head of a POST and never its body; return the reply to the head."""
    connection = http.client.HTTPConnection(host.address, timeout=LONG.total_seconds())
    try:
        connection.request("POST", path, iter(()), {**headers, "Content-Length": "1000000"})
        response = connection.getresponse()
        return Reply(response.status, response.getheaders(), response.read())
    finally:
        connection.close()


def sentence(reply: Reply) -> str:
    """Return the text of a refusal, which is one sentence on one line."""
    assert ("Content-Type", "text/plain; charset=utf-8") in reply.headers
    text = reply.body.decode()
    assert text.endswith(".\n")
    assert text.count("\n") == 1
    return text


# The name by which the host is called.


@pytest.mark.parametrize(
    "name",
    ["127.0.0.1", "127.0.0.1:1", "127.255.255.254:7071", "localhost", "LocalHost:7071", "[::1]", "[::1]:80"],
)
def test_loopback_names_are_served(host: Host, name: str) -> None:
    assert get(host, {"Host": name}).status == 200


@pytest.mark.parametrize(
    "name",
    [
        "app.example",
        # The name of a page that leads to 127.0.0.1 keeps the page's port.
        "app.example:7071",
        "127.0.0.1.app.example",
        "localhost.app.example",
        "app.localhost",
        "localhost.",
        "mylocalhost",
        "0.0.0.0",
        "192.0.2.1",
        "[0::0]",
        "[2001:db8::1]",
        "2130706433",
        "127.1",
        "",
    ],
)
@pytest.mark.parametrize("path", [PATH, "/api/none", "/admin/host/status"])
def test_other_names_are_not_served(host: Host, name: str, path: str) -> None:
    reply = host.call("GET", path, headers={**MASTER_KEY, "Host": name})
    assert reply.status == 421
    named = name.partition(":")[0] if not name.startswith("[") else name
    assert f"FUNCTIONS_ALLOWED_HOSTS={named or 'NAME'} " in sentence(reply)


@pytest.mark.parametrize(
    "name", ["user@127.0.0.1", "user:word@localhost", "127.0.0.1@app.example", "127.0.0.1#@app.example"]
)
def test_a_name_with_user_information_is_no_host(host: Host, name: str) -> None:
    assert get(host, {"Host": name}).status == 400


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"GET {PATH} HTTP/1.1\nHost: localhost", 200),
        (f"GET {PATH} HTTP/1.1", 400),
        (f"GET {PATH} HTTP/1.0", 421),
        (f"GET {PATH} HTTP/1.1\nHost: localhost\nHost: app.example", 400),
        (f"GET {PATH} HTTP/1.1\nHost: app.example\nHost: localhost", 400),
        (f"GET http://app.example{PATH} HTTP/1.1\nHost: localhost", 421),
        (f"GET http://localhost{PATH} HTTP/1.1\nHost: app.example", 421),
        (f"GET http://localhost{PATH} HTTP/1.1\nHost: localhost", 200),
    ],
)
def test_every_name_in_a_request_counts(host: Host, head: str, status: int) -> None:
    line = exchange(host, f"{head}\nx-functions-key: host-key\nConnection: close\n\n")
    assert int(line.split()[1]) == status


def test_names_can_be_allowed() -> None:
    settings = {"FUNCTIONS_ALLOWED_HOSTS": "App.example , b.example"}
    with start(APPS / "bare", "UseDevelopmentStorage=true", settings) as child:
        host = ready(child)
        names = ("app.example", "APP.example:8443", "b.example:80", "localhost")
        assert [get(host, {"Host": name}).status for name in names] == [200] * 4
        foreign = ("c.example", "app.example.c.example", "x.app.example")
        assert [get(host, {"Host": name}).status for name in foreign] == [421] * 3
        page = {"Host": "app.example:8443", "Origin": "http://app.example:8443"}
        assert get(host, page, "POST").status == 200
        assert get(host, page | {"Origin": "http://b.example"}, "POST").status == 403


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("app.example:80, b.example, http://c.example", ["app.example:80", "http://c.example"]),
        ("*", ["*"]),
        ("a,,b", [""]),
        ("user@a", ["user@a"]),
    ],
)
def test_what_is_no_name_cannot_be_allowed(value: str, wrong: list[str]) -> None:
    with pytest.raises(StartupError) as refused:
        Guard.from_environment({"FUNCTIONS_ALLOWED_HOSTS": value})
    lines = str(refused.value).splitlines()
    assert [line.split("'")[1] for line in lines] == wrong


# The page that sends the request.


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "origin",
    [
        "http://app.example",
        "null",
        "",
        "https://{address}",
        "http://127.0.0.1",
        "http://localhost:{port}",
        "http://{address}.app.example",
        "http://user@{address}",
        "http://{address}/",
        "file://",
    ],
)
def test_pages_of_another_origin_are_refused(host: Host, origin: str, method: str) -> None:
    port = host.address.rpartition(":")[2]
    reply = get(host, {"Origin": origin.format(address=host.address, port=port)}, method)
    assert reply.status == 403
    if method != "HEAD":
        assert f"http://{host.address}." in sentence(reply)


def test_an_administrator_is_refused_too_when_a_page_of_another_origin_sends_it(host: Host) -> None:
    for path in ("/admin/host/status", "/admin/functions/work", "/api/none"):
        reply = host.call("POST", path, b"{}", {**MASTER_KEY, "Origin": "http://app.example"})
        assert reply.status == 403


def test_each_of_several_origins_counts(host: Host) -> None:
    own, foreign = f"Origin: http://{host.address}\n", "Origin: http://app.example\n"
    for origins in (own + foreign, foreign + own):
        head = f"GET {PATH} HTTP/1.1\nHost: {host.address}\nx-functions-key: host-key\nConnection: close\n"
        assert exchange(host, f"{head}{origins}\n").split()[1] == b"403"


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("{address}", "http://{address}"),
        ("localhost:7071", "http://localhost:7071"),
        ("LOCALHOST:7071", "http://localhost:7071"),
        ("localhost:80", "http://localhost"),
        ("localhost", "http://localhost"),
        ("[::1]:7071", "http://[::1]:7071"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_the_hosts_own_pages_are_served(host: Host, name: str, origin: str, method: str) -> None:
    headers = {"Host": name.format(address=host.address), "Origin": origin.format(address=host.address)}
    fetched = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    assert get(host, headers, method).status == get(host, headers | fetched, method).status == 200


@pytest.mark.parametrize(
    ("method", "site", "mode", "target", "status"),
    [
        # An image, a script, a frame, a request of a script that needs no answer.
        ("GET", "cross-site", "no-cors", "image", 403),
        ("GET", "cross-site", "no-cors", "script", 403),
        ("GET", "cross-site", "navigate", "iframe", 403),
        ("GET", "cross-site", "no-cors", "empty", 403),
        # Another port of this machine is the same site, and another origin.
        ("GET", "same-site", "no-cors", "empty", 403),
        # A form.
        ("POST", "cross-site", "navigate", "document", 403),
        # A link, a bookmark or the address line, the host's own page.
        ("GET", "cross-site", "navigate", "document", 200),
        ("GET", "same-site", "navigate", "document", 200),
        ("HEAD", "cross-site", "navigate", "document", 200),
        ("GET", "none", "navigate", "document", 200),
        ("GET", "same-origin", "cors", "empty", 200),
        ("POST", "same-origin", "cors", "empty", 200),
    ],
)
def test_requests_without_an_origin_are_known_by_their_site(
    host: Host, method: str, site: str, mode: str, target: str, status: int
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": target}
    assert get(host, headers, method).status == status


def test_a_request_that_names_only_its_site_is_refused(host: Host) -> None:
    assert get(host, {"Sec-Fetch-Site": "cross-site"}).status == 403


# The type of the body.


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/plain;charset=UTF-8",
        " Text/Plain ; charset=utf-8",
        "multipart/form-data; boundary=x",
        "MULTIPART/FORM-DATA",
    ],
)
@pytest.mark.parametrize("path", [PATH, "/admin/functions/work", "/admin/functions/none"])
def test_bodies_that_any_page_can_send_are_refused(host: Host, content_type: str, path: str) -> None:
    reply = host.call("POST", path, b"{}", {**MASTER_KEY, "Content-Type": content_type})
    assert reply.status == 415
    assert "application/json" in sentence(reply)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        # The default of `curl -d` and of urllib.
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "text/csv",
        "multipart/mixed; boundary=x",
        "",
    ],
)
def test_other_bodies_arrive(host: Host, content_type: str) -> None:
    mark = f"arrived-{next(marks)}"
    for headers in ({}, {"Origin": f"http://{host.address}"}):
        given = {**HOST_KEY, **headers} | ({"Content-Type": content_type} if content_type else {})
        assert host.call("POST", f"{PATH}?mark={mark}", b"12345", given).status == 200
    host.child.wait_for(f"work got {mark} and 5 bytes", timeout=LONG)


# What a refusal costs.


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "app.example"}, 421),
        ({"Origin": "http://app.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
@pytest.mark.parametrize("path", [PATH, "/admin/functions/work"])
def test_a_refusal_comes_before_the_body_is_read(
    host: Host, headers: dict[str, str], status: int, path: str
) -> None:
    assert refused_before_its_body(host, path, {**MASTER_KEY, **headers}).status == status


def test_a_refused_request_calls_no_function_and_is_logged(host: Host) -> None:
    refused = f"refused-{next(marks)}"
    # What a page can send to a host whose key it knows.
    for headers in (
        {"Origin": "http://app.example"},
        {"Content-Type": "text/plain"},
        {"Host": "app.example"},
    ):
        reply = host.call("POST", f"{PATH}?code=host-key&mark={refused}", b"{}", headers)
        assert reply.status >= 400
        host.child.wait_for(f"WARNING dev.host.server: refused POST {PATH}: {sentence(reply).strip()[:40]}")
    served = f"served-{next(marks)}"
    assert host.call("POST", f"{PATH}?code=host-key&mark={served}", b"{}", {}).status == 200
    host.child.wait_for(f"work got {served} ", timeout=LONG)
    assert refused not in host.child.output
    assert "host-key" not in host.child.output.partition("ready ")[2]
