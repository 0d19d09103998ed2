"""Holds what was asked of the provider and of tools against what they were asked before."""

import json
from bisect import bisect_right
from collections import defaultdict

from shared.core.pace import Schedule
from shared.core.response import Absent, CancelReply, ReadReply, Snapshot
from shared.core.run import CallStatus, Chaining, RunStatus
from shared.ports.agents import ToolRequest
from tests.proofs.simulation.evidence import Evidence
from tests.proofs.simulation.responses import Response
from tests.proofs.simulation.scheduler import MAX_SKEW, Invocation

# Within this, a call went as it normally does; a lease lasts longer.
_NORMAL = 20.0


class EffectAuditor:
    """Sees what reaches the provider and the tools."""

    def __init__(self, evidence: Evidence, schedules: tuple[Schedule, Schedule]) -> None:
        self._evidence, self._schedules = evidence, schedules
        self._by_turn: dict[tuple[str, int], list[Response]] = defaultdict(list)
        # By idempotency key: who ran the tool, and what it returned.
        self.tool_runs: dict[str, list[tuple[Invocation, str]]] = defaultdict(list)

    def created(self, response: Response, asked_at: float) -> None:
        request, evidence = response.request, self._evidence
        seen = evidence.runs.get(request.run_id)
        if seen is None:
            evidence.breach(2, request.run_id, "a response was created for a run that is not stored")
            return
        seen.responses.append(response)
        earlier = self._by_turn[request.run_id, request.turn]
        # Whoever stood still in this very request could not know that another took over.
        stood_still = evidence.now() - asked_at > _NORMAL
        unexcused = [one for one in earlier if not _may_be_lost(one)]
        evidence.require(
            stood_still or not unexcused,
            5,
            request.run_id,
            f"turn {request.turn} got {response.id} besides {[one.id for one in unexcused]}, and nobody died",
        )
        earlier.append(response)
        self._sent_what_it_should(response)

    def _sent_what_it_should(self, response: Response) -> None:
        """The turn's input is the tool outputs that the turn before asked for, with what really came of them."""
        request, run = response.request, self._evidence.runs[response.request.run_id].run
        if request.turn == 1 or run.status is RunStatus.DELETED:
            return
        sent = {
            item["call_id"]: item["output"]
            for item in json.loads(request.input)
            if item.get("type") == "function_call_output"
        }
        before = [one for one in self._by_turn[run.id, request.turn - 1] if one.reads]
        asked = [call for one in before for call in one.calls]
        missing = [call.call_id for call in asked if call.call_id not in sent]
        self._evidence.require(not missing, 3, run.id, f"the model was not told of {missing}")
        if run.chaining is Chaining.PREVIOUS_RESPONSE_ID:
            chained = [one.id for one in before] == [request.previous_response_id]
            self._evidence.require(chained, 5, run.id, f"turn {request.turn} continues another response")
        for call in asked:
            self._told_the_truth(run.id, request.turn - 1, call.call_id, sent.get(call.call_id, ""))

    def _told_the_truth(self, run_id: str, turn: int, call_id: str, output: str) -> None:
        ran = self.tool_runs[f"{run_id}-{turn}-{call_id}"]
        if any(output == result for _, result in ran):
            return
        evidence = self._evidence
        excused = not ran or any(by.stalled > _NORMAL or by.dead or by.storage_faults for by, _ in ran)
        unknown = '"outcome_unknown"' in output
        evidence.require(unknown, 4, run_id, f"the model was told of {call_id}: {output[:40]!r}")
        evidence.require(
            excused or evidence.runs[run_id].disturbed,
            3,
            run_id,
            f"the result of {call_id} is lost, and nobody died",
        )

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

    def told(self, response: Response, reply: ReadReply | CancelReply, by: Invocation) -> None:
        seen = self._evidence.runs[response.request.run_id]
        if isinstance(reply, Absent):
            seen.absences.setdefault(response.id, self._evidence.now())
        if isinstance(reply, Snapshot):
            by.last_word = reply
            if reply.status.finished:
                response.told.append(reply)

    def tool_ran(self, request: ToolRequest, by: Invocation) -> str:
        """Note an effect; return what the tool gives back, which no other run of it does."""
        evidence, key = self._evidence, request.idempotency_key
        run_id = key.partition("-")[0]
        earlier = self.tool_runs[key]
        if request.name == "pay":
            evidence.require(not earlier, 3, run_id, f"{key} took effect twice")
        elif earlier:
            excused = any(one.dead or one.stalled > _NORMAL or one.storage_faults for one, _ in earlier)
            evidence.require(
                excused or by.stalled > _NORMAL, 3, run_id, f"{key} was repeated, and nobody died"
            )
        self._was_wanted(run_id, request, by)
        output = f"result {len(earlier)} of {key}"
        earlier.append((by, output))
        return output

    def _was_wanted(self, run_id: str, request: ToolRequest, by: Invocation) -> None:
        evidence, seen = self._evidence, self._evidence.runs[run_id]
        asked = any(call.call_id == request.call_id for one in seen.responses for call in one.calls)
        evidence.require(asked, 3, run_id, f"nobody asked for {request.call_id}")
        status = seen.status_at(by.started_at)
        evidence.require(
            status is not RunStatus.CANCELLING and not (status and status.terminal),
            3,
            run_id,
            f"a tool was begun by one who came when the run was {status}",
        )

    def reported_rightly(self) -> None:
        """In the end, no call that took effect is said never to have begun, nor the other way round."""
        for run_id, seen in self._evidence.runs.items():
            for call in seen.run.calls:
                ran = bool(self.tool_runs.get(f"{run_id}-{call.turn}-{call.call_id}"))
                wrong = (ran and call.status is CallStatus.CANCELLED) or (
                    not ran and call.status is CallStatus.COMPLETED
                )
                self._evidence.require(
                    not wrong, 3, run_id, f"{call.call_id} is {call.status}; it took effect: {ran}"
                )

    def stopped_and_forgotten(self) -> None:
        """In the end, the provider has forgotten what it had of deleted runs."""
        for run_id, seen in self._evidence.runs.items():
            for response in seen.responses:
                kept = not (response.forgotten or response.deletion_refused or _may_be_lost(response))
                if seen.deleted:
                    self._evidence.require(not kept, 8, run_id, f"{response.id} is kept by the provider")

    def abandoned_are_stopped(self) -> None:
        """In the end, every response that came too late to be adopted was stopped: no crash forgets it."""
        for run_id, seen in self._evidence.runs.items():
            known = {response.id: response for response in seen.responses}
            working = [one for one in seen.run.abandoned if not known[one].stop_asked]
            self._evidence.require(not working, 5, run_id, f"{working} came too late and were never stopped")

    def extra_responses_are_counted(self) -> None:
        for run_id, seen in self._evidence.runs.items():
            run = seen.run
            if not seen.deleted:
                extra = len(seen.responses) - len(run.responses)
                self._evidence.require(
                    extra <= run.unknown_creates + len(run.abandoned),
                    5,
                    run_id,
                    f"{extra} responses more than adopted, {run.unknown_creates} counted",
                )


def _may_be_lost(response: Response) -> bool:
    """Say whether whoever created a response may have been kept from saving its id."""
    by = response.creator
    return response.unknown or by.dead or by.stalled > _NORMAL or by.storage_faults > 0
