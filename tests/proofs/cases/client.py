"""A client of the app of a case. Each request goes to the handler that function_app.py names for its route."""

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from shared.web.http import Reply, Request
from shared.web.runs_api import handlers
from tests.proofs.cases.app import CaseApp
from tests.proofs.cases.case import Step
from tests.proofs.cases.functions import AGENT
from tests.support.client import Route, check, routes

APP = "https://desk.example"


@dataclass
class CaseClient:
    """Sends the steps of a client, and keeps all replies."""

    app: CaseApp
    # The runs that were started, oldest first, and their session.
    runs: list[str] = field(default_factory=list)
    session: str = ""
    # The replies to steps that have a name.
    named: dict[str, Reply] = field(default_factory=dict)
    # Every reply that has a route, for the comparison with openapi.json, which has no operations for HEAD.
    replies: list[tuple[Route, Reply]] = field(default_factory=list)

    async def take(self, step: Step) -> tuple[str, ...]:
        """Send the request of a step, and return the messages for the queue."""
        if step.start is not None:
            reply = await self._start(step)
        elif step.answer is not None:
            reply = await self._answer(step, step.answer)
        else:
            reply = await self._send(step)
        if step.name:
            self.named[step.name] = reply
        return reply.messages

    async def get(self, path: str) -> Any:
        """Return the JSON of an answer, or None when nothing is found."""
        reply = await self.ask("GET", path)
        assert reply.status in {200, 404}, (path, reply)
        return json.loads(reply.body) if reply.status == 200 else None

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        """Send a request. Without a route, the answer is a 404 of the host."""
        found = find_route(method, urlsplit(path).path)
        if found is None:
            return Reply(404)
        route, ids = found
        request = Request(
            method=method,
            url=f"{APP}/api{path}",
            headers={name.lower(): value for name, value in (headers or {}).items()},
            query=dict(parse_qsl(urlsplit(path).query, keep_blank_values=True)),
            body=body,
        )
        reply = await handlers.answer(getattr(handlers, route.handler), self.app.api, request, *ids)
        if method != "HEAD":
            self.replies.append((route, reply))
        return reply

    async def _start(self, step: Step) -> Reply:
        body: dict[str, Any] = {"agent": AGENT, "input": step.start}
        if step.in_session:
            body["session_id"] = self.session
        if step.deadline_seconds is not None:
            body["deadline_seconds"] = step.deadline_seconds
        if step.tools:
            body["tools"] = step.tools
        if step.caller_calls:
            body["caller_calls"] = step.caller_calls
        reply = await self.ask("POST", "/runs", step.headers, json.dumps(body).encode())
        self._note(reply)
        return reply

    async def _answer(self, step: Step, answer: Mapping[str, Any]) -> Reply:
        """Answer a call that the newest run waits for. Without one, the answer goes to a call that does not exist."""
        run_id = self.runs[-1]
        waiting = (await self.get(f"/runs/{run_id}"))["required_action"] or []
        call_id = waiting[step.call - 1]["id"] if step.call <= len(waiting) else "none"
        body = json.dumps(answer).encode()
        return await self.ask("POST", f"/runs/{run_id}/calls/{call_id}", step.headers, body)

    async def _send(self, step: Step) -> Reply:
        method, _, path = step.send.partition(" ")
        if self.runs:
            path = path.replace("{run}", self.runs[-1]).replace("{session}", self.session)
        reply = await self.ask(method, path, step.headers, _content(step))
        if (method, path) == ("POST", "/runs"):
            self._note(reply)
        return reply

    def _note(self, reply: Reply) -> None:
        """Remember the run that was started, if one was."""
        if reply.status not in {200, 202}:
            return
        run = json.loads(reply.body)
        self.runs.append(run["id"])
        self.session = run["session_id"]

    def undocumented(self) -> list[str]:
        """Return what openapi.json does not allow in the replies."""
        found = []
        for route, reply in self.replies:
            try:
                check(route, reply)
            except (AssertionError, KeyError) as fault:
                found.append(f"openapi.json does not allow this reply to {route.method}: {fault!r}")
        return found


def find_route(method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
    """Return the route of a request, with the ids in its path."""
    for route in routes():
        pattern = re.sub(r"\{\w+\}", "([^/]+)", route.template)
        takes = route.method == method or (method == "HEAD" and route.head)
        if takes and (found := re.fullmatch(pattern, path)):
            return route, found.groups()
    return None


def _content(step: Step) -> bytes:
    content = step.text.encode(step.charset)
    if step.body is not None:
        content = json.dumps(step.body).encode()
    return gzip.compress(content, mtime=0) if step.gzip else content
