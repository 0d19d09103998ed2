"""Clients over HTTP: they start, repeat, read, cancel, delete and pry, often at the worst of moments."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from shared.web.http import Reply, Request
from shared.web.runs_api import handlers
from shared.web.runs_api.handlers import Api
from tests.proofs.simulation.answers import AnswerAuditor, Asked
from tests.proofs.simulation.ports import Gate
from tests.proofs.simulation.triggers import Triggers

OWNERS = ("ann", "bob")
_KEYS = "abcd"
_ATTEMPTS = 4
# How many readers of a feed go on when they were told something.
_FOLLOWED = 0.4
# How many who read an answer go on with its session.
_WENT_ON = 0.3
# What clients do with a run, each with how often.
_ACTIONS = {
    "read": 3, "cancel": 4, "delete": 3, "list": 2, "session page": 2, "delete session": 1, "continue": 5, "pry": 1,
    "health": 0.2, "events": 2,
}  # fmt: skip


async def _prepared() -> None:
    """The tables of a simulation are there."""


@dataclass(eq=False)
class Clients:
    """Sends requests, and shows each answer to the auditor."""

    gate: Gate
    triggers: Triggers
    answers: AnswerAuditor
    long_text: str
    # What a start with a key was, so that it can be repeated.
    keyed: list[Asked] = field(default_factory=list)
    # Runs and sessions with their owners, as clients have learnt of them.
    runs: list[tuple[str, str]] = field(default_factory=list)
    sessions: list[tuple[str, str]] = field(default_factory=list)

    def something(self) -> None:
        """Do what some client might do now."""
        random = self.gate.random
        if not self.runs or random.random() < 0.35:
            self.start()
        else:
            self.about(*random.choice(self.runs))

    def about(self, run_id: str, owner: str) -> None:
        """Do something with a run."""
        random = self.gate.random
        session_id = self.answers.session_of(run_id)
        action = random.choices(tuple(_ACTIONS), tuple(_ACTIONS.values()))[0]
        match action:
            case "continue":
                self.start(session_id, owner)
            case "pry":
                other = OWNERS[owner == OWNERS[0]]
                what = random.choice(("read", "cancel", "delete", "events", "session page", "delete session"))
                asked = self._asked(what, other, run_id, session_id)
                self.send(replace(asked, query={"after": "0"}) if what == "events" else asked)
            case "events":
                self.follow(run_id, owner)
            case _:
                self.send(self._asked(action, owner, run_id, session_id))

    def _asked(self, operation: str, owner: str, run_id: str, session_id: str | None) -> Asked:
        return Asked(operation, owner, run_id=run_id, session_id=session_id, at=self.gate.scheduler.now)

    def follow(self, run_id: str, owner: str, after: int = 0) -> None:
        """Read a feed, from its beginning or from anywhere."""
        query = {"after": str(after), "limit": str(self.gate.random.choice((1, 3, 100)))}
        self.send(replace(self._asked("events", owner, run_id, None), query=query))

    def start(self, session_id: str | None = None, owner: str | None = None) -> None:
        """Start a run: new, or once more with the same key, or with another body and the same key."""
        random = self.gate.random
        if self.keyed and session_id is None and random.random() < 0.4:
            again = random.choice(self.keyed)
            body = again.body if random.random() < 0.8 else again.body | {"input": "something else"}
            self.send(again.again(self.gate.scheduler.now, body))
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
        asked = Asked(
            "start", owner or random.choice(OWNERS), key=key, body=body, session_id=session_id,
            at=self.gate.scheduler.now,
        )  # fmt: skip
        self.send(asked)
        if key:
            self.keyed.append(asked)
            if random.random() < 0.2:
                self.send(asked.again(self.gate.scheduler.now, body))

    def send(self, asked: Asked, attempt: int = 1) -> None:
        invocation, context = self.triggers.invocation(asked.operation)
        api = Api(context, "x-owner", None, _prepared)
        self.answers.asked(asked)
        self.gate.trace(
            f"  {invocation.name} by {asked.owner}: {asked.run_id or asked.session_id or ''} key {asked.key}"
        )

        def nothing_came() -> None:
            # A client that got no answer asks again, if it can do so safely.
            if asked.key and attempt < _ATTEMPTS:
                self.gate.scheduler.after(
                    2.0, lambda: self.send(asked.again(self.gate.scheduler.now, asked.body), attempt + 1)
                )

        def answered(reply: Reply) -> None:
            self.gate.scheduler.end(invocation)
            for run_id in reply.messages:
                self.triggers.send(run_id)
            self.gate.trace(f"  {invocation.name} is answered {reply.status}")
            if self.gate.faults.draw("client") == "client_gone":
                nothing_came()
                return
            body = json.loads(reply.body) if reply.body else {}
            self.answers.answered(asked, reply, body, invocation)
            if asked.operation == "start" and reply.status in {200, 202}:
                self.runs.append((body["id"], asked.owner))
            told = asked.operation == "events" and reply.status == 200 and body["data"]
            if told and self.gate.random.random() < _FOLLOWED:
                self.follow(asked.run_id or "", asked.owner, body["last_id"])
            ended = asked.operation == "read" and body.get("status") == "completed"
            if ended and self.gate.random.random() < _WENT_ON:
                self.start(body["session_id"], asked.owner)
            if reply.status == 503:
                nothing_came()

        invocation.when_dead = nothing_came
        self.triggers.begin(invocation, _call(api, asked), answered)

    def visit(self, run_id: str) -> None:
        """Do something with a run that has come to an interesting point just now."""
        self.about(run_id, self.answers.owner_of(run_id))

    def cancel(self, run_id: str) -> None:
        self.send(self._asked("cancel", self.answers.owner_of(run_id), run_id, None))

    def give_up(self, run_id: str) -> None:
        """Delete a run."""
        self.send(self._asked("delete", self.answers.owner_of(run_id), run_id, None))

    def lose_patience(self, run_id: str) -> None:
        """Do something about a run that does not move."""
        owner = self.answers.owner_of(run_id)
        if self.gate.random.random() < 0.5:
            self.send(self._asked("cancel", owner, run_id, None))
        else:
            self.about(run_id, owner)


async def _call(api: Api, asked: Asked) -> Reply:
    headers = {"x-owner": asked.owner}
    if asked.key:
        headers["idempotency-key"] = asked.key
    if asked.etag:
        headers["if-none-match"] = asked.etag
    body = json.dumps(asked.body).encode() if asked.body else b""
    request = Request(url="http://localhost/api/x", headers=headers, query=asked.query, body=body)
    match asked.operation:
        case "start":
            return await handlers.answer(handlers.start_run, api, request)
        case "list":
            return await handlers.answer(handlers.get_runs, api, request)
        case "health":
            return await handlers.answer(handlers.get_health, api, request)
        case "session page":
            return await handlers.answer(handlers.get_session, api, request, asked.session_id or "")
        case "delete session":
            return await handlers.answer(handlers.delete_session, api, request, asked.session_id or "")
    handler = {
        "events": handlers.get_events,
        "read": handlers.get_run,
        "cancel": handlers.cancel_run,
        "delete": handlers.delete_run,
    }
    return await handlers.answer(handler[asked.operation], api, request, asked.run_id or "")
