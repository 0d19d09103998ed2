"""A provider that is slow, fails, loses responses, repeats them and contradicts itself, as the seed decides."""

import json
from dataclasses import replace
from datetime import timedelta

from shared.core.calls import ToolCall
from shared.core.response import (
    Absent,
    CancelReply,
    ChainBroken,
    CreateReply,
    DeleteReply,
    ItemStarted,
    NoStream,
    NotNow,
    PartStarted,
    ReadReply,
    Refused,
    ResponseStatus,
    RunError,
    Slice,
    SliceReply,
    Snapshot,
    TextAdded,
    Usage,
)
from shared.core.run import Step
from shared.core.transcript import output_text
from shared.ports.providers import ResponseRequest
from tests.proofs.simulation.auditor import Auditor
from tests.proofs.simulation.late import LONGEST, OVERTAKEN, LateCreate
from tests.proofs.simulation.ports import PROLONGED, Gate
from tests.proofs.simulation.responses import Response
from tests.proofs.simulation.scheduler import Hold

# How long the provider may not know a response that its run did not adopt.
_SEEMS_ABSENT = 30.0
# Less than the time-out of a poll.
LONGEST_SLICE = 9.0


def _never(_until: float) -> None:
    """Let faults end as planned."""


def _cancel_no_run(_run_id: str) -> None:
    """Cancel no run: there are no clients yet."""


# Text of a stream that is not in the finished response.
STRAY = "text of nothing that will be"


