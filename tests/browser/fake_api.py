"""Baton's API as the dashboard uses it, on loopback, with the content that a test sets."""

import json
import threading
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from shared.web import dashboard
from tests.browser import fake_calls
from tests.browser.fake_run import OVER, FakeRun

KEY = "a-key-for-tests"
AGENTS = [
    {
        "name": name,
        "description": description,
        "model": "writer",
        "tools": [],
        "max_turns": 8,
        "deadline_seconds": 1800,
        "stream": True,
        "ready": True,
        "missing_settings": [],
    }
    for name, description in [
        ("market_analyst", "Weighs a market, a company or an idea, in one answer."),
        ("space_novelist", "Researches, invents a crew and writes a very long novel about space."),
    ]
]
ROLES = ["reader", "caller", "approver", "admin"]
Answer = tuple[int, Any]
# With this answer of `intercept`, the request is carried out and its reply is cut in the middle.
BREAK_OFF: Answer = (0, None)
Intercept = Callable[[str, str], Answer | None]


def caller_view(*roles: str, **changes: Any) -> dict[str, Any]:
    """Return what `me` answers, by default to a key of the Functions host."""
    fields = {"object": "caller", "owner": "default", "name": None, "recognised_by": "host_key"}
    return fields | {"roles": list(roles or ROLES)} | changes


class FakeApi:
    """Serves `runs`, newest first. `intercept` gets each request (method and target), and may return its answer."""

    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.key = KEY
        self.csp = True
        self.change_page: Callable[[bytes], bytes] = lambda body: body
        self.retry_ms = 50
        # What `me` answers a request with the key. Without it, the API is one of an earlier version.
        self.me: dict[str, Any] | None = caller_view()
        # The caller that the platform has signed in: the body of `me`, or a problem with its status.
        self.signed_in: dict[str, Any] | None = None
        # Where people sign in. Then the app itself asks for keys, and not the Functions host.
        self.sign_in: str | None = None
        self.intercept: Intercept = lambda method, target: None
        # Of runs that are not the caller's own.
        self.owners: dict[str, str] = {}
        self.answers: list[tuple[str, Any]] = []
        self.agents: list[dict[str, Any]] = AGENTS
        self.starts: list[tuple[str, Any]] = []
        self.bodies: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, str]] = []
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def keys_sent(self) -> list[str]:
        """The key of each request but those for the page, and the one that looks for somebody who is signed in."""
        return [
            key
            for method, target, key in self.requests
            if urlsplit(target).path != "/api/dashboard" and (method, target, key) != ("GET", "/api/me", "")
        ]

    def add(self, *runs: FakeRun) -> None:
        everything = [*self.runs.values(), *runs]
        self.runs = {run.id: run for run in sorted(everything, key=lambda run: run.created, reverse=True)}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method: str, target: str, body: bytes, headers: Any) -> Answer:
        path, query = urlsplit(target).path, {k: v[0] for k, v in parse_qs(urlsplit(target).query).items()}
        key = headers.get("x-functions-key", "")
        me = self.me if key == self.key else None if key else self.signed_in
        if key != self.key and me is None:
            problem = {
                "title": "Unauthorized",
                "status": 401,
                "detail": "Send a key.",
                "code": "caller_missing",
            }
            return 401, problem | {"sign_in": self.sign_in} if self.sign_in else None
        if me is not None and (refused := _refused(me, method, path)):
            return 403, refused
        match method, path.removeprefix("/api/").split("/"):
            case "GET", ["me"] if me is not None:
                return 200, me
            case "GET", ["agents"]:
                return 200, {"object": "list", "data": self.agents}
            case "GET", ["waits"]:
                found = fake_calls.waits([*self.runs.values()], self.owners, me or caller_view())
                return fake_calls.listing(found, "waits", query)
            case "GET", ["runs"]:
                return 200, self._listing(query)
            case "POST", ["runs"]:
                return self._start(headers["idempotency-key"], json.loads(body))
            case "POST", ["runs", run_id, "calls", call_id] if run_id in self.runs:
                self.answers.append((call_id, given := json.loads(body)))
                return fake_calls.answer(self.runs[run_id], call_id, given, me or caller_view())
            case _, ["runs", run_id, *rest] if run_id in self.runs and run_id not in self.owners:
                return self._of_run(
                    method, self.runs[run_id], rest, query | {"key": headers.get("idempotency-key", "")}
                )
        missing = {"title": "Not Found", "status": 404, "detail": "There is no such run."}
        return 404, missing | {"code": "run_not_found"}

    def _of_run(self, method: str, run: FakeRun, rest: list[str], query: dict[str, str]) -> Answer:
        key = query["key"]
        match method, rest:
            case "GET", []:
                return 200, run.view(whole="include" in query)
            case "GET", ["calls"]:
                return fake_calls.listing(run.asked, f"runs/{run.id}/calls", query)
            case "GET", ["events"]:
                return 200, self._feed(run, int(query["after"]), int(query["limit"]))
            case "POST", ["cancel"]:
                return 200, run.end("cancelled").view()
            case "POST", ["retry"]:
                return self._retry(run, key)
            case "DELETE", []:
                del self.runs[run.id]
                return 204, None
        return 405, None

    def _feed(self, run: FakeRun, after: int, limit: int) -> dict[str, Any]:
        data = run.events[after : after + limit]
        last = after + len(data)
        done = run.status in OVER and last == len(run.events)
        more = last < len(run.events)
        return {
            "object": "list",
            "data": data,
            "last_id": last,
            "done": done,
            "retry_ms": 0 if more else self.retry_ms,
        }

    def _listing(self, query: dict[str, str]) -> dict[str, Any]:
        wanted = {name: value for name, value in query.items() if name not in ("cursor", "limit")}
        found = [run.summary() for run in self.runs.values() if run.id not in self.owners]
        found = [view for view in found if all(_matches(view, *one) for one in wanted.items())]
        begin, limit = int(query.get("cursor", 0)), int(query["limit"])
        body: dict[str, Any] = {"object": "list", "data": found[begin : begin + limit]}
        if len(found) > begin + limit:
            carried = urlencode(wanted | {"limit": limit, "cursor": begin + limit})
            # Behind a proxy that the app does not know, only the query of a link is right.
            body["nextLink"] = f"http://elsewhere.invalid/api/runs?{carried}"
        return body

    def _start(self, key: str, body: Any) -> Answer:
        self.bodies.append(body)
        given = body["input"]
        items = given if isinstance(given, list) else [{"role": "user", "content": given}]
        return self._new_run(key, body["agent"], input=items, metadata=body.get("metadata", {}))

    def _retry(self, run: FakeRun, key: str) -> Answer:
        if run.status not in OVER:
            return 409, {"title": "Conflict", "detail": "The run has not ended.", "code": "run_pending"}
        return self._new_run(key, run.agent, input=run.fields.get("input"), retry_of=run.id)

    def _new_run(self, key: str, agent: str, **fields: Any) -> Answer:
        known = [run_id for given, run_id in self.starts if given == key]
        if not known:
            run = FakeRun(len(self.starts) + 500, agent=agent, fields=fields).note("run.queued")
            self.add(run)
            known = [run.id]
        self.starts.append((key, known[0]))
        return 202, self.runs[known[0]].view()


