"""Checks when responses are read and cancelled, and that a run stops waiting when its provider answers again."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from shared.core.response import RESPONSE_SLOW, CancelReply, ReadReply, Snapshot
from shared.core.run import Run, RunStatus, Step
from tests.proofs.simulation.evidence import Evidence, seconds_of
from tests.proofs.simulation.responses import Response
from tests.proofs.simulation.scheduler import MAX_SKEW, PROVIDER_TIMEOUT, Invocation

_CANCELS = frozenset({"cancel", "work: cancel"})
_POLLS = frozenset({"poll", "work: poll"})


@dataclass(frozen=True, slots=True)
class _SlowRead:
    """A read whose time was not enough, and since when the run waited then."""

    within: float
    by: Invocation
    since: datetime | None


class PollAuditor:
    """Checks polls by workers, cancellations, and reasons to wait."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        # By response, the last read whose time was not enough.
        self._slow_reads: dict[str, _SlowRead] = {}
        # By response: who has read that it is unfinished while its run waited, with the reason and its count.
        self._answered: dict[str, list[tuple[Invocation, object]]] = defaultdict(list)

    def polled(self, response: Response, by: Invocation) -> None:
        seen, require = self._evidence.runs[response.request.run_id], self._evidence.require
        if by.operation == "work: poll":
            require(by in seen.pollers, 9, seen.run.id, "a worker polls it without a claim")
        if by.operation == "poll":
            known = _is_slow(seen.run) and seen.waits_since < by.started_at
            require(not known, 10, seen.run.id, "the poll loop reads a response that is known to be slow")

    def read_slowly(self, response: Response, within: float, by: Invocation) -> None:
        """Check that each read of a large response by a worker has more time than the one before."""
        last, seen = self._slow_reads.get(response.id), self._evidence.runs[response.request.run_id]
        since = seen.run.waiting.since if seen.run.waiting else None
        known = _is_slow(seen.run) and seen.waits_since < by.started_at and by.operation == "work: poll"
        if known and last and last.since == since and last.by.ended and not last.by.disturbed:
            more = within > last.within or within >= PROVIDER_TIMEOUT.total_seconds()
            what = f"a read of {response.id} has {within} s again, which was not enough"
            self._evidence.require(more, 2, seen.run.id, what)
        # A reader that began before the run waited did not know how long the wait before it was.
        began = since is None or by.started_at > seconds_of(since)
        self._slow_reads[response.id] = _SlowRead(within, by, since if began else None)

    def cancels(self, response: Response, by: Invocation) -> None:
        """Check that a refused cancellation is not sent again: polls show what comes of the response."""
        seen, earlier = self._evidence.runs[response.request.run_id], response.cancel_refused_to
        if by.operation not in _CANCELS or earlier is None or earlier.operation not in _CANCELS:
            return
        repeated = (
            seen.run.status is RunStatus.CANCELLING
            and earlier.ended
            and not earlier.disturbed
            # A worker that stood still could not know what another one has learned meanwhile.
            and not by.stalled
            and response.id not in seen.absences
            and self._evidence.now() < seconds_of(seen.run.expires_at) - MAX_SKEW
        )
        what = f"{response.id} is cancelled again, although the provider has refused that"
        self._evidence.require(not repeated, 9, seen.run.id, what)

    def answered(self, response: Response, reply: ReadReply | CancelReply, by: Invocation) -> None:
        """Check after each poll that reads an unfinished response: an earlier one has ended the wait."""
        seen = self._evidence.runs[response.request.run_id]
        run = seen.run
        if run.waiting is None or run.step is not Step.POLL or not run.awaits(response.id):
            return
        if by.operation not in _POLLS or not isinstance(reply, Snapshot) or reply.status.finished:
            return
        reason, reads = (run.waiting.since, run.waiting.attempts), self._answered[response.id]
        stays = any(
            earlier is not by and same == reason and earlier.ended and not earlier.disturbed
            for earlier, same in reads
        )
        self._evidence.require(not stays, 1, run.id, "it still waits, although its provider has answered")
        if by.started_at > seen.waits_since:
            reads.append((by, reason))


def _is_slow(run: Run) -> bool:
    """Return whether a run waits for a response that is slow to read."""
    if run.step is not Step.POLL or run.waiting is None:
        return False
    return run.waiting.error.code == RESPONSE_SLOW
