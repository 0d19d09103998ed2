"""Compares each answer that a client receives with the states that were true while it waited."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shared.core import transcript
from shared.core.run import RunStatus
from shared.web.http import Reply
from tests.proofs.simulation.answer_calls import CallAnswerAuditor
from tests.proofs.simulation.answer_feeds import FeedAuditor
from tests.proofs.simulation.answer_starts import StartAuditor
from tests.proofs.simulation.audit_quotas import QuotaAuditor
from tests.proofs.simulation.audit_waits import Sent, WaitAuditor
from tests.proofs.simulation.coverage import Coverage
from tests.proofs.simulation.evidence import Evidence, Seen
from tests.proofs.simulation.scheduler import Invocation

_ENCODER = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """One request of a client."""

    operation: str
    owner: str
    run_id: str | None = None
    session_id: str | None = None
    key: str | None = None
    etag: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    at: float = 0.0
    # For the answer to a call: its id, and what the answer says.
    call_id: str | None = None
    sent: Sent | None = None
    # The sender's roles. Without them a proxy names the owner, who has all of them for own runs.
    roles: str = ""

    def repeated(self, at: float, body: Mapping[str, Any]) -> "ClientRequest":
        return replace(self, at=at, body=dict(body))


class AnswerAuditor:
    """Checks the requests and answers of clients."""

    def __init__(
        self, evidence: Evidence, coverage: Coverage, quotas: QuotaAuditor, waits: WaitAuditor
    ) -> None:
        self._evidence, self._coverage, self._quotas = evidence, coverage, quotas
        self._feeds = FeedAuditor(evidence)
        self._calls = CallAnswerAuditor(evidence, waits)
        self._starts = StartAuditor(evidence)

    def session_of(self, run_id: str) -> str:
        return self._evidence.runs[run_id].run.session_id

    def owner_of(self, run_id: str) -> str:
        return self._evidence.runs[run_id].owner

    def requested(self, request: ClientRequest) -> None:
        """Note a request before it can have an effect."""
        evidence = self._evidence
        seen = evidence.runs.get(request.run_id or "")
        if request.operation == "start" and request.key:
            evidence.bodies.setdefault((request.owner, request.key), set()).add(_canonical(request.body))
        if seen and seen.owner == request.owner and not request.roles:
            seen.cancel_requested = seen.cancel_requested or request.operation == "cancel"
            seen.delete_requested = seen.delete_requested or request.operation == "delete"
        if request.operation == "delete session":
            for one in evidence.of_session(request.session_id or ""):
                if one.owner == request.owner:
                    evidence.sessions_delete_requested.add(request.session_id or "")
                    one.delete_requested = True

    def parsed(self, request: ClientRequest, reply: Reply) -> dict[str, Any] | None:
        """Return the body of an answer, or None if it cannot be read, which breaks a promise."""
        try:
            return dict(json.loads(reply.body)) if reply.body else {}
        except ValueError:
            about = request.run_id or request.session_id or ""
            self._require(False, 4, about, f"{request.operation} is answered with a body that is not JSON")
            return None

    def answered(self, request: ClientRequest, reply: Reply, body: dict[str, Any], by: Invocation) -> None:
        """Check the answer to a request. `body` is as the client has parsed it."""
        self._coverage.answers[f"{request.operation} {reply.status}"] += 1
        about = request.run_id or request.session_id or str(body.get("id", ""))
        self._require(not _shows_a_tombstone(body), 8, about, f"{request.operation} shows a deleted run")
        if reply.status == 503 and request.operation != "health":
            # A write that another invocation has overwritten looks as if it never happened.
            runs = [self._evidence.runs[one] for one in sorted(by.touched) if one in self._evidence.runs]
            refused = by.storage_faults > by.lost_replies or any(one.writer is not by for one in runs)
            what = f"{request.operation} got a 503, but all that it requested was carried out"
            self._require(refused, 2, about, what)
            self._calls.unavailable(request, by)
            return
        if reply.status >= 500 and request.operation != "health":
            self._require(False, 10, about, f"{request.operation} got a {reply.status}")
        match request.operation:
            case "start":
                self._started(request, reply, body, by)
            case "read" | "cancel" | "delete" | "events":
                self._about_a_run(request, reply, body)
            case "answer" | "calls" | "waits":
                self._calls.told(request, reply, body, by)
            case "list":
                self._listed(request, body)
            case "session page" | "delete session":
                self._about_a_session(request, reply, body)

    def _require(self, holds: bool, promise: int, run_id: str, what: str) -> None:
        self._evidence.require(holds, promise, run_id, what)

    def _started(self, request: ClientRequest, reply: Reply, body: dict[str, Any], by: Invocation) -> None:
        evidence = self._evidence
        code = body.get("code")
        name = (request.owner, request.key or "")
        if reply.status in {200, 202}:
            seen = evidence.runs.get(body["id"])
            if seen is None:
                evidence.breach(2, body["id"], "a start was accepted, and its run is not stored")
                return
            self._require(seen.owner == request.owner, 8, seen.run.id, "a start returned another owner's run")
            if request.key:
                known = evidence.keys.setdefault(name, (body["id"], _canonical(request.body)))
                self._require(known[0] == body["id"], 6, body["id"], f"key {name} returned {known[0]} before")
                self._require(
                    known[1] == _canonical(request.body),
                    6,
                    body["id"],
                    f"key {name} was accepted with another body",
                )
            self._starts.accepted(request, seen)
        elif code in {"too_many_pending_runs", "too_many_starts"} and reply.status == 429:
            self._quotas.refused(request.owner, code, request.at, by)
            self._was_not_repeated(request)
        elif code == "idempotency_key_reused":
            self._require(
                len(evidence.bodies.get(name, ())) > 1, 6, "", f"key {name} was never used with another body"
            )
        elif code in {"run_deleted", "run_not_found"}:
            self._require(
                any(one.delete_requested for one in evidence.runs.values() if one.owner == request.owner),
                6,
                "",
                "no run was deleted",
            )
        elif code == "session_busy":
            busy = any(
                self._pending_since(one, request.at) for one in evidence.of_session(request.session_id or "")
            )
            self._require(
                busy, 2, request.session_id or "", "the session was not busy, but was answered as busy"
            )
        elif code == "session_not_found":
            gone = request.session_id in evidence.sessions_delete_requested
            self._require(gone, 8, request.session_id or "", "a session that no client deleted is not found")
        elif code in {"output_missing", "input_not_allowed"} and reply.status == 422:
            self._starts.refused(request, code)
        else:
            self._require(False, 10, "", f"a start was answered {reply.status} {code}")

    def _was_not_repeated(self, request: ClientRequest) -> None:
        """Check that a start over a quota is not one whose run was stored before it was requested."""
        known = self._evidence.keys.get((request.owner, request.key or ""))
        seen = self._evidence.runs[known[0]] if known and request.key else None
        if known and seen and known[1] == _canonical(request.body):
            self._require(seen.since >= request.at, 6, seen.run.id, "a repeated start was over a quota")

    def _pending_since(self, seen: Seen, at: float) -> bool:
        """Return whether a run was pending at any time since `at`."""
        return seen.ended_at is None or seen.ended_at >= at or seen.since >= at

    def _about_a_run(self, request: ClientRequest, reply: Reply, body: dict[str, Any]) -> None:
        seen = self._evidence.runs[request.run_id or ""]
        run_id = seen.run.id
        if seen.owner != request.owner:
            self._require(
                reply.status == (403 if request.roles else 404),
                8,
                run_id,
                f"{request.owner} got a {reply.status} for another owner's run",
            )
            return
        at_first = seen.status_at(request.at)
        if at_first is RunStatus.DELETED:
            self._require(reply.status == 404, 8, run_id, f"deleted, but answered {reply.status}")
        elif reply.status == 404:
            self._require(seen.deleted, 8, run_id, "not found, but not deleted")
        elif reply.status == 409:
            self._require(seen.ended_at is not None, 1, run_id, "answered as ended, but has not ended")
        elif reply.status == 204:
            self._require(seen.deleted, 8, run_id, "answered as deleted, but is not deleted")
        elif request.operation == "events":
            self._feeds.told(run_id, int(request.query["after"]), body)
        else:
            self._reads_right(request, seen, body)
            self._is_metered(seen, body)

    def _is_metered(self, seen: Seen, body: dict[str, Any]) -> None:
        """Check that usage which never came is null, and that joins are told."""
        run = seen.run
        if run.terminal and not seen.deleted and body["status"] == run.status:
            cut = run.generates and run.turn_started_at is not None
            right = (body["usage"] is None) == (seen.unmetered or cut)
            self._require(right, 15, run.id, f"its usage is told as {body['usage']}")
            joins = {"exact": run.joins, "best_effort": run.loose_joins} if run.generates else None
            self._require(body["joins"] == joins, 15, run.id, f"its joins are told as {body['joins']}")

    def _reads_right(self, request: ClientRequest, seen: Seen, body: dict[str, Any]) -> None:
        run_id, status = seen.run.id, body["status"]
        since = seen.status_at(request.at)
        possible = {since} | {one for at, one in seen.statuses if at >= request.at}
        self._require(status in possible, 1, run_id, f"read as {status}, was {sorted(map(str, possible))}")
        self._calls.required(run_id, body, request.at)
        if RunStatus(status).terminal:
            self._feeds.read(run_id, body["output_text"])
            texts = {transcript.text_of(items) for items in seen.outputs}
            self._require(
                body["output_text"] == "" or body["output_text"] in texts,
                4,
                run_id,
                "its text is not from the provider",
            )

    def _listed(self, request: ClientRequest, body: dict[str, Any]) -> None:
        listed = [item["id"] for item in body["data"]]
        self._require(listed == sorted(listed, key=lambda one: one[6:]), 8, "", "a list is not newest first")
        for run_id in listed:
            seen = self._evidence.runs[run_id]
            self._require(seen.owner == request.owner, 8, run_id, f"{request.owner} sees another owner's run")
            self._require(
                seen.status_at(request.at) is not RunStatus.DELETED, 8, run_id, "listed after it was deleted"
            )
        if "nextLink" not in body and not request.query:
            expected = {
                run_id
                for run_id, seen in self._evidence.runs.items()
                if seen.owner == request.owner and seen.since < request.at and not seen.deleted
            }
            missing = sorted(expected - set(listed))
            self._require(not missing, 2, "", f"a list leaves out {missing}")

    def _about_a_session(self, request: ClientRequest, reply: Reply, body: dict[str, Any]) -> None:
        evidence, session_id = self._evidence, request.session_id or ""
        runs = evidence.of_session(session_id)
        if any(one.owner != request.owner for one in runs):
            self._require(reply.status == 404, 8, session_id, f"another owner's session: {reply.status}")
        elif session_id in evidence.sessions_deleted and evidence.sessions_deleted[session_id] < request.at:
            self._require(reply.status == 404, 8, session_id, f"a deleted session: {reply.status}")
        elif reply.status == 204:
            evidence.sessions_deleted.setdefault(session_id, evidence.now())
            left = [one.run.id for one in runs if one.since < request.at and not one.deleted]
            self._require(not left, 8, session_id, f"deleted, but still has {left}")
        elif reply.status == 404:
            requested = session_id in evidence.sessions_delete_requested
            self._require(requested, 8, session_id, "not found, but no client deleted it")
        elif reply.status == 200:
            self._transcript(request, body)
        else:
            self._require(reply.status == 409, 10, session_id, f"{request.operation}: {reply.status}")

    def _transcript(self, request: ClientRequest, body: dict[str, Any]) -> None:
        """Check that every answer in a transcript is from the provider."""
        known = [
            item
            for seen in self._evidence.of_session(request.session_id or "")
            for items in seen.outputs
            for item in items
        ]
        for item in body["transcript"]:
            if item.get("type") == "message" and item.get("role") == "assistant":
                what = "a transcript has a text that is not from the provider"
                self._require(item in known, 4, request.session_id or "", what)


def _shows_a_tombstone(body: Mapping[str, Any]) -> bool:
    shown = (body, *body.get("data", ()), *body.get("runs", ()))
    return any(one.get("status") == RunStatus.DELETED for one in shown)


def _canonical(body: Mapping[str, Any]) -> str:
    return _ENCODER.encode(body)
