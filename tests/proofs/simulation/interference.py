"""Clients and workers that use a run at the same time as somebody else."""

from shared.core.run import Step
from tests.proofs.simulation.clients import Clients
from tests.proofs.simulation.evidence import Evidence
from tests.proofs.simulation.late import LONGEST, LateClaim
from tests.proofs.simulation.ports import Gate
from tests.proofs.simulation.scheduler import Hold, Invocation
from tests.proofs.simulation.triggers import Triggers

# Rare operations. By this factor, other operations meet them more often.
_RARE = {
    "work: create": 2.0,
    "work: tools": 2.0,
    "work: cancel": 16.0,
    "work: purge": 4.0,
    "work: poll": 16.0,
    "work: wait": 40.0,
    "work: generate": 2.0,
    "answer": 2.0,
    "read": 0.5,
    "poll": 0.5,
}
# How often a client deletes the run while this operation reads its texts.
_DELETED_MEANWHILE = {"start": 0.03, "work: tools": 0.25, "session page": 0.7}
# How often a client intervenes when a run does not move.
_INTERVENED = 0.6
# How often a worker that generates a turn claims it late.
_LATE_GENERATIONS = 0.3
# How often a late claim comes when one of the calls was approved meanwhile.
_UNTIL_APPROVED = 0.7


def _never(_until: float) -> None:
    """Let faults end as planned."""


class Interference:
    """Decides who else uses a run, at each call of a port."""

    def __init__(self, gate: Gate, evidence: Evidence, clients: Clients, triggers: Triggers) -> None:
        self._gate, self._evidence = gate, evidence
        self._clients, self._triggers = clients, triggers
        gate.stuck, gate.overtaken = self._worker_is_stuck, self._overtaken
        # How often somebody interferes with a call.
        self.rate = 0.0
        # Whether clients delete runs whose texts are being read.
        self.deletes = False
        # Lets faults go on until a time, because a late claim needs them.
        self.prolong_faults = _never

    def called(self, call: str, caller: Invocation) -> None:
        """Decide who uses the run of a call now."""
        random = self._gate.random
        if self.rate and random.random() < self.rate * _RARE.get(caller.operation, 1.0):
            self._interfere(caller)
        if self.deletes and call.startswith("content.query"):
            self._delete_meanwhile(caller)

    def _overtaken(self, caller: Invocation) -> Hold | None:
        """Return when a worker goes on that has read the tools of a turn and has not claimed them."""
        evidence = self._evidence
        step = {"work: tools": Step.TOOLS, "work: generate": Step.GENERATE}.get(caller.operation)
        if step is None or len(caller.touched) != 1:
            return None
        [run_id] = caller.touched
        run = evidence.runs[run_id].run
        # The lease of a worker that has died while it generated a turn may have ended.
        worked_on = run.lease is not None and (step is Step.TOOLS or run_id in caller.leases)
        if run.step is not step or worked_on or run_id in evidence.late_claims:
            return None
        if step is Step.GENERATE and self._gate.random.random() > _LATE_GENERATIONS:
            return None
        if self._gate.faults.draw("claim") is None:
            return None
        waits = self._clients.plan is not None and self._gate.random.random() < _UNTIL_APPROVED
        written = run.written if step is Step.GENERATE else None
        evidence.late_claims[run_id] = LateClaim(run.turn, Hold(), waits, written)
        self.prolong_faults(self._gate.scheduler.now + LONGEST)
        return evidence.late_claims[run_id].hold

    def _worker_is_stuck(self, caller: Invocation) -> None:
        """Let a client intervene in a run whose worker has died or stands still."""
        random, touched = self._gate.random, self._touched(caller)
        if touched and random.random() < _INTERVENED:
            run_id = random.choice(touched)
            self._gate.scheduler.after(random.uniform(0, 90), lambda: self._clients.intervene(run_id))

    def _delete_meanwhile(self, caller: Invocation) -> None:
        """Let a client delete a run whose texts another operation is reading."""
        random, touched = self._gate.random, self._touched(caller)
        if touched and random.random() < _DELETED_MEANWHILE.get(caller.operation, 0.1):
            self._gate.scheduler.after(0.3 * random.random(), lambda: self._clients.delete(touched[-1]))

    def _touched(self, caller: Invocation) -> list[str]:
        return sorted(run_id for run_id in caller.touched if run_id in self._evidence.runs)

    def _interfere(self, caller: Invocation) -> None:
        """Let a client or a second worker use a run at the same time as `caller`."""
        random, touched = self._gate.random, self._touched(caller)
        if not touched:
            return
        run_id = touched[-1]
        come = self._clients.visit if random.random() < 0.6 else self._triggers.send
        # Sometimes several at once.
        for _ in range(random.choice((1, 1, 3))):
            self._gate.scheduler.after(0.3 * random.random(), lambda: come(run_id))
