"""A provider that is slow, fails, loses responses, repeats them and contradicts itself, as the seed decides."""

from dataclasses import replace
from datetime import timedelta

from shared.core.response import (
    RESPONSE_SLOW,
    Absent,
    CancelReply,
    CreateReply,
    DeleteReply,
    NoStream,
    NotNow,
    ReadReply,
    Refused,
    ResponseStatus,
    RunError,
    Slice,
    SliceReply,
    Snapshot,
)
from shared.core.run import Step
from shared.core.slices import StreamEvent, gather
from shared.ports.providers import ResponseRequest
from tests.proofs.simulation.auditor import Auditor
from tests.proofs.simulation.creates import Creates
from tests.proofs.simulation.endings import foreign
from tests.proofs.simulation.ports import PROLONGED, READ_TIMEOUT, Gate
from tests.proofs.simulation.responses import Response
from tests.proofs.simulation.scheduler import Hold
from tests.support.fakes import later

# How long the provider may not know a response that its run did not adopt.
_SEEMS_ABSENT = 30.0
# Less than the time-out of a poll.
LONGEST_SLICE = 9.0


class SimulatedProvider:
    """Background responses. Its calls pass the same gate as every port."""

    def __init__(self, gate: Gate, auditor: Auditor, long_text: str) -> None:
        self._gate, self._auditor = gate, auditor
        self.responses: dict[str, Response] = {}
        random = gate.random
        # Whether the metadata of a response, with the run in it, is sent with it.
        self._names_runs = random.random() < 0.5
        # Whether a response that has finished cannot be cancelled.
        self.refuses_finished = random.random() < 0.5
        self.creates = Creates(gate, auditor, self.responses, self.state, long_text)

    async def create(self, request: ResponseRequest) -> CreateReply:
        return await self.creates.create(request)

    async def read(
        self, response_id: str, *, within: timedelta | None = None, **_options: object
    ) -> ReadReply:
        own, fate = await self._gate.enter(f"read {response_id}", "read")
        response, caller = self.responses[response_id], self._gate.caller
        # A read of the response after a slice without an end belongs to the same poll.
        if caller in response.sliced_by:
            response.sliced_by.remove(caller)
        else:
            self._polled(response)
        caller.read.add(response_id)
        reply = self._read(response, own)
        if isinstance(reply, Snapshot):
            reply = await self._in_time(response, reply, within or READ_TIMEOUT) or reply
        self._auditor.replied(response, reply, caller)
        await self._gate.leave(fate)
        return reply

    def _read(self, response: Response, fault: str | None) -> ReadReply:
        match fault:
            case "read_unavailable":
                return later("503")
            case "retry_after":
                return later("429", timedelta(seconds=self._gate.random.choice((1, 5, 30))))
            case "not_found_yet":
                return Absent()
            case "read_of_another":
                return foreign(response.id)
        response.forgotten = response.forgotten or fault == "forgotten"
        return self.state(response)

    async def _in_time(self, response: Response, state: Snapshot, within: timedelta) -> NotNow | None:
        """Let time pass while a large response arrives. Return an error when there was not enough time."""
        if not state.status.finished or not response.ending.slow:
            return None
        limit = within.total_seconds()
        await self._gate.wait(min(response.ending.slow, limit))
        if response.ending.slow <= limit:
            return None
        self._auditor.read_slowly(response, limit, self._gate.caller)
        return later("The response arrived too slowly.", code=RESPONSE_SLOW)

    async def slice(self, response_id: str, after: int, **_options: object) -> SliceReply:
        own, fate = await self._gate.enter(f"slice {response_id} after {after}", "slice")
        response, caller = self.responses[response_id], self._gate.caller
        reply: SliceReply
        state = self.state(response)
        if own == "slice_unavailable":
            reply = later("503")
        elif own == "stream_refused" or isinstance(state, Absent):
            reply = NoStream()
        elif own is None and (late := await self._in_time(response, state, READ_TIMEOUT)):
            reply = late
        else:
            reply = self._slice(response, state, after, own)
        if after == 0 and caller in response.ended_for:
            # A poll that misses items of the stream reads all of it again.
            response.ended_for.remove(caller)
        else:
            response.sliced_by.add(caller)
            self._polled(response)
            if isinstance(reply, Slice):
                self._brought(response, reply)
        if own == "slice_late":
            # Another poller may have read the finished response before this slice arrives.
            hold = self._auditor.evidence.late_slices[response.request.run_id] = Hold()
            await self._gate.hold(hold, 0.0, LONGEST_SLICE)
        await self._gate.leave(fate)
        return reply

    def _brought(self, response: Response, received: Slice) -> None:
        caller = self._gate.caller
        caller.slices[response.id] = received
        if received.final:
            caller.read.add(response.id)
            response.ended_for.add(caller)
            self._auditor.replied(response, received.final, caller)

    def _slice(self, response: Response, state: Snapshot, after: int, fault: str | None) -> Slice:
        """Return what has been streamed by now: first that the response is queued, then one change in each event."""
        changes = response.ending.changes
        if fault == "stream_stalled":
            return Slice(
                response_id=response.id, after=after, sequence=after, status=ResponseStatus.IN_PROGRESS
            )
        if state.status is ResponseStatus.QUEUED:
            return gather(response.id, after, [StreamEvent(1, idle=True)])
        took = max(response.finishes_at - response.working_at, 0.1)
        done = min(1.0, (self._gate.scheduler.now - response.working_at) / took)
        upto = max(after, 1 + int(done * len(changes)))
        ended = state.status.finished and fault in {None, "slice_of_another"}
        if ended:
            upto = len(changes) + 1
        if fault == "stream_cut":
            upto = self._gate.random.randint(after, upto)
        events = [
            StreamEvent(n, changes[n - 2]) if n > 1 else StreamEvent(1) for n in range(after + 1, upto + 1)
        ]
        if fault == "stream_gap" and events:
            del events[self._gate.random.randrange(len(events))]
            events.append(StreamEvent(upto + 1))
        if ended:
            last = foreign(response.id) if fault == "slice_of_another" else self._last(response, state)
            events.append(StreamEvent(upto + 1, final=last))
        return gather(response.id, after, events)

    def _last(self, response: Response, state: Snapshot) -> Snapshot:
        """Return the finished response as the last event of the stream has it."""
        ending = response.ending
        is_final = state == self._named(response, ending.final)
        return self._named(response, ending.last_event) if is_final else state

    async def cancel(self, response_id: str) -> CancelReply:
        own, fate = await self._gate.enter(f"cancel {response_id}", "cancel")
        response, caller = self.responses[response_id], self._gate.caller
        self._auditor.cancels(response, caller)
        reply: CancelReply
        if own == "cancel_unavailable":
            reply = later("500")
        elif own == "cancel_refused":
            reply = Refused(RunError("bad_request", "Cannot be cancelled now."))
        elif own == "cancel_not_found" and self._may_seem_absent(response):
            reply = Absent()
        elif own == "cancel_of_another":
            reply = foreign(
                response_id, self._gate.random.choice((ResponseStatus.CANCELLED, ResponseStatus.COMPLETED))
            )
        else:
            reply = await self._cancelled(response)
        if isinstance(reply, Refused):
            response.cancel_refused_to = caller
            finished = self.state(response)
            if isinstance(finished, Snapshot) and finished.status.finished:
                caller.read.discard(response_id)
        self._auditor.replied(response, reply, caller)
        await self._gate.leave(fate)
        return reply

    async def _cancelled(self, response: Response) -> CancelReply:
        """Cancel a response."""
        response.cancel_received = True
        before = self.state(response)
        working = isinstance(before, Snapshot) and not before.status.finished
        late = self._auditor.evidence.late.get(response.request.run_id)
        if late and late.prolongs(Step.CANCEL):
            await self._gate.wait(PROLONGED)
        response.cancelled = response.cancelled or working
        if not working and isinstance(before, Snapshot) and self.refuses_finished:
            self._gate.faults.note("finished_not_cancelled")
            return Refused(RunError("bad_request", "It has finished."))
        at_once = not working or self._gate.random.random() < 0.5
        return self.state(response) if at_once else before

    def _may_seem_absent(self, response: Response) -> bool:
        """Return whether the provider may not know this response yet. That does not last for long."""
        since = response.abandoned_at
        return since is None or self._gate.scheduler.now - since < _SEEMS_ABSENT

    async def delete(self, response_id: str) -> DeleteReply:
        own, fate = await self._gate.enter(f"delete {response_id}", "delete")
        response = self.responses[response_id]
        reply: DeleteReply
        if own == "delete_unavailable":
            reply = later("500")
        elif own == "delete_refused":
            response.deletion_refused = True
            reply = Refused(RunError("bad_request", "Cannot be deleted."))
        else:
            response.forgotten = True
            reply = Absent()
        await self._gate.leave(fate)
        return reply

    def _polled(self, response: Response) -> None:
        """Count a poll. Reads by workers that cancel are no polls: each follows a request to cancel."""
        if self._gate.caller.operation in {"poll", "work: poll"}:
            response.reads += 1
        self._auditor.polled(response, self._gate.caller)

    def _named(self, response: Response, state: Snapshot) -> Snapshot:
        return replace(state, run_id=response.request.run_id) if self._names_runs else state

    def state(self, response: Response) -> Snapshot | Absent:
        """Return the state of a response now."""
        now, ending = self._gate.scheduler.now, response.ending
        if response.forgotten:
            return Absent()
        if response.reported and ending.later:
            state = ending.later
        elif response.cancelled:
            state = ending.cancelled
        elif now >= response.finishes_at:
            state = ending.final
        else:
            at_work = now >= response.working_at
            status = ResponseStatus.IN_PROGRESS if at_work else ResponseStatus.QUEUED
            state = Snapshot(response_id=response.id, status=status)
        return self._named(response, state)
