"""Clients over HTTP: they start, repeat, read, cancel and delete runs, and request runs of another owner."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from shared.web.callers.header import header_callers
from shared.web.http import Reply, Request
from shared.web.runs_api import handlers
from shared.web.runs_api.handlers import Api
from tests.proofs.simulation.answers import AnswerAuditor, ClientRequest
from tests.proofs.simulation.ports import Gate
from tests.proofs.simulation.triggers import Triggers

OWNERS = ("ann", "bob")
_KEYS = "abcd"
_ATTEMPTS = 4
# The share of readers of a feed that read on after a page with events.
_FOLLOWED = 0.4
# The share of readers of a completed run that start one more run in its session.
_CONTINUED = 0.3
_CONTINUABLE = frozenset({"completed", "incomplete"})
# What clients do with a run, and how often.
_ACTIONS = {
    "read": 3, "cancel": 4, "delete": 3, "list": 2, "session page": 2, "delete session": 1, "continue": 5, "another owner": 1,
    "health": 0.2, "events": 2,
}  # fmt: skip


async def _prepared() -> None:
    """Create no tables: the tables of a simulation exist."""


@dataclass(eq=False)
class Clients:
    """Sends requests, and shows each answer to the auditor."""

    gate: Gate
    triggers: Triggers
    answers: AnswerAuditor
    long_text: str
    # The starts with a key, so that they can be repeated.
    keyed: list[ClientRequest] = field(default_factory=list)
    # The runs and sessions that clients know, with their owners.
    runs: list[tuple[str, str]] = field(default_factory=list)
    sessions: list[tuple[str, str]] = field(default_factory=list)

    def send_any(self) -> None:
        """Send a random request."""
        random = self.gate.random
        if not self.runs or random.random() < 0.35:
            self.start()
        else:
            self.send_any_about(*random.choice(self.runs))

    def send_any_about(self, run_id: str, owner: str) -> None:
        """Send a random request about a run."""
        random = self.gate.random
        session_id = self.answers.session_of(run_id)
        action = random.choices(tuple(_ACTIONS), tuple(_ACTIONS.values()))[0]
        match action:
            case "continue":
                self.start(session_id, owner)
            case "another owner":
                other = OWNERS[owner == OWNERS[0]]
                what = random.choice(("read", "cancel", "delete", "events", "session page", "delete session"))
                request = self._request(what, other, run_id, session_id)
                self.send(replace(request, query={"after": "0"}) if what == "events" else request)
            case "events":
                self.follow(run_id, owner)
            case _:
                self.send(self._request(action, owner, run_id, session_id))

    def _request(self, operation: str, owner: str, run_id: str, session_id: str | None) -> ClientRequest:
        return ClientRequest(
            operation, owner, run_id=run_id, session_id=session_id, at=self.gate.scheduler.now
        )

    def follow(self, run_id: str, owner: str, after: int = 0) -> None:
        """Read a page of a feed."""
        query = {"after": str(after), "limit": str(self.gate.random.choice((1, 3, 100)))}
        self.send(replace(self._request("events", owner, run_id, None), query=query))

    def start(self, session_id: str | None = None, owner: str | None = None) -> None:
        """Start a run: a new one, or with a key that was used before, with the same body or another."""
        random = self.gate.random
        if self.keyed and session_id is None and random.random() < 0.4:
            earlier = random.choice(self.keyed)
            body = earlier.body if random.random() < 0.8 else earlier.body | {"input": "something else"}
            self.send(earlier.repeated(self.gate.scheduler.now, body))
            return
        body: dict[str, Any] = {
            "agent": "writer",
            "input": "please" + (self.long_text if random.random() < 0.015 else ""),
            "deadline_seconds": random.choice((15, 60, 120, 240)),
            "stream": random.random() < 0.5,
        }
        if session_id:
            body["session_id"] = session_id
        key = random.choice(_KEYS) if random.random() < 0.5 else None
        request = ClientRequest(
            "start", owner or random.choice(OWNERS), key=key, body=body, session_id=session_id,
            at=self.gate.scheduler.now,
        )  # fmt: skip
        self.send(request)
        if key:
            self.keyed.append(request)
            if random.random() < 0.2:
                self.send(request.repeated(self.gate.scheduler.now, body))

    def send(self, request: ClientRequest, attempt: int = 1) -> None:
        invocation, context = self.triggers.invocation(request.operation)
        waker = self.triggers.wakers[invocation.host]
        api = Api(context, header_callers("x-owner"), None, _prepared, waker=waker)
        self.answers.requested(request)
        self.gate.trace(
            f"  {invocation.name} by {request.owner}: {request.run_id or request.session_id or ''} key {request.key}"
        )

        def no_answer() -> None:
            # A client without an answer repeats the request if that is safe.
            if request.key and attempt < _ATTEMPTS:
                self.gate.scheduler.after(
                    2.0,
                    lambda: self.send(request.repeated(self.gate.scheduler.now, request.body), attempt + 1),
                )

        def answered(reply: Reply) -> None:
            self.gate.scheduler.end(invocation)
            for run_id in reply.messages:
                self.triggers.send(run_id)
            self.gate.trace(f"  {invocation.name} is answered {reply.status}")
            if self.gate.faults.draw("client") == "client_gone":
                no_answer()
                return
            body = self.answers.parsed(request, reply)
            if body is None:
                return
            self.answers.answered(request, reply, body, invocation)
            self._use(request, reply, body)
            if reply.status == 503:
                no_answer()
            elif reply.status == 429 and attempt < _ATTEMPTS:
                pause = float(reply.headers["Retry-After"])
                self.gate.scheduler.after(
                    pause,
                    lambda: self.send(request.repeated(self.gate.scheduler.now, request.body), attempt + 1),
                )

        invocation.when_dead = no_answer
        self.triggers.begin(invocation, _call(api, request), answered)

    def _use(self, request: ClientRequest, reply: Reply, body: dict[str, Any]) -> None:
        """Remember a run that was started, follow a feed, or continue a session."""
        if request.operation == "start" and reply.status in {200, 202}:
            self.runs.append((body["id"], request.owner))
        has_events = request.operation == "events" and reply.status == 200 and body["data"]
        if has_events and self.gate.random.random() < _FOLLOWED:
            self.follow(request.run_id or "", request.owner, body["last_id"])
        ended = request.operation == "read" and body.get("status") in _CONTINUABLE
        if ended and self.gate.random.random() < _CONTINUED:
            self.start(body["session_id"], request.owner)

    def visit(self, run_id: str) -> None:
        """Send a random request about a run that is at an interesting point."""
        self.send_any_about(run_id, self.answers.owner_of(run_id))

    def read(self, run_id: str) -> None:
        """Read the status of a run."""
        self.send(self._request("read", self.answers.owner_of(run_id), run_id, None))

    def cancel(self, run_id: str) -> None:
        self.send(self._request("cancel", self.answers.owner_of(run_id), run_id, None))

    def delete(self, run_id: str) -> None:
        """Delete a run."""
        self.send(self._request("delete", self.answers.owner_of(run_id), run_id, None))

    def intervene(self, run_id: str) -> None:
        """Cancel a run that does not move, or send another request about it."""
        owner = self.answers.owner_of(run_id)
        if self.gate.random.random() < 0.5:
            self.send(self._request("cancel", owner, run_id, None))
        else:
            self.send_any_about(run_id, owner)


async def _call(api: Api, request: ClientRequest) -> Reply:
    headers = {"x-owner": request.owner}
    if request.key:
        headers["idempotency-key"] = request.key
    if request.etag:
        headers["if-none-match"] = request.etag
    body = json.dumps(request.body).encode() if request.body else b""
    over_http = Request(url="http://localhost/api/x", headers=headers, query=request.query, body=body)
    match request.operation:
        case "start":
            return await handlers.answer(handlers.start_run, api, over_http)
        case "list":
            return await handlers.answer(handlers.get_runs, api, over_http)
        case "health":
            return await handlers.answer(handlers.get_health, api, over_http)
        case "session page":
            return await handlers.answer(handlers.get_session, api, over_http, request.session_id or "")
        case "delete session":
            return await handlers.answer(handlers.delete_session, api, over_http, request.session_id or "")
    handler = {
        "events": handlers.get_events,
        "read": handlers.get_run,
        "cancel": handlers.cancel_run,
        "delete": handlers.delete_run,
    }
    return await handlers.answer(handler[request.operation], api, over_http, request.run_id or "")
