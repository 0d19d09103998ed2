"""The auditor counts polls as the schedule does: a slice, and the read that may follow it, are one poll."""

from collections.abc import Coroutine
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from shared.core.life.leasing import LEASE
from shared.core.run import Lease, Step
from tests.proofs.simulation.auditor import Auditor
from tests.proofs.simulation.coverage import Coverage
from tests.proofs.simulation.evidence import START, Seen
from tests.proofs.simulation.faults import Faults
from tests.proofs.simulation.ports import Gate, SimulatedClock
from tests.proofs.simulation.provider import SimulatedProvider
from tests.proofs.simulation.scheduler import Invocation, Scheduler
from tests.proofs.simulation.simulation import SCHEDULE, STREAMING
from tests.support.world import World

# With the largest difference of clocks, the schedule has two polls of a streamed response up to this age.
AGE = 0.5


class Polled:
    """A streamed response that pollers read, one call after the other."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        faults = Faults(Random(0))
        faults.on = False
        self.auditor = Auditor(self.scheduler, (SCHEDULE, STREAMING), Coverage())
        gate = Gate(Random(0), self.scheduler, faults, lambda *_: None)
        self.provider = SimulatedProvider(gate, self.auditor, "")
        clock = SimulatedClock(self.scheduler, 0.0)
        self.pollers = {name: Invocation(name, "poll", 0, 0.0, clock) for name in "abc"}

    async def begin(self) -> None:
        world = World()
        run = await world.start(stream=True)
        runs, poller = self.auditor.evidence.runs, self.pollers["a"]
        poller.leases[run.id] = "lease"
        lease = Lease("lease", START + LEASE)
        runs[run.id] = Seen(replace(run, step=Step.CREATE, lease=lease), 0.0, run.owner)
        self.call("a", self.provider.create(world.provider.creates[0]))
        runs[run.id] = Seen(run, 0.0, run.owner)
        self.scheduler.now = AGE

    def call(self, poller: str, coroutine: Coroutine[float, None, Any]) -> None:
        """Make a call; no time passes."""
        self.scheduler.current = self.pollers[poller]
        try:
            while True:
                coroutine.send(None)
        except StopIteration:
            pass


@pytest.mark.parametrize(
    ("calls", "broken"),
    [
        ("slice a, read a, slice b, read b", []),
        ("slice a, slice b, read a, read b", []),
        ("slice a, slice b, read b, read a", []),
        ("read a, read b", []),
        ("slice a, slice b, slice c", [9]),
        ("slice a, slice b, read a, read b, slice c", [9]),
        ("slice a, read b, read c", [9]),
        ("slice a, read a, read a, read a", [9]),
    ],
)
async def test_two_polls_are_on_schedule_and_three_are_not(calls: str, broken: list[int]) -> None:
    polled = Polled()
    await polled.begin()
    for what, poller in (call.split() for call in calls.split(", ")):
        read = polled.provider.slice("resp_0", 0) if what == "slice" else polled.provider.read("resp_0")
        polled.call(poller, read)
    assert [breach.promise for breach in polled.auditor.evidence.breaches] == broken
