"""Our own code, wired as in production, with a clock that the scenario moves instead of waiting."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.load import drive
from bench.measure import Meter
from shared.adapters.tools import InstalledAgents
from shared.agent import Agent
from shared.app import Baton
from shared.log import hush_libraries
from shared.settings import load
from shared.web import handlers
from shared.web.http import Request

INSTRUCTIONS = "You write very long novels, chapter by chapter, and never ask back."
REQUEST = {
    "agent": "space_novelist",
    "input": "Write a very long novel about astronauts exploring an unknown galaxy.",
}
AGENT = Agent(name="space_novelist", model="stub", instructions=INSTRUCTIONS)
STARTS_IN_FLIGHT = 64


@dataclass
class MovedClock:
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.at


class Listener(logging.Handler):
    """Formats each line, as the Functions worker does, and keeps what tells whether the app did its work."""

    def __init__(self) -> None:
        super().__init__()
        self.polls = 0
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if record.levelno >= logging.WARNING:
            self.faults.append(line)
        elif line.startswith("tick.done "):
            self.polls += json.loads(line.removeprefix("tick.done "))["polls"]


@dataclass(frozen=True, slots=True)
class DrivenBaton:
    """The app and what a scenario needs to make it work: it takes no time for time to pass."""

    baton: Baton
    clock: MovedClock
    log: Listener

    async def answer(self, handler: Any, *path: str, body: Any = None) -> Any:
        url = "http://127.0.0.1/api/runs"
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        reply = await handlers.answer(
            handler, self.baton.api, Request(url=url, headers=headers, body=content), *path
        )
        assert reply.status < 300, reply.body
        return json.loads(reply.body)

    async def start(self, _number: int = 0) -> str:
        run_id: str = (await self.answer(handlers.start_run, body=REQUEST))["id"]
        return run_id

    async def tick(self) -> int:
        """Let every run fall due and tick once; return how many were polled."""
        self.clock.at += self.baton.settings.poll_max
        before = self.log.polls
        wakes = await self.baton.tick()
        assert not wakes, "these runs have no work for workers"
        assert not self.log.faults, self.log.faults[0]
        return self.log.polls - before


@asynccontextmanager
async def driven(provider: str, storage: str, **settings: str) -> AsyncIterator[DrivenBaton]:
    log = Listener()
    logging.getLogger().addHandler(log)
    logging.getLogger().setLevel(logging.INFO)
    hush_libraries()
    environment = {
        "AzureWebJobsStorage": storage,
        "OPENAI_BASE_URL": provider,
        "OPENAI_API_KEY": "bench",
        "WORK_QUEUE": "bench-work",
        "POLL_SCHEDULE": "*/5 * * * * *",
        **settings,
    }
    baton, clock = Baton(load(environment), InstalledAgents({AGENT.name: AGENT}, {})), MovedClock()
    baton.context = replace(baton.context, clock=clock)
    await baton.prepare()
    try:
        yield DrivenBaton(baton, clock, log)
    finally:
        await baton.close()


async def unchanged_polls(
    meter: Meter, *, provider: str, storage: str, runs: int, ticks: int, in_flight: int
) -> None:
    async with driven(provider, storage, POLL_CONCURRENCY=str(in_flight)) as app:
        await drive(app.start, times=runs, in_flight=STARTS_IN_FLIGHT)
        for _ in range(2):  # the first tick finds the runs begun, which is news
            assert await app.tick() == runs
        with meter.measuring(count=runs * ticks):
            for _ in range(ticks):
                assert await app.tick() == runs


async def whole_runs(
    meter: Meter, *, provider: str, storage: str, runs: int, polls: int, in_flight: int
) -> None:
    async with driven(provider, storage, POLL_CONCURRENCY=str(in_flight)) as app:
        await drive(app.start, times=10, in_flight=10)
        for _ in range(polls):
            await app.tick()
        ids = []
        with meter.measuring(count=runs):

            async def start(_number):
                ids.append(await app.start())

            await drive(start, times=runs, in_flight=min(in_flight, STARTS_IN_FLIGHT))
            for _ in range(polls):
                assert await app.tick() == runs
        assert await app.tick() == 0
        for run_id in ids:
            assert (await app.answer(handlers.get_run, run_id))["status"] == "completed"
