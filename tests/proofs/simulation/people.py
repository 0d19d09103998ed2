"""People, and programs of callers, who answer calls that wait: rightly, twice, too late, with what does not fit, or never."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from shared.core import ids
from shared.core.calls import AnswerType, CallKind, ToolCall, WaitKind
from shared.core.run import Run
from tests.proofs.simulation.answers import ClientRequest
from tests.proofs.simulation.audit_waits import Sent, WaitAuditor
from tests.proofs.simulation.clients import OWNERS, Clients
from tests.proofs.simulation.evidence import Evidence, seconds_of
from tests.proofs.simulation.ports import Gate

# Who answers, and with which roles; without roles, as a proxy names owners.
APPROVERS = ("key:eve", "key:max")
# How many answers a call gets, and how often.
_ANSWERS = {0: 14, 1: 46, 2: 24, 3: 16}
# When an answer is sent, and how often.
_MOMENTS = {"soon": 70, "with the last one": 12, "at the edge": 12, "late": 6}
# How far from the end of a wait an answer at the edge is sent, in seconds.
_EDGE = (-0.4, 0.1)
_REASONS = ("", "too much", "not today")


@dataclass(eq=False)
class People:
    """Sends answers through the handlers of the API."""

    gate: Gate
    clients: Clients
    evidence: Evidence
    waits: WaitAuditor
    # The call ids of answers that were sent, so that one can be sent again.
    _sent: dict[tuple[str, str], list[tuple[ClientRequest, Sent]]] = field(default_factory=dict)

    def called(self, run: Run, call: ToolCall) -> None:
        """Plan the answers to a call that begins to wait."""
        random, at = self.gate.random, 0.0
        assert call.wait is not None
        left = seconds_of(call.wait.expires_at) - self.gate.scheduler.now
        for _ in range(_drawn(random, _ANSWERS)):
            match _drawn(random, _MOMENTS):
                case "soon":
                    at = random.uniform(0, 12)
                case "at the edge":
                    at = max(0.0, left + random.uniform(*_EDGE))
                case "late":
                    at = max(0.0, left) + random.uniform(0, 40)
            self.gate.scheduler.after(at, self._answer(run.id, call))
        if random.random() < 0.1:
            self.gate.scheduler.after(random.uniform(0, 12), lambda: self.clients.look_in(run.id))
        if random.random() < 0.1:
            self.gate.scheduler.after(random.uniform(0, 12), lambda: self._intervene(run.id))

    def _intervene(self, run_id: str) -> None:
        """Cancel or delete a run while it waits, or look at it."""
        act = self.gate.random.choice((self.clients.cancel, self.clients.delete, self.clients.read))
        act(run_id)

    def _answer(self, run_id: str, call: ToolCall) -> Callable[[], None]:
        return lambda: self.answer(run_id, call)

    def answer(self, run_id: str, call: ToolCall) -> None:
        """Send an answer to a call: a new one, or one that was sent before."""
        random, place = self.gate.random, (run_id, ids.call_id(call.turn, call.call_id))
        earlier = self._sent.setdefault(place, [])
        if earlier and random.random() < 0.3:
            request, sent = random.choice(earlier)
            if random.random() < 0.5:
                request, sent = self._by_another(run_id, call, request, sent)
        else:
            request, sent = self._new(run_id, call)
            earlier.append((request, sent))
        self.waits.sent[place].append(sent)
        self.clients.send(replace(request, sent=sent, at=self.gate.scheduler.now))

    def _by_another(
        self, run_id: str, call: ToolCall, request: ClientRequest, sent: Sent
    ) -> tuple[ClientRequest, Sent]:
        who, roles = self._somebody(run_id, call)
        allowed = self._may(run_id, call, who, roles) and sent.type is not None
        return replace(request, owner=who, roles=roles), replace(sent, by=who, allowed=allowed)

    def _new(self, run_id: str, call: ToolCall) -> tuple[ClientRequest, Sent]:
        who, roles = self._somebody(run_id, call)
        body, kind, text, arguments = self._content(call)
        allowed = self._may(run_id, call, who, roles) and kind is not None
        request = ClientRequest(
            "answer", who, run_id=run_id, call_id=ids.call_id(call.turn, call.call_id), roles=roles, body=body
        )
        return request, Sent(who, kind, text, arguments, allowed)

    def _somebody(self, run_id: str, call: ToolCall) -> tuple[str, str]:
        """Return who answers, and with which roles."""
        random, owner = self.gate.random, self.clients.answers.owner_of(run_id)
        approver = call.wait is not None and call.wait.kind is WaitKind.APPROVAL
        drawn = random.random()
        if drawn < 0.45:
            return owner, ""
        if drawn < (0.85 if approver else 0.5):
            return random.choice(APPROVERS), "approver"
        if drawn < 0.9:
            return owner, "reader caller"
        if drawn < 0.95:
            return owner, "reader"
        return next(one for one in OWNERS if one != owner), ""

    def _may(self, run_id: str, call: ToolCall, who: str, roles: str) -> bool:
        own, kind = self.clients.answers.owner_of(run_id) == who, call.wait and call.wait.kind
        if kind is WaitKind.APPROVAL:
            return "approver" in roles or (own and not roles)
        return own and (not roles or "caller" in roles)

    def _content(
        self, call: ToolCall
    ) -> tuple[Mapping[str, Any], AnswerType | None, str, Mapping[str, Any] | None]:
        """Return a body, and what it says: the type of the answer, its text, its arguments."""
        random, approval = self.gate.random, call.wait is not None and call.wait.kind is WaitKind.APPROVAL
        if random.random() < 0.06:
            approval = not approval
            wrong = True
        else:
            wrong = False
        if not approval:
            text = f"{random.choice(('done', 'nothing'))} {call.call_id}"
            if random.random() < 0.75:
                return {"output": text}, None if wrong else AnswerType.OUTPUT, text, None
            return {"error": text}, None if wrong else AnswerType.ERROR, text, None
        drawn = random.random()
        if drawn < 0.3:
            reason = random.choice(_REASONS)
            return {"approve": False, "reason": reason}, None if wrong else AnswerType.REFUSED, reason, None
        if drawn < 0.6:
            return {"approve": True}, None if wrong else AnswerType.APPROVED, "", None
        arguments = {"amount": random.choice((1, 2, 5, 500, -1))}
        fits = arguments["amount"] >= 0 and call.kind is CallKind.FUNCTION and not wrong
        body = {"approve": True, "arguments": arguments}
        return body, AnswerType.APPROVED if fits else None, "", arguments

    def visit(self, run_id: str) -> None:
        """Answer any call of a run that waits, or has waited."""
        calls = [call for call in self.evidence.runs[run_id].run.calls if call.wait]
        if calls:
            self.answer(run_id, self.gate.random.choice(calls))


def _drawn(random: Random, weights: Mapping[Any, int]) -> Any:
    return random.choices(tuple(weights), tuple(weights.values()))[0]
