"""Compares what people are told of calls that wait with what was true meanwhile."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.core.calls import WaitKind
from shared.core.run import RunStatus
from shared.web.http import Reply
from tests.proofs.simulation.audit_waits import Sent, WaitAuditor
from tests.proofs.simulation.evidence import Evidence, Seen, seconds_of
from tests.proofs.simulation.scheduler import MAX_SKEW, Invocation

if TYPE_CHECKING:
    from tests.proofs.simulation.answers import ClientRequest

# The roles without which nobody answers.
_ANSWERING = {"caller", "approver"}


class CallAnswerAuditor:
    """Checks the replies to answers, and the lists of calls."""

    def __init__(self, evidence: Evidence, waits: WaitAuditor) -> None:
        self._evidence, self._waits = evidence, waits
        # By run and call: the answers that were accepted.
        self._accepted: dict[tuple[str, str], list[Sent]] = {}

    def told(self, request: "ClientRequest", reply: Reply, body: Mapping[str, Any], by: Invocation) -> None:
        """Check the reply to a request about calls."""
        match request.operation:
            case "answer":
                self._answered(request, reply, body, by)
            case "calls":
                self._listed(request, reply, body)
            case "waits":
                self._all_waits(request, reply, body)

    def unavailable(self, request: "ClientRequest", by: Invocation) -> None:
        """Check that there was a reason not to take an answer: a fault, or a run that kept changing."""
        if request.operation == "answer":
            seen = self._evidence.runs[request.run_id or ""]
            reason = by.storage_faults > 0 or seen.changed_at >= request.at
            what = f"an answer to {request.call_id} got a 503, without a fault"
            self._evidence.require(reason, 11, seen.run.id, what)

    def _answered(
        self, request: "ClientRequest", reply: Reply, body: Mapping[str, Any], by: Invocation
    ) -> None:
        """Check the reply to an answer."""
        seen, require = self._evidence.runs[request.run_id or ""], self._evidence.require
        run_id, call_id, code = seen.run.id, request.call_id or "", body.get("code")
        sent = request.sent
        assert sent is not None
        match reply.status:
            case 200:
                require(sent.allowed, 11, run_id, f"{sent} was accepted")
                accepted = self._accepted.setdefault((run_id, call_id), [])
                accepted.append(sent)
                stored = seen.deleted or self._waits.is_stored(run_id, call_id, sent)
                require(stored, 11, run_id, f"{sent} was accepted, and another answer is stored")
                status = (body["answer"] or {}).get("type")
                require(status == sent.type, 11, run_id, f"{sent} was accepted as {status}")
            case 409:
                self._refused(seen, request, code, by)
            case 404:
                hidden = not self._sees(request, seen, call_id)
                require(
                    hidden or seen.delete_requested, 16, run_id, f"{request.owner} does not find {call_id}"
                )
            case 403:
                # Who may answer no call at all is not even told whether it exists.
                known = self._sees(request, seen, call_id) or not _ANSWERING & {*request.roles.split()}
                right = bool(request.roles) and not sent.allowed and known
                require(right, 16, run_id, f"{request.owner} is told that he must not answer {call_id}")
            case 422:
                require(not sent.allowed, 11, run_id, f"{sent} is not valid: {code}")
            case _:
                require(False, 10, run_id, f"an answer got a {reply.status} {code}")
        right = sent.allowed or reply.status != 200
        require(right, 11, run_id, f"{request.owner} was allowed to answer")

    def _refused(self, seen: Seen, request: "ClientRequest", code: object, by: Invocation) -> None:
        """Check why an answer came too late, or was another one."""
        run_id, call_id, sent = seen.run.id, request.call_id or "", request.sent
        require, waits, now = self._evidence.require, self._waits, self._evidence.now()
        waited = waits.waited.get((run_id, call_id))
        match code:
            case "call_answered":
                stored = (run_id, call_id) in waits.answers
                require(stored, 11, run_id, f"{call_id} has an answer, which nobody has stored")
                same = sent is not None and waits.is_stored(run_id, call_id, sent)
                require(not same, 11, run_id, f"the same answer to {call_id} was refused")
            case "wait_ended":
                assert waited
                assert waited.call.wait
                over = now + by.skew + by.precision >= seconds_of(waited.call.wait.expires_at)
                require(over or waited.until is not None, 12, run_id, f"the wait of {call_id} has not ended")
                # By a clock that is ahead, the wait may have ended when an answer was given by another one.
                known = waits.answered_at.get((run_id, call_id), now) < by.started_at
                require(not known, 11, run_id, f"{call_id} is answered, not late")
            case "run_ended":
                require(seen.ended_at is not None, 1, run_id, "answered as ended, but has not ended")
            case "run_cancelling":
                require(
                    seen.cancel_requested, 1, run_id, "answered as cancelling, and nobody has cancelled it"
                )
            case _:
                require(False, 11, run_id, f"an answer to {call_id} was refused: {code}")

    def _sees(self, request: "ClientRequest", seen: Seen, call_id: str) -> bool:
        """Return whether the sender may see a call that waits, or has waited."""
        waited = self._waits.waited.get((seen.run.id, call_id))
        if request.owner == seen.owner and (not request.roles or "reader" in request.roles):
            return True
        approval = waited is not None and waited.kind is WaitKind.APPROVAL
        return approval and "approver" in request.roles

    def _listed(self, request: "ClientRequest", reply: Reply, body: Mapping[str, Any]) -> None:
        """Check the calls of one run."""
        seen, require = self._evidence.runs[request.run_id or ""], self._evidence.require
        own = request.owner == seen.owner
        if not own and "approver" not in request.roles:
            require(reply.status == 404, 16, seen.run.id, f"{request.owner} got a {reply.status}")
            return
        if reply.status == 404:
            may = not own or seen.delete_requested
            require(may, 16, seen.run.id, f"{request.owner} does not find the calls")
            return
        require(reply.status == 200, 16, seen.run.id, f"{request.owner} got a {reply.status} for calls")
        for call in body["data"] if not own else ():
            self._may_be_shown(request, seen.run.id, call)

    def _may_be_shown(self, request: "ClientRequest", run_id: str, call: Mapping[str, Any]) -> None:
        """Check that a call which an approver is shown waited for an approval at some time since the request."""
        waited = self._waits.waited.get((run_id, call["id"]))
        waits = waited is not None and waited.kind is WaitKind.APPROVAL
        waits = waits and (waited.until is None or waited.until >= request.at)  # type: ignore[union-attr]
        self._evidence.require(waits, 16, run_id, f"an approver is shown {call['id']}, {call['status']}")

    def _all_waits(self, request: "ClientRequest", reply: Reply, body: Mapping[str, Any]) -> None:
        """Check the list of all calls that wait for an approval."""
        require, evidence = self._evidence.require, self._evidence
        require(reply.status == 200, 16, "", f"a list of waits got a {reply.status}")
        if reply.status != 200:
            return
        found = {(call["run_id"], call["id"]) for call in body["data"]}
        for call in body["data"]:
            self._may_be_shown(request, call["run_id"], call)
            foreign = not request.roles and evidence.runs[call["run_id"]].owner != request.owner
            require(not foreign, 16, call["run_id"], f"{request.owner} is shown another owner's call")
        since = [call["waiting_since"] for call in body["data"]]
        by_run = list(dict.fromkeys(call["run_id"] for call in body["data"]))
        first = [
            min(at for at, call in zip(since, body["data"], strict=True) if call["run_id"] == one)
            for one in by_run
        ]
        require(first == sorted(first), 16, "", "a list of waits does not begin with the oldest")
        if "nextLink" in body:
            return
        for place, waited in self._waits.waited.items():
            seen = evidence.runs[place[0]]
            mine = bool(request.roles) or seen.owner == request.owner
            all_the_time = waited.since < request.at and waited.until is None
            all_the_time = all_the_time and seen.run.status is not RunStatus.CANCELLING
            if mine and all_the_time and waited.kind is WaitKind.APPROVAL and not seen.run.terminal:
                require(place in found, 16, place[0], f"a list of waits leaves out {place[1]}")

    def required(self, run_id: str, body: Mapping[str, Any], at: float) -> None:
        """Check what a run says that it waits for."""
        required = body["required_action"]
        if body["status"] != RunStatus.REQUIRES_ACTION:
            self._evidence.require(not required, 12, run_id, f"it is {body['status']}, and requires action")
            return
        self._evidence.require(bool(required), 12, run_id, "it requires action, and no call waits")
        self._evidence.require(
            body["expires_at"] is None, 12, run_id, "its clock stands still, and it expires"
        )
        for call in required or ():
            waited = self._waits.waited.get((run_id, call["id"]))
            waits = waited is not None and (waited.until is None or waited.until >= at - MAX_SKEW)
            self._evidence.require(waits, 12, run_id, f"it requires an answer to {call['id']}")
