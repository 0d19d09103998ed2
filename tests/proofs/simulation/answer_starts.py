"""Checks starts that continue a run which has handed over calls to its caller."""

from typing import TYPE_CHECKING

from shared.core.run import Run
from tests.proofs.simulation.evidence import Evidence, Seen

if TYPE_CHECKING:
    from tests.proofs.simulation.answers import ClientRequest


class StartAuditor:
    """Compares the outputs in an input with the calls that the session has left to its caller."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def accepted(self, request: "ClientRequest", seen: Seen) -> None:
        """Check that an accepted start brings exactly the outputs that the run before waits for."""
        if request.session_id is None or any(one.delete_requested for one in self._of_session(request)):
            return
        before, given = self._before(seen.run), _given(request)
        wanted = {call.call_id for call in before.handed_over} if before else set()
        what = f"it was started with outputs of {sorted(given)}, and {sorted(wanted)} were handed over"
        self._evidence.require(given == wanted, 11, seen.run.id, what)

    def refused(self, request: "ClientRequest", code: str) -> None:
        """Check a refusal, unless the session has changed meanwhile."""
        runs = self._of_session(request)
        if any(one.delete_requested or one.changed_at >= request.at for one in runs):
            return
        newest = max(runs, key=lambda one: one.run.created_at, default=None)
        last = self._last(newest.run if newest else None)
        wanted = {call.call_id for call in last.handed_over} if last else set()
        given = _given(request)
        right = bool(wanted - given) if code == "output_missing" else bool(given - wanted)
        what = f"a start with outputs of {sorted(given)} is refused: {code}; handed over: {sorted(wanted)}"
        self._evidence.require(right, 11, newest.run.id if newest else "", what)

    def _of_session(self, request: "ClientRequest") -> list[Seen]:
        return self._evidence.of_session(request.session_id or "")

    def _before(self, run: Run) -> Run | None:
        earlier = self._evidence.runs.get(run.previous_run_id or "")
        return self._last(earlier.run if earlier else None)

    def _last(self, run: Run | None) -> Run | None:
        """Return the newest run from this one back that later runs continue."""
        while run is not None and not run.in_conversation:
            earlier = self._evidence.runs.get(run.previous_run_id or "")
            run = earlier.run if earlier else None
        return run


def _given(request: "ClientRequest") -> set[str]:
    items = request.body.get("input")
    found = items if isinstance(items, list) else []
    return {str(item["call_id"]) for item in found if "call_id" in item}
