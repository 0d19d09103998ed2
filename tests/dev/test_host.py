"""The host as a process of its own, serving `apps/sample` over Azurite."""

import asyncio
import base64
import gzip
import http.client
import json
import os
import re
import signal
import socket
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dev.host.queue_service import Account, QueueServices
from dev.processes import ChildFailed
from tests.dev.local_host import APPS, HOST_KEY, LONG, MASTER_KEY, Host, ready, start

SAMPLE = APPS / "sample"
# The names under which requests come besides those of this machine.
ALLOWED = "app.example, 192.0.2.1,[2001:DB8::1]"


@pytest.fixture(scope="module")
def host(connection_string: str) -> Iterator[Host]:
    settings = {"WORK_QUEUE": "host-work", "FUNCTIONS_ALLOWED_HOSTS": ALLOWED}
    with start(SAMPLE, connection_string, settings) as child:
        yield ready(child)


def take(storage: str, queue: str, count: int) -> list[bytes]:
    """Wait for that many messages and return their bodies in any order."""

    async def receive() -> list[bytes]:
        bodies: list[bytes] = []
        async with QueueServices() as services, asyncio.timeout(LONG.total_seconds()):
            service = services.service(Account.parse(storage))
            await service.create(queue)
            while len(bodies) < count:
                batch = await service.receive(queue, count=32, visibility=timedelta(minutes=1))
                bodies += [base64.b64decode(message.text, validate=True) for message in batch]
                await asyncio.sleep(0.02)
        return bodies

    return asyncio.run(receive())


def test_a_request_reaches_the_function_and_its_response_comes_back(host: Host) -> None:
    headers = {**HOST_KEY, "Accept": "text/x-test"}
    reply = host.call("POST", "/api/Echo/a%20b?x=1&x=2&empty=", b"body", headers)
    assert reply.status == 201
    assert reply.json == {
        "method": "POST",
        "url": f"http://{host.address}/api/Echo/a%20b?x=1&x=2&empty=",
        "name": "a b",
        "query": {"x": "1,2"},
        "accept": "text/x-test",
        "encoding": None,
        "transfer": None,
        "length": 4,
        "begins": b"body".hex(),
    }
    assert ("ETag", '"1"') in reply.headers
    assert ("content-type", "application/json") in reply.headers


def test_a_function_that_is_not_async_may_return_text(host: Host) -> None:
    reply = host.call("PUT", "/api/echo/fixed", "é".encode())
    assert (reply.status, reply.body.decode()) == (200, "é")


def test_bytes_and_repeated_headers_come_back_unchanged(host: Host) -> None:
    reply = host.call("GET", "/api/cookies")
    assert reply.body == bytes(range(256))
    cookies = [value for name, value in reply.headers if name == "Set-Cookie"]
    assert cookies == ["a=1; Path=/", "b=2; HttpOnly"]


@pytest.mark.parametrize("status", [204, 304, 404])
def test_a_status_without_a_body_comes_back(host: Host, status: int) -> None:
    reply = host.call("GET", f"/api/status/{status}")
    assert (reply.status, reply.body) == (status, b"")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/echo/x", {}, 401),
        ("/api/echo/x", {"x-functions-key": "wrong"}, 401),
        ("/api/echo/x", HOST_KEY, 201),
        ("/api/echo/x", MASTER_KEY, 201),
        ("/api/echo/x?code=host-key", {}, 201),
        ("/api/echo/x?code=host-key", {"x-functions-key": "wrong"}, 401),
        ("/api/status/200", {}, 200),
        ("/admin/host/status", HOST_KEY, 401),
        ("/admin/host/status", MASTER_KEY, 200),
        ("/admin/other", MASTER_KEY, 404),
    ],
)
def test_keys(host: Host, path: str, headers: dict[str, str], status: int) -> None:
    assert host.call("GET", path, headers=headers).status == status


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/echo/x"),
        ("GET", "/api/status/word"),
        ("GET", "/api/none"),
        ("GET", "/api/no%0Ane"),
        ("GET", "/"),
    ],
)
def test_a_request_without_a_route_is_not_found(host: Host, method: str, path: str) -> None:
    reply = host.call(method, path)
    assert (reply.status, reply.body) == (404, b"")


