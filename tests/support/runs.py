"""Runs, sessions and deliveries, written down with no more than a test is about."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.core import ids
from shared.core.delivery import CancelResponse, Delivery
from shared.core.log import LogEntry, RunQueued
from shared.core.run import Chaining, Content, Run, Session, Step
from shared.ports.providers import DEFAULT_PROVIDER

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWNER = "default"


def an_id(kind: str, shard: int = 0, number: int = 0, at: datetime = NOW) -> str:
    """Return the id of a run or a session that was made `number` seconds after `at`."""
    return ids.new_id(kind, shard, at + timedelta(seconds=number), bytes([number]) * ids.RANDOM_BYTES)


def a_run(**changes: Any) -> Run:
    """Return a run that waits for its first response, with an empty log."""
    at = changes.get("created_at", NOW)
    fields = {
        "id": an_id("run"),
        "session_id": an_id("ses"),
        "owner": OWNER,
        "agent": "writer",
        "provider": DEFAULT_PROVIDER,
        "max_turns": 3,
        "step": Step.CREATE,
        "due": at,
        "chaining": Chaining.PREVIOUS_RESPONSE_ID,
        "created_at": at,
        "updated_at": at,
        "expires_at": at + timedelta(minutes=30),
        "input": Content(inline=b"hi"),
    }
    return Run(**fields | changes)


def a_logged_run(entries: Sequence[LogEntry] = (RunQueued(),), **changes: Any) -> Run:
    """Return a run whose log is `entries`, as the stores keep it."""
    counts = {"entries": len(entries), "stream_events": sum(entry.stream_events for entry in entries)}
    return a_run(**counts | changes)


def a_session(run: Run, **changes: Any) -> Session:
    """Return the session of a run, which is its first and holds it."""
    fields = {
        "id": run.session_id,
        "owner": run.owner,
        "agent": run.agent,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
        "held_by": run.id,
        "last_run_id": run.id,
        "runs": 1,
    }
    return Session(**fields | changes)


def a_delivery(run_id: str, name: str, response_id: str, due: datetime = NOW) -> Delivery:
    """Return the cancellation of a response that no run adopted."""
    content = CancelResponse(DEFAULT_PROVIDER, response_id)
    return Delivery(run_id=run_id, name=name, content=content, created_at=NOW, due=due)