class SimulatedProvider:
    """Background responses. Its calls pass the same gate as every port."""

    def __init__(self, gate: Gate, auditor: Auditor, long_text: str) -> None:
        self._gate, self._auditor = gate, auditor
        self._long_text = long_text
        self.responses: dict[str, Response] = {}
        # Lets a client cancel a run.
        self.cancel_run = _cancel_no_run
        # Lets faults go on until a time, because a late create needs them.
        self.prolong_faults = _never

    async def create(self, request: ResponseRequest) -> CreateReply:
        at = self._gate.scheduler.now
        own, fate = await self._gate.enter(f"create {request.run_id} turn {request.turn}", "create")
        reply = self._refusal(own, request)
        if reply is None:
            response = self._begin(request, requested_at=at)
            response.unknown = own == "create_reply_lost"
            reply = NotNow("the reply is lost", unknown=True) if response.unknown else self._created(response)
        if own == "create_stalls":
            await self._stall(request.run_id)
        elif (late := self._auditor.evidence.late.get(request.run_id)) and late.prolongs(Step.CREATE):
            await self._gate.wait(PROLONGED)
        await self._gate.leave(fate)
        return reply

    async def _stall(self, run_id: str) -> None:
        """Let the caller stand still for some time, or until its run is in a rare state."""
        evidence, random = self._auditor.evidence, self._gate.random
        if run_id in evidence.late or random.random() < 0.5:
            await self._gate.freeze()
            return
        late = LateCreate.of(evidence.runs[run_id].run, random, lambda: self.cancel_run(run_id))
        evidence.late[run_id] = late
        self.prolong_faults(self._gate.scheduler.now + LONGEST)
        await self._gate.hold(late.hold, OVERTAKEN, LONGEST)

    async def read(self, response_id: str) -> ReadReply:
        own, fate = await self._gate.enter(f"read {response_id}", "read")
        response = self.responses[response_id]
        # A read of the response after a slice without an end belongs to the same poll.
        if self._gate.caller in response.sliced_by:
            response.sliced_by.remove(self._gate.caller)
        else:
            response.reads += 1
            self._auditor.polled(response, self._gate.caller)
        reply: ReadReply
        match own:
            case "read_unavailable":
                reply = NotNow("503")
            case "retry_after":
                reply = NotNow("429", timedelta(seconds=self._gate.random.choice((1, 5, 30))))
            case "not_found_yet":
                reply = Absent()
            case _:
                response.forgotten = response.forgotten or own == "forgotten"
                reply = self._state(response)
        self._auditor.replied(response, reply, self._gate.caller)
        await self._gate.leave(fate)
        return reply

    async def slice(self, response_id: str, after: int) -> SliceReply:
        own, fate = await self._gate.enter(f"slice {response_id} after {after}", "slice")
        response = self.responses[response_id]
        reply: SliceReply
        state = self._state(response)
        if own == "slice_unavailable":
            reply = NotNow("503")
        elif own == "stream_refused" or isinstance(state, Absent):
            reply = NoStream()
        else:
            reply = self._slice(response, state, after, own)
        response.reads += 1
        response.sliced_by.add(self._gate.caller)
        self._auditor.polled(response, self._gate.caller)
        if isinstance(reply, Slice) and reply.final:
            self._auditor.replied(response, reply.final, self._gate.caller)
        if own == "slice_late":
            # Another poller may have read the finished response before this slice arrives.
            hold = self._auditor.evidence.late_slices[response.request.run_id] = Hold()
            await self._gate.hold(hold, 0.0, LONGEST_SLICE)
        await self._gate.leave(fate)
        return reply

    def _slice(self, response: Response, state: Snapshot, after: int, fault: str | None) -> Slice:
        """Return what has been streamed by now: first that the response is queued, then one letter in each event."""
        text = output_text(response.final.output)
        if response.stray is not None:
            text = text[: response.stray] + STRAY
        here = Slice(response_id=response.id, after=after, sequence=after, status=ResponseStatus.IN_PROGRESS)
        if fault == "stream_stalled":
            return here
        if state.status.finished and fault is None:
            return replace(here, final=state)
        if state.status is ResponseStatus.QUEUED:
            return replace(here, status=ResponseStatus.QUEUED, sequence=max(after, 1))
        took = max(response.finishes_at - response.working_at, 0.1)
        done = min(1.0, (self._gate.scheduler.now - response.working_at) / took)
        upto = max(after, 1 + int(done * len(text)))
        if fault == "stream_cut":
            upto = self._gate.random.randint(after, upto)
        new = text[max(after - 1, 0) : max(upto - 1, 0)]
        started = (ItemStarted(0, "message"), PartStarted(0, "output_text")) if after < 2 <= upto else ()
        added = (TextAdded(0, new),) if new else ()
        return replace(here, sequence=upto, changes=(*started, *added), complete=fault != "stream_gap")

    async def cancel(self, response_id: str) -> CancelReply:
        own, fate = await self._gate.enter(f"cancel {response_id}", "cancel")
        response = self.responses[response_id]
        reply: CancelReply
        if own == "cancel_unavailable":
            reply = NotNow("500")
        elif own == "cancel_refused":
            reply = Refused(RunError("bad_request", "Cannot be cancelled now."))
        elif own == "cancel_not_found" and self._may_seem_absent(response):
            reply = Absent()
        else:
            response.cancel_received = True
            before = self._state(response)
            working = isinstance(before, Snapshot) and not before.status.finished
            late = self._auditor.evidence.late.get(response.request.run_id)
            if late and late.prolongs(Step.CANCEL):
                await self._gate.wait(PROLONGED)
            response.cancelled = response.cancelled or working
            at_once = not working or self._gate.random.random() < 0.5
            reply = self._state(response) if at_once else before
        self._auditor.replied(response, reply, self._gate.caller)
        await self._gate.leave(fate)
        return reply

    def _may_seem_absent(self, response: Response) -> bool:
        """Return whether the provider may not know this response yet. That does not last for long."""
        since = response.abandoned_at
        return since is None or self._gate.scheduler.now - since < _SEEMS_ABSENT

    async def delete(self, response_id: str) -> DeleteReply:
        own, fate = await self._gate.enter(f"delete {response_id}", "delete")
        response = self.responses[response_id]
        reply: DeleteReply
        if own == "delete_unavailable":
            reply = NotNow("500")
        elif own == "delete_refused":
            response.deletion_refused = True
            reply = Refused(RunError("bad_request", "Cannot be deleted."))
        else:
            response.forgotten = True
            reply = Absent()
        await self._gate.leave(fate)
        return reply

    def _created(self, response: Response) -> Snapshot | Absent:
        state = self._state(response)
        if isinstance(state, Snapshot) and response.request.stream:
            return Snapshot(response_id=state.response_id, status=ResponseStatus.QUEUED, sequence=0)
        return state

    def _refusal(self, fault: str | None, request: ResponseRequest) -> CreateReply | None:
        """Return the reply to a request that creates nothing."""
        match fault:
            case "throttled":
                return NotNow("429", timedelta(seconds=self._gate.random.choice((1, 5, 20))))
            case "create_unsure":
                return NotNow("502", unknown=True)
            case "chain_broken" if request.previous_response_id:
                return ChainBroken("No tool call found.")
            case "create_refused":
                self._auditor.refused(request.run_id)
                return Refused(RunError("bad_request", "The request is not valid."))
            case "access_denied":
                self._auditor.refused(request.run_id)
                return Refused(RunError("provider_denied", "The key is not valid."))
            case "earlier_response_again":
                for response in self.responses.values():
                    if (
                        response.request.run_id == request.run_id
                        and response.reads
                        and not response.forgotten
                    ):
                        return self._state(response)
        return None

    def _begin(self, request: ResponseRequest, requested_at: float) -> Response:
        random, now = self._gate.random, self._gate.scheduler.now
        number = sum(one.request.run_id == request.run_id for one in self.responses.values())
        response_id = f"resp_{len(self.responses)}"
        final = self._outcome(response_id, request, number)
        duration = random.choice((0, 0.5, 2, 6, 15, 40))
        later, stray = None, None
        match self._gate.faults.draw("response"):
            case "late":
                duration = random.uniform(60, 200)
            case "contradicts_itself":
                later = self._contradiction(final)
            case "ends_badly":
                bad = random.choice((ResponseStatus.FAILED, ResponseStatus.INCOMPLETE))
                final = replace(final, status=bad, incomplete_reason="max_output_tokens")
                if bad is ResponseStatus.FAILED:
                    final = replace(final, calls=())
            case "stream_strays":
                stray = random.randrange(8)
            case "ends_by_itself":
                final = replace(final, status=ResponseStatus.CANCELLED, calls=())
        response = Response(
            id=response_id,
            request=request,
            number=number,
            creator=self._gate.caller,
            created_at=now,
            working_at=now + random.choice((0, 1, 4, 15)),
            finishes_at=now + duration,
            final=final,
            later=later,
            stray=stray,
        )
        self.responses[response_id] = response
        self._auditor.created(response, requested_at)
        return response

    def _outcome(self, response_id: str, request: ResponseRequest, number: int) -> Snapshot:
        random = self._gate.random
        names: list[str] = []
        if random.random() < (0.7 if request.turn == 1 else 0.35):
            names = random.choices(
                ("pay", "look_up", "no_such_tool"), weights=(6, 4, 1), k=random.randint(1, 3)
            )
        text = f"text of {response_id}" + (self._long_text if random.random() < 0.02 else "")
        calls = tuple(ToolCall(f"call_{response_id}_{n}", name, "{}") for n, name in enumerate(names))
        output: list[dict[str, object]] = [
            {"type": "function_call", "call_id": one.call_id, "name": one.name, "arguments": one.arguments}
            for one in calls
        ]
        output.append(
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
        )
        # Each response is one digit of the sum, which shows how often it was counted.
        tokens = 4**number
        return Snapshot(
            response_id=response_id,
            status=ResponseStatus.COMPLETED,
            output=json.dumps(output),
            calls=calls,
            usage=Usage(tokens, 0, tokens),
        )

    def _contradiction(self, final: Snapshot) -> Snapshot:
        """Return another state of a response, for reads after its finished state was read."""
        other = json.dumps(
            [
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Otherwise."}],
                }
            ]
        )
        status = self._gate.random.choice(
            (ResponseStatus.COMPLETED, ResponseStatus.IN_PROGRESS, ResponseStatus.FAILED)
        )
        return replace(final, status=status, output=other, calls=())

    def _state(self, response: Response) -> Snapshot | Absent:
        """Return the state of a response now."""
        now = self._gate.scheduler.now
        if response.forgotten:
            return Absent()
        if response.reported and response.later:
            return response.later
        if response.cancelled:
            return replace(response.final, status=ResponseStatus.CANCELLED, calls=())
        if now >= response.finishes_at:
            return response.final
        status = ResponseStatus.IN_PROGRESS if now >= response.working_at else ResponseStatus.QUEUED
        return Snapshot(response_id=response.id, status=status)
