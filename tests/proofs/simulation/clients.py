"""Clients over HTTP: they start, repeat, read, cancel and delete runs, and request runs of another owner."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shared.web.http import Reply
from shared.web.runs_api.handlers import Api
from tests.proofs.simulation.answers import AnswerAuditor, ClientRequest
from tests.proofs.simulation.over_http import call, caller_of_request
from tests.proofs.simulation.ports import Gate
from tests.proofs.simulation.triggers import Triggers
from tests.proofs.simulation.waiting import TOOLS, Plan

OWNERS = ("ann", "bob")
_KEYS = "abcd"
_ATTEMPTS = 4
# The share of readers of a feed that read on after a page with events.
_FOLLOWED = 0.4
# The share of readers of a run with this status that start one more run in its session.
_CONTINUED = {"completed": 0.3, "incomplete": 0.7}
# How often the client of a conversation reads its run, in seconds.
_LOOKS = 2.0
# The same, in the end, while people do not answer.
_SELDOM = 86_400.0
_OVER = frozenset({"completed", "incomplete", "failed", "cancelled", "expired"})
# What clients do with a run, and how often.
_ACTIONS = {
    "read": 3, "cancel": 4, "delete": 3, "list": 2, "session page": 2, "delete session": 1, "continue": 5, "another owner": 1,
    "health": 0.2, "events": 2,
}  # fmt: skip


_WAIT_ACTIONS = {"answer": 6, "calls": 1, "waits": 1, "approver": 1}
# An approver, who owns no runs.
APPROVER = "key:eve"
# The share of readers of a run that has handed over calls who bring their outputs.
_BROUGHT = 0.8


def _nobody(_run_id: str) -> None:
    """Answer nothing: there are no people yet."""


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
    # The runs of conversations that were followed by another one.
    _gone_on: set[str] = field(default_factory=set)
    # How long such a client waits before it reads its run again.
    _pauses: dict[str, float] = field(default_factory=dict)
    # What waits for people, in the seeds that have it, and who answers.
    plan: Plan | None = None
    answer: Callable[[str], None] = _nobody

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
        actions = _ACTIONS | _WAIT_ACTIONS if self.plan else _ACTIONS
        action = random.choices(tuple(actions), tuple(actions.values()))[0]
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
            case "answer":
                self.answer(run_id)
            case "approver":
                self.look_in(run_id)
            case _:
                self.send(self._request(action, owner, run_id, session_id))

    def look_in(self, run_id: str) -> None:
        """Let an approver list calls, and try what he must not do."""
        what = self.gate.random.choice(("read", "cancel", "calls", "calls", "waits", "waits"))
        self.send(replace(self._request(what, APPROVER, run_id, None), roles="approver"))

    def _request(self, operation: str, owner: str, run_id: str, session_id: str | None) -> ClientRequest:
        return ClientRequest(
            operation, owner, run_id=run_id, session_id=session_id, at=self.gate.scheduler.now
        )

    def follow(self, run_id: str, owner: str, after: int = 0) -> None:
        """Read a page of a feed."""
        query = {"after": str(after), "limit": str(self.gate.random.choice((1, 3, 100)))}
        self.send(replace(self._request("events", owner, run_id, None), query=query))

    def converse(self, session_id: str | None = None, owner: str | None = None, runs: int = 3) -> None:
        """Start runs in one session, each as soon as the one before has ended."""
        self.start(session_id, owner, runs)

    def _go_on(self, body: dict[str, Any], owner: str) -> None:
        """Go on with a conversation when its run has ended."""
        runs = int(body.get("metadata", {}).get("runs", 0))
        if body.get("status") not in _OVER:
            # People may need days.
            pause = self._pauses.get(body["id"], _LOOKS)
            waits = body["status"] == "requires_action"
            self._pauses[body["id"]] = min(2 * pause, _SELDOM) if waits else _LOOKS
            self.gate.scheduler.after(pause, lambda: self.read(body["id"]))
        elif runs > 1 and body["id"] not in self._gone_on:
            self._gone_on.add(body["id"])
            self.converse(body["session_id"], owner, runs - 1)

    def start(
        self,
        session_id: str | None = None,
        owner: str | None = None,
        runs: int = 0,
        given: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """Start a run: a new one, or with a key that was used before, with the same body or another."""
        random = self.gate.random
        if self.keyed and not runs and session_id is None and random.random() < 0.4:
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
        if self.plan:
            body |= self._of_caller(body["input"], given)
        if session_id:
            body["session_id"] = session_id
        if runs:
            body["metadata"] = {"runs": str(runs)}
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

    def _of_caller(self, text: str, given: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """Return the fields of a start for tools that its caller runs. `given` are outputs of calls that were handed over."""
        random = self.gate.random
        fields: dict[str, Any] = {}
        if random.random() < 0.7:
            fields["tools"] = TOOLS
        if self.plan and random.random() < self.plan.ends:
            fields["caller_calls"] = "end"
        if given:
            fields["input"] = [*given, {"role": "user", "content": text}]
        return fields

    def bring(self, body: Mapping[str, Any], owner: str) -> None:
        """Continue a session with the outputs of calls that its run has handed over; sometimes one is missing, or too many."""
        random = self.gate.random
        handed = [call["call_id"] for call in body["tool_calls"] if call["status"] == "handed_over"]
        given = [
            {"type": "function_call_output", "call_id": call_id, "output": f"brought for {call_id}"}
            for call_id in handed
        ]
        match random.choices(("all", "one missing", "one too many"), (75, 15, 10))[0]:
            case "one missing":
                given.pop(random.randrange(len(given)))
            case "one too many":
                given.append({"type": "function_call_output", "call_id": "call_of_nobody", "output": "x"})
        self.start(body["session_id"], owner, given=given)

    def send(self, request: ClientRequest, attempt: int = 1) -> None:
        invocation, context = self.triggers.invocation(request.operation)
        waker = self.triggers.wakers[invocation.host]
        api = Api(context, caller_of_request, None, _prepared, waker=waker)
        self.answers.requested(request)
        self.gate.trace(
            f"  {invocation.name} by {request.owner}: {request.run_id or request.session_id or ''} key {request.key}"
        )

        def no_answer() -> None:
            # A client without an answer repeats the request if that is safe.
            if (request.key or request.operation == "answer") and attempt < _ATTEMPTS:
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
        self.triggers.begin(invocation, call(api, request), answered)

    def _use(self, request: ClientRequest, reply: Reply, body: dict[str, Any]) -> None:
        """Remember a run that was started, follow a feed, or continue a session."""
        if request.operation == "start" and reply.status in {200, 202}:
            self.runs.append((body["id"], request.owner))
        over = request.operation == "read" and body.get("status") == "completed"
        if over and any(call["status"] == "handed_over" for call in body["tool_calls"]):
            if self.gate.random.random() < _BROUGHT:
                self.bring(body, request.owner)
            return
        if request.operation in {"start", "read"} and body.get("metadata"):
            self._go_on(body, request.owner)
        has_events = request.operation == "events" and reply.status == 200 and body["data"]
        if has_events and self.gate.random.random() < _FOLLOWED:
            self.follow(request.run_id or "", request.owner, body["last_id"])
        share = _CONTINUED.get(body.get("status", ""), 0.0) if request.operation == "read" else 0.0
        if share and self.gate.random.random() < share:
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
