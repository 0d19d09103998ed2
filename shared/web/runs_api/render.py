"""Runs, events, sessions, agents, callers and health as the JSON that clients get."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from shared.core import log, transcript
from shared.core.answer import Answer, cut
from shared.core.caller import Caller, Role
from shared.core.calls import CallStatus, ToolCall
from shared.core.ids import call_id, item_id
from shared.core.limits import MAX_OUTPUT_MARKS
from shared.core.log import LogEntry, LogLine
from shared.core.response import Usage
from shared.core.run import Run, RunStatus, Session, Step
from shared.core.structure import finite, has_more_marks
from shared.core.text import json_text
from shared.ports.agents import AgentSpec
from shared.usecases.feed import Feed
from shared.usecases.health import Health
from shared.usecases.read import SessionPage
from shared.usecases.waiting import WaitingFor
from shared.web.http import Stored

# The field of an event that holds the text of its entry.
_TEXT_FIELDS: Mapping[type[LogEntry], str] = {
    log.TextDelta: "text",
    log.Commentary: "text",
    log.Refusal: "refusal",
    log.TextReplaced: "text",
    log.ToolStarted: "arguments",
    log.CallWaiting: "arguments",
    log.ToolCompleted: "output",
}
# Fields of an entry that point to its text.
_POINTERS = frozenset({"start", "end", "content"})


# Whoever watches a run reads the same few times again and again.
@lru_cache(maxsize=1024)
def time(at: datetime | None) -> str | None:
    """Return a time in UTC with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def etag(run: Run, waiting: WaitingFor | None) -> str:
    """Return the version of a run, and of why it waits, which changes without a transition."""
    return f'"{run.rev}.{waiting.attempt}"' if waiting else f'"{run.rev}"'


def run_summary(
    run: Run, waiting: WaitingFor | None = None, waits: Sequence[ToolCall] | None = None
) -> dict[str, Any]:
    """Return a run without its output. `waits` are the calls that it waits for, with their arguments, if these are loaded."""
    return {
        "id": run.id,
        "object": "run",
        "status": run.status.value,
        "agent": run.agent,
        "session_id": run.session_id,
        "created_at": time(run.created_at),
        "updated_at": time(run.updated_at),
        "started_at": time(run.started_at),
        "completed_at": time(run.completed_at),
        # While it waits for people, its clock stands still.
        "expires_at": None if run.paused_at else time(run.expires_at),
        "duration_seconds": _seconds(run),
        "input_excerpt": run.excerpt,
        "retry_of": run.retry_of,
        "turn": run.turn,
        "progress": None if run.terminal else progress(run),
        "waiting_for": _waiting_for(waiting) if waiting else None,
        "error": asdict(run.error) if run.error else None,
        "incomplete_details": {"reason": run.incomplete_reason} if run.incomplete_reason else None,
        "required_action": _required_action(run, waits),
        "metadata": dict(run.metadata),
        "tool_calls": [_tool_call(call) for call in run.calls],
        "joins": {"exact": run.joins, "best_effort": run.loose_joins} if run.generates else None,
        "usage": _usage(run.usage) if run.metered else None,
    }


def _required_action(run: Run, waits: Sequence[ToolCall] | None) -> list[Mapping[str, Any]] | None:
    """Return the calls that somebody has to answer. In lists they have neither arguments nor server, which would have to be loaded."""
    if run.status is not RunStatus.REQUIRES_ACTION:
        return None
    calls = waits if waits is not None else [call for call, _ in run.waits]
    return [
        {
            "type": call.wait.kind.value,
            "id": call_id(call.turn, call.call_id),
            "call_id": call.call_id,
            "name": call.name,
            "server_label": call.server or None,
            "arguments": call.arguments if waits is not None else None,
            "expires_at": time(call.wait.expires_at),
        }
        for call in calls
        if call.wait
    ]


def _seconds(run: Run) -> float | None:
    return round((run.completed_at - run.created_at).total_seconds(), 3) if run.completed_at else None


def _usage(usage: Usage) -> dict[str, Any]:
    """Return the usage in the shape of the Responses API."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _waiting_for(waiting: WaitingFor) -> dict[str, Any]:
    return asdict(waiting.error) | {
        "since": time(waiting.since),
        "attempt": waiting.attempt,
        "next_try_at": time(waiting.next_try_at),
    }


def progress(run: Run) -> dict[str, Any]:
    """Return the progress of a pending run. There is no percentage, because no provider sends the total."""
    return {"characters": run.written, "items": run.items, "activity": _activity(run)}


def _activity(run: Run) -> str:
    if run.status is RunStatus.CANCELLING:
        return "cancelling"
    if run.waits_for and run.status is RunStatus.REQUIRES_ACTION:
        return f"waiting for an {run.waits_for[0]}"
    if running := [call.name for call in run.calls if call.status is CallStatus.IN_PROGRESS]:
        return f"running {', '.join(running)}"
    return (run.activity if run.step in {Step.POLL, Step.GENERATE} else "") or "waiting"


def feed_event(run: Run, line: LogLine) -> dict[str, Any]:
    """Return a line of a run's log as one event of its feed."""
    entry = line.entry
    own = {"id": line.number, "type": entry.type, "at": time(line.at)}
    # An entry of a later version may have fields of these names too.
    return own | _event_data(run, entry, line.text) | own


