"""Plays a case: the client's steps, the timer and the workers take turns, one virtual second after another."""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.adapters.agents.hosted import warn_of_unanswered_tools
from shared.core.run import Step
from tests.proofs.cases.app import CaseApp
from tests.proofs.cases.case import Case
from tests.proofs.cases.case import Step as ClientStep
from tests.proofs.cases.client import CaseClient
from tests.support.feeds import Reader

MOST_MESSAGES_PER_SECOND = 200


@dataclass(frozen=True)
class Outcome:
    """What can be seen of a case when it is over."""

    app: CaseApp
    client: CaseClient
    # The runs as a client reads them, with their feeds, oldest first. Deleted runs are not among them.
    runs: list[dict[str, Any]]
    feeds: list[Reader]
    events: list[list[dict[str, Any]]]
    # The warnings of the app while it started.
    warnings: list[str]
    # When the client took its last step.
    last_step_at: datetime


@dataclass
class Play:
    """A case while it is played."""

    case: Case
    app: CaseApp
    client: CaseClient
    messages: deque[str] = field(default_factory=deque)
    seconds: int = 0
    last_step_at: datetime | None = None

    async def run(self) -> None:
        for step in self.case.client:
            await self._take(step)
        await self._until_ended()
        for _ in range(self.case.after_seconds):
            await self._second()

    async def _take(self, step: ClientStep) -> None:
        if step.wait is not None:
            for _ in range(round(step.wait)):
                await self._second()
        elif step.until_ended:
            await self._until_ended()
        else:
            self.last_step_at = self.app.clock.now()
            self.messages += await self.client.take(step)
            await self._work()

    async def _until_ended(self) -> None:
        while self.seconds < self.case.last_second and not await self._nothing_goes_on():
            await self._second()

    async def _second(self) -> None:
        """Let a second pass: the timer fires, and workers handle all messages."""
        self.seconds += 1
        self.app.clock.pass_(1)
        if self.case.timer:
            self.messages += await self.app.tick()
        await self._work()

    async def _work(self) -> None:
        for _ in range(MOST_MESSAGES_PER_SECOND):
            if not self.messages:
                return
            self.messages += await self.app.work(self.messages.popleft())
        raise AssertionError("messages cause messages without end")

    async def _nothing_goes_on(self) -> bool:
        """Return whether all runs have ended, or wait for the client."""
        for run_id in self.client.runs:
            stored = await self.app.context.runs.read(run_id)
            if stored is None or not (stored.run.terminal or stored.run.step is Step.ANSWER):
                return False
        return True


async def play(case: Case) -> Outcome:
    """Play a case to its end, and return what came of it."""
    with _warnings() as warnings:
        app = CaseApp(case)
        client = CaseClient(app)
        warn_of_unanswered_tools([app.agent])
        at_start = list(warnings)
    playing = Play(case, app, client)
    await playing.run()
    runs, feeds, events = [], [], []
    for run_id in client.runs:
        run = await client.get(f"/runs/{run_id}")
        if run is None:
            continue
        page = await client.get(f"/runs/{run_id}/events?limit=1000")
        reader = Reader()
        runs.append(run)
        reader.read_page(page)
        feeds.append(reader)
        events.append(page["data"])
    assert playing.last_step_at is not None, "the client does nothing"
    return Outcome(app, client, runs, feeds, events, at_start, playing.last_step_at)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect the warnings that the app logs."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    collector, logger = Collector(logging.WARNING), logging.getLogger("baton")
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)