def test_an_exception_is_an_empty_500_and_writes_no_output(host: Host) -> None:
    reply = host.call("GET", "/api/broken")
    assert (reply.status, reply.body) == (500, b"")
    host.child.wait_for("broken failed after .*planted fault")
    host.child.wait_for(r'raise RuntimeError\("planted fault"\)')  # the traceback
    host.call("POST", "/api/send", b'["after the failure"]')
    host.child.wait_for("work takes after the failure")
    assert "work takes never written" not in host.child.output


def test_a_function_is_ended_at_its_timeout(connection_string: str, tmp_path: Path) -> None:
    settings = {"WORK_QUEUE": "host-hasty", "AzureFunctionsJobHost__functionTimeout": "00:00:01"}
    with start(SAMPLE, connection_string, settings | holding(tmp_path)) as child:
        assert ready(child).call("GET", "/api/held").status == 500
        child.wait_for(r"held failed after \d+ ms: it ran longer than functionTimeout")


def test_a_large_body_arrives_complete(host: Host) -> None:
    body = b"x" * 20_000_000
    assert host.call("POST", "/api/echo/x", body).json["length"] == len(body)


def test_a_body_over_the_limit_is_refused(host: Host) -> None:
    headers = {**HOST_KEY, "Content-Length": "104857601"}
    assert host.call("POST", "/api/echo/x", headers=headers).status == 413


def test_a_body_without_a_length_is_not_passed_on(host: Host) -> None:
    reply = host.call("POST", "/api/echo/x", iter([b"chunked"]))
    assert (reply.json["length"], reply.json["transfer"]) == (0, "chunked")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd", "gzip, br", "none such"])
@pytest.mark.parametrize("body", [gzip.compress(bytes(1_000)), b"not packed"], ids=["packed", "not packed"])
def test_a_body_with_an_encoding_is_passed_on_as_it_came(host: Host, encoding: str, body: bytes) -> None:
    reply = host.call("POST", "/api/echo/x", body, {**HOST_KEY, "Content-Encoding": encoding})
    assert reply.json["encoding"] == encoding
    assert (reply.json["length"], reply.json["begins"]) == (len(body), body[:8].hex())


@pytest.mark.parametrize("length", [0, 1, 100_000])
def test_a_head_has_the_headers_of_the_function_and_no_body(host: Host, length: int) -> None:
    got, head = (host.call(method, f"/api/head/{length}") for method in ("GET", "HEAD"))
    assert (got.status, head.status, head.body) == (200, 200, b"")
    sent = [{name.lower(): value for name, value in reply.headers} for reply in (got, head)]
    if not length:
        # The function sets no length, and a host does not know that of the body that a GET would get.
        sent[0].pop("content-length")
    assert {name: value for name, value in sent[1].items() if name != "date"} == {
        name: value for name, value in sent[0].items() if name != "date"
    }


def test_a_connection_can_be_used_again_after_a_head(host: Host) -> None:
    connection = http.client.HTTPConnection(host.address, timeout=LONG.total_seconds())
    try:
        for method in ("HEAD", "GET", "HEAD", "GET"):
            connection.request(method, "/api/head/10")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"" if method == "HEAD" else b"x" * 10)
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/api/echo/x", "/api/none"])
def test_a_head_needs_a_function_that_takes_it(host: Host, path: str) -> None:
    assert host.call("HEAD", path).status == 404


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("app.example", 201),
        ("app.example:8443", 201),
        ("[2001:db8::1]:80", 201),
        ("192.0.2.1", 201),
        ("[", 400),
        ("[::1", 400),
        (":80", 400),
        ("app.example:", 400),
        ("app.example:http", 400),
        ("user@app.example", 400),
        ("app.example/path", 400),
        ("a b", 400),
        ('"><script>', 400),
    ],
)
def test_a_request_for_what_is_no_host_is_refused(host: Host, name: str, status: int) -> None:
    reply = host.call("GET", "/api/echo/x", headers={**HOST_KEY, "Host": name})
    assert reply.status == status
    if status == 201:
        assert reply.json["url"] == f"http://{name}/api/echo/x"