def _event_data(run: Run, entry: LogEntry, text: str) -> dict[str, Any]:
    match entry:
        case log.UnknownEntry(_, data):
            return dict(data)
        case log.RunEnded():
            return {}
    fields = {name: getattr(entry, name) for name in entry.__slots__ if name not in _POINTERS}
    data = {name: value for name, value in fields.items() if value not in ("", None) and value is not False}
    if "item" in data:
        data["item_id"] = item_id(run.id, data.pop("item"))
    if isinstance(entry, log.CallWaiting | log.CallAnswered):
        data["call"] = call_id(entry.turn, entry.call_id)
    if isinstance(entry, log.CallWaiting):
        data["expires_at"] = time(entry.expires_at)
    if name := _TEXT_FIELDS.get(type(entry)):
        data[name] = text
    return data


def event_stream(feed: Feed, retry_ms: int) -> bytes:
    """Return events in the format of the browser's EventSource.

    The body ends, and the EventSource reconnects.
    """
    blocks = [f"retry: {retry_ms}\n\n"]
    for line in feed.lines:
        data = json.dumps(feed_event(feed.run, line), ensure_ascii=False, separators=(",", ":"))
        blocks.append(f"id: {line.number}\nevent: {line.entry.type}\ndata: {data}\n\n")
    return "".join(blocks).encode()


def run_view(
    run: Run,
    output: str | None,
    answer: Answer | None = None,
    waiting: WaitingFor | None = None,
    waits: Sequence[ToolCall] | None = None,
) -> dict[str, Any]:
    """Return a run with its output.

    `output` is the JSON text of its output items, None while it is pending. `answer` says where the answer stands in it.
    """
    summary = run_summary(run, waiting, waits)
    if output is None:
        return summary | {"output_text": None, "refusal": None, "output": None, "output_parsed": None}
    if answer is None:
        items = transcript.parse(output)
        answer_text: object = transcript.text_of(items)
        refusal: object = transcript.refusal_of(items) or None
    else:
        answer_text = Stored(cut(output, answer.text))
        refusal = Stored(cut(output, answer.refusal)) if answer.refusal else None
    parsed = _parsed(run, answer_text)
    return summary | {
        "output_text": answer_text,
        "refusal": refusal,
        "output": Stored(output),
        "output_parsed": parsed,
    }


def _parsed(run: Run, answer_text: object) -> Stored | None:
    """Return the value that the text of a structured answer is, as JSON.

    It was checked when the run ended, unless its agent had no output type any more. What a run says that hands calls over is no answer.
    """
    if not run.structured or run.status is not RunStatus.COMPLETED or run.handed_over:
        return None
    text = str(json.loads(answer_text.text) if isinstance(answer_text, Stored) else answer_text)
    if has_more_marks(text.encode(), MAX_OUTPUT_MARKS):
        return None
    try:
        value = json.loads(text, parse_constant=finite, parse_float=finite)
        return Stored(json_text(value))
    except (ValueError, RecursionError):
        return None


def _tool_call(call: ToolCall) -> Mapping[str, Any]:
    return {
        "id": call_id(call.turn, call.call_id),
        "call_id": call.call_id,
        "name": call.name,
        "status": call.status.value,
        "turn": call.turn,
        "started_at": time(call.started_at),
        "completed_at": time(call.completed_at),
    }


def session_view(page: SessionPage, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a session with the summaries of its runs."""
    return _session(page.session) | {
        "runs": runs,
        "transcript": _joined(page.transcript),
        "transcript_cut": page.cut,
    }


def _joined(lists: Iterable[str]) -> Stored:
    """Return one list with the elements of several, given as JSON texts."""
    insides = (text.strip()[1:-1].strip() for text in lists)
    return Stored(f"[{','.join(filter(None, insides))}]")


def _session(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "object": "session",
        "agent": session.agent,
        "created_at": time(session.created_at),
        "updated_at": time(session.updated_at),
        "held_by": session.held_by,
        "run_count": session.runs,
    }


def agent_view(spec: AgentSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "object": "agent",
        "description": spec.description,
        "model": spec.model,
        "tools": list(spec.tool_names),
        "max_turns": spec.max_turns,
        "deadline_seconds": int(spec.deadline.total_seconds()),
        "stream": spec.stream,
        "ready": not spec.missing_settings,
        "missing_settings": list(spec.missing_settings),
    }


def caller_view(caller: Caller) -> dict[str, Any]:
    return {
        "object": "caller",
        "owner": caller.owner,
        "roles": [role for role in Role if role in caller.roles],
        "name": caller.name,
        "recognised_by": caller.recognition,
    }


def health_view(health: Health, oldest_wait: datetime | None = None, *, counts: bool) -> dict[str, Any]:
    """Return the state of the app, with its counts or without. `oldest_wait`: since when a call has waited longest for an approval."""
    status = {"status": "late" if not health.ok else "degraded" if health.creates_failing else "ok"}
    if not counts:
        return status
    return status | {
        "pending": health.pending,
        "overdue": health.overdue,
        "creates_failing": health.creates_failing,
        "last_tick_at": time(health.last_tick_at),
        "clock_correction_seconds": round(health.clock_correction.total_seconds(), 1),
        "poison_messages": health.poison_messages,
        "oldest_wait_at": time(oldest_wait),
        "background_ignored_on_host": health.background_ignored,
    }
