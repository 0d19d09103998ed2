"""A run as the dashboard reads it, with the content that a test sets."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from shared.core.ids import new_id

LINES = [f"Line {n} of what the model wrote, \u00e4\u00f6\u00fc \U0001f680.\n" for n in range(40)]
EMAIL = '{"to": "anna@example.com", "subject": "Your order", "copies": 12345678901234567890}'
OVER = {"completed", "failed", "cancelled", "incomplete", "expired"}


def timestamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def used(read: int, written: int, *, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": read + written,
    }


@dataclass
class FakeRun:
    """A run and its feed. `note` adds an event `later` seconds after the one before."""

    number: int = 0
    agent: str = "space_novelist"
    status: str = "in_progress"
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    session: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    # The calls that waited or wait for people, in the shape of the API.
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = new_id("run", 3, self.created, self.number.to_bytes(10, "big"))
        self.session = self.session or new_id("ses", 3, self.created, (self.number + 7).to_bytes(10, "big"))
        self.at = self.created

    def note(self, kind: str, later: float = 0, **content: Any) -> Self:
        self.at += timedelta(seconds=later)
        self.events.append({"id": len(self.events) + 1, "type": kind, "at": timestamp(self.at), **content})
        return self

    def tool(self, name: str, arguments: str, output: str, *, seconds: float = 1, **fields: Any) -> Self:
        """Run a tool. `fields` replace those of the call."""
        call = {
            "call_id": f"call_{len(self.calls) + 1}",
            "name": name,
            "turn": 1,
            "status": "completed",
        } | fields
        named = {field: call[field] for field in ("turn", "call_id", "name")}
        started = timestamp(self.at)
        self.note("tool.started", **named, arguments=arguments)
        self.note("tool.completed", seconds, **named, status=call["status"], output=output)
        self.calls.append(call | {"started_at": started, "completed_at": timestamp(self.at)})
        return self

    def ask(
        self, name: str, arguments: str, kind: str = "approval", *, hours: float = 168, **fields: Any
    ) -> Self:
        """Let a call wait for people. `fields` replace those of the call."""
        number = len(self.asked) + 1
        asked = {
            "object": "call",
            "id": f"call_01_{number:032x}",
            "call_id": f"fc_{number}",
            "run_id": self.id,
            "turn": 1,
            "name": name,
            "server_label": None,
            "status": "waiting",
            "type": kind,
            "arguments": arguments,
            "arguments_fixed": False,
            "waiting_since": timestamp(self.at),
            "expires_at": timestamp(datetime.now(UTC) + timedelta(hours=hours)),
            "started_at": None,
            "completed_at": None,
            "answer": None,
        } | fields
        self.asked.append(asked)
        named = {"turn": 1, "call": asked["id"], "call_id": asked["call_id"], "name": name}
        self.note("call.waiting", **named, wait=kind, expires_at=asked["expires_at"])
        self.status = "requires_action"
        return self

    def settle(self, asked: dict[str, Any], status: str, **answer: Any) -> dict[str, Any]:
        """Store the answer to a call that waits. When no other waits, the run goes on."""
        # Answers are given when they are given, and not in the time of the feed.
        self.at = max(self.at, datetime.now(UTC))
        fields = {"by": None, "by_name": None, "at": timestamp(self.at), "reason": None, "arguments": None}
        asked |= {"status": status, "answer": fields | answer}
        told = {
            name: value
            for name in ("by", "by_name", "reason")
            if (value := asked["answer"][name]) is not None
        }
        named = {"turn": 1, "call": asked["id"], "call_id": asked["call_id"], "name": asked["name"]}
        self.note("call.answered", **named, answer=asked["answer"]["type"], **told)
        if not any(one["status"] == "waiting" for one in self.asked):
            self.status = "in_progress"
        return asked

    def write(self, *texts: str, every: float = 0.5) -> Self:
        for text in texts:
            self.note("text.delta", every, turn=1, text=text)
        return self

    def end(self, status: str = "completed", later: float = 0.1, **fields: Any) -> Self:
        self.note(f"run.{status}", later)
        self.status = status
        for asked in self.asked:
            asked["status"] = "cancelled" if asked["status"] == "waiting" else asked["status"]
        self.fields |= {"completed_at": timestamp(self.at), "progress": None, **fields}
        return self

    def view(self, *, whole: bool = False) -> dict[str, Any]:
        """Return the run as `GET /api/runs/{id}` has it. `whole` is `?include=input`."""
        view = (
            self.summary()
            | {"required_action": self._required(), "input": None, "output_parsed": None, "output_text": None}
            | self.fields
        )
        if len(json.dumps(view["input"])) > 64 * 1024 and not whole:
            view["input"] = None
        return view

    def _required(self, *, summary: bool = False) -> list[dict[str, Any]] | None:
        names = ("type", "id", "call_id", "name", "server_label", "arguments", "expires_at")
        waiting = [
            {name: asked[name] for name in names}
            | ({"server_label": None, "arguments": None} if summary else {})
            for asked in self.asked
            if asked["status"] == "waiting"
        ]
        return waiting if self.status == "requires_action" else None

    def summary(self) -> dict[str, Any]:
        """Return the run as a list has it."""
        took = (self.at - self.created).total_seconds() if self.status in OVER else None
        view = {
            "id": self.id,
            "object": "run",
            "status": self.status,
            "agent": self.agent,
            "session_id": self.session,
            "created_at": timestamp(self.created),
            "updated_at": timestamp(self.at),
            "started_at": timestamp(self.created),
            "completed_at": None,
            "expires_at": None
            if self.status == "requires_action"
            else timestamp(self.created + timedelta(minutes=30)),
            "turn": 1,
            "waiting_for": None,
            "error": None,
            "refusal": None,
            "incomplete_details": None,
            "required_action": self._required(summary=True),
            "metadata": {},
            "tool_calls": self.calls,
            "usage": used(0, 0),
            "progress": None,
            "input_excerpt": "",
            "duration_seconds": took,
            "retry_of": None,
        }
        return view | {name: value for name, value in self.fields.items() if name in view}


def running(number: int = 1, **fields: Any) -> FakeRun:
    return FakeRun(number, **fields).note("run.queued").note("run.in_progress", 1)


def writing(number: int = 1) -> FakeRun:
    return running(number).note("turn.started", turn=1, response_id="r").write(*LINES)


def waiting(number: int = 1, *, minutes: float = 0, **fields: Any) -> FakeRun:
    """Return a run that asks for an approval."""
    created = datetime.now(UTC) - timedelta(minutes=minutes)
    run = running(number, created=created, **fields).note("turn.started", 1, turn=1, model="gpt-5")
    run.note("turn.completed", 2, turn=1, tool_calls=1).ask("send_email", EMAIL)
    return run.note("run.requires_action")


def finished(number: int = 1, *, minutes: float = 0, **fields: Any) -> FakeRun:
    created = datetime.now(UTC) - timedelta(minutes=minutes)
    return running(number, created=created, **fields).note("turn.started", turn=1).write("Done.").end()
