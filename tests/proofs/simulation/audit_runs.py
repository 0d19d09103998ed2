"""Compares each state of a run with the state before it, and with the provider's responses."""

from collections.abc import Mapping, Sequence

from shared.core.calls import CallStatus, ToolCall
from shared.core.life.polling import MISSING_GRACE
from shared.core.response import ResponseStatus, Snapshot
from shared.core.run import UNANSWERED_CALL, Run, RunStatus, Step
from shared.core.transcript import output_text
from tests.proofs.simulation.audit_creates import TIMED_OUT, UNUSABLE
from tests.proofs.simulation.audit_leases import LeaseAuditor
from tests.proofs.simulation.audit_quotas import QuotaAuditor
from tests.proofs.simulation.audit_texts import TextAuditor
from tests.proofs.simulation.evidence import Claim, Evidence, Seen, seconds_of
from tests.proofs.simulation.responses import Response, is_answer, unfit
from tests.proofs.simulation.scheduler import ENOUGH, MAX_SKEW, NORMAL, Invocation

_DONE = frozenset(
    {
        CallStatus.COMPLETED,
        CallStatus.FAILED,
        CallStatus.UNKNOWN,
        CallStatus.CANCELLED,
        CallStatus.REFUSED,
        CallStatus.TIMED_OUT,
        CallStatus.HANDED_OVER,
    }
)


def _kept_back(was: ToolCall, now: ToolCall, run: Run) -> bool:
    """Return whether a call that was to be handed over is cancelled, because its run ends in another way."""
    ended = run.terminal and run.status is not RunStatus.COMPLETED
    return ended and (was.status, now.status) == (CallStatus.HANDED_OVER, CallStatus.CANCELLED)


