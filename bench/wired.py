"""Our own code, wired as in production, with a clock that only the scenario moves."""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.load import drive
from bench.novel import AGENT, INSTRUCTIONS, REQUEST
from shared.adapters.agents.running import InstalledAgents
from shared.agent import Agent
from shared.app import Baton
from shared.core import ids
from shared.core.log import RunInProgress
from shared.core.run import Chaining, Content, Continuation, Run, RunStatus, Session, Step
from shared.log import quiet_libraries
from shared.ports.providers import DEFAULT_PROVIDER
from shared.settings import load
from shared.store.sessions import StoredSession
from shared.web.http import Reply, Request
from shared.web.runs_api import handlers

NOVELIST = Agent(name=AGENT, model="stub", instructions=INSTRUCTIONS)
_BODY = json.dumps({"agent": AGENT, "input": REQUEST}).encode()
_URL = "http://127.0.0.1/api/runs"
_LAID_AT_ONCE = 32


@dataclass
class MovedClock:
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    correction: timedelta = timedelta()

    def now(self) -> datetime:
        return self.at


class Listener(logging.Handler):
    """Formats every line, as the Functions worker does; counts polls and collects faults."""

    def __init__(self) -> None:
        super().__init__()
        self.polls = 0
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if record.levelno >= logging.WARNING:
            self.faults.append(line)
        elif line.startswith("tick.completed "):
            self.polls += json.loads(line.removeprefix("tick.completed "))["polls"]


@dataclass(frozen=True, slots=True)
class WiredBaton:
    """The app, with the actions of a scenario."""

    app: Baton
    clock: MovedClock
    log: Listener

    async def answer(
        self, handler: Callable[..., Awaitable[Reply]], *path: str, body: bytes = b"", **query: str
    ) -> dict[str, Any]:
        headers = {"content-type": "application/json"}
        request = Request(url=_URL, headers=headers, query=query, body=body)
        reply = await handlers.answer(handler, self.app.api, request, *path)
        assert reply.status < 300, reply.body
        run: dict[str, Any] = json.loads(reply.body)
        return run

    async def start(self) -> str:
        return str((await self.answer(handlers.start_run, body=_BODY))["id"])

    async def lay(self, runs: int, *, sequence: int | None = None) -> None:
        """Store runs in progress; with a `sequence` they are streamed."""
        await drive(lambda number: self._lay(number, sequence), times=runs, in_flight=_LAID_AT_ONCE)

    def let_all_fall_due(self) -> None:
        self.clock.at += self.app.settings.poll.longest

    async def tick(self, polls: int) -> None:
        """Tick once, when all runs are due; raise AssertionError unless it makes `polls` polls."""
        self.let_all_fall_due()
        before = self.log.polls
        messages = await self.app.tick()
        assert not messages, "these runs are owed nothing that a worker does"
        assert not self.log.faults, self.log.faults[0]
        assert self.log.polls - before == polls, f"{self.log.polls - before} polls, not {polls}"

    async def _lay(self, number: int, sequence: int | None) -> None:
        now, shard = self.clock.now(), number % ids.SHARDS
        random = number.to_bytes(ids.RANDOM_BYTES)
        session_id, run_id = (ids.new_id(kind, shard, now, random) for kind in ("ses", "run"))
        response_id, entry = f"resp_{number:048d}", RunInProgress()
        run = Run(
            id=run_id,
            session_id=session_id,
            owner="default",
            agent=AGENT,
            provider=DEFAULT_PROVIDER,
            max_turns=8,
            status=RunStatus.IN_PROGRESS,
            step=Step.POLL,
            due=now,
            entries=1,
            stream_events=entry.stream_events,
            turn_started_at=now,
            continuation=Continuation(response_id, sequence),
            responses=(response_id,),
            chaining=Chaining.PREVIOUS_RESPONSE_ID,
            created_at=now,
            updated_at=now,
            started_at=now,
            expires_at=now + timedelta(hours=1),
            input=Content(inline=b""),
        )
        session = Session(
            id=session_id, owner=run.owner, agent=AGENT, created_at=now, updated_at=now, held_by=run_id
        )
        await self.app.context.runs.insert(run, StoredSession(session), [entry])


@asynccontextmanager
async def wired(
    provider: str, storage: str, agent: Agent = NOVELIST, /, **settings: str
) -> AsyncIterator[WiredBaton]:
    log = Listener()
    logging.getLogger().addHandler(log)
    logging.getLogger().setLevel(logging.INFO)
    quiet_libraries()
    environment = {
        "AzureWebJobsStorage": storage,
        "OPENAI_BASE_URL": provider,
        "OPENAI_API_KEY": "bench",
        **settings,
    }
    declared = [agent.provider] if agent.provider else []
    app = Baton(load(environment, providers=declared), InstalledAgents({AGENT: agent}, {}))
    clock = MovedClock()
    app.context = replace(app.context, clock=clock)
    await app.prepare()
    try:
        yield WiredBaton(app, clock, log)
    finally:
        await app.close()
