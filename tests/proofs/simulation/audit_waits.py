"""Checks calls that wait for people, or for the caller: promises 11 and 12."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from shared.core import ids
from shared.core.calls import AnswerType, CallStatus, ToolCall, WaitKind
from shared.core.run import Content, Run, RunStatus, Step
from shared.ports.tables import Delete, Row, Write
from shared.store.answers import StoredAnswer, read_answer
from shared.store.rows import read_content, time_text
from tests.proofs.simulation.evidence import Evidence, seconds_of
from tests.proofs.simulation.scheduler import Invocation
from tests.proofs.simulation.waiting import APPROVED, fits, needs_approval

# By run and the call's id there.
Place = tuple[str, str]
_CLOSED_AS: Mapping[CallStatus, frozenset[AnswerType]] = {
    CallStatus.QUEUED: frozenset({AnswerType.APPROVED}),
    CallStatus.REFUSED: frozenset({AnswerType.REFUSED}),
    CallStatus.COMPLETED: frozenset({AnswerType.OUTPUT, AnswerType.APPROVED}),
    CallStatus.FAILED: frozenset({AnswerType.ERROR}),
}
# What may write a run that waits: those who answer, cancel or delete it, and what ends waits.
_MAY_WRITE = frozenset({"answer", "cancel", "delete", "delete session", "work: wait"})


def _nobody(_run: Run, _call: ToolCall) -> None:
    """Answer nothing: there are no people yet."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An answer as somebody has sent it."""

    by: str
    # Its type; None for an answer that no call takes.
    type: AnswerType | None
    # The reason, the output or the error.
    text: str = ""
    arguments: Mapping[str, Any] | None = None
    # Whether the sender may give it.
    allowed: bool = True


@dataclass(eq=False, slots=True)
class Waited:
    """A call that waits, or has waited."""

    call: ToolCall
    kind: WaitKind
    since: float
    # When it stopped waiting.
    until: float | None = None


