"""Compares each create with the earlier ones: its key, its body, the conversation in it."""

from collections import Counter, defaultdict

from shared.adapters.responses_api.provider import create_body
from shared.core import transcript
from shared.core.response import ChainBroken, CreateReply, KeyRefused, NotNow, Refused, Snapshot
from shared.core.run import UNANSWERED_CALL, RunStatus
from shared.ports.providers import ResponseRequest
from tests.proofs.simulation.evidence import Evidence, Seen
from tests.proofs.simulation.scheduler import NORMAL, Invocation

# So many creates of a turn whose replies cannot be used are enough.
UNUSABLE = 3
# So many creates of a turn without a reply in time mean that the provider has no background mode.
TIMED_OUT = 2


class CreateAuditor:
    """Checks what is sent with creates."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._bodies: dict[str, bytes] = {}
        # By run and turn: the keys that were sent, and how often the provider could not continue the chain.
        self._keys: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._chain_refused: Counter[tuple[str, int]] = Counter()
        # By run, when the provider first refused a key, and to whom.
        self._key_refused: dict[str, tuple[float, Invocation]] = {}

    def requested(self, request: ResponseRequest, at: float, by: Invocation) -> None:
        """Check a create that reaches the provider, and that was sent at `at`."""
        seen = self._evidence.runs.get(request.run_id)
        if seen is None:
            return
        self._has_its_key(seen, request, at, by)
        if by.stalled <= NORMAL:
            # One that stood still right before its request may send it when the run has ended.
            self._is_not_one_too_many(seen, request)
        self._continues_its_session(seen, request)
        self._is_complete(seen, request)

    def _has_its_key(self, seen: Seen, request: ResponseRequest, at: float, by: Invocation) -> None:
        require, key, run_id = self._evidence.require, request.idempotency_key, request.run_id
        refused = self._key_refused.get(run_id)
        if key is None:
            require(refused is not None, 5, run_id, "a create has no key, although none was refused")
            return
        if refused and at > refused[0] and by.stalled <= NORMAL:
            require(not may_have_saved(refused[1]), 5, run_id, "a create has a key after one was refused")
        place = run_id, request.turn
        self._keys[place].add(key)
        allowed = 1 + self._chain_refused[place]
        require(len(self._keys[place]) <= allowed, 5, run_id, f"turn {request.turn} has another key: {key}")
        same = self._bodies.setdefault(key, create_body(request)) == create_body(request)
        require(same or self._lost_a_run(seen), 5, run_id, f"key {key} was sent with another body before")

    def _lost_a_run(self, seen: Seen) -> bool:
        """Return whether an earlier run of the conversation was deleted, so that it is not replayed any more."""
        return any(one.delete_requested for one in self._evidence.of_session(seen.run.session_id))

    def _is_not_one_too_many(self, seen: Seen, request: ResponseRequest) -> None:
        unusable = [by for by in seen.unusable.get(request.turn, ()) if may_have_saved(by)]
        what = f"turn {request.turn} is created again after {len(unusable)} replies that cannot be used"
        self._evidence.require(len(unusable) < UNUSABLE, 5, request.run_id, what)

    def _continues_its_session(self, seen: Seen, request: ResponseRequest) -> None:
        """Check that a run which continues a response continues the newest part of its conversation."""
        continued = request.previous_response_id
        if request.turn > 1 or continued is None:
            return
        run_id = seen.run.previous_run_id
        while run_id and (earlier := self._evidence.runs.get(run_id)):
            run, require = earlier.run, self._evidence.require
            unanswered = run.incomplete_reason == UNANSWERED_CALL
            if continued in run.responses:
                require(not unanswered, 5, request.run_id, "it continues a response with an unanswered call")
                return
            left_out = run.status is RunStatus.COMPLETED or unanswered
            require(not left_out, 5, request.run_id, f"it does not continue {run_id}, but a run before")
            run_id = run.previous_run_id

    def _is_complete(self, seen: Seen, request: ResponseRequest) -> None:
        """Check that the own input is sent, and that calls and outputs come in pairs."""
        items, require = transcript.parse(request.input), self._evidence.require
        if request.turn == 1:
            own = bool(items) and items[-1].get("role") == "user"
            require(own, 4, request.run_id, "the model did not get the input of the run")
        if request.previous_response_id is None:
            ids = Counter(
                (str(item["type"]).endswith("_output"), item["call_id"])
                for item in items
                if "call_id" in item
            )
            ids.update((False, item["id"]) for item in items if item.get("type") == "mcp_approval_request")
            ids.update(
                (True, item["approval_request_id"])
                for item in items
                if item.get("type") == "mcp_approval_response"
            )
            # A client may delete the run with the calls after it has sent their outputs.
            lost = self._lost_an_earlier_run(seen)
            once = all(
                count == 1 and ((not output, one) in ids or (output and lost))
                for (output, one), count in ids.items()
            )
            require(once, 4, request.run_id, "a replayed call has no output, or comes twice")

    def _lost_an_earlier_run(self, seen: Seen) -> bool:
        """Return whether somebody has deleted, or is deleting, a run before this one in its conversation."""
        run_id = seen.run.previous_run_id
        while run_id and (earlier := self._evidence.runs.get(run_id)):
            if earlier.delete_requested or earlier.deleted:
                return True
            run_id = earlier.run.previous_run_id
        return False

    def answered(
        self, request: ResponseRequest, reply: CreateReply, by: Invocation, adopted: tuple[str, ...]
    ) -> None:
        """Note the reply to a create. `adopted` are the responses of the run so far."""
        seen = self._evidence.runs.get(request.run_id)
        if seen is None:
            return
        match reply:
            case Refused(error):
                seen.refusals.add(error.code)
            case ChainBroken():
                self._chain_refused[request.run_id, request.turn] += 1
            case KeyRefused():
                self._key_refused.setdefault(request.run_id, (self._evidence.now(), by))
            case NotNow(timed_out=True):
                seen.timed_out[request.turn] += 1
            case NotNow(unusable=True):
                seen.unusable[request.turn].append(by)
            case Snapshot(run_id=run_id, response_id=response_id):
                if run_id not in {None, request.run_id} or response_id in adopted:
                    seen.unusable[request.turn].append(by)

    def may_be_second(self, request: ResponseRequest, earlier: ResponseRequest) -> bool:
        """Return whether the provider could not know that these two creates of a turn are the same."""
        apart = request.idempotency_key is None or request.idempotency_key != earlier.idempotency_key
        place = request.run_id, request.turn
        return apart and (request.run_id in self._key_refused or bool(self._chain_refused[place]))


def may_have_saved(by: Invocation) -> bool:
    """Return whether nothing kept an invocation from saving the result of its request."""
    return not by.dead and by.stalled <= NORMAL and by.storage_faults == 0
