"""The keeper of leases in the simulation: another coroutine beside the work, on the same host."""

from datetime import timedelta

from shared.ports.leases import Renewal
from tests.proofs.simulation.ports import Gate, SimulatedTable
from tests.proofs.simulation.scheduler import Invocation

# How long a renewal that comes late is late, in seconds.
_LATE = (2.0, 9.0)
# How often a keeper that stands still looks whether its process goes on.
_LOOK = 1.0


class _Kept:
    def __init__(self) -> None:
        self.over = False

    def end(self) -> None:
        self.over = True

    async def lost(self) -> None:
        raise AssertionError("the simulated tools ask whether they may go on")


class SimulatedKeeper:
    """Renews leases, sometimes late. It stands still together with its process."""

    def __init__(self, gate: Gate, table: SimulatedTable) -> None:
        self._gate, self._table = gate, table

    def keep(self, first: timedelta, renewal: Renewal) -> _Kept:
        kept, caller = _Kept(), self._gate.caller
        caller.lost = False

        def failed(fault: Exception) -> None:
            self._gate.unexpected(caller, fault)

        self._gate.scheduler.begin(caller, self._renew(kept, caller, first, renewal), lambda _: None, failed)
        return kept

    async def _renew(self, kept: _Kept, caller: Invocation, first: timedelta, renewal: Renewal) -> None:
        pause: timedelta | None = first
        while pause is not None:
            await self._wait(caller, pause.total_seconds())
            if kept.over or caller.ended:
                return
            if self._gate.faults.draw("renewal"):
                caller.renewed_late = True
                await self._wait(caller, self._gate.random.uniform(*_LATE))
            caller.renewing_since = self._gate.scheduler.now
            pause = await renewal.renew(self._table)
        caller.lost = not kept.over

    async def _wait(self, caller: Invocation, seconds: float) -> None:
        await self._gate.wait(seconds)
        while caller.still:
            await self._gate.wait(_LOOK)