def _refused(me: dict[str, Any], method: str, path: str) -> dict[str, Any] | None:
    """Return the problem of a caller without the role for a request."""
    if "code" in me:
        return me
    if path == "/api/me" or (method == "POST" and "/calls/" in path):
        return None
    needed = "approver" if path == "/api/waits" else "reader" if method == "GET" else "caller"
    detail = f"This needs the role {needed}. The caller has: {', '.join(me['roles'])}."
    missing = {"title": "Forbidden", "status": 403, "detail": detail, "code": "role_missing"}
    return None if needed in me["roles"] else missing


def _matches(view: dict[str, Any], name: str, value: str) -> bool:
    if name == "created_after":
        return bool(datetime.fromisoformat(view["created_at"]) > datetime.fromisoformat(value))
    if name == "created_before":
        return bool(datetime.fromisoformat(view["created_at"]) < datetime.fromisoformat(value))
    if name.startswith("metadata["):
        return bool(view["metadata"].get(name[9:-1]) == value)
    return bool(view[name] == value)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: FakeApi) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        api = self.server.api
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        api.requests.append((self.command, self.path, self.headers.get("x-functions-key", "")))
        if urlsplit(self.path).path == "/api/dashboard":
            self._send_page(api)
            return
        found = api.intercept(self.command, self.path)
        if found is BREAK_OFF:
            api.answer(self.command, self.path, body, self.headers)
            # Chromium itself repeats a request without any answer.
            self._write(200, b'{"da', {"Content-Length": "1000"})
            self.close_connection = True
            return
        self._send(*(found or api.answer(self.command, self.path, body, self.headers)))

    do_POST = do_DELETE = do_GET  # noqa: N815

    def _send(self, status: int, body: Any) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self._write(status, content, {"Content-Type": "application/json"})

    def _send_page(self, api: FakeApi) -> None:
        page = dashboard.page()
        headers = dict(page.headers)
        if not api.csp:
            del headers["Content-Security-Policy"]
        self._write(page.status, api.change_page(page.body), headers)

    def _write(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        if status != 204:
            headers = {"Content-Length": str(len(content))} | headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass
