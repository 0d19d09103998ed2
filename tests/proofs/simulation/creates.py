"""How the simulated provider creates responses."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from shared.core.response import (
    Absent,
    CreateReply,
    KeyRefused,
    Refused,
    ResponseStatus,
    RunError,
    Snapshot,
    unreadable,
)
from shared.core.run import Step
from shared.ports.providers import ResponseRequest
from tests.proofs.simulation.auditor import Auditor
from tests.proofs.simulation.endings import Endings, foreign
from tests.proofs.simulation.keys import Keys
from tests.proofs.simulation.late import LONGEST, OVERTAKEN, LateCreate
from tests.proofs.simulation.ports import PROLONGED, Gate
from tests.proofs.simulation.responses import Response
from tests.support.fakes import broken_chain, later

State = Callable[[Response], Snapshot | Absent]

# A provider that honours keys does not refuse what it has accepted before.
_ONLY_AT_FIRST = frozenset(
    {"chain_broken", "key_refused", "create_refused", "quota_exhausted", "earlier_response_again"}
)
_REFUSALS = {
    "create_refused": RunError("bad_request", "The request is not valid."),
    "access_denied": RunError("provider_denied", "The key is not valid."),
    "quota_exhausted": RunError("quota_exhausted", "There is no quota left."),
}
# The replies whose response is lost for the caller.
_LOST = frozenset({"create_reply_lost", "create_times_out", "create_unusable"})
# How often a client cancels the run while the provider refuses a create.
_CANCELLED_MEANWHILE = 0.05
# How often the next reply to a create of the same turn cannot be used either.
_UNUSABLE_AGAIN = 0.6


def _never(_until: float) -> None:
    """Let faults end as planned."""


def _cancel_no_run(_run_id: str) -> None:
    """Cancel no run: there are no clients yet."""


class Creates:
    """Begins responses, and honours the keys of requests in half of the seeds."""

    def __init__(
        self, gate: Gate, auditor: Auditor, responses: dict[str, Response], state: State, long_text: str
    ) -> None:
        self._gate, self._auditor = gate, auditor
        self._responses, self._state = responses, state
        self.endings = Endings(gate.random, gate.faults, long_text)
        self._keys = Keys(honoured=gate.random.random() < 0.5)
        if self._keys.honoured:
            auditor.honours_keys()
        # The runs and turns whose create got a reply that could not be used.
        self._unusable: set[tuple[str, int]] = set()
        # Lets a client cancel a run.
        self.cancel_run = _cancel_no_run
        # Lets faults go on until a time, because a late create needs them.
        self.prolong_faults = _never

    async def create(self, request: ResponseRequest) -> CreateReply:
        at = self._gate.scheduler.now
        self._auditor.create_begins(request, self._gate.caller)
        own, fate = await self._gate.enter(f"create {request.run_id} turn {request.turn}", "create")
        self._auditor.requested(request, at, self._gate.caller)
        reply = self._reply(request, own, at)
        self._auditor.answered_create(request, reply, self._gate.caller)
        if not isinstance(reply, Snapshot) and self._gate.random.random() < _CANCELLED_MEANWHILE:
            self.cancel_run(request.run_id)
            await self._gate.wait(1.0)
        if own == "create_stalls":
            await self._stall(request.run_id)
        elif (late := self._auditor.evidence.late.get(request.run_id)) and late.prolongs(Step.CREATE):
            await self._gate.wait(PROLONGED)
        await self._gate.leave(fate)
        return reply

    def _reply(self, request: ResponseRequest, fault: str | None, requested_at: float) -> CreateReply:
        known, turn = self._keys.known(request), (request.run_id, request.turn)
        if fault is None and turn in self._unusable and self._gate.random.random() < _UNUSABLE_AGAIN:
            fault = "create_unusable"
        if isinstance(known, KeyRefused):
            return known
        if known:
            self._gate.faults.note("key_repeated")
        if known and fault in _ONLY_AT_FIRST:
            fault = None
        if reply := self._refusal(fault, request, known):
            return reply
        response = known or self._begin(request, requested_at)
        self._keys.remember(request, response)
        if fault in _LOST:
            response.unknown = True
        if fault in {"create_reply_lost", "create_times_out"}:
            return later("there is no reply", unknown=True, timed_out=fault == "create_times_out")
        if fault == "create_unusable":
            self._unusable.add(turn)
            return replace(later("unreadable", unknown=True, unusable=True), error=unreadable("no id"))
        if fault == "background_ignored" and not known and not request.stream:
            return self._at_once(response)
        return self._created(response)

    def _at_once(self, response: Response) -> Snapshot:
        """Finish a response while its client waits. It is not kept."""
        response.working_at = response.finishes_at = self._gate.scheduler.now
        finished = self._created(response)
        response.forgotten = True
        return finished

    def _created(self, response: Response) -> Snapshot:
        state = self._state(response)
        if isinstance(state, Absent):
            return Snapshot(response_id=response.id, status=ResponseStatus.IN_PROGRESS)
        if response.request.stream:
            return replace(state, status=ResponseStatus.QUEUED, output="[]", calls=(), sequence=0)
        return state

    def _refusal(
        self, fault: str | None, request: ResponseRequest, known: Response | None
    ) -> CreateReply | None:
        """Return the reply to a request that creates nothing."""
        match fault:
            case "throttled":
                return later("429", timedelta(seconds=self._gate.random.choice((1, 5, 20))))
            case "key_in_use" if known:
                return later("An earlier request with this key is being carried out.")
            case "create_unsure":
                return later("502", unknown=True)
            case "chain_broken" if request.previous_response_id:
                return broken_chain("No tool call found.")
            case "key_refused" if request.idempotency_key:
                return KeyRefused("Unknown header.")
            case "create_of_another":
                return foreign("resp_of_another")
            case "create_refused" | "access_denied" | "quota_exhausted":
                return Refused(_REFUSALS[fault])
            case "earlier_response_again":
                return self._earlier(request.run_id)
        return None

    def _earlier(self, run_id: str) -> CreateReply | None:
        for response in self._responses.values():
            if response.request.run_id == run_id and response.reads and not response.forgotten:
                state = self._state(response)
                return state if isinstance(state, Snapshot) else None
        return None

    async def _stall(self, run_id: str) -> None:
        """Let the caller stand still for some time, or until its run is in a rare state."""
        evidence, random = self._auditor.evidence, self._gate.random
        # With its key, a late create gets the response that another worker has created: nothing is rare then.
        if run_id in evidence.late or random.random() < (0.8 if self._keys.honoured else 0.2):
            await self._gate.freeze()
            return
        late = LateCreate.of(evidence.runs[run_id].run, random, lambda: self.cancel_run(run_id))
        evidence.late[run_id] = late
        self.prolong_faults(self._gate.scheduler.now + LONGEST)
        await self._gate.hold(late.hold, OVERTAKEN, LONGEST)

    def _begin(self, request: ResponseRequest, requested_at: float) -> Response:
        random, now = self._gate.random, self._gate.scheduler.now
        number = sum(one.request.run_id == request.run_id for one in self._responses.values())
        response_id = f"resp_{len(self._responses)}"
        duration = random.choice((0, 0.5, 2, 6, 15, 40))
        ending, long = self.endings.draw(response_id, request, number)
        response = Response(
            id=response_id,
            request=request,
            number=number,
            creator=self._gate.caller,
            created_at=now,
            working_at=now + random.choice((0, 1, 4, 15)),
            finishes_at=now + (random.uniform(60, 200) if long else duration),
            ending=ending,
        )
        self._responses[response_id] = response
        self._auditor.created(response, requested_at)
        return response
