"""Compares each request to the provider and to tools with the earlier ones."""

import json
from bisect import bisect_right
from collections import defaultdict
from dataclasses import replace

from shared.core import ids
from shared.core.calls import AnswerType, CallKind, CallStatus, ToolCall
from shared.core.pace import Schedule
from shared.core.response import Absent, CancelReply, ReadReply, Snapshot
from shared.core.run import Chaining, Run, RunStatus
from shared.core.transcript import Item
from tests.proofs.simulation.audit_creates import CreateAuditor
from tests.proofs.simulation.audit_waits import WaitAuditor
from tests.proofs.simulation.evidence import Evidence
from tests.proofs.simulation.responses import Response
from tests.proofs.simulation.scheduler import MAX_SKEW, NORMAL, Invocation
from tests.proofs.simulation.waiting import UNFIT, fits

_OUTPUT = "function_call_output"


class EffectAuditor:
    """Checks the requests that reach the provider and the tools."""

    def __init__(
        self,
        evidence: Evidence,
        schedules: tuple[Schedule, Schedule],
        creates: CreateAuditor,
        waits: WaitAuditor,
    ) -> None:
        self._evidence, self._schedules, self._creates, self._waits = evidence, schedules, creates, waits
        # Whether the provider honours the keys of creates.
        self.keys_are_honoured = False
        self._by_turn: dict[tuple[str, int], list[Response]] = defaultdict(list)
        # By idempotency key: the invocation that ran the tool, and what the tool returned.
        self.tool_runs: dict[str, list[tuple[Invocation, str]]] = defaultdict(list)

    def created(self, response: Response, requested_at: float) -> None:
        request, evidence = response.request, self._evidence
        seen = evidence.runs.get(request.run_id)
        if seen is None:
            evidence.breach(2, request.run_id, "a response was created for a run that is not stored")
            return
        seen.responses.append(response)
        earlier = self._by_turn[request.run_id, request.turn]
        # A worker that stood still during this request could not know that another worker had taken over.
        stood_still = evidence.now() - requested_at > NORMAL
        unexcused = [one for one in earlier if not _may_be_lost(one)]
        evidence.require(
            stood_still or not unexcused,
            5,
            request.run_id,
            f"turn {request.turn} got {response.id} besides {[one.id for one in unexcused]}, without a fault",
        )
        if self.keys_are_honoured:
            second = [one.id for one in earlier if not self._creates.may_be_second(request, one.request)]
            what = f"turn {request.turn} got {response.id} besides {second}, and its key was not refused"
            evidence.require(not second, 5, request.run_id, what)
        earlier.append(response)
        self._input_is_right(response)

    def _input_is_right(self, response: Response) -> None:
        """Check that the turn's input has the true output of each tool call of the turn before."""
        request, run = response.request, self._evidence.runs[response.request.run_id].run
        if request.turn == 1 or run.status is RunStatus.DELETED:
            return
        sent = _outputs(json.loads(request.input))
        before = [one for one in self._by_turn[run.id, request.turn - 1] if one.reads]
        calls = [call for one in before for call in one.stored_calls or ()]
        missing = [call.call_id for call in calls if call.call_id not in sent]
        self._evidence.require(not missing, 3, run.id, f"the model got no output of {missing}")
        if run.chaining is Chaining.PREVIOUS_RESPONSE_ID:
            chained = [one.id for one in before] == [request.previous_response_id]
            self._evidence.require(chained, 5, run.id, f"turn {request.turn} continues another response")
        for call in calls:
            self.output_is_true(run.id, request.turn - 1, call, sent.get(call.call_id, ""))

    def output_is_true(self, run_id: str, turn: int, call: ToolCall, output: str) -> None:
        """Check what the model is told of a call."""
        call_id, run = call.call_id, self._evidence.runs[run_id].run
        expected = self._waits.expected(run, turn, call_id)
        if call.kind is CallKind.MCP_APPROVAL:
            self._decision_is_true(run, turn, call_id, output)
            return
        if expected is not None:
            same = expected in output if expected.startswith('"') else expected == output
            self._evidence.require(
                same, 11, run_id, f"the model got {output[:60]!r} of {call_id}, not {expected[:60]!r}"
            )
            return
        ran = self.tool_runs[f"{run_id}-{turn}-{call_id}"]
        if any(output == result for _, result in ran):
            return
        evidence = self._evidence
        if output == UNFIT:
            evidence.require(not ran and not fits(call.arguments), 11, run_id, f"{call_id} was not cleared")
            return
        unknown = '"outcome_unknown"' in output
        evidence.require(unknown, 4, run_id, f"the model got a wrong output of {call_id}: {output[:40]!r}")
        seen = evidence.runs[run_id]
        if ran:
            excused = seen.disturbed or any(
                by.stalled > NORMAL or by.dead or by.storage_faults for by, _ in ran
            )
            evidence.require(excused, 3, run_id, f"the result of {call_id} is lost, without a fault")
        else:
            excused = any(claim.failed for claim in seen.claims)
            evidence.require(excused, 3, run_id, f"{call_id} was claimed and not run, without a fault")

    def _decision_is_true(self, run: Run, turn: int, call_id: str, output: str) -> None:
        """Check what is sent to a hosted MCP server."""
        answer = self._waits.answers.get((run.id, ids.call_id(turn, call_id)))
        approved = answer is not None and answer.type is AnswerType.APPROVED
        what = f"the provider got {output!r} for {call_id}, whose answer is {answer and answer.type}"
        self._evidence.require((output == "true") == approved, 11, run.id, what)

    def polled(self, response: Response) -> None:
        evidence, run_id = self._evidence, response.request.run_id
        rivals = self._by_turn[run_id, response.request.turn]
        evidence.require(
            not any(one.reads for one in rivals if one is not response),
            5,
            run_id,
            f"two responses of turn {response.request.turn} are polled",
        )
        seen = evidence.runs[run_id]
        age = evidence.now() - response.created_at
        schedule = self._schedules[response.request.stream]
        allowed = bisect_right(schedule.points, age + 2 * MAX_SKEW) - 1 + seen.late_polls
        evidence.require(
            response.reads <= allowed,
            9,
            run_id,
            f"{response.id} was polled {response.reads} times in {age:.1f} s",
        )

    def replied(self, response: Response, reply: ReadReply | CancelReply, by: Invocation) -> None:
        seen = self._evidence.runs[response.request.run_id]
        if isinstance(reply, Absent):
            seen.absences.setdefault(response.id, self._evidence.now())
            response.reported += response.denied
        if not isinstance(reply, Snapshot) or reply.run_id not in {None, response.request.run_id}:
            return
        by.last_reply = reply
        if not reply.status.finished:
            return
        ending = response.ending
        denied = ending.last_event != ending.final and replace(reply, run_id=None) == ending.last_event
        (response.denied if denied else response.reported).append(reply)

    def tool_ran(self, request: ToolCall, by: Invocation) -> str:
        """Note an effect; return the tool's output, which is different each time."""
        evidence, key = self._evidence, request.idempotency_key
        run_id = key.partition("-")[0]
        earlier = self.tool_runs[key]
        if request.name == "pay":
            evidence.require(not earlier, 3, run_id, f"{key} took effect twice")
        elif earlier:
            excused = any(one.dead or one.stalled > NORMAL or one.storage_faults for one, _ in earlier)
            evidence.require(
                excused or by.stalled > NORMAL, 3, run_id, f"{key} was repeated, without a fault"
            )
        self._was_requested(run_id, request, by)
        self._waits.ran(run_id, int(key.split("-")[1]), request)
        output = f"result {len(earlier)} of {key}"
        earlier.append((by, output))
        return output

    def _was_requested(self, run_id: str, request: ToolCall, by: Invocation) -> None:
        evidence, seen = self._evidence, self._evidence.runs[run_id]
        requested = any(call.call_id == request.call_id for call in seen.requested)
        evidence.require(requested, 3, run_id, f"the model did not request {request.call_id}")
        status = seen.status_at(by.started_at)
        evidence.require(
            status is not RunStatus.CANCELLING and not (status and status.terminal),
            3,
            run_id,
            f"a worker began when the run was {status}, and ran a tool",
        )

    def reported_rightly(self) -> None:
        """In the end, no call that took effect is cancelled, and no call without an effect is completed."""
        for run_id, seen in self._evidence.runs.items():
            for call in seen.run.calls:
                if call.wait and not (call.wait.approved and call.kind is CallKind.FUNCTION):
                    continue
                ran = bool(self.tool_runs.get(f"{run_id}-{call.turn}-{call.call_id}"))
                wrong = (ran and call.status is CallStatus.CANCELLED) or (
                    not ran and call.status is CallStatus.COMPLETED
                )
                self._evidence.require(
                    not wrong, 3, run_id, f"{call.call_id} is {call.status}; it took effect: {ran}"
                )

    def stopped_and_forgotten(self) -> None:
        """In the end, the responses of deleted runs are deleted at the provider."""
        for run_id, seen in self._evidence.runs.items():
            for response in seen.responses:
                kept = not (response.forgotten or response.deletion_refused or _may_be_lost(response))
                if seen.deleted:
                    self._evidence.require(not kept, 8, run_id, f"the provider still has {response.id}")

    def abandoned_are_stopped(self) -> None:
        """In the end, every response that came too late to be adopted was cancelled: no crash loses it."""
        for run_id, seen in self._evidence.runs.items():
            known = {response.id: response for response in seen.responses}
            working = [one for one in seen.run.abandoned if not known[one].cancel_received]
            self._evidence.require(
                not working, 5, run_id, f"{working} came too late and were never cancelled"
            )

    def extra_responses_are_counted(self) -> None:
        for run_id, seen in self._evidence.runs.items():
            run = seen.run
            if not seen.deleted:
                extra = len(seen.responses) - len(run.responses)
                self._evidence.require(
                    extra <= run.unknown_creates + len(run.abandoned),
                    5,
                    run_id,
                    f"{extra} responses were not adopted, {run.unknown_creates} creates are counted as unknown",
                )


def _outputs(items: list[Item]) -> dict[str, str]:
    """Return the outputs among the items, and the decisions of approvals, by call id."""
    found = {str(item["call_id"]): item["output"] for item in items if item.get("type") == _OUTPUT}
    return found | {
        str(item["approval_request_id"]): "true"
        if item["approve"] is True
        else f"false {item.get('reason', '')}"
        for item in items
        if item.get("type") == "mcp_approval_response"
    }


def _may_be_lost(response: Response) -> bool:
    """Return whether a fault may have kept the creator of a response from saving its id."""
    by = response.creator
    return response.unknown or by.dead or by.stalled > NORMAL or by.storage_faults > 0