def test_settings_come_from_the_environment_and_then_from_the_file(host: Host) -> None:
    assert host.call("GET", "/api/settings").json == {"GREETING": "from the file", "WORK_QUEUE": "host-work"}


def test_a_list_put_on_a_queue_is_one_message_each(host: Host, connection_string: str) -> None:
    assert host.call("POST", "/api/send", '["one", "zwö"]'.encode()).status == 202
    wanted = [{"worked": text, "count": 1, "dated": True} for text in ("one", "zwö")]
    results: list[Any] = []
    while not all(result in results for result in wanted):  # other tests work messages, too
        results += [json.loads(body) for body in take(connection_string, "host-results", 1)]
    assert [results.count(result) for result in wanted] == [1, 1]


def test_a_message_that_keeps_failing_goes_to_the_poison_queue(host: Host, connection_string: str) -> None:
    host.call("POST", "/api/send", b'["bad", "good"]')
    assert take(connection_string, "host-work-poison", 1) == [b"bad"]
    times = [line[-1] for line in host.child.output.splitlines() if "work takes bad" in line]
    assert times == ["1", "2"]
    host.child.wait_for("work takes good, time 1")


def test_timers_tick(host: Host) -> None:
    host.child.wait_for("at_start began")
    host.child.wait_for("tick, past due False")


def test_a_timer_that_returns_a_value_fails(host: Host) -> None:
    assert host.call("POST", "/admin/functions/returns_a_value", b"{}", MASTER_KEY).status == 202
    host.child.wait_for(r"returns_a_value failed .* returned a non-None value")


def test_an_admin_request_gives_a_queue_function_its_message(host: Host) -> None:
    assert host.call("POST", "/admin/functions/Work", b'{"input": "by hand"}', MASTER_KEY).status == 202
    host.child.wait_for("work takes by hand, time None")


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [("nobody", b"{}", 404), ("tick", b"", 400), ("tick", b"[]", 400), ("echo", b"{}", 400)],
)
def test_bad_admin_requests_are_refused(host: Host, name: str, body: bytes, status: int) -> None:
    assert host.call("POST", f"/admin/functions/{name}", body, MASTER_KEY).status == status


def holding(folder: Path) -> dict[str, str]:
    """Return the setting that keeps functions running as long as the file that it names exists."""
    (folder / "held").touch()
    return {"HELD": str(folder / "held")}


def until_it_stops(host: Host) -> None:
    """Wait until a host that is stopping accepts no more connections."""
    name, _, port = host.address.partition(":")
    while True:
        try:
            socket.create_connection((name, int(port)), LONG.total_seconds()).close()
        except ConnectionError:
            return


def test_a_stop_waits_for_running_functions(connection_string: str, tmp_path: Path) -> None:
    settings = {"WORK_QUEUE": "host-drain", **holding(tmp_path)}
    with start(SAMPLE, connection_string, settings) as child, ThreadPoolExecutor() as pool:
        host = ready(child)
        host.call("POST", "/api/send", b'["held"]')
        request = pool.submit(host.call, "GET", "/api/held")
        for began in ("at_start began", "work takes held", "held has started"):
            child.wait_for(began)
        os.kill(child.pid, signal.SIGTERM)
        until_it_stops(host)
        assert "at_start ended" not in child.output
        (tmp_path / "held").unlink()
        assert child.wait(timeout=LONG) == 0
        assert request.result().status == 200
        assert "at_start ended" in child.output
        assert "work has done the held message" in child.output