@dataclass(eq=False, slots=True)
class WaitAuditor:
    """Compares answers, waits, clocks and effects."""

    evidence: Evidence
    # Called with each call that begins to wait.
    on_wait: Callable[[Run, ToolCall], None] = _nobody
    # Loads a text of a run.
    load: Callable[[str, Content], str | None] = lambda _run_id, _content: None
    answers: dict[Place, StoredAnswer] = field(default_factory=dict)
    answered_at: dict[Place, float] = field(default_factory=dict)
    # The arguments of stored answers that differ from the model's.
    changed: dict[Place, str] = field(default_factory=dict)
    # The results that were stored together with answers.
    told: dict[Place, str] = field(default_factory=dict)
    sent: dict[Place, list[Sent]] = field(default_factory=lambda: defaultdict(list))
    waited: dict[Place, Waited] = field(default_factory=dict)
    # The rows of waits, and of what is owed, by run.
    _rows: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    # When it was stored whether a call waits, by call id.
    _decided: dict[str, float] = field(default_factory=dict)

    def wrote(self, writes: Sequence[Write], runs: Sequence[tuple[Run | None, Run]], by: Invocation) -> None:
        """Check a transaction: the rows beside a run, and the run before and after."""
        stored: dict[Place, StoredAnswer] = {}
        for write in writes:
            key = write.key if isinstance(write, Delete) else write.row.key
            kind, _, rest = key.partition("|")
            if kind == "answer" and not isinstance(write, Delete):
                self._answered(write.row, rest.partition("|")[0], writes, stored)
            elif kind in {"paused", "pending"} or key.endswith("|wait"):
                run_id = rest.partition("|")[0] if kind.startswith("pending") else key.rpartition("|")[2]
                self._rows[run_id].discard(key)
                if not isinstance(write, Delete):
                    self._rows[run_id].add(key)
        for before, run in runs:
            if before is not None and before.rev != run.rev:
                self._saw(before, run, stored, by)

    def _answered(
        self, row: Row, run_id: str, writes: Sequence[Write], stored: dict[Place, StoredAnswer]
    ) -> None:
        """Check an answer when it is stored: it is the first one, and somebody who may has sent it."""
        answer, require = read_answer(row), self.evidence.require
        place = run_id, ids.call_id(answer.turn, answer.call_id)
        require(place not in self.answers, 11, run_id, f"a second answer to {answer.call_id} is stored")
        self.answers[place] = stored[place] = answer
        self.answered_at[place] = self.evidence.now()
        if answer.changed and (text := self.load(run_id, answer.changed)) is not None:
            self.changed[place] = text
        result = f"tool|{row.key.partition('|')[2]}"
        for write in writes:
            if not isinstance(write, Delete) and write.row.key == result:
                self.told[place] = self.load(run_id, read_content(write.row.values["output"])) or ""
        senders = [one for one in self.sent[place] if one.allowed and one.by == answer.by]
        right = any(self.is_stored(run_id, place[1], one) for one in senders)
        require(right, 11, run_id, f"{answer.type} of {answer.call_id} was sent by nobody who may")

    def is_stored(self, run_id: str, call_id: str, sent: Sent) -> bool:
        """Return whether this answer is the one that counts."""
        place = run_id, call_id
        answer = self.answers.get(place)
        if answer is None or answer.type is not sent.type:
            return False
        match sent.type:
            case AnswerType.APPROVED:
                requested = self._requested(run_id, answer.call_id)
                model = json.loads(requested.arguments) if requested else None
                changed = json.loads(self.changed[place]) if place in self.changed else model
                return changed == (model if sent.arguments is None else sent.arguments)
            case AnswerType.REFUSED:
                return answer.reason == sent.text and sent.text in self.told.get(place, "")
            case AnswerType.ERROR:
                return sent.text in self.told.get(place, "")
        return self.told.get(place) == sent.text

    def _saw(self, before: Run, run: Run, stored: Mapping[Place, StoredAnswer], by: Invocation) -> None:
        self._stands_still(before, run, by)
        if before.calls or run.calls:
            self._calls(before, run, stored, by)
        self._rows_agree(run)

    def _calls(self, before: Run, run: Run, stored: Mapping[Place, StoredAnswer], by: Invocation) -> None:
        if run.status is RunStatus.DELETED:
            for call in before.calls:
                self._stopped(run.id, call)
            return
        require, was = self.evidence.require, {(call.turn, call.call_id): call for call in before.calls}
        taken = set[Place]()
        for call in run.calls:
            place = run.id, ids.call_id(call.turn, call.call_id)
            old = was.get((call.turn, call.call_id))
            if old is not None and old.status is not call.status:
                self._went(run, old, call, place, stored, by)
                if old.status is CallStatus.WAITING:
                    taken.add(place)
            if call.turn < run.turn:
                require(
                    not call.status.open, 11, run.id, f"turn {run.turn} began, and {call.call_id} is open"
                )
        loose = sorted(place for place in stored if place not in taken)
        require(not loose, 11, run.id, f"answers to {loose} are stored, which did not wait")

    def _went(
        self, run: Run, old: ToolCall, call: ToolCall, place: Place,
        stored: Mapping[Place, StoredAnswer], by: Invocation,
    ) -> None:  # fmt: skip
        """Check the new status of a call."""
        require, now = self.evidence.require, self.evidence.now()
        if old.status is CallStatus.QUEUED and old.wait is None:
            self._decided.setdefault(call.call_id, now)
        if call.status is CallStatus.WAITING:
            assert call.wait is not None
            self.waited[place] = Waited(call, call.wait.kind, now)
            self.on_wait(run, call)
            return
        if old.status is not CallStatus.WAITING:
            return
        self._stopped(run.id, old)
        answer, what = stored.get(place), f"{call.call_id} went from waiting to {call.status}"
        if call.status is CallStatus.TIMED_OUT:
            require(place not in self.answers, 11, run.id, f"{call.call_id} timed out after its answer")
            assert old.wait is not None
            early = seconds_of(old.wait.expires_at) - now - by.skew
            require(early <= by.precision, 12, run.id, f"{call.call_id} timed out {early:.1f} s early")
        elif call.status is CallStatus.CANCELLED:
            require(run.terminal, 11, run.id, what)
        else:
            closed = answer is not None and answer.type in _CLOSED_AS.get(call.status, ())
            require(closed, 11, run.id, f"{what} with the answer {answer and answer.type}")

    def _stopped(self, run_id: str, call: ToolCall) -> None:
        waited = self.waited.get((run_id, ids.call_id(call.turn, call.call_id)))
        if waited and waited.until is None and call.status is CallStatus.WAITING:
            waited.until = self.evidence.now()

    def _stands_still(self, before: Run, run: Run, by: Invocation) -> None:
        """The clock of a run stands still exactly while it is requires_action, and its deadline moves by that time."""
        require, paused = self.evidence.require, run.status is RunStatus.REQUIRES_ACTION
        was_paused = before.status is RunStatus.REQUIRES_ACTION
        if paused:
            still = run.step is Step.ANSWER and run.lease is None and run.paused_at is not None
            require(still, 12, run.id, f"it waits for people, and is owed {run.step}")
            open_calls = [call.status for call in run.calls if call.status.open]
            only = bool(open_calls) and set(open_calls) == {CallStatus.WAITING}
            require(only, 12, run.id, f"it waits for people with calls that are {sorted(open_calls)}")
        else:
            require(run.paused_at is None, 12, run.id, f"its clock stands still, and it is {run.status}")
        moved = run.expires_at - before.expires_at
        if was_paused and not paused:
            assert before.paused_at is not None
            self._is_honest(run, "it went on", seconds_of(run.updated_at), by)
            right = moved == max(run.updated_at - before.paused_at, timedelta())
            require(
                right, 12, run.id, f"its deadline moved by {moved} after {run.updated_at - before.paused_at}"
            )
            require(run.status is not RunStatus.EXPIRED, 12, run.id, "it expired while it waited for people")
        else:
            require(not moved, 12, run.id, f"its deadline moved by {moved}")
        if paused and not was_paused:
            self._is_honest(run, "it stopped", seconds_of(run.updated_at), by)
            require(run.paused_at == run.updated_at, 12, run.id, "its clock stopped at another time")
        if was_paused:
            self._is_left_alone(before, run, by)
            require(not paused or run.paused_at == before.paused_at, 12, run.id, "its clock stopped twice")

    def _is_honest(self, run: Run, what: str, at: float, by: Invocation) -> None:
        at -= by.skew
        honest = by.started_at - by.precision <= at <= self.evidence.now() + by.precision
        self.evidence.require(honest, 12, run.id, f"{what} at {at:.3f}, when {by.name} did not work")

    def _is_left_alone(self, before: Run, run: Run, by: Invocation) -> None:
        """Check who writes a run that waits. A create that comes too late notes its response there."""
        abandoned = replace(
            run, abandoned=before.abandoned, rev=before.rev, updated_at=before.updated_at
        ) == before  # fmt: skip
        allowed = by.operation in _MAY_WRITE or abandoned
        self.evidence.require(allowed, 12, run.id, f"{by.name} wrote it while it waited for people")

    def _rows_agree(self, run: Run) -> None:
        """The rows of waits agree with the run, and a run that waits for people is owed nothing."""
        waits = [(call, call.wait) for call in run.calls if call.status is CallStatus.WAITING and call.wait]
        if run.status is RunStatus.CANCELLING:
            waits = []
        wanted = set[str]()
        if waits:
            approvals = [wait.since for _, wait in waits if wait.kind is WaitKind.APPROVAL]
            since = min(approvals or [wait.since for _, wait in waits])
            ends = min(wait.expires_at for _, wait in waits)
            wanted = {f"paused|{time_text(since)}|{run.id}", f"pending~{time_text(ends)}|{run.id}|wait"}
        if run.step not in {Step.NOTHING, Step.ANSWER}:
            wanted.add(f"pending|{run.id}")
        there = self._rows[run.id]
        what = f"beside it are {sorted(there)}, not {sorted(wanted)}"
        self.evidence.require(there == wanted, 12, run.id, what)

    def looked(self, run_id: str, by: Invocation) -> None:
        """Check who reads a run: no tick reads one that waits."""
        seen = self.evidence.runs.get(run_id)
        if seen is None or by.operation != "poll":
            return
        waits = seen.run.status is RunStatus.REQUIRES_ACTION and seen.changed_at < by.started_at
        self.evidence.require(not waits, 12, run_id, f"{by.name} reads it while it waits for people")

    def decides(self, call: ToolCall, by: Invocation) -> None:
        """Check that it is decided once whether a call waits: not after that was stored."""
        at = self._decided.get(call.call_id)
        again = at is not None and at < by.started_at
        self.evidence.require(not again, 11, "", f"it was decided again whether {call.call_id} waits")

    def ran(self, run_id: str, turn: int, call: ToolCall) -> None:
        """Check an effect: it was approved if it had to be, and has exactly the arguments that were approved."""
        if call.name not in APPROVED:
            return
        place, require = (run_id, ids.call_id(turn, call.call_id)), self.evidence.require
        require(
            fits(call.arguments), 11, run_id, f"{call.call_id} ran with {call.arguments}, which do not fit"
        )
        answer, requested = self.answers.get(place), self._requested(run_id, call.call_id)
        if requested is None or not (answer or needs_approval(requested)):
            same = requested is not None and requested.arguments == call.arguments
            require(same, 11, run_id, f"{call.call_id} ran with {call.arguments}")
            return
        approved = answer is not None and answer.type is AnswerType.APPROVED
        require(approved, 11, run_id, f"{call.call_id} ran, and its answer is {answer and answer.type}")
        wanted = self.changed.get(place, requested.arguments)
        require(
            call.arguments == wanted, 11, run_id, f"{call.call_id} ran with {call.arguments}, not {wanted}"
        )
        sent = [one.arguments for one in self.sent[place] if one.type is AnswerType.APPROVED and one.allowed]
        right = any(json.loads(call.arguments) == (one or json.loads(requested.arguments)) for one in sent)
        require(right, 11, run_id, f"{call.call_id} ran with {call.arguments}, which nobody has sent")

    def _requested(self, run_id: str, call_id: str) -> ToolCall | None:
        seen = self.evidence.runs[run_id]
        return next((call for call in seen.requested if call.call_id == call_id), None)

    def expected(self, run: Run, turn: int, call_id: str) -> str | None:
        """Return what the model has to read in the output of a call that was answered, or whose wait has ended.

        None when its tool ran, or was never asked about.
        """
        place = run.id, ids.call_id(turn, call_id)
        answer = self.answers.get(place)
        if answer is not None:
            return None if answer.type is AnswerType.APPROVED else self.told.get(place, "")
        for call in run.calls:
            if (call.turn, call.call_id) == (turn, call_id) and call.status is CallStatus.TIMED_OUT:
                return '"timed_out"'
        return None