class RunAuditor:
    """Checks each state of each run when it is written."""

    def __init__(self, evidence: Evidence, responses: Mapping[str, Response], leases: LeaseAuditor) -> None:
        self._evidence, self._responses, self._leases = evidence, responses, leases
        self.texts = TextAuditor(evidence, responses)
        self.quotas = QuotaAuditor(evidence)

    def saw(self, run: Run, by: Invocation) -> None:
        evidence, now = self._evidence, self._evidence.now()
        seen = evidence.runs.get(run.id)
        if seen is None:
            seen = evidence.runs[run.id] = Seen(run, now, run.owner, by, changed_at=now)
            seen.statuses.append((now, run.status))
            # The deletion of a session reaches runs that are started meanwhile.
            seen.delete_requested = run.session_id in evidence.sessions_delete_requested
            self._leases.saw(None, run, by)
            self.quotas.saw_start(run, by)
            held = [
                one.run.id
                for one in evidence.of_session(run.session_id)
                if not one.run.terminal and one.run.id != run.id
            ]
            evidence.require(not held, 12, run.id, f"it began in a session that {held} hold")
            return
        before, seen.run, seen.changed_at = seen.run, run, now
        self._leases.saw(before, run, by)
        if run.rev == before.rev:
            self._leases.renewed(before, run, by)
            return
        seen.writer = by
        if before.status is RunStatus.REQUIRES_ACTION and run.status is not before.status:
            seen.went_on_at = now
        self._note(seen, before, run, by)
        for response_id in run.abandoned[len(before.abandoned) :]:
            self._responses[response_id].abandoned_at = now
        self._grew(before, run)
        self._stayed(before, run)
        self._calls_went_on(before, run)
        self._counted_once(run)
        self.texts.saw(before, run, by)
        if run.status is not before.status:
            seen.statuses.append((now, run.status))
        if run.terminal and not before.terminal:
            seen.ended_at = now
            self._ended_rightly(seen, before, run, by)
        if late_claim := evidence.late_claims.get(run.id):
            late_claim.saw(run)
        if late := evidence.late.get(run.id):
            late.saw(run)

    def _note(self, seen: Seen, before: Run, run: Run, by: Invocation) -> None:
        """Note what explains later states."""
        if by.disturbed:
            seen.disturbed = True
        if run.lease and run.lease != before.lease:
            left = seconds_of(run.lease.expires_at) - self._evidence.now() - by.skew
            short = by.stalled > 0 and left < ENOUGH + NORMAL / 2
            seen.claims.append(Claim(by, by.stalled, short))
        if run.waiting != before.waiting:
            seen.waits_since = self._evidence.now()
        if by.operation == "work: poll" and run.step is Step.POLL and run.due > before.due:
            seen.pollers.add(by)

    def _grew(self, before: Run, run: Run) -> None:
        """Each transition follows the one before it, so a lost transition shows here."""
        require = self._evidence.require
        require(run.rev == before.rev + 1, 1, run.id, f"rev {before.rev} was followed by {run.rev}")
        require(run.turn >= before.turn, 1, run.id, "the turn went back")
        require(run.entries >= before.entries, 1, run.id, "the log went back")
        for response_id in run.responses[len(before.responses) :]:
            response = self._responses.get(response_id)
            own = response is not None and response.request.run_id == run.id
            require(own, 5, run.id, f"it adopts {response_id}, the response of another run")
        require(
            run.status is RunStatus.DELETED or run.responses[: len(before.responses)] == before.responses,
            5,
            run.id,
            "an adopted response is lost",
        )

    def _stayed(self, before: Run, run: Run) -> None:
        require = self._evidence.require
        if before.status is RunStatus.DELETED:
            require(run.status is RunStatus.DELETED, 8, run.id, f"deleted became {run.status}")
        elif before.terminal and run.status is not RunStatus.DELETED:
            same = (
                (
                    run.status,
                    run.usage,
                    run.error,
                    run.turns,
                    run.completed_at,
                    run.calls,
                    run.incomplete_reason,
                )
            ) == (
                (
                    before.status,
                    before.usage,
                    before.error,
                    before.turns,
                    before.completed_at,
                    before.calls,
                    before.incomplete_reason,
                )
            )
            require(same, 1, run.id, f"it had ended as {before.status}, and was changed to {run.status}")

    def _calls_went_on(self, before: Run, run: Run) -> None:
        if run.status is RunStatus.DELETED or before.calls is run.calls:
            return
        require = self._evidence.require
        for was, now in zip(before.calls, run.calls, strict=False):
            require(
                was.call_id == now.call_id
                and (was.status not in _DONE or was.status is now.status or _kept_back(was, now, run)),
                3,
                run.id,
                f"tool call {was.call_id} went from {was.status} to {now.status}",
            )
        require(len(run.calls) >= len(before.calls), 3, run.id, "a tool call is lost")

    def _counted_once(self, run: Run) -> None:
        """Each response of a run is one digit of the token sum, in base four."""
        total, number = 0 if run.generates else run.usage.total_tokens, 0
        responses = self._evidence.runs[run.id].responses
        while total:
            total, digit = divmod(total, 4)
            if digit and (digit > 1 or number >= len(responses) or not responses[number].answers):
                self._evidence.breach(7, run.id, f"response {number} is counted {digit} times")
            number += 1

    def _ended_rightly(self, seen: Seen, before: Run, run: Run, by: Invocation) -> None:
        """Check the outcome of a run with responses. Those of generated runs are compared with their streams."""
        if run.generates and run.status is not RunStatus.DELETED:
            return
        require = self._evidence.require
        require(
            run.status is RunStatus.DELETED or run.continuation is None,
            1,
            run.id,
            "ended, but still to be polled",
        )
        last = self._responses[run.responses[-1]] if run.responses else None
        reported = last.answers if last else []
        match run.status:
            case RunStatus.COMPLETED if run.handed_over:
                right = all(call.turn == run.turn for call in run.handed_over)
            case RunStatus.COMPLETED:
                right = any(is_answer(one) and not self._denied(run, last, one) for one in reported)
            case RunStatus.INCOMPLETE if run.incomplete_reason == UNANSWERED_CALL:
                right = last is not None and last.ending.full.unanswerable
            case RunStatus.INCOMPLETE:
                right = any(one.status is ResponseStatus.INCOMPLETE or one.calls for one in reported)
                right = right or (last is not None and bool(last.calls))
            case RunStatus.FAILED:
                right = self._failed_rightly(seen, run, reported)
            case RunStatus.CANCELLED:
                right = seen.cancel_requested or any(
                    one.status is ResponseStatus.CANCELLED for one in reported
                )
            case RunStatus.EXPIRED:
                right = run.updated_at >= run.expires_at
            case _:
                right = seen.delete_requested
        require(right, 1, run.id, f"it is {run.status}, without a cause")
        kept = run.status is RunStatus.COMPLETED or not run.handed_over
        require(kept, 3, run.id, f"it is {run.status}, and its caller is told to carry out calls")
        if run.status in {RunStatus.CANCELLED, RunStatus.EXPIRED}:
            self._no_answer_was_known(before, run, by)

    def _failed_rightly(self, seen: Seen, run: Run, reported: Sequence[Snapshot]) -> bool:
        code = run.error.code if run.error else ""
        match code:
            case "response_not_found":
                return self._was_missing(seen)
            case "background_unsupported":
                return self._was_missing(seen) or seen.timed_out[run.turn] >= TIMED_OUT
            case "provider_unusable":
                return len(seen.unusable[run.turn]) >= UNUSABLE
            case "output_invalid":
                return run.structured and any(is_answer(one) for one in reported)
            case "provider_error":
                return any(one.status is ResponseStatus.FAILED for one in reported)
        return code in seen.refusals

    def _denied(self, run: Run, response: Response | None, reported: Snapshot) -> bool:
        """Return whether an answer does not fit the output type. One that denies what was streamed may be stored otherwise."""
        denies = response is not None and response.denies
        # An end without the output does not take back what was streamed.
        streamed = run.stream and reported.output == "[]"
        output = response.ending.full.output if response and streamed else reported.output
        return run.structured and not denies and unfit(output_text(output))

    def _was_missing(self, seen: Seen) -> bool:
        last = self._responses[seen.run.responses[-1]] if seen.run.responses else None
        if last and last.at_once and all(last.at_once):
            # The reply to its create had the answer.
            return False
        since = seen.absences.get(seen.run.responses[-1]) if seen.run.responses else None
        grace = MISSING_GRACE.total_seconds() - 2 * MAX_SKEW
        return since is not None and self._evidence.now() - since >= grace

    def _no_answer_was_known(self, before: Run, run: Run, by: Invocation) -> None:
        """An invocation that has read a finished answer must not expire or cancel the run."""
        reply = by.last_reply
        if run.status is RunStatus.EXPIRED and before.continuation:
            response = self._responses[before.continuation.response_id]
            read = response.id in by.read
            self._evidence.require(read, 1, run.id, f"it expired, and {response.id} was not read before")
        if reply is None or not before.awaits(reply.response_id):
            return
        denied = self._responses[reply.response_id].denied_by(reply)
        self._evidence.require(
            not is_answer(reply) or denied,
            1,
            run.id,
            f"made {run.status} by an invocation that had the finished answer",
        )
