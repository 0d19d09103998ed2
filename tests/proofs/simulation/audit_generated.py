"""Checks turns that workers generate: promise 15."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.core import transcript
from shared.core.calls import ToolCall
from shared.core.chat.events import ChatBroken, ChatEnd, ChatEvent, ChatText
from shared.core.life.generating import MAX_RESTARTS
from shared.core.run import Content, Run, RunStatus, Step
from shared.ports.tables import Delete, Write
from shared.store.rows import unpack
from tests.proofs.simulation.audit_leases import LeaseAuditor
from tests.proofs.simulation.chatting import ChatPlan, Stream
from tests.proofs.simulation.evidence import Evidence, seconds_of
from tests.proofs.simulation.responses import unfit
from tests.proofs.simulation.scheduler import MAX_SKEW, Invocation

if TYPE_CHECKING:
    from tests.proofs.simulation.late import LateStream

# What came is stored after this time at the latest, and the longest time of the requests that store it, in seconds.
_CHECKPOINT, _STORED_WITHIN = 2.0, 8.0
# A stream without text stores nothing. Its worker learns from a renewal, which may be late, that somebody has changed the run.
_RENEWED_WITHIN = 22.0


@dataclass(eq=False, slots=True)
class _Told:
    """What the log of a run comes to, for a reader who has all of it."""

    # The text of the turn.
    text: str = ""
    # The texts of the finished turns, and their calls.
    outputs: list[str] = field(default_factory=list)
    calls: list[Sequence[ToolCall]] = field(default_factory=list)
    # Whether reasoning that came before the text of this turn is logged.
    reasoned: bool = False
    # Whether the text of this turn was taken back by the entries of one transition.
    replaced: bool = False
    added: str = ""
    # The joins that are logged.
    joins: Counter[str] = field(default_factory=Counter)
    # After how many characters the text of this turn was joined, and how.
    joined: dict[int, str] = field(default_factory=dict)


class GeneratedAuditor:
    """Compares what streams bring with what is stored of them, and with what the next ones are asked for."""

    def __init__(self, evidence: Evidence, leases: LeaseAuditor) -> None:
        self._evidence, self._leases = evidence, leases
        self.plan: ChatPlan | None = None
        # Loads a text of a run.
        self.load: Callable[[str, Content], str | None] = lambda _run_id, _content: None
        # Checks what the model is told of a call: run, turn, call, output.
        self.output_is_true: Callable[[str, int, ToolCall, str], None] = lambda *_: None
        self._told: dict[str, _Told] = defaultdict(_Told)
        # By run, the worker that stands still in its stream.
        self.late: dict[str, LateStream] = {}
        self._streams: dict[tuple[str, Invocation], Stream] = {}
        # By run, the stream whose provider has requested a pause last, and when that ends.
        self._pauses: dict[str, tuple[Stream, float]] = {}

    # What the provider sees.

    def begins(self, stream: Stream) -> None:
        """Check a request at its beginning."""
        request, by, require = stream.request, stream.by, self._evidence.require
        run_id, seen = request.run_id, self._evidence.runs[request.run_id]
        self._streams[run_id, by] = stream
        require(by.generates, 15, run_id, f"{by.name} holds a stream, for another queue's message")
        self._leases.begins(run_id, Step.GENERATE, by)
        if not self._holds(seen.run, by) or seen.run.terminal or self.plan is None:
            return
        told, run = self._told[run_id], seen.run
        require(request.turn == run.turn, 15, run_id, f"turn {request.turn} is generated in turn {run.turn}")
        same = request.prefix == told.text
        what = f"its provider has to continue {request.prefix[-30:]!r}, and {told.text[-30:]!r} is stored"
        require(same and (self.plan.continues or not request.prefix), 15, run_id, what)
        self._has_waited(stream)
        self._conversation_is_right(run, stream)

    def _has_waited(self, stream: Stream) -> None:
        """Check that a provider's pause was kept, if its worker could store it."""
        run_id = stream.request.run_id
        refused, until = self._pauses.pop(run_id, (stream, 0.0))
        if refused.by.disturbed or refused.by.clock.correction or stream.by.clock.correction:
            return
        early = until - self._evidence.now() - 2 * MAX_SKEW
        self._evidence.require(early <= 0, 15, run_id, f"its provider is asked {early:.1f} s too early")

    def _conversation_is_right(self, run: Run, stream: Stream) -> None:
        messages = json.loads(stream.request.messages)
        require, told = self._evidence.require, self._told[run.id]
        said = {message["content"] for message in messages if message["role"] == "assistant"}
        wanted = [text for text in (*self._before(run), *told.outputs) if text.strip()]
        missing = [text[:40] for text in wanted if text not in said]
        require(not missing, 4, run.id, f"the model is not told that it has said {missing}")
        results = {each["tool_call_id"]: each["content"] for each in messages if each["role"] == "tool"}
        for turn, calls in enumerate(told.calls, 1):
            for call in calls:
                require(call.call_id in results, 3, run.id, f"the model got no output of {call.call_id}")
                if turn == run.turn - 1:
                    self.output_is_true(run.id, turn, call, results.get(call.call_id, ""))

    def _before(self, run: Run) -> Iterable[str]:
        """Yield the texts of earlier runs of the conversation, as far as nobody deletes them."""
        session, earlier = run.session_id, self._evidence.runs.get(run.previous_run_id or "")
        while earlier is not None and session not in self._evidence.sessions_delete_requested:
            if earlier.run.in_conversation and not earlier.delete_requested:
                yield from self._told[earlier.run.id].outputs
            earlier = self._evidence.runs.get(earlier.run.previous_run_id or "")

    def brought(self, stream: Stream, event: ChatEvent) -> None:
        """Note an event that is on its way to the app."""
        seen = self._evidence.runs[stream.request.run_id]
        if isinstance(event, ChatBroken) and not event.retryable:
            seen.refusals.add(event.error.code)
        if isinstance(event, ChatBroken) and event.retry_after is not None:
            until = self._evidence.now() + event.retry_after.total_seconds()
            self._pauses[stream.request.run_id] = stream, until
        if stream.finished:
            seen.generated += stream.calls
        if isinstance(event, ChatText | ChatEnd) and stream.expected is not None:
            right = stream.expected.startswith(stream.sent.removesuffix("\ufffd"))
            right = right and (isinstance(event, ChatText) or stream.sent == stream.expected)
            what = f"{stream.sent[-40:]!r} counts as new after {stream.request.prefix[-40:]!r}"
            self._evidence.require(right, 15, stream.request.run_id, what)

    def asked_on(self, stream: Stream, event: ChatEvent) -> None:
        """Check that the app may want more of a stream after an event that it has got."""
        seen, by, now = self._evidence.runs[stream.request.run_id], stream.by, self._evidence.now()
        require, run, at = self._evidence.require, seen.run, stream.sent_at
        if by.disturbed or by.clock.correction:
            return
        assert self.plan is not None
        lasted = at - stream.began_at
        what = f"{by.name} has held a stream for {lasted:.0f} s, and goes on"
        require(lasted <= self.plan.longest(stream) + 0.001, 15, run.id, what)
        stores = isinstance(event, ChatText) and self.plan.stores(event.text)
        within = _CHECKPOINT + _STORED_WITHIN if stores else _RENEWED_WITHIN
        late = at - seen.statuses[-1][0]
        stopped = run.terminal or run.status is RunStatus.CANCELLING
        require(
            not stopped or late <= within,
            15,
            run.id,
            f"its stream goes on {late:.0f} s after it is {run.status}",
        )
        over = at + by.skew - seconds_of(run.expires_at)
        what = f"its stream goes on {over:.0f} s after its deadline, at {now:.0f}"
        require(not stores or over <= within + MAX_SKEW, 15, run.id, what)

    # What is stored.

    def wrote(self, writes: Sequence[Write], runs: Sequence[tuple[Run | None, Run]], by: Invocation) -> None:
        """Check a transaction."""
        entries = [
            entry
            for write in writes
            if not isinstance(write, Delete) and write.row.key.startswith("event|")
            for entry in unpack(write.row.values["entries"])
        ]
        for before, run in runs:
            if run.generates and before is not None and run.rev != before.rev:
                self._went_on(before, run, entries, by)
                if late := self.late.get(run.id):
                    late.saw(before, run)

    def _went_on(self, before: Run, run: Run, entries: Sequence[Mapping[str, Any]], by: Invocation) -> None:
        if run.status is RunStatus.DELETED:
            return
        told, stream = self._told[run.id], self._streams.get((run.id, by))
        require, was = self._evidence.require, told.text
        if len(run.turns) > len(before.turns):
            self._finished(before, run, stream, by)
        told.replaced, told.added = False, ""
        for entry in entries:
            self._read(run, told, entry)
        if told.added:
            self._is_what_came(before, told, was, stream, by)
        if told.replaced:
            right = run.terminal or run.restarts == before.restarts + 1
            require(right, 15, run.id, "its text was taken back, and its turn goes on")
        if run.restarts > before.restarts:
            self._may_restart(before, run, told, stream)
        if (run.joins, run.loose_joins) != (before.joins, before.loose_joins):
            self._is_joined_rightly(before, run, told, stream)
        if before.step is run.step is Step.GENERATE and before.lease and run.lease is None:
            self._may_pause(before, stream, by)
        if run.terminal and not before.terminal:
            self._ended_rightly(before, run, stream, by)

    def _may_pause(self, before: Run, stream: Stream | None, by: Invocation) -> None:
        """Check who leaves the rest of a stream to the next invocation, and when."""
        require, run_id = self._evidence.require, before.id
        require(self._holds(before, by), 15, run_id, f"{by.name} gives up the lease of another worker")
        if stream is None or stream.end is not None or self.plan is None or by.clock.correction:
            return
        lasted = stream.sent_at - stream.began_at
        what = f"its stream is cut after {lasted:.1f} s, where it cannot be continued"
        require(lasted >= self.plan.longest(stream) - 0.001, 15, run_id, what)

    def _read(self, run: Run, told: _Told, entry: Mapping[str, Any]) -> None:
        match entry["type"]:
            case "turn.started":
                told.text, told.reasoned = "", False
                told.joined.clear()
            case "text.replaced":
                turn = int(entry.get("turn", 0))
                told.text, told.replaced = told.outputs[turn - 1] if turn else "", True
                told.reasoned = False
                told.joined.clear()
            case "turn.joined":
                where, join = entry["characters"], str(entry["join"])
                told.joins[join] += 1
                if where in told.joined:
                    # Only this may be told later: that it was not exact.
                    right = told.joined[where] == "exact" and join == "best_effort"
                    self._evidence.require(right, 15, run.id, f"it joined twice after {where}")
                    told.joins["exact"] -= 1
                told.joined[where] = join
                right = entry["characters"] == len(told.text)
                self._evidence.require(right, 15, run.id, f"it is told as joined after {entry['characters']}")
            case "item.started" if entry["kind"] == "reasoning":
                told.reasoned = True
            case "text.delta":
                pointer, text = entry.get("content"), told.outputs[-1] if told.outputs else ""
                if pointer:
                    text = self.load(run.id, Content(name=pointer["name"], chunks=pointer["chunks"])) or ""
                part = text[entry.get("start", 0) : entry["end"]]
                right = len(part) == entry["end"] - entry.get("start", 0)
                self._evidence.require(right, 15, run.id, f"the text of {entry} is not stored")
                told.text, told.added = told.text + part, told.added + part

    def _is_what_came(
        self, before: Run, told: _Told, was: str, stream: Stream | None, by: Invocation
    ) -> None:
        """Check that text was added by the holder of the lease, that it is what came, and all of that in order."""
        require, run_id = self._evidence.require, before.id
        what = f"{by.name} adds text, and does not hold its stream"
        require(stream is not None and self._holds(before, by), 15, run_id, what)
        if stream is None:
            return
        known = stream.request.prefix + stream.sent[: stream.stored]
        what = f"its stream goes on after {was[-30:]!r}, and it was told {known[-30:]!r}"
        require(was == known, 15, run_id, what)
        exact = told.joined.get(len(stream.request.prefix)) == "exact"
        what = f"its text goes on after {was[-20:]!r}, which was not repeated, and its join is told as exact"
        require(not (stream.unclear and exact), 15, run_id, what)
        right = stream.text.startswith(told.text)
        what = f"{told.added[:40]!r} was stored of {stream.sent[stream.stored :][:40]!r}"
        require(right, 15, run_id, what)
        stream.stored = len(told.text) - len(stream.request.prefix)

    def _may_restart(self, before: Run, run: Run, told: _Told, stream: Stream | None) -> None:
        require = self._evidence.require
        if before.lease and run.lease is None:
            what = "what was cut counts as written anew, and it was no call"
            require(bool(stream and stream.calls), 15, run.id, what)
            return
        require(run.restarts <= MAX_RESTARTS, 15, run.id, f"its text was taken back {run.restarts} times")
        require(not told.text, 15, run.id, "its text is written anew, and readers keep the old one")
        needed = self.plan is None or not self.plan.continues or not before.written
        require(needed, 15, run.id, "its text was taken back, although its provider continues texts")

    def _is_joined_rightly(self, before: Run, run: Run, told: _Told, stream: Stream | None) -> None:
        require, plan = self._evidence.require, self.plan
        if run.loose_joins == before.loose_joins + 1 and run.joins == before.joins - 1:
            right = stream is not None and stream.unclear and not told.added
            require(right, 15, run.id, "its join was told as exact, and is not any more")
            return
        require(
            run.joins + run.loose_joins == before.joins + before.loose_joins + 1,
            15,
            run.id,
            "it joined twice",
        )
        able = plan is not None and plan.continues and bool(told.text)
        require(able, 15, run.id, "its text is continued, and it has none, or its provider cannot do that")
        loose = told.reasoned or (plan is not None and plan.trims and told.text != told.text.rstrip())
        exact = run.joins > before.joins
        logged = told.joins["exact"], told.joins["best_effort"]
        require(logged == (run.joins, run.loose_joins), 15, run.id, f"its log tells other joins: {logged}")
        require(exact != loose, 15, run.id, f"the join after {told.text[-10:]!r} is told as exact: {exact}")

    def _finished(self, before: Run, run: Run, stream: Stream | None, by: Invocation) -> None:
        """Check the output of a turn: it is what its stream has brought."""
        require, told = self._evidence.require, self._told[run.id]
        what = f"{by.name} ends a turn without its lease"
        require(self._holds(before, by), 15, run.id, what)
        right = stream is not None and stream.finished
        require(right, 15, run.id, "a turn ended whose stream has not")
        if stream is None:
            return
        text = self.load(run.id, run.turns[-1])
        items = transcript.parse(text or "[]")
        written, calls = transcript.text_of(items), transcript.calls_among(items)
        told.outputs.append(written)
        told.calls.append(calls)
        self._evidence.runs[run.id].outputs.append(items)
        what = f"its text ends with {written[-40:]!r}, and {stream.text[-40:]!r} came"
        require(text is not None and written == stream.text, 15, run.id, what)
        known = [(call.call_id, call.name, call.arguments) for call in stream.calls]
        stored = [(call.call_id, call.name, call.arguments) for call in calls]
        require(stored == known[: len(stored)], 15, run.id, f"the calls {stored} are stored of {known}")
        complete = bool(
            stream.end and getattr(stream.end, "finish_reason", "") in {"tool_calls", "stop", None}
        )
        require(not complete or stored == known, 15, run.id, f"calls are lost of {known}: {stored}")
        self._is_metered(before, run, stream)

    def _is_metered(self, before: Run, run: Run, stream: Stream) -> None:
        usage = getattr(stream.end, "usage", None)
        counted = run.usage.total_tokens - before.usage.total_tokens
        right = counted == (usage.total_tokens if usage else 0)
        self._evidence.require(right, 7, run.id, f"{counted} tokens are counted of {usage}")
        # A stream that was continued has not told what its text has cost.
        self._evidence.runs[run.id].unmetered |= usage is None or bool(stream.request.prefix)

    def _ended_rightly(self, before: Run, run: Run, stream: Stream | None, by: Invocation) -> None:
        seen, reason = self._evidence.runs[run.id], getattr(stream and stream.end, "finish_reason", "")
        finished = len(run.turns) > len(before.turns)
        code = run.error.code if run.error else ""
        match run.status:
            case RunStatus.COMPLETED if run.handed_over:
                right = all(call.turn == run.turn for call in run.handed_over)
            case RunStatus.COMPLETED:
                right = (
                    finished and reason in {"stop", "tool_calls", None} and not self._told[run.id].calls[-1]
                )
            case RunStatus.INCOMPLETE if run.incomplete_reason == "max_turns":
                right = finished and run.turn == run.max_turns
            case RunStatus.INCOMPLETE:
                right = finished and reason not in {"stop", "tool_calls", None}
            case RunStatus.FAILED if code == "generate_too_long":
                anew = before.restarts + (not (self._continues and before.written))
                right = anew > MAX_RESTARTS
            case RunStatus.FAILED if code == "output_invalid":
                right = finished and run.structured and unfit(self._told[run.id].outputs[-1])
            case RunStatus.FAILED:
                right = code in seen.refusals
            case RunStatus.CANCELLED:
                right = seen.cancel_requested and not self._had_the_answer(before, stream, by)
            case RunStatus.EXPIRED:
                right = run.updated_at >= run.expires_at and not self._had_the_answer(before, stream, by)
            case _:
                right = False
        self._evidence.require(right, 1, run.id, f"it is {run.status} ({code}), without a cause")

    @property
    def _continues(self) -> bool:
        return self.plan is not None and self.plan.continues

    def _had_the_answer(self, before: Run, stream: Stream | None, by: Invocation) -> bool:
        """Return whether the holder of the lease had the finished answer, so that it counts."""
        return stream is not None and stream.finished and not stream.calls and self._holds(before, by)

    def _holds(self, run: Run, by: Invocation) -> bool:
        return run.lease is not None and by.leases.get(run.id) == run.lease.id
