"""Holds every answer that a client got against what was so while it waited."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shared.core.run import RunStatus
from shared.web.http import Reply
from tests.proofs.simulation.answer_feeds import FeedAuditor
from tests.proofs.simulation.coverage import Coverage
from tests.proofs.simulation.evidence import Evidence, Seen
from tests.proofs.simulation.scheduler import Invocation


@dataclass(frozen=True, slots=True)
class Asked:
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

    def again(self, at: float, body: Mapping[str, Any]) -> "Asked":
        return replace(self, at=at, body=dict(body))


class AnswerAuditor:
    """Sees what clients ask and are told."""

    def __init__(self, evidence: Evidence, coverage: Coverage) -> None:
        self._evidence, self._coverage = evidence, coverage
        self._feeds = FeedAuditor(evidence)

    def session_of(self, run_id: str) -> str:
        return self._evidence.runs[run_id].run.session_id

    def owner_of(self, run_id: str) -> str:
        return self._evidence.runs[run_id].owner

    def asked(self, asked: Asked) -> None:
        """Note what was asked for, before anything can come of it."""
        evidence = self._evidence
        seen = evidence.runs.get(asked.run_id or "")
        if asked.operation == "start" and asked.key:
            evidence.bodies.setdefault((asked.owner, asked.key), set()).add(_canonical(asked.body))
        if seen and seen.owner == asked.owner:
            seen.cancel_asked = seen.cancel_asked or asked.operation == "cancel"
            seen.delete_asked = seen.delete_asked or asked.operation == "delete"
        if asked.operation == "delete session":
            for one in evidence.of_session(asked.session_id or ""):
                if one.owner == asked.owner:
                    evidence.sessions_delete_asked.add(asked.session_id or "")
                    one.delete_asked = True

    def answered(self, asked: Asked, reply: Reply, by: Invocation) -> None:
        self._coverage.answers[f"{asked.operation} {reply.status}"] += 1
        body = json.loads(reply.body) if reply.body else {}
        about = asked.run_id or asked.session_id or str(body.get("id", ""))
        self._require(not _shows_a_tombstone(body), 8, about, f"{asked.operation} shows a deleted run")
        if reply.status == 503 and asked.operation != "health":
            # What another has written over, nobody can tell from what never was.
            runs = [self._evidence.runs[one] for one in sorted(by.touched) if one in self._evidence.runs]
            refused = by.storage_faults > by.lost_replies or any(one.writer is not by for one in runs)
            what = f"{asked.operation} got a 503, though everything it asked for was carried out"
            self._require(refused, 2, about, what)
            return
        if reply.status >= 500 and asked.operation != "health":
            self._require(False, 10, about, f"{asked.operation} got a {reply.status}")
        match asked.operation:
            case "start":
                self._started(asked, reply, body)
            case "read" | "cancel" | "delete" | "events":
                self._about_a_run(asked, reply, body)
            case "list":
                self._listed(asked, body)
            case "session page" | "delete session":
                self._about_a_session(asked, reply, body)

    def _require(self, holds: bool, promise: int, run_id: str, what: str) -> None:
        self._evidence.require(holds, promise, run_id, what)

    def _started(self, asked: Asked, reply: Reply, body: dict[str, Any]) -> None:
        evidence = self._evidence
        code = body.get("code")
        name = (asked.owner, asked.key or "")
        if reply.status in {200, 202}:
            seen = evidence.runs.get(body["id"])
            if seen is None:
                evidence.breach(2, body["id"], "a start was accepted, and its run is not stored")
                return
            self._require(seen.owner == asked.owner, 8, seen.run.id, "another owner's run was given")
            if asked.key:
                known = evidence.keys.setdefault(name, (body["id"], _canonical(asked.body)))
                self._require(known[0] == body["id"], 6, body["id"], f"key {name} gave {known[0]} before")
                self._require(
                    known[1] == _canonical(asked.body),
                    6,
                    body["id"],
                    f"key {name} was taken with another body",
                )
        elif code == "idempotency_key_reused":
            self._require(
                len(evidence.bodies.get(name, ())) > 1, 6, "", f"key {name} was never used otherwise"
            )
        elif code in {"run_deleted", "run_not_found"}:
            self._require(
                any(one.delete_asked for one in evidence.runs.values() if one.owner == asked.owner),
                6,
                "",
                "nothing was deleted",
            )
        elif code == "session_busy":
            busy = any(
                self._pending_since(one, asked.at) for one in evidence.of_session(asked.session_id or "")
            )
            self._require(busy, 2, asked.session_id or "", "the session was called busy, and was not")
        elif code == "session_not_found":
            gone = asked.session_id in evidence.sessions_delete_asked
            self._require(gone, 8, asked.session_id or "", "a session that nobody deleted is not found")
        else:
            self._require(False, 10, "", f"a start was answered {reply.status} {code}")

    def _pending_since(self, seen: Seen, at: float) -> bool:
        """Say whether a run was, at any time since `at`, not at its end."""
        return seen.ended_at is None or seen.ended_at >= at or seen.since >= at

    def _about_a_run(self, asked: Asked, reply: Reply, body: dict[str, Any]) -> None:
        seen = self._evidence.runs[asked.run_id or ""]
        run_id = seen.run.id
        if seen.owner != asked.owner:
            self._require(
                reply.status == 404, 8, run_id, f"{asked.owner} got a {reply.status} for another's run"
            )
            return
        at_first = seen.status_at(asked.at)
        if at_first is RunStatus.DELETED:
            self._require(reply.status == 404, 8, run_id, f"deleted, and answered {reply.status}")
        elif reply.status == 404:
            self._require(seen.deleted, 8, run_id, "not found, and nobody deleted it")
        elif reply.status == 409:
            self._require(seen.ended_at is not None, 1, run_id, "said to have ended, and has not")
        elif reply.status == 204:
            self._require(seen.deleted, 8, run_id, "said to be deleted, and is not")
        elif asked.operation == "events":
            self._feeds.told(run_id, int(asked.query["after"]), body)
        else:
            self._reads_right(asked, seen, body)

    def _reads_right(self, asked: Asked, seen: Seen, body: dict[str, Any]) -> None:
        run_id, status = seen.run.id, body["status"]
        since = seen.status_at(asked.at)
        possible = {since} | {one for at, one in seen.statuses if at >= asked.at}
        self._require(status in possible, 1, run_id, f"read as {status}, was {sorted(map(str, possible))}")
        if RunStatus(status).terminal:
            self._feeds.read(run_id, body["output_text"])
            told = {text for one in seen.responses for text in map(_text, [s.output for s in one.told])}
            self._require(
                body["output_text"] == "" or body["output_text"] in told,
                4,
                run_id,
                "a text that nobody wrote",
            )

    def _listed(self, asked: Asked, body: dict[str, Any]) -> None:
        listed = [item["id"] for item in body["data"]]
        self._require(listed == sorted(listed, key=lambda one: one[6:]), 8, "", "a list is not newest first")
        for run_id in listed:
            seen = self._evidence.runs[run_id]
            self._require(seen.owner == asked.owner, 8, run_id, f"{asked.owner} sees another's run")
            self._require(
                seen.status_at(asked.at) is not RunStatus.DELETED, 8, run_id, "listed after it was deleted"
            )
        if "nextLink" not in body and not asked.query:
            there = {
                run_id
                for run_id, seen in self._evidence.runs.items()
                if seen.owner == asked.owner and seen.since < asked.at and not seen.deleted
            }
            missing = sorted(there - set(listed))
            self._require(not missing, 2, "", f"a list leaves out {missing}")

    def _about_a_session(self, asked: Asked, reply: Reply, body: dict[str, Any]) -> None:
        evidence, session_id = self._evidence, asked.session_id or ""
        runs = evidence.of_session(session_id)
        if any(one.owner != asked.owner for one in runs):
            self._require(reply.status == 404, 8, session_id, f"another's session: {reply.status}")
        elif session_id in evidence.sessions_deleted and evidence.sessions_deleted[session_id] < asked.at:
            self._require(reply.status == 404, 8, session_id, f"a deleted session: {reply.status}")
        elif reply.status == 204:
            evidence.sessions_deleted.setdefault(session_id, evidence.now())
            left = [one.run.id for one in runs if one.since < asked.at and not one.deleted]
            self._require(not left, 8, session_id, f"deleted, and still has {left}")
        elif reply.status == 404:
            asked_for = session_id in evidence.sessions_delete_asked
            self._require(asked_for, 8, session_id, "not found, and nobody deleted it")
        elif reply.status == 200:
            self._transcript(asked, body)
        else:
            self._require(reply.status == 409, 10, session_id, f"{asked.operation}: {reply.status}")

    def _transcript(self, asked: Asked, body: dict[str, Any]) -> None:
        """Every answer in a transcript is one that the provider gave."""
        told = {
            _text(snapshot.output)
            for seen in self._evidence.of_session(asked.session_id or "")
            for response in seen.responses
            for snapshot in response.told
        }
        for item in body["transcript"]:
            if item.get("type") == "message" and item.get("role") == "assistant":
                text = "".join(part["text"] for part in item["content"])
                self._require(
                    text in told, 4, asked.session_id or "", "a transcript has a text that nobody wrote"
                )


def _shows_a_tombstone(body: Mapping[str, Any]) -> bool:
    shown = (body, *body.get("data", ()), *body.get("runs", ()))
    return any(one.get("status") == RunStatus.DELETED for one in shown)


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True)


def _text(output: str) -> str:
    return "".join(part["text"] for item in json.loads(output) for part in item.get("content", ()))