def test_a_killed_host_can_start_again_on_its_port(connection_string: str) -> None:
    disabled = {"AzureWebJobs.tick.Disabled": "true", "WORK_QUEUE": "host-again"}
    with start(SAMPLE, connection_string, disabled) as first:
        address = ready(first).address
        assert "tick" not in first.output
        first.kill()
    port = int(address.rpartition(":")[2])
    with start(SAMPLE, connection_string, disabled, port=port) as second:
        assert ready(second).address == address
        with start(SAMPLE, connection_string, disabled, port=port) as third:
            third.wait_for(f"cannot listen on {address}: ")
            assert third.wait(timeout=LONG) == 1


FAULTS = {
    "wrong parameter name": (
        """
        @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
        def f(clock: func.TimerRequest) -> None: ...
        """,
        "FunctionLoadError: cannot load the f function: .*clock",
    ),
    "bad schedule": (
        """
        @app.timer_trigger(arg_name="timer", schedule="99 * * * * *")
        def f(timer: func.TimerRequest) -> None: ...
        """,
        "function f: '99 .*' is not an NCRONTAB expression",
    ),
    "unknown setting": (
        """
        @app.queue_trigger(arg_name="message", queue_name="%NOWHERE%", connection="AzureWebJobsStorage")
        def f(message: func.QueueMessage) -> None: ...
        """,
        "function f: %NOWHERE% is used in a binding",
    ),
    "unknown binding": (
        """
        @app.blob_trigger(arg_name="blob", path="a/b", connection="AzureWebJobsStorage")
        def f(blob: func.InputStream) -> None: ...
        """,
        "function f: the local host does not know bindings of type 'blobtrigger'",
    ),
    "error of the app": (
        'raise ValueError("POLL_SECONDS is missing")',
        r"^function_app\.py, line 3: ValueError: POLL_SECONDS is missing$",
    ),
    "missing module": (
        "import nowhere",
        r"^function_app\.py, line 3: ModuleNotFoundError: No module named 'nowhere'$",
    ),
    "syntax error": ("def f(:", r"^function_app\.py, line 3: SyntaxError: invalid syntax$"),
    "no function": ("", "no functions found in "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_app_with_a_fault_is_refused(fault: str, tmp_path: Path) -> None:
    source, text = FAULTS[fault]
    (tmp_path / "host.json").write_text("{}")
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\napp = func.FunctionApp()\n" + textwrap.dedent(source)
    )
    with start(tmp_path, "UseDevelopmentStorage=true", {}) as child:
        child.wait_for(text, timeout=LONG)
        assert child.wait(timeout=LONG) == 1
        assert re.search(text, child.output.rpartition("The host cannot start.\n")[2], re.MULTILINE)


def test_a_refusal_by_the_app_is_shown_as_the_app_says_it(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text("{}")
    (tmp_path / "refusals.py").write_text("class CannotStart(Exception): ...\n")
    (tmp_path / "function_app.py").write_text('import refusals\nraise refusals.CannotStart("a.\\n- b.")\n')
    with start(tmp_path, "UseDevelopmentStorage=true", {}) as child:
        assert child.wait(timeout=LONG) == 1
        assert child.output == "The host cannot start.\na.\n- b."


def test_a_host_without_storage_reports_it() -> None:
    nowhere = "AccountName=a;AccountKey=aw==;QueueEndpoint=http://127.0.0.1:9/a"
    with start(SAMPLE, nowhere, {"WORK_QUEUE": "work"}) as child:
        child.wait_for("no queue service: PUT http://127.0.0.1:9/a/work", timeout=LONG)
        assert child.wait(timeout=LONG) == 1
        with pytest.raises(ChildFailed, match="ended with status 1"):
            ready(child)
